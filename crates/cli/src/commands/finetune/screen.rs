//! The training on the whole screen: progress, the curve of the loss, figures of the last step, messages.

use std::{
    collections::VecDeque,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use gallery_gpt::{
    model::CancelToken,
    train::{CurvePoint, StepReport},
};
use ratatui::{
    DefaultTerminal, Frame,
    crossterm::event::{self, Event, KeyCode, KeyModifiers},
    layout::{Constraint, Layout},
    style::{Color, Style},
    symbols::Marker,
    text::Line,
    widgets::{Axis, Block, Chart, Dataset, Gauge, GraphType, Paragraph},
};

const MESSAGES: usize = 5;

/// What is on the screen.
#[derive(Default)]
pub(crate) struct View {
    pub(crate) total_steps: usize,
    losses: Vec<(f64, f64)>,
    validations: Vec<(f64, f64)>,
    /// Steps done.
    done: usize,
    last: Option<(StepReport, f64, f64)>,
    messages: VecDeque<String>,
    began: Option<(Instant, usize)>,
}

impl View {
    pub(crate) fn say(&mut self, message: String) {
        self.messages.push_back(message);
        if self.messages.len() > MESSAGES {
            self.messages.pop_front();
        }
    }

    pub(crate) fn step(&mut self, report: &StepReport, tokens_per_second: f64, data_wait: f64) {
        self.began.get_or_insert((Instant::now(), report.step));
        self.losses.push((report.step as f64, report.loss));
        self.done = report.step;
        self.last = Some((report.clone(), tokens_per_second, data_wait));
    }

    /// The curve so far, of a run that is resumed.
    pub(crate) fn resumed(
        &mut self,
        step: usize,
        losses: &[CurvePoint],
        validation: &[CurvePoint],
    ) {
        let points = |points: &[CurvePoint]| {
            let points = points.iter();
            points
                .map(|point| (point.step as f64, point.loss))
                .collect()
        };
        (self.losses, self.validations) = (points(losses), points(validation));
        self.done = step;
    }

    pub(crate) fn validated(&mut self, step: usize, loss: f64) {
        self.validations.push((step as f64, loss));
    }

    /// Time left at the speed so far.
    fn left(&self) -> Option<Duration> {
        let (began, first) = self.began?;
        let done = self.last.as_ref()?.0.step;
        let each = began.elapsed().checked_div((done - first) as u32)?;
        Some(each * (self.total_steps - done) as u32)
    }

    pub(crate) fn draw(&self, frame: &mut Frame<'_>) {
        let rows = [
            Constraint::Length(3),
            Constraint::Min(8),
            Constraint::Length(4),
            Constraint::Length(MESSAGES as u16 + 2),
        ];
        let [progress, chart, figures, messages] = Layout::vertical(rows).areas(frame.area());
        let done = self.done;
        let left = self
            .left()
            .map(|left| format!(", {} s left", left.as_secs()))
            .unwrap_or_default();
        let gauge = Gauge::default()
            .block(Block::bordered().title("finetune: q leave view, Ctrl-C stop and save"))
            .gauge_style(Style::new().fg(Color::Yellow))
            .ratio((done as f64 / self.total_steps.max(1) as f64).min(1.0))
            .label(format!("{done}/{} steps{left}", self.total_steps));
        frame.render_widget(gauge, progress);
        self.draw_losses(frame, chart);
        let line = self.last.as_ref().map(|(report, tokens, wait)| {
            format!(
                "loss {:.4}  norm {:.3}  rate {:.2e}  projector {:.2e}\n{tokens:.0} tokens/s  waited {:.0} ms  supervised {:.0} %",
                report.loss,
                report.grad_norm,
                report.learning_rate,
                report.mm_projector_lr,
                1e3 * wait,
                100.0 * report.supervised_tokens as f64 / report.tokens.max(1) as f64
            )
        });
        let figure = Paragraph::new(line.unwrap_or_default());
        frame.render_widget(figure.block(Block::bordered().title("last step")), figures);
        let width = messages.width.saturating_sub(2).max(1);
        let lines = self
            .messages
            .iter()
            .flat_map(|text| broken(text, width.into()));
        let lines: Vec<Line<'_>> = lines.map(Line::raw).collect();
        let lines = lines[lines.len().saturating_sub(MESSAGES)..].to_vec();
        let list = Paragraph::new(lines).block(Block::bordered().title("messages"));
        frame.render_widget(list, messages);
    }

    fn draw_losses(&self, frame: &mut Frame<'_>, area: ratatui::layout::Rect) {
        let highest = self
            .losses
            .iter()
            .chain(&self.validations)
            .map(|(_, loss)| *loss)
            .fold(0.1, f64::max);
        let steps = self.total_steps.max(1) as f64;
        let series = |name, points, color| {
            Dataset::default()
                .name(name)
                .marker(Marker::Braille)
                .graph_type(GraphType::Line)
                .style(Style::new().fg(color))
                .data(points)
        };
        let mut sets = vec![series("training", &self.losses, Color::Yellow)];
        if !self.validations.is_empty() {
            sets.push(series("validation", &self.validations, Color::Cyan));
        }
        let chart = Chart::new(sets)
            .block(Block::bordered().title("loss"))
            .hidden_legend_constraints((Constraint::Ratio(1, 2), Constraint::Ratio(1, 2)))
            .x_axis(
                Axis::default()
                    .bounds([0.0, steps])
                    .labels(["0".to_owned(), format!("{steps:.0}")]),
            )
            .y_axis(
                Axis::default()
                    .bounds([0.0, highest])
                    .labels(["0".to_owned(), format!("{highest:.2}")]),
            );
        frame.render_widget(chart, area);
    }
}

/// A message, wrapped at a width.
fn broken(text: &str, width: usize) -> Vec<String> {
    let letters: Vec<char> = text.chars().collect();
    letters
        .chunks(width)
        .map(|line| line.iter().collect())
        .collect()
}

/// The whole terminal, for as long as this lives.
pub(crate) struct Screen {
    terminal: DefaultTerminal,
    wanted: Arc<AtomicBool>,
    pub(crate) view: View,
}

impl Screen {
    /// Takes over the terminal. A thread of its own reads keys, however long a step takes: Ctrl-C, which the terminal does not turn into a
    /// signal in this mode, cancels the training, and a second Ctrl-C ends the program.
    pub(crate) fn new(cancel: &CancelToken) -> anyhow::Result<Self> {
        let wanted = Arc::new(AtomicBool::new(true));
        let screen = Self {
            terminal: ratatui::try_init()?,
            wanted: Arc::clone(&wanted),
            view: View::default(),
        };
        let cancel = cancel.clone();
        thread::spawn(move || read_keys(&wanted, &cancel));
        Ok(screen)
    }

    /// Draws; returns whether the view is still wanted.
    pub(crate) fn draw(&mut self) -> bool {
        let drawn = self.terminal.draw(|frame| self.view.draw(frame)).is_ok();
        drawn && self.wanted.load(Ordering::Relaxed)
    }
}

fn read_keys(wanted: &AtomicBool, cancel: &CancelToken) {
    while wanted.load(Ordering::Relaxed) {
        let key = match event::poll(Duration::from_millis(100)) {
            Ok(false) => continue,
            Ok(true) => event::read(),
            // The terminal was closed.
            Err(_) => return,
        };
        let Ok(Event::Key(key)) = key else { continue };
        let is_interrupt =
            key.code == KeyCode::Char('c') && key.modifiers.contains(KeyModifiers::CONTROL);
        if is_interrupt && cancel.is_cancelled() {
            ratatui::restore();
            leave();
        } else if is_interrupt {
            cancel.cancel();
        } else if matches!(key.code, KeyCode::Char('q') | KeyCode::Esc) {
            wanted.store(false, Ordering::Relaxed);
        }
    }
}

#[allow(
    clippy::exit,
    reason = "a second Ctrl-C ends the program at once, as the signal does elsewhere"
)]
fn leave() -> ! {
    std::process::exit(i32::from(crate::terminal::INTERRUPTED))
}

