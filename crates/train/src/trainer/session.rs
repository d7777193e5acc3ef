//! A training in progress: its state and its loop.

use std::{
    sync::mpsc::Receiver,
    time::{Duration, Instant},
};

use burn::{module::Module, tensor::Device};
use gallery_gpt_checkpoint::{AdapterLayout, AdapterOrigin, save_adapter};
use gallery_gpt_data::{BadRecord, Batch, Batcher};
use gallery_gpt_model::GalleryModel;

use super::{Trainer, loader::StepBatches};
use crate::{
    CheckpointState, EvaluationLine, LogLine, RunFolder, SpeedLine, StepReport, TrainError,
    TrainEvent, TrainState, Trainable, TrainingCheckpoint, TrainingConfig,
    config::Epochs,
    flops_per_token,
    memory::catch,
    run::{EarlyStop, Kept, ensure_room, replacing},
    step::summed_loss,
};

/// A training between its first step and its last.
pub(super) struct Session<'a, F> {
    trainer: &'a Trainer,
    batcher: &'a Batcher,
    run: &'a mut RunFolder,
    observe: F,
    state: TrainState,
    steps_per_epoch: usize,
    total_steps: usize,
    /// What the adapters are trained on; `None` if checkpoints are not adapters.
    origin: Option<&'a AdapterOrigin>,
    early_stop: EarlyStop,
    last_checkpoint: Option<TrainingCheckpoint>,
    flops_per_token: f64,
    device: Device,
}

/// How long a step took.
#[derive(Clone, Copy)]
struct Timing {
    /// Seconds spent waiting for the batches.
    data_wait: f64,
    /// Seconds of the whole step, waiting included.
    seconds: f64,
}

impl<'a, F: FnMut(&TrainEvent)> Session<'a, F> {
    /// Starts a training, or resumes it from the newest checkpoint of the run.
    ///
    /// # Errors
    /// Nothing is trained, the checkpoint cannot be used, the disk has no room, or a file cannot be written.
    pub(super) fn start(
        trainer: &'a Trainer,
        epochs: Epochs<'a>,
        model: GalleryModel,
        batcher: &'a Batcher,
        run: &'a mut RunFolder,
        observe: F,
    ) -> Result<Self, TrainError> {
        let config = &trainer.config;
        let total_steps = epochs.total_steps();
        let state = TrainState::new(model, config, total_steps)?.with_devices(&trainer.devices)?;
        let mut session = Self {
            trainer,
            batcher,
            run,
            observe,
            steps_per_epoch: epochs.steps_per_epoch(),
            total_steps,
            origin: config.parts.saved_as_adapter().then_some(&trainer.origin),
            early_stop: EarlyStop::new(config.early_stopping_patience),
            last_checkpoint: None,
            flops_per_token: flops_per_token(state.model().config(), config.parts.language_model),
            device: state.model().device(),
            state,
        };
        session.tell(&TrainEvent::Started {
            total_steps,
            parameters: session.state.groups().parameters,
        });
        let session = session.resume()?;
        ensure_room(session.run, session.kept())?;
        session.before_the_first_step()
    }

    /// Restores the newest checkpoint, if there is one.
    fn resume(mut self) -> Result<Self, TrainError> {
        let Some(checkpoint) = TrainingCheckpoint::newest(&self.run.checkpoints())? else {
            self.run.rewind(0, &crate::LogState::empty())?;
            return Ok(self);
        };
        let CheckpointState { step, log, .. } = &checkpoint.state;
        self.state = self.state.restore(&checkpoint.path, *step)?;
        self.run.rewind(*step, log)?;
        if self.origin.is_some() {
            self.run.ensure_best()?;
        }
        let (losses, validation) = self.run.points();
        let resumed = TrainEvent::Resumed {
            step: *step,
            losses,
            validation,
        };
        self.last_checkpoint = Some(checkpoint);
        self.tell(&resumed);
        Ok(self)
    }

    /// Captions and a checkpoint of the untrained model.
    fn before_the_first_step(mut self) -> Result<Self, TrainError> {
        if self.state.steps_done() == 0 && !self.trainer.cancel.is_cancelled() {
            self.caption_samples()?;
        }
        if self.config().save_steps.is_some() && self.last_checkpoint.is_none() {
            self.save(false)?;
        }
        Ok(self)
    }

