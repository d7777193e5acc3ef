//! Epochs over records.

use std::{
    collections::BTreeMap,
    sync::mpsc::{SyncSender, sync_channel},
    thread,
    time::Instant,
};

use burn::{module::Module, tensor::Device};
use gallery_gpt_checkpoint::{AdapterLayout, AdapterOrigin, ensure_savable_adapter, save_adapter};
use gallery_gpt_data::{BadRecord, Batch, Batcher, Record, RecordLength, Sampler};
use gallery_gpt_model::{CancelToken, GalleryModel};
use rayon::{ThreadPool, ThreadPoolBuilder};

use crate::{
    CheckpointState, EvaluationLine, LogLine, LogState, LoraSettings, OnBadRecord, RecordDigest,
    RunFolder, RunSettings, Samples, SpeedLine, TrainError, TrainEvent, TrainState, Trainable,
    TrainingCheckpoint, TrainingConfig, flops_per_token,
    memory::{Kept, catch, ensure_room},
    run::own,
    step::summed_loss,
};

/// Batches decoded ahead of the step that needs them.
pub(crate) const AHEAD: usize = 3;

/// What a step needs.
#[derive(Default)]
struct Prepared {
    batches: Vec<Batch>,
    /// Records of it that cannot be used.
    bad: Vec<BadRecord>,
}

/// Runs a training.
#[derive(Clone, Debug)]
pub struct Trainer {
    config: TrainingConfig,
    validation: Vec<Record>,
    samples: Option<Samples>,
    devices: Vec<Device>,
    base: BTreeMap<String, String>,
    origin: AdapterOrigin,
    cancel: CancelToken,
}

impl Trainer {
    /// A trainer of some settings.
    ///
    /// # Errors
    /// A setting out of range.
    pub fn new(config: TrainingConfig) -> Result<Self, TrainError> {
        config.validate()?;
        Ok(Self {
            config,
            validation: Vec::new(),
            samples: None,
            devices: Vec::new(),
            base: BTreeMap::new(),
            origin: AdapterOrigin::default(),
            cancel: CancelToken::new(),
        })
    }

    /// Its settings.
    #[must_use]
    pub fn config(&self) -> &TrainingConfig {
        &self.config
    }

    /// Records that are not trained on, for the validation loss.
    #[must_use]
    pub fn with_validation(mut self, records: Vec<Record>) -> Self {
        self.validation = records;
        self
    }

    /// Paintings to ask about before the first step and at every validation, for the run's page.
    #[must_use]
    pub fn with_samples(mut self, samples: Samples) -> Self {
        self.samples = Some(samples);
        self
    }

    /// Devices beside the model's own, which share the micro-batches of every step with it (data parallelism): a step then has
    /// `gradient_accumulation_steps` for each device. On as many micro-batches the result is that of one device but for rounding.
    /// Validation and samples stay with the first.
    #[must_use]
    pub fn with_devices(mut self, devices: Vec<Device>) -> Self {
        self.devices = devices;
        self
    }

    /// The base's files and their SHA-256: a run that goes on with other ones is refused by the name of the file.
    #[must_use]
    pub fn with_base(mut self, files: BTreeMap<String, String>) -> Self {
        self.base = files;
        self
    }

    /// What the adapters that it writes say they were trained on.
    #[must_use]
    pub fn with_origin(mut self, origin: AdapterOrigin) -> Self {
        self.origin = origin;
        self
    }

    /// Stops the training when it is cancelled: the step at work is finished, a checkpoint is written, and
    /// [`TrainError::Interrupted`] says where it is.
    #[must_use]
    pub fn with_cancel(mut self, cancel: CancelToken) -> Self {
        self.cancel = cancel;
        self
    }

    /// Devices that share a step.
    #[must_use]
    pub fn world_size(&self) -> usize {
        1 + self.devices.len()
    }

    /// Micro-batches of a step, on all devices together.
    fn micro_batches_per_step(&self) -> usize {
        self.config.gradient_accumulation_steps * self.world_size()
    }

    /// Steps that a training over `records` records takes.
    #[must_use]
    pub fn total_steps(&self, records: usize) -> usize {
        let steps = self.steps_per_epoch(records) as f64 * self.config.num_train_epochs;
        let steps = steps.ceil() as usize;
        self.config.max_steps.map_or(steps, |most| steps.min(most))
    }