impl Drop for Screen {
    fn drop(&mut self) {
        self.wanted.store(false, Ordering::Relaxed);
        ratatui::restore();
    }
}

#[cfg(test)]
mod tests {
    use ratatui::{Terminal, backend::TestBackend};

    use super::*;

    #[test]
    fn it_shows_steps_losses_and_messages() {
        let mut view = View {
            total_steps: 8,
            ..View::default()
        };
        for step in 1..=4 {
            let report = StepReport {
                step,
                loss: 2.0 / step as f64,
                grad_norm: 1.5,
                learning_rate: 1e-3,
                mm_projector_lr: 2e-5,
                supervised_tokens: 50,
                tokens: 100,
            };
            view.step(&report, 1234.0, 0.01);
        }
        view.validated(4, 0.75);
        view.say("step 4: validation loss 0.750".to_owned());
        view.say(format!(
            "left out: {}the end of it",
            "a long cause, ".repeat(12)
        ));
        let mut terminal = Terminal::new(TestBackend::new(60, 30)).expect("a screen in memory");
        terminal.draw(|frame| view.draw(frame)).expect("a drawing");
        let shown = terminal.backend().to_string();
        for expected in [
            "the end of it",
            "q leave view, Ctrl-C stop and save",
            "rate 1.00e-3  projector 2.00e-5",
            "4/8 steps",
            "loss 0.5000",
            "1234 tokens/s",
            "supervised 50 %",
            "validation loss 0.750",
        ] {
            assert!(shown.contains(expected), "no {expected} in\n{shown}");
        }
    }

    #[test]
    fn a_resumed_run_shows_its_curve_so_far() {
        let mut view = View {
            total_steps: 8,
            ..View::default()
        };
        let losses = [1, 2, 3].map(|step| CurvePoint { step, loss: 7.25 });
        view.resumed(3, &losses, &losses[..1]);
        let mut terminal = Terminal::new(TestBackend::new(100, 30)).expect("a screen in memory");
        terminal.draw(|frame| view.draw(frame)).expect("a drawing");
        let shown = terminal.backend().to_string();
        for expected in ["3/8 steps", "7.25", "validation"] {
            assert!(shown.contains(expected), "no {expected} in\n{shown}");
        }
    }
}