    /// The training loop: steps until the last one, an early stop, or a cancellation.
    ///
    /// # Errors
    /// An error of a step; [`TrainError::Interrupted`] if the training was cancelled.
    pub(super) fn run(&mut self, batches: &Receiver<StepBatches>) -> Result<(), TrainError> {
        // A run that stopped early stays stopped when resumed.
        let mut is_over = self.early_stop.check(&self.run.evaluations).is_some();
        while self.state.steps_done() < self.total_steps && !is_over {
            if self.trainer.cancel.is_cancelled() {
                return Err(self.interrupt()?);
            }
            let started = Instant::now();
            let Ok(StepBatches { batches, bad }) = batches.recv() else {
                break;
            };
            let data_wait = started.elapsed().as_secs_f64();
            if self.trainer.cancel.is_cancelled() {
                continue;
            }
            self.skip_bad(bad)?;
            let report = self.step(&batches)?;
            let step = report.step;
            let seconds = started.elapsed().as_secs_f64();
            self.log(report, Timing { data_wait, seconds })?;

            is_over = step == self.total_steps;
            let is_eval_step = is_over || step.is_multiple_of(self.config().eval_steps);
            if is_eval_step && !self.trainer.validation.is_empty() {
                self.evaluate()?;
                is_over |= self.stops_early();
            }
            if is_eval_step {
                self.caption_samples()?;
            }
            let is_due = |every: usize| is_over || step.is_multiple_of(every);
            if self.config().save_steps.is_some_and(is_due) {
                let path = self.save(false)?.path.clone();
                self.tell(&TrainEvent::Saved { step, path });
            }
        }
        Ok(())
    }

    /// Writes the results of the run, and returns the model.
    ///
    /// # Errors
    /// A file cannot be written.
    pub(super) fn finish(mut self, elapsed: Duration) -> Result<GalleryModel, TrainError> {
        self.tell(&TrainEvent::Finished {
            steps: self.state.steps_done(),
            seconds: elapsed.as_secs_f64(),
        });
        self.run.draw_curve()?;
        let paintings = self.trainer.samples.as_ref();
        let paintings = paintings.map_or(&[][..], |samples| &samples.paintings);
        self.run.write_page(paintings, true)?;
        let model = self.state.into_model();
        if let Some(origin) = self.origin {
            let folder = replacing(&self.run.adapter());
            save_adapter(&model, origin, folder, AdapterLayout::Peft)?;
        }
        Ok(model)
    }

    /// Steps done.
    pub(super) fn steps_done(&self) -> usize {
        self.state.steps_done()
    }