    /// Steps that go once over `records` records.
    #[must_use]
    pub fn steps_per_epoch(&self, records: usize) -> usize {
        let micro_batches = records.div_ceil(self.config.per_device_train_batch_size);
        micro_batches.div_ceil(self.micro_batches_per_step())
    }

    /// Trains a model on records and returns it, going on from the newest checkpoint in the run folder if there is one.
    /// `observe` is told what happens. Where the adapters of a model are trained ([`TrainableParts::fit_an_adapter`]), checkpoints and
    /// the result, in the run folder's `adapter/`, are adapters in PEFT's form; else checkpoints hold every trained parameter.
    ///
    /// On a CPU with as many threads, a training that was killed anywhere and went on leaves the same bytes as one that was not.
    ///
    /// # Errors
    /// A record that cannot be used, a loss that is no number, anything by which this is another training than the one that the run
    /// began with, a disk without room for what will be kept, or a file that cannot be read or written; [`TrainError::Interrupted`]
    /// where it was cancelled. What the run folder holds by then is whole.
    pub fn train(
        &self,
        model: GalleryModel,
        records: &[Record],
        batcher: &Batcher,
        run: &mut RunFolder,
        mut observe: impl FnMut(&TrainEvent),
    ) -> Result<GalleryModel, TrainError> {
        if records.is_empty() {
            return Err(TrainError::NoRecords);
        }
        // What can be told without opening a picture is told before the first step.
        if self.config.on_bad_record == OnBadRecord::Fail {
            for record in records.iter().chain(&self.validation) {
                let marks = record.ensure_marks();
                marks.map_err(|cause| BadRecord::of(record, cause))?;
            }
        }
        let origin = self.config.parts.fit_an_adapter().then_some(&self.origin);
        if origin.is_some() {
            if !model.language_model.has_lora() {
                return Err(TrainError::NoAdapter);
            }
            ensure_savable_adapter(&model)?;
        }
        let settings = self.run_settings(&model, records, batcher, run)?;
        run.begin(settings)?;
        let total_steps = self.total_steps(records.len());
        let mut state =
            TrainState::new(model, &self.config, total_steps)?.with_devices(&self.devices)?;
        observe(&TrainEvent::Started {
            total_steps,
            parameters: state.groups().parameters,
        });
        let mut last = TrainingCheckpoint::newest(&run.checkpoints())?;
        if let Some(checkpoint) = &last {
            let CheckpointState { step, log, .. } = &checkpoint.state;
            state = state.restore(checkpoint)?;
            run.rewind(*step, log)?;
            if origin.is_some() {
                run.ensure_best()?;
            }
            let (losses, validation) = run.points();
            observe(&TrainEvent::Resumed {
                step: *step,
                losses,
                validation,
            });
        } else {
            run.rewind(0, &LogState::empty())?;
        }
        ensure_room(run, self.kept(&state, total_steps))?;
        let save = |state: &TrainState, run: &RunFolder, interim: bool| {
            let checkpoint = CheckpointState {
                step: state.steps_done(),
                interim,
                log: run.sync()?,
            };
            let keep = self.config.save_total_limit;
            TrainingCheckpoint::write(&run.checkpoints(), state, origin, checkpoint, keep)
        };
        if state.steps_done() == 0 && !self.cancel.is_cancelled() {
            self.sample(&state, run)?;
        }
        if self.config.save_steps.is_some() && last.is_none() {
            last = Some(save(&state, run, false)?);
        }

        let device = state.model().device();
        let flops = flops_per_token(state.model().config(), self.config.parts.language_model);
        let started = Instant::now();
        let first = state.steps_done();
        let steps_per_epoch = self.steps_per_epoch(records.len());
        let workers = self.workers()?;
        thread::scope(|scope| -> Result<(), TrainError> {
            let (send, receive) = sync_channel(AHEAD);
            let workers = workers.as_ref();
            scope.spawn(move || self.prepare(records, batcher, workers, first, &send));
            // As a run that has stopped stays stopped.
            let mut stopped = self.out_of_patience(run).is_some();
            while state.steps_done() < total_steps && !stopped {
                if self.cancel.is_cancelled() {
                    let step = state.steps_done();
                    let checkpoint = match last {
                        Some(checkpoint) if checkpoint.state.step == step => checkpoint,
                        _ => save(&state, run, true)?,
                    };
                    return Err(TrainError::Interrupted {
                        step,
                        checkpoint: checkpoint.path,
                    });
                }
                let waiting = Instant::now();
                let Ok(Prepared { batches, bad }) = receive.recv() else {
                    break;
                };
                if self.cancel.is_cancelled() {
                    continue;
                }
                let data_wait = waiting.elapsed().as_secs_f64();
                for bad in bad {
                    let (record, before) = (bad.to_string(), run.bad_count());
                    run.leave_out(bad, self.config.on_bad_record)?;
                    let count = run.bad_count();
                    if count > before {
                        observe(&TrainEvent::LeftOut { record, count });
                    }
                }
                if batches.is_empty() {
                    return Err(TrainError::NothingLeft {
                        step: state.steps_done() + 1,
                        list: run.bad_records(),
                    });
                }
                let number = state.steps_done() + 1;
                let report =
                    catch(number, &self.config, || state.step(&batches)).map_err(|error| {
                        error.after(last.as_ref().map(|checkpoint| checkpoint.path.clone()))
                    })?;
                let tokens_per_second =
                    report.tokens as f64 / waiting.elapsed().as_secs_f64().max(1e-9);
                let line = LogLine {
                    step: report.step,
                    epoch: report.step as f64 / steps_per_epoch as f64,
                    loss: report.loss,
                    grad_norm: report.grad_norm,
                    learning_rate: report.learning_rate,
                    mm_projector_lr: report.mm_projector_lr,
                    supervised_tokens: report.supervised_tokens,
                    tokens: report.tokens,
                };
                let tflops = tokens_per_second * flops / 1e12;
                let step = report.step;
                if step.is_multiple_of(self.config.logging_steps) || step == total_steps {
                    let speed = SpeedLine {
                        step,
                        tokens_per_second,
                        data_wait,
                        tflops,
                        mfu: self.config.peak_tflops.map(|peak| tflops / peak),
                        device_memory: device.memory_pool_usage().map(|usage| usage.bytes_reserved),
                    };
                    run.log(&line, &speed)?;
                }
                observe(&TrainEvent::Step {
                    report,
                    tokens_per_second,
                    data_wait,
                });
                let mut last_step = step == total_steps;
                let looks = step.is_multiple_of(self.config.eval_steps) || last_step;
                if looks && !self.validation.is_empty() {
                    let loss = self.validation_loss(state.model(), batcher)?;
                    run.evaluated(EvaluationLine { step, loss })?;
                    observe(&TrainEvent::Evaluated { step, loss });
                    if let Some(origin) = origin
                        && run.is_best(step)
                    {
                        let model = state.model().valid();
                        save_adapter(&model, origin, own(&run.best()), AdapterLayout::Peft)?;
                    }
                    if let Some(best) = self.out_of_patience(run) {
                        (stopped, last_step) = (true, true);
                        observe(&TrainEvent::StoppedEarly {
                            step,
                            best_step: best.step,
                            best_loss: best.loss,
                        });
                    }
                }
                if looks || last_step {
                    self.sample(&state, run)?;
                }
                let due = |every: usize| step.is_multiple_of(every) || last_step;
                if self.config.save_steps.is_some_and(due) {
                    let checkpoint = save(&state, run, false)?;
                    observe(&TrainEvent::Saved {
                        step,
                        path: checkpoint.path.clone(),
                    });
                    last = Some(checkpoint);
                }
            }
            drop(receive);
            Ok(())
        })?;
        observe(&TrainEvent::Finished {
            steps: state.steps_done(),
            seconds: started.elapsed().as_secs_f64(),
        });
        run.draw_curve()?;
        let paintings = self.samples.as_ref();
        run.write_page(paintings.map_or(&[], |samples| &samples.paintings), true)?;
        let model = state.into_model();
        if let Some(origin) = origin {
            save_adapter(&model, origin, own(&run.adapter()), AdapterLayout::Peft)?;
        }
        Ok(model)
    }

