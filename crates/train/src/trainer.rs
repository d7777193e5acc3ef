//! Epochs over records.

use std::{sync::mpsc::sync_channel, thread, time::Instant};

use gallery_gpt_checkpoint::{AdapterLayout, AdapterOrigin, save_adapter};
use gallery_gpt_data::{BadRecord, Batch, Batcher, Record, Sampler};
use gallery_gpt_llama::LoraConfig;
use gallery_gpt_model::GalleryModel;

use crate::{LogLine, RunFolder, TrainError, TrainEvent, TrainState, TrainingConfig};

/// Batches decoded ahead of the step that needs them.
const AHEAD: usize = 3;

/// Runs a training.
#[derive(Clone, Debug)]
pub struct Trainer {
    config: TrainingConfig,
}

impl Trainer {
    /// A trainer of some settings.
    ///
    /// # Errors
    /// A setting out of range.
    pub fn new(config: TrainingConfig) -> Result<Self, TrainError> {
        config.validate()?;
        Ok(Self { config })
    }

    /// Steps that a training over `records` records takes.
    #[must_use]
    pub fn total_steps(&self, records: usize) -> usize {
        let micro_batches = records.div_ceil(self.config.per_device_train_batch_size);
        let per_epoch = micro_batches.div_ceil(self.config.gradient_accumulation_steps);
        let steps = per_epoch * self.config.num_train_epochs;
        self.config.max_steps.map_or(steps, |most| steps.min(most))
    }

    /// Trains a model on records and returns it. `observe` is told what happens.
    ///
    /// # Errors
    /// A record that cannot be used, a loss that is no number, or a log that cannot be written. What the run folder holds
    /// by then is whole.
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
        let total_steps = self.total_steps(records.len());
        let mut state = TrainState::new(model, &self.config, total_steps)?;
        observe(&TrainEvent::Started {
            total_steps,
            parameters: state.groups().parameters,
        });
        let started = Instant::now();
        let sampler = Sampler::new(
            records.iter().map(Record::words).collect(),
            self.config.order,
            self.config.per_device_train_batch_size,
            self.config.seed,
        );
        thread::scope(|scope| -> Result<(), TrainError> {
            let (send, receive) = sync_channel::<Result<Vec<Batch>, BadRecord>>(AHEAD);
            let (config, sampler) = (&self.config, &sampler);
            scope.spawn(move || {
                for epoch in 0..config.num_train_epochs {
                    let batches = sampler.epoch(epoch);
                    for step in batches.chunks(config.gradient_accumulation_steps) {
                        let step: Result<Vec<Batch>, BadRecord> = step
                            .iter()
                            .map(|indices| {
                                let chosen: Vec<&Record> =
                                    indices.iter().map(|&index| &records[index]).collect();
                                batcher.batch(&chosen)
                            })
                            .collect();
                        // The trainer stopped listening: it is done or has failed.
                        if send.send(step).is_err() {
                            return;
                        }
                    }
                }
            });
            for _ in 0..total_steps {
                let waiting = Instant::now();
                let Ok(batches) = receive.recv() else { break };
                let batches = batches?;
                let data_wait = waiting.elapsed().as_secs_f64();
                let report = state.step(&batches)?;
                let tokens_per_second =
                    report.tokens as f64 / waiting.elapsed().as_secs_f64().max(1e-9);
                run.log(&LogLine {
                    step: report.step,
                    loss: report.loss,
                    grad_norm: report.grad_norm,
                    learning_rate: report.learning_rate,
                    mm_projector_lr: report.mm_projector_lr,
                    supervised_tokens: report.supervised_tokens,
                    tokens: report.tokens,
                    tokens_per_second,
                    data_wait,
                })?;
                observe(&TrainEvent::Step {
                    report,
                    tokens_per_second,
                    data_wait,
                });
            }
            drop(receive);
            Ok(())
        })?;
        observe(&TrainEvent::Finished {
            steps: state.steps_done(),
            seconds: started.elapsed().as_secs_f64(),
        });
        run.draw_curve()?;
        Ok(state.into_model())
    }

    /// [`Trainer::train`], then saves the adapter in the run folder.
    ///
    /// # Errors
    /// As [`Trainer::train`], or the adapter cannot be written.
    #[allow(
        clippy::too_many_arguments,
        reason = "each is a thing of its own: what is trained, on what, where to, and who watches"
    )]
    pub fn train_adapter(
        &self,
        model: GalleryModel,
        lora: &LoraConfig,
        origin: &AdapterOrigin,
        records: &[Record],
        batcher: &Batcher,
        run: &mut RunFolder,
        observe: impl FnMut(&TrainEvent),
    ) -> Result<GalleryModel, TrainError> {
        let model = self.train(model, records, batcher, run, observe)?;
        save_adapter(&model, lora, origin, run.adapter(), AdapterLayout::Peft)?;
        Ok(model)
    }
}
