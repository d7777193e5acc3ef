//! Prefetching: batches are encoded on a thread of their own, ahead of the steps that need them.

use std::sync::mpsc::SyncSender;

use gallery_gpt_data::{BadRecord, Batch, Batcher, Record};
use rayon::{ThreadPool, ThreadPoolBuilder};

use crate::{TrainError, config::Epochs};

/// The batches of a step.
#[derive(Default)]
pub(super) struct StepBatches {
    /// The micro-batches.
    pub(super) batches: Vec<Batch>,
    /// Bad records of the step.
    pub(super) bad: Vec<BadRecord>,
}

/// Encodes records into batches.
pub(super) struct Loader<'a> {
    epochs: Epochs<'a>,
    records: &'a [Record],
    batcher: &'a Batcher,
    /// Worker threads that decode pictures; if `None`, they are decoded on those of the step.
    workers: Option<ThreadPool>,
}

impl<'a> Loader<'a> {
    /// A loader with `dataloader_num_workers` worker threads.
    ///
    /// # Errors
    /// The threads cannot be started.
    pub(super) fn new(
        epochs: Epochs<'a>,
        records: &'a [Record],
        batcher: &'a Batcher,
    ) -> Result<Self, TrainError> {
        let wanted = epochs.config.dataloader_num_workers;
        let pool = || ThreadPoolBuilder::new().num_threads(wanted).build();
        let workers = (wanted > 0).then(pool).transpose();
        Ok(Self {
            epochs,
            records,
            batcher,
            workers: workers.map_err(|error| TrainError::Workers {
                wanted,
                cause: error.to_string(),
            })?,
        })
    }

    /// Sends the batches step by step, starting at a zero-based step, until the training ends or the receiver is gone.
    pub(super) fn run(&self, first: usize, send: &SyncSender<StepBatches>) {
        let lengths = self.records.iter().map(Record::length).collect();
        let sampler = self.epochs.sampler(lengths);
        let steps_per_epoch = self.epochs.steps_per_epoch();
        let epochs = self.epochs.config.num_train_epochs.ceil() as usize;
        let mut done = first % steps_per_epoch;
        for epoch in first / steps_per_epoch..epochs {
            let micro_batches = sampler.epoch(epoch);
            let steps = micro_batches.chunks(self.epochs.micro_batches_per_step());
            for step in steps.skip(std::mem::take(&mut done)) {
                if send.send(self.encode(step)).is_err() {
                    return;
                }
            }
        }
    }

    /// The micro-batches of a step, given by the indices of their records.
    fn encode(&self, micro_batches: &[Vec<usize>]) -> StepBatches {
        let mut step = StepBatches::default();
        for indices in micro_batches {
            let chosen: Vec<&Record> = indices.iter().map(|&index| &self.records[index]).collect();
            let encode = || self.batcher.usable_batch(&chosen);
            let (batch, bad) = match &self.workers {
                Some(workers) => workers.install(encode),
                None => encode(),
            };
            step.bad.extend(bad);
            if !batch.is_empty() {
                step.batches.push(batch);
            }
        }
        step
    }
}