    /// What this training is, for the run's settings: compared with what the run began with, if it did.
    fn run_settings(
        &self,
        model: &GalleryModel,
        records: &[Record],
        batcher: &Batcher,
        run: &RunFolder,
    ) -> Result<RunSettings, TrainError> {
        let began = run.settings()?;
        let began = began.as_ref();
        let validation = (!self.validation.is_empty()).then(|| {
            let like = began.and_then(|began| began.validation.as_ref());
            RecordDigest::of(&self.validation, batcher, like)
        });
        let mut training = self.config.clone();
        // The run is where its settings are.
        training.script.output_dir = None;
        Ok(RunSettings {
            flags: Vec::new(),
            base: self.base.clone(),
            dtype: format!("{:?}", model.dtype()),
            model: RunSettings::model(model.config()),
            lora: LoraSettings::of(model),
            image_processor: format!("{:?}", batcher.processor().config()),
            template: batcher.template().name.to_owned(),
            model_max_length: batcher.model_max_length(),
            training,
            world_size: self.world_size(),
            threads: rayon::current_num_threads(),
            records: RecordDigest::of(records, batcher, began.map(|began| &began.records)),
            validation,
        })
    }

    /// What the run folder will hold.
    fn kept(&self, state: &TrainState, total_steps: usize) -> Kept {
        let save_steps = self.config.save_steps;
        let saved = save_steps.map_or(0, |every| 2 + total_steps / every);
        let whole = self.config.parts.language_model == Trainable::Full;
        let steps = total_steps / self.config.logging_steps;
        Kept {
            trained: state.groups().parameters as u64,
            result: if whole {
                state.model().num_params() as u64
            } else {
                0
            },
            checkpoints: saved.min(self.config.save_total_limit) as u64,
            best: !self.validation.is_empty(),
            steps: steps as u64,
        }
    }

