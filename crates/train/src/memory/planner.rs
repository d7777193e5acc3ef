//! Plans a training from its settings and the lengths of its records, without reading a weight or computing anything.

use gallery_gpt_data::RecordSize;

use super::{
    MemoryPlan, PlannedModel, TrainingPlan, flops_per_token,
    step_memory::{Counts, StepMemory, laid_out},
};
use crate::config::Epochs;

/// Plans a training.
pub(crate) struct Planner<'a>(pub(crate) Epochs<'a>);

impl Planner<'_> {
    /// The plan of the training.
    pub(crate) fn plan(&self, model: &PlannedModel<'_>, records: &[RecordSize]) -> TrainingPlan {
        let config = self.0.config;
        let counts = Counts::of(model, config);
        let layers = model.config.llama.num_hidden_layers;
        let recomputed_blocks = config.gradient_checkpointing.blocks(layers);
        let [without_recompute, with_recompute, memory] = [0, layers, recomputed_blocks]
            .map(|recomputed| self.memory(model, records, recomputed));
        let tokens: usize = records.iter().map(|record| record.tokens).sum();
        let padded = self
            .first_epoch(records)
            .flatten()
            .map(|batch| laid_out(config, &batch).0);
        TrainingPlan {
            trainable_parameters: counts.trainable as u64,
            frozen_parameters: (counts.base + counts.adapters - counts.trainable) as u64,
            records: records.len(),
            tokens: tokens as u64,
            padded_tokens: padded.sum::<usize>() as u64,
            steps: self.0.total_steps(),
            flops_per_epoch: tokens as f64
                * flops_per_token(model.config, config.parts.language_model),
            without_recompute,
            with_recompute,
            memory,
            recomputed_blocks,
        }
    }

    /// The smallest number of recomputed blocks with which a training needs at most `bytes`; `None` if it needs more even when all are
    /// recomputed.
    pub(crate) fn least_recompute(
        &self,
        model: &PlannedModel<'_>,
        records: &[RecordSize],
        bytes: u64,
    ) -> Option<usize> {
        let layers = model.config.llama.num_hidden_layers;
        (0..=layers).find(|&recomputed| self.memory(model, records, recomputed).peak <= bytes)
    }

    /// The memory of the step that needs most, with `recomputed` blocks.
    fn memory(
        &self,
        model: &PlannedModel<'_>,
        records: &[RecordSize],
        recomputed: usize,
    ) -> MemoryPlan {
        let config = self.0.config;
        let step = StepMemory {
            model,
            config,
            counts: &Counts::of(model, config),
            recomputed,
        };
        self.first_epoch(records)
            .map(|records| step.bytes(&records))
            .max_by_key(|memory| memory.peak)
            .unwrap_or_default()
    }

    /// The micro-batches of each step.
    fn first_epoch<'a>(
        &'a self,
        records: &'a [RecordSize],
    ) -> impl Iterator<Item = Vec<Vec<RecordSize>>> + 'a {
        let batches = self
            .0
            .sampler(records.iter().map(RecordSize::length).collect());
        let sizes = move |indices: Vec<usize>| -> Vec<RecordSize> {
            indices.into_iter().map(|index| records[index]).collect()
        };
        let mut batches = batches.epoch(0).into_iter().map(sizes).peekable();
        let each = self.0.config.gradient_accumulation_steps;
        std::iter::from_fn(move || {
            batches.peek()?;
            Some(batches.by_ref().take(each).collect())
        })
    }
}
