//! How the records of a training are divided into steps and epochs.

use gallery_gpt_data::{RecordLength, Sampler};

use super::TrainingConfig;

/// The steps of a training over a number of records, on a number of devices.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Epochs<'a> {
    pub(crate) config: &'a TrainingConfig,
    pub(crate) records: usize,
    /// Devices that share a step.
    pub(crate) world_size: usize,
}

impl Epochs<'_> {
    /// Micro-batches of a step, on all devices together.
    pub(crate) fn micro_batches_per_step(&self) -> usize {
        self.config.gradient_accumulation_steps * self.world_size
    }

    /// Steps of one epoch.
    pub(crate) fn steps_per_epoch(&self) -> usize {
        let micro_batches = self
            .records
            .div_ceil(self.config.per_device_train_batch_size);
        micro_batches.div_ceil(self.micro_batches_per_step())
    }

    /// Steps of the whole training.
    pub(crate) fn total_steps(&self) -> usize {
        let steps = self.steps_per_epoch() as f64 * self.config.num_train_epochs;
        let steps = steps.ceil() as usize;
        self.config.max_steps.map_or(steps, |max| steps.min(max))
    }

    /// The sampler of the records' order, by their lengths.
    pub(crate) fn sampler(&self, lengths: Vec<RecordLength>) -> Sampler {
        Sampler::new(
            lengths,
            self.config.order,
            self.config.per_device_train_batch_size,
            self.config.seed,
        )
    }
}
