//! What is planned for, and what a plan says.

use std::fmt;

use gallery_gpt_llama::LoraConfig;
use gallery_gpt_model::GalleryModelConfig;
use serde::Serialize;

use crate::Trainable;

/// What attention keeps for the backward pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AttentionMemory {
    /// Every score: Burn's attention on a CPU.
    Scores,
    /// No score: fused attention on a GPU.
    Fused,
}

/// What is planned for, beside the settings of the training.
#[derive(Clone, Copy, Debug)]
pub struct PlannedModel<'a> {
    /// The model's sizes.
    pub config: &'a GalleryModelConfig,
    /// Its adapters, if it gets any.
    pub lora: Option<&'a LoraConfig>,
    /// Bytes of a number of the frozen weights and of activations.
    pub bytes: usize,
    /// What attention keeps.
    pub attention: AttentionMemory,
    /// Threads that share a step ([`MicroBatches::InParallel`](crate::MicroBatches::InParallel)).
    pub threads: usize,
}

/// Bytes of the parts of a training at the step that needs most.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct MemoryPlan {
    /// The base.
    pub weights: u64,
    /// New parameters: the adapters.
    pub adapters: u64,
    /// Adam's two moments of everything that is trained.
    pub optimizer: u64,
    /// Gradients of everything that is trained, while they are summed up.
    pub gradients: u64,
    /// What is kept for the backward pass, and what the pass itself needs beside.
    pub activations: u64,
    /// Logits and their gradients, a chunk of rows at a time.
    pub logits: u64,
    /// The tower's own at work, before the decoder begins.
    pub tower: u64,
    /// Pictures of the step and of the steps decoded ahead.
    pub pictures: u64,
    /// The largest sum at one time: not all of the above are there together.
    pub peak: u64,
}

/// What a training needs.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct TrainingPlan {
    /// Parameters that are trained.
    pub trainable_parameters: u64,
    /// Parameters that are not.
    pub frozen_parameters: u64,
    /// Records.
    pub records: usize,
    /// Tokens of an epoch, pictures expanded.
    pub tokens: u64,
    /// Tokens of an epoch with the padding they are computed with.
    pub padded_tokens: u64,
    /// Steps.
    pub steps: usize,
    /// Operations of an epoch ([`flops_per_token`]).
    pub flops_per_epoch: f64,
    /// Memory when everything is kept for the backward pass.
    pub without_recompute: MemoryPlan,
    /// Memory when the decoder's blocks are run again.
    pub with_recompute: MemoryPlan,
    /// Memory of the settings: one of the two, or between them.
    pub memory: MemoryPlan,
    /// Blocks that the settings run again.
    pub blocks_run_again: usize,
}

impl fmt::Display for TrainingPlan {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            formatter,
            "{} trainable parameters, {} frozen; {} records, {} tokens an epoch ({} with padding), {} steps",
            self.trainable_parameters,
            self.frozen_parameters,
            self.records,
            self.tokens,
            self.padded_tokens,
            self.steps
        )?;
        writeln!(
            formatter,
            "\n{:<24}{:>14}{:>14}{:>14}",
            "MB", "keep all", "recompute", "as set"
        )?;
        type Column = fn(&MemoryPlan) -> u64;
        let rows: [(&str, Column); 9] = [
            ("weights", |plan| plan.weights),
            ("adapters", |plan| plan.adapters),
            ("optimizer", |plan| plan.optimizer),
            ("gradients", |plan| plan.gradients),
            ("activations", |plan| plan.activations),
            ("logits", |plan| plan.logits),
            ("tower at work", |plan| plan.tower),
            ("pictures", |plan| plan.pictures),
            ("peak", |plan| plan.peak),
        ];
        for (name, bytes) in rows {
            write!(formatter, "{name:<24}")?;
            for plan in [&self.without_recompute, &self.with_recompute, &self.memory] {
                write!(formatter, "{:>14.1}", bytes(plan) as f64 / 1e6)?;
            }
            writeln!(formatter)?;
        }
        write!(
            formatter,
            "the settings run {} blocks again",
            self.blocks_run_again
        )
    }
}

/// Operations of the decoder for a token of a training, without those that recompute: with `n` parameters in blocks and head, `4n`
/// where weights are frozen (forward and the gradient of the input take `2n` each) and `6n` where they are trained (their own
/// gradient takes `2n` more). Attention's products and the tower are left out, as in the rule of Kaplan et al. 2020
/// (<https://arxiv.org/abs/2001.08361>, section 2.1).
///
/// The model FLOPs utilization of a step is this times its tokens per second, divided by what the device can do at most.
#[must_use]
pub fn flops_per_token(config: &GalleryModelConfig, language_model: Trainable) -> f64 {
    let llama = &config.llama;
    let n = llama.num_parameters() - llama.vocab_size * llama.hidden_size;
    let each = if language_model == Trainable::Full {
        6
    } else {
        4
    };
    (each * n) as f64
}
