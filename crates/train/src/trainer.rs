//! Epochs over records.

use std::{
    sync::mpsc::{SyncSender, sync_channel},
    thread,
    time::Instant,
};

use burn::{module::Module, tensor::Device};
use gallery_gpt_checkpoint::{AdapterLayout, ensure_savable_adapter, save_adapter};
use gallery_gpt_data::{BadRecord, Batch, Batcher, Record, RecordLength, Sampler};
use gallery_gpt_model::GalleryModel;
use rayon::{ThreadPool, ThreadPoolBuilder};
use sha2::{Digest, Sha256};

use crate::{
    AdapterWriting, CheckpointState, EvaluationLine, LogLine, OnBadRecord, RunFolder, Samples,
    SpeedLine, TrainError, TrainEvent, TrainState, TrainingCheckpoint, TrainingConfig,
    flops_per_token, out_of_memory::catch, step::summed_loss,
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
    /// `observe` is told what happens. With `adapter`, checkpoints hold adapters in PEFT's form; without, every trained parameter.
    ///
    /// On a CPU with as many threads, a training that was killed anywhere and went on leaves the same bytes as one that was not.
    ///
    /// # Errors
    /// A record that cannot be used, a loss that is no number, records other than those the run began with, or a file that cannot
    /// be read or written. What the run folder holds by then is whole.
    pub fn train(
        &self,
        model: GalleryModel,
        adapter: Option<AdapterWriting<'_>>,
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
        let total_steps = self.total_steps(records.len());
        let mut state =
            TrainState::new(model, &self.config, total_steps)?.with_devices(&self.devices)?;
        observe(&TrainEvent::Started {
            total_steps,
            parameters: state.groups().parameters,
        });
        let fingerprint = fingerprint(records);
        let mut last = TrainingCheckpoint::newest(&run.checkpoints())?;
        if let Some(checkpoint) = &last {
            let CheckpointState {
                step, log_bytes, ..
            } = checkpoint.state;
            if checkpoint.state.records_fingerprint != fingerprint {
                let describe = |count: usize, print: &str| format!("{count} ({})", &print[..12]);
                return Err(TrainError::Changed {
                    run: run.path().to_owned(),
                    what: "the set of records".to_owned(),
                    then: describe(
                        checkpoint.state.records,
                        &checkpoint.state.records_fingerprint,
                    ),
                    now: describe(records.len(), &fingerprint),
                });
            }
            state = state.restore(checkpoint)?;
            run.rewind(step, log_bytes)?;
            observe(&TrainEvent::Resumed { step });
        } else {
            run.rewind(0, 0)?;
        }
        let save = |state: &TrainState, run: &RunFolder| {
            let checkpoint = CheckpointState {
                step: state.steps_done(),
                records: records.len(),
                records_fingerprint: fingerprint.clone(),
                log_bytes: run.sync()?,
            };
            let keep = self.config.save_total_limit;
            TrainingCheckpoint::write(&run.checkpoints(), state, adapter, checkpoint, keep)
        };
        self.sample(&state, run)?;
        if self.config.save_steps.is_some() && last.is_none() {
            last = Some(save(&state, run)?);
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
                let waiting = Instant::now();
                let Ok(Prepared { batches, bad }) = receive.recv() else {
                    break;
                };
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
                    if let Some(AdapterWriting { origin }) = adapter
                        && run.is_best(step)
                    {
                        let model = state.model().valid();
                        save_adapter(&model, origin, run.best(), AdapterLayout::Peft)?;
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
                    let checkpoint = save(&state, run)?;
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
        Ok(state.into_model())
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

    /// [`Trainer::train`], then saves the adapter in the run folder.
    ///
    /// # Errors
    /// As [`Trainer::train`], or the adapter cannot be written.
    pub fn train_adapter(
        &self,
        model: GalleryModel,
        adapter: AdapterWriting<'_>,
        records: &[Record],
        batcher: &Batcher,
        run: &mut RunFolder,
        observe: impl FnMut(&TrainEvent),
    ) -> Result<GalleryModel, TrainError> {
        ensure_savable_adapter(&model)?;
        let model = self.train(model, Some(adapter), records, batcher, run, observe)?;
        let AdapterWriting { origin } = adapter;
        save_adapter(&model, origin, run.adapter(), AdapterLayout::Peft)?;
        Ok(model)
    }
}

/// A hash of the records and their order.
fn fingerprint(records: &[Record]) -> String {
    let mut hash = Sha256::new();
    let mut add = |text: &[u8]| {
        // With its length, so that no two lists of texts run together alike.
        hash.update((text.len() as u64).to_le_bytes());
        hash.update(text);
    };
    for record in records {
        add(record.id.as_bytes());
        let conversation = &record.conversation;
        for count in [record.pictures.len(), conversation.turns.len()] {
            add(&count.to_le_bytes());
        }
        for picture in &record.pictures {
            add(picture.identity());
        }
        add(conversation
            .system
            .as_deref()
            .unwrap_or_default()
            .as_bytes());
        for turn in &conversation.turns {
            add(turn.role.record_name().as_bytes());
            add(turn.text.as_bytes());
        }
    }
    hash.finalize()
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect()
}
