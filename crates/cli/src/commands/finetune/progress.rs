//! Progress of a training: a bar or a screen on a terminal, a line every 20 steps elsewhere.

use std::{io::IsTerminal, thread, time::Duration};

use anyhow::ensure;
use gallery_gpt::{model::CancelToken, prelude::*};
use indicatif::{ProgressBar, ProgressStyle};

use super::screen::Screen;

const STOPPING: &str = "stopping after this step; Ctrl-C again stops at once";

/// Where progress is shown.
pub(crate) struct Progress {
    bar: ProgressBar,
    screen: Option<Screen>,
    cancel: CancelToken,
    /// Whether the message that the training stops was shown.
    stopping: bool,
}

impl Progress {
    pub(crate) fn new(full_screen: bool, cancel: &CancelToken) -> anyhow::Result<Self> {
        let style = ProgressStyle::with_template(
            "{bar:30} {pos}/{len} steps, {elapsed} elapsed, {eta} left, {msg}",
        )?;
        ensure!(
            !full_screen || std::io::stdout().is_terminal(),
            "--full_screen needs a terminal"
        );
        let bar = ProgressBar::new(0).with_style(style);
        if !full_screen {
            note_cancelled(bar.clone(), cancel.clone());
        }
        Ok(Self {
            bar,
            screen: full_screen.then(|| Screen::new(cancel)).transpose()?,
            cancel: cancel.clone(),
            stopping: false,
        })
    }

    fn say(&mut self, message: String) {
        match &mut self.screen {
            Some(screen) => screen.view.say(message),
            None => self.bar.suspend(|| say!("{message}")),
        }
    }

    pub(crate) fn show(&mut self, event: &TrainEvent) {
        match event {
            TrainEvent::Started {
                total_steps,
                parameters,
            } => {
                self.bar.set_length(*total_steps as u64);
                match &mut self.screen {
                    Some(screen) => screen.view.total_steps = *total_steps,
                    None => self.bar.enable_steady_tick(Duration::from_millis(500)),
                }
                self.say(format!("{parameters} trainable parameters"));
            }
            TrainEvent::Step {
                report,
                tokens_per_second,
                data_wait,
            } => {
                if let Some(screen) = &mut self.screen {
                    screen.view.step(report, *tokens_per_second, *data_wait);
                } else {
                    self.step(report.step, report.loss, *tokens_per_second);
                }
            }
            TrainEvent::Resumed {
                step,
                losses,
                validation,
            } => {
                self.bar.set_position(*step as u64);
                self.bar.reset_eta();
                if let Some(screen) = &mut self.screen {
                    screen.view.resumed(*step, losses, validation);
                }
                self.say(format!("resumed after step {step}"));
            }
            TrainEvent::Evaluated { step, loss } => {
                if let Some(screen) = &mut self.screen {
                    screen.view.validated(*step, *loss);
                }
                self.say(format!("step {step}: validation loss {loss:.3}"));
            }
            TrainEvent::StoppedEarly {
                best_step,
                best_loss,
                ..
            } => self.say(format!(
                "stopped early: the validation loss was best at step {best_step}, {best_loss:.3}"
            )),
            TrainEvent::Skipped { record, count } => {
                self.say(format!("skipped ({count} so far): {record}"));
            }
            TrainEvent::Finished { steps, seconds } => {
                self.screen = None;
                self.bar.finish_and_clear();
                say!("{steps} steps in {seconds:.0} s");
            }
            // Checkpoints are not shown.
            _ => {}
        }
        if let Some(screen) = &mut self.screen {
            if self.cancel.is_cancelled() && !std::mem::replace(&mut self.stopping, true) {
                screen.view.say(STOPPING.to_owned());
            }
            if !screen.draw() {
                self.screen = None;
                note_cancelled(self.bar.clone(), self.cancel.clone());
            }
        }
    }

    fn step(&self, step: usize, loss: f64, tokens_per_second: f64) {
        let message = format!("loss {loss:.3}, {tokens_per_second:.0} tokens/s");
        if !std::io::stderr().is_terminal()
            && (step.is_multiple_of(20) || Some(step as u64) == self.bar.length())
        {
            say!("step {step}: {message}");
        }
        self.bar.set_message(message);
        self.bar.set_position(step as u64);
    }
}

/// Prints to standard error that the training stops, as soon as it is cancelled.
fn note_cancelled(bar: ProgressBar, cancel: CancelToken) {
    thread::spawn(move || {
        while !cancel.is_cancelled() {
            if bar.is_finished() {
                return;
            }
            thread::sleep(Duration::from_millis(100));
        }
        if !bar.is_finished() {
            bar.suspend(|| note!("{STOPPING}"));
        }
    });
}