    /// Asks about the sample paintings, once a step, and brings the page up to date.
    fn sample(&self, state: &TrainState, run: &mut RunFolder) -> Result<(), TrainError> {
        let step = state.steps_done();
        if let Some(samples) = &self.samples
            && !run.has_samples(step)
        {
            run.sampled(samples.write(state.model(), step)?)?;
            run.write_page(&samples.paintings, false)?;
        }
        Ok(())
    }

    fn out_of_patience(&self, run: &RunFolder) -> Option<EvaluationLine> {
        let patience = self.config.early_stopping_patience?;
        run.out_of_patience(patience)
    }

    /// Mean loss per supervised token of the validation records, a batch of them in memory at a time.
    fn validation_loss(&self, model: &GalleryModel, batcher: &Batcher) -> Result<f64, TrainError> {
        let (mut total, mut count) = (0.0, 0);
        let size = self.config.per_device_eval_batch_size;
        for records in self.validation.chunks(size) {
            let batch = batcher.batch(&records.iter().collect::<Vec<_>>())?;
            let (sum, tokens) = summed_loss(model, &[batch])?;
            total += sum;
            count += tokens;
        }
        Ok(total / count.max(1) as f64)
    }

    /// The order of records of some lengths.
    pub(crate) fn sampler(&self, lengths: Vec<RecordLength>) -> Sampler {
        Sampler::new(
            lengths,
            self.config.order,
            self.config.per_device_train_batch_size,
            self.config.seed,
        )
    }

    /// Threads of their own for decoding pictures; without, they are decoded on those of the step.
    fn workers(&self) -> Result<Option<ThreadPool>, TrainError> {
        let wanted = self.config.dataloader_num_workers;
        let pool = || ThreadPoolBuilder::new().num_threads(wanted).build();
        (wanted > 0)
            .then(pool)
            .transpose()
            .map_err(|error| TrainError::Workers {
                wanted,
                cause: error.to_string(),
            })
    }

    /// Sends the batches of one step after the other, from a zero-based step on.
    fn prepare(
        &self,
        records: &[Record],
        batcher: &Batcher,
        workers: Option<&ThreadPool>,
        first: usize,
        send: &SyncSender<Prepared>,
    ) {
        let encode = |chosen: &[&Record]| match workers {
            Some(workers) => workers.install(|| batcher.usable_batch(chosen)),
            None => batcher.usable_batch(chosen),
        };
        let sampler = self.sampler(records.iter().map(Record::length).collect());
        let steps_per_epoch = self.steps_per_epoch(records.len());
        let mut done = first % steps_per_epoch;
        for epoch in first / steps_per_epoch..self.config.num_train_epochs.ceil() as usize {
            let batches = sampler.epoch(epoch);
            let steps = batches.chunks(self.micro_batches_per_step());
            for step in steps.skip(std::mem::take(&mut done)) {
                let mut prepared = Prepared::default();
                for indices in step {
                    let chosen: Vec<&Record> =
                        indices.iter().map(|&index| &records[index]).collect();
                    let (batch, bad) = encode(&chosen);
                    prepared.bad.extend(bad);
                    if !batch.is_empty() {
                        prepared.batches.push(batch);
                    }
                }
                // The trainer stopped listening: it is done or has failed.
                if send.send(prepared).is_err() {
                    return;
                }
            }
        }
    }
}
