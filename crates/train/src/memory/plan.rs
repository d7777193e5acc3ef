//! The input and the result of planning a training.

use std::fmt;

use gallery_gpt_llama::LoraConfig;
use gallery_gpt_model::GalleryModelConfig;
use serde::Serialize;

use crate::Trainable;

/// Whether attention keeps its scores for the backward pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AttentionMemory {
    /// It does: Burn's attention on a CPU.
    Scores,
    /// It does not: fused attention on a GPU.
    Fused,
}

/// The model and the device of a plan.
#[derive(Clone, Copy, Debug)]
pub struct PlannedModel<'a> {
    /// The model's sizes.
    pub config: &'a GalleryModelConfig,
    /// Its adapters, if it has any.
    pub lora: Option<&'a LoraConfig>,
    /// Bytes per value of the frozen weights and of activations.
    pub bytes: usize,
    /// Whether attention keeps its scores.
    pub attention: AttentionMemory,
    /// Threads that share a step ([`MicroBatches::InParallel`](crate::MicroBatches::InParallel)).
    pub threads: usize,
}

/// Bytes of the parts of a training, at the step that needs most.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct MemoryPlan {
    /// The base.
    pub weights: u64,
    /// The adapters.
    pub adapters: u64,
    /// Adam's two moments of all trained parameters.
    pub optimizer: u64,
    /// Gradients of all trained parameters, while they are accumulated.
    pub gradients: u64,
    /// Activations kept for the backward pass, and its own temporary tensors.
    pub activations: u64,
    /// Logits and their gradients, a chunk of rows at a time.
    pub logits: u64,
    /// Temporary tensors of the tower, before the decoder begins.
    pub tower: u64,
    /// Pictures of the step and of prefetched steps.
    pub pictures: u64,
    /// The highest sum at any time: not all of the above are in memory at once.
    pub peak: u64,
}

/// A plan of a training's memory and computation.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct TrainingPlan {
    /// Trained parameters.
    pub trainable_parameters: u64,
    /// Frozen parameters.
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
    /// Memory without recompute.
    pub without_recompute: MemoryPlan,
    /// Memory if all of the decoder's blocks are recomputed.
    pub with_recompute: MemoryPlan,
    /// Memory with the settings of the training.
    pub memory: MemoryPlan,
    /// Blocks that are recomputed with the settings of the training.
    pub recomputed_blocks: usize,
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
            ("tower", |plan| plan.tower),
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
            "the settings recompute {} blocks",
            self.recomputed_blocks
        )
    }
}

/// Floating-point operations of the decoder per token of a training, without recompute: with `n` parameters in blocks and head, `4n`
/// where weights are frozen (forward and the gradient of the input take `2n` each) and `6n` where they are trained (their own
/// gradient takes `2n` more). Attention's products and the tower are left out, as in the rule of Kaplan et al. 2020
/// (<https://arxiv.org/abs/2001.08361>, section 2.1).
///
/// The model FLOPs utilization of a step is this times its tokens per second, divided by the device's peak.
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