    fn config(&self) -> &'a TrainingConfig {
        &self.trainer.config
    }

    fn tell(&mut self, event: &TrainEvent) {
        event.trace();
        (self.observe)(event);
    }

    /// Saves a cancelled training, unless its newest checkpoint is of this step, and returns the error that says so.
    fn interrupt(&mut self) -> Result<TrainError, TrainError> {
        let step = self.state.steps_done();
        let last = self.last_checkpoint.as_ref();
        let checkpoint = match last.filter(|checkpoint| checkpoint.state.step == step) {
            Some(checkpoint) => checkpoint,
            None => self.save(true)?,
        };
        Ok(TrainError::Interrupted {
            step,
            checkpoint: checkpoint.path.clone(),
        })
    }

    /// Skips bad records, as far as the policy allows.
    fn skip_bad(&mut self, bad: Vec<BadRecord>) -> Result<(), TrainError> {
        for bad in bad {
            let (record, before) = (bad.to_string(), self.run.bad_count());
            self.run.skip_record(bad, self.config().on_bad_record)?;
            let count = self.run.bad_count();
            if count > before {
                self.tell(&TrainEvent::Skipped { record, count });
            }
        }
        Ok(())
    }

    /// Computes one optimizer step.
    fn step(&mut self, batches: &[Batch]) -> Result<StepReport, TrainError> {
        let step = self.state.steps_done() + 1;
        if batches.is_empty() {
            let list = self.run.bad_records();
            return Err(TrainError::NothingLeft { step, list });
        }
        let config = self.config();
        let report = catch(step, config, || self.state.step(batches));
        report.map_err(|error| {
            let last = self.last_checkpoint.as_ref();
            error.after(last.map(|checkpoint| checkpoint.path.clone()))
        })
    }

    /// Logs a step, if it is due, and tells the observer.
    fn log(&mut self, report: StepReport, timing: Timing) -> Result<(), TrainError> {
        let step = report.step;
        let tokens_per_second = report.tokens as f64 / timing.seconds.max(1e-9);
        let data_wait = timing.data_wait;
        if step.is_multiple_of(self.config().logging_steps) || step == self.total_steps {
            let tflops = tokens_per_second * self.flops_per_token / 1e12;
            let memory = self.device.memory_pool_usage();
            let speed = SpeedLine {
                step,
                tokens_per_second,
                data_wait,
                tflops,
                mfu: self.config().peak_tflops.map(|peak| tflops / peak),
                device_memory: memory.map(|usage| usage.bytes_reserved),
            };
            let line = LogLine {
                report: report.clone(),
                epoch: step as f64 / self.steps_per_epoch as f64,
            };
            self.run.log.append(line, speed)?;
        }
        self.tell(&TrainEvent::Step {
            report,
            tokens_per_second,
            data_wait,
        });
        Ok(())
    }

    /// Evaluates on the validation records, and saves the adapter if it is the best so far.
    fn evaluate(&mut self) -> Result<(), TrainError> {
        let step = self.state.steps_done();
        let loss = self.validation_loss()?;
        self.run.evaluations.push(EvaluationLine { step, loss })?;
        self.tell(&TrainEvent::Evaluated { step, loss });
        let best = self.run.evaluations.best();
        if let Some(origin) = self.origin
            && best.is_some_and(|best| best.step == step)
        {
            let model = self.state.model().valid();
            let folder = replacing(&self.run.best());
            save_adapter(&model, origin, folder, AdapterLayout::Peft)?;
        }
        Ok(())
    }

    /// Whether the evaluations no longer improve; the observer is told if so.
    fn stops_early(&mut self) -> bool {
        let Some(best) = self.early_stop.check(&self.run.evaluations) else {
            return false;
        };
        self.tell(&TrainEvent::StoppedEarly {
            step: self.state.steps_done(),
            best_step: best.step,
            best_loss: best.loss,
        });
        true
    }

    /// Mean loss per supervised token of the validation records, one batch of them in memory at a time.
    fn validation_loss(&self) -> Result<f64, TrainError> {
        let (mut total, mut count) = (0.0, 0);
        let config = self.config();
        let size = config.per_device_eval_batch_size;
        for records in self.trainer.validation.chunks(size) {
            let batch = self.batcher.batch(&records.iter().collect::<Vec<_>>())?;
            let (packing, multiple) = (config.packing, config.pad_to_multiple_of.unwrap_or(1));
            let (sum, tokens) = summed_loss(self.state.model(), &batch, packing, multiple)
                .map_err(|source| TrainError::evaluation(&batch, source))?;
            total += sum;
            count += tokens;
        }
        Ok(total / count.max(1) as f64)
    }

    /// Captions the sample paintings, unless this step has captions already, and updates the page.
    fn caption_samples(&mut self) -> Result<(), TrainError> {
        let step = self.state.steps_done();
        if let Some(samples) = &self.trainer.samples
            && !self.run.samples.has(step)
        {
            let captions = samples.write(self.state.model(), step)?;
            self.run.samples.push(captions)?;
            self.run.write_page(&samples.paintings, false)?;
        }
        Ok(())
    }

    /// Writes a checkpoint of the training as it is now.
    fn save(&mut self, interim: bool) -> Result<&TrainingCheckpoint, TrainError> {
        let state = CheckpointState {
            step: self.state.steps_done(),
            interim,
            log: self.run.log.sync()?,
        };
        let folder = self.run.checkpoints();
        let keep = self.config().save_total_limit;
        let checkpoint = TrainingCheckpoint::write(&folder, state, keep, |files| {
            self.state.save(files, self.origin)
        })?;
        Ok(self.last_checkpoint.insert(checkpoint))
    }

    /// What the run folder will have to hold.
    fn kept(&self) -> Kept {
        let config = self.config();
        let saved = config
            .save_steps
            .map_or(0, |every| 2 + self.total_steps / every);
        let result = match config.parts.language_model {
            Trainable::Full => self.state.model().num_params() as u64,
            Trainable::Lora | Trainable::Frozen => 0,
        };
        Kept {
            trained: self.state.groups().parameters as u64,
            result,
            checkpoints: saved.min(config.save_total_limit) as u64,
            best: !self.trainer.validation.is_empty(),
            steps: (self.total_steps / config.logging_steps) as u64,
        }
    }
}
