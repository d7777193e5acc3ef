//! What a training will need, from its settings and the lengths of its records: no weight is read and nothing is computed.
//!
//! What a block keeps for its backward pass is counted from what its operations keep, in numbers per token: with `h` wide hidden
//! states, an MLP `m` wide, keys and values `k` wide together and adapters of rank `r` on all seven linears,
//!
//! ```text
//! 6h + k + 5m + 7r + 3 heads * keys        (the last on a CPU alone: fused attention keeps no scores)
//! ```
//!
//! `5h` and one `m` of it are inputs of linears, kept for the gradients of adapters or weights. The test `plan` holds this to what
//! an allocator counts, in f32 on the CPU.

use std::fmt;

use gallery_gpt_data::{RecordShape, balance};
use gallery_gpt_llama::{CPU_QUERY_BLOCK, LoraConfig, LoraTarget, cpu_attention_scores};
use gallery_gpt_model::{GalleryModelConfig, Packing};
use gallery_gpt_projector::ProjectorKind;
use serde::Serialize;

use crate::{
    MicroBatches, Trainable, Trainer, TrainingConfig,
    step::{LOGIT_ROWS, PART_TOKENS},
    trainer::AHEAD,
};

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
    /// Threads that share a step ([`MicroBatches::InParallel`]).
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

impl Trainer {
    /// What a training over records of some shapes will need.
    #[must_use]
    pub fn plan(&self, model: &PlannedModel<'_>, records: &[RecordShape]) -> TrainingPlan {
        let config = self.config();
        let counts = Counts::of(model, config);
        let layers = model.config.llama.num_hidden_layers;
        let blocks_run_again = config.gradient_checkpointing.blocks(layers);
        let [without_recompute, with_recompute, memory] =
            [0, layers, blocks_run_again].map(|again| self.memory(model, records, again));
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
            steps: self.total_steps(records.len()),
            flops_per_epoch: tokens as f64
                * flops_per_token(model.config, config.parts.language_model),
            without_recompute,
            with_recompute,
            memory,
            blocks_run_again,
        }
    }

    /// The fewest blocks that have to be run again for a training to need no more than some bytes; nothing if it needs more however many
    /// are.
    #[must_use]
    pub fn least_recompute(
        &self,
        model: &PlannedModel<'_>,
        records: &[RecordShape],
        bytes: u64,
    ) -> Option<usize> {
        let layers = model.config.llama.num_hidden_layers;
        (0..=layers).find(|&again| self.memory(model, records, again).peak <= bytes)
    }

    /// At the step that needs most, with so many blocks run again.
    fn memory(
        &self,
        model: &PlannedModel<'_>,
        records: &[RecordShape],
        again: usize,
    ) -> MemoryPlan {
        let config = self.config();
        let step = Step {
            model,
            config,
            counts: &Counts::of(model, config),
            again,
        };
        self.first_epoch(records)
            .map(|records| step.memory(&records))
            .max_by_key(|memory| memory.peak)
            .unwrap_or_default()
    }

    /// The micro-batches of each step.
    fn first_epoch<'a>(
        &'a self,
        records: &'a [RecordShape],
    ) -> impl Iterator<Item = Vec<Vec<RecordShape>>> + 'a {
        let batches = self.sampler(records.iter().map(RecordShape::length).collect());
        let shapes = move |indices: Vec<usize>| -> Vec<RecordShape> {
            indices.into_iter().map(|index| records[index]).collect()
        };
        let mut batches = batches.epoch(0).into_iter().map(shapes).peekable();
        let each = self.config().gradient_accumulation_steps;
        std::iter::from_fn(move || {
            batches.peek()?;
            Some(batches.by_ref().take(each).collect())
        })
    }
}

/// Slots that some rows take, and how long attention's rows are.
fn laid_out(config: &TrainingConfig, rows: &[RecordShape]) -> (usize, usize) {
    let multiple = config.pad_to_multiple_of;
    let longest = rows.iter().map(|row| row.tokens).max().unwrap_or_default();
    let longest = longest.next_multiple_of(multiple);
    let slots = match config.packing {
        Packing::Off => rows.len() * longest,
        Packing::OneRow => {
            let tokens: usize = rows.iter().map(|row| row.tokens).sum();
            tokens.next_multiple_of(multiple)
        }
    };
    (slots, longest)
}

/// Numbers of parameters.
struct Counts {
    base: usize,
    adapters: usize,
    trainable: usize,
    /// Those of it that are adapters' numbers.
    trained_adapters: usize,
}

impl Counts {
    fn of(model: &PlannedModel<'_>, config: &TrainingConfig) -> Self {
        let llama = &model.config.llama;
        let adapters = model.lora.map_or(0, |lora| {
            let of_block: usize = lora
                .targets
                .iter()
                .map(|target| lora.rank * llama.linear_widths(target).iter().sum::<usize>())
                .sum();
            llama.num_hidden_layers * of_block
        });
        let [tower, projector] = [
            model.config.vision.num_parameters(),
            model.config.projector_config().num_parameters(),
        ];
        let decoder = llama.num_parameters();
        let trained = |trainable, whole, adapters| match trainable {
            Trainable::Frozen => 0,
            Trainable::Lora => adapters,
            Trainable::Full => whole + adapters,
        };
        let parts = config.parts;
        Self {
            base: tower + projector + decoder,
            adapters,
            trained_adapters: trained(parts.language_model, 0, adapters),
            trainable: trained(parts.vision_tower, tower, 0)
                + trained(parts.projector, projector, 0)
                + trained(parts.language_model, decoder, adapters),
        }
    }
}

/// Numbers, not bytes, of one thread at work.
#[derive(Clone, Copy, Default)]
struct Work {
    /// When the forward pass is done, without the head.
    forward: usize,
    /// What the backward pass needs when it begins.
    backward: usize,
    /// What is left when it ends, gradients not counted.
    end: usize,
    /// Of the head.
    logits: usize,
    tower: usize,
}

struct Step<'a> {
    model: &'a PlannedModel<'a>,
    config: &'a TrainingConfig,
    counts: &'a Counts,
    /// Blocks that are run again.
    again: usize,
}

impl Step<'_> {
    fn memory(&self, micro_batches: &[Vec<RecordShape>]) -> MemoryPlan {
        // What is at work at the same time.
        let (waves, at_once): (Vec<Vec<Work>>, usize) = match self.config.micro_batches {
            MicroBatches::OneByOne => {
                let each = micro_batches.iter().map(|batch| vec![self.work(batch)]);
                (each.collect(), 1)
            }
            MicroBatches::InParallel => {
                let parts: Vec<Work> = micro_batches
                    .iter()
                    .flat_map(|batch| self.parts(batch, micro_batches.len()))
                    .map(|part| self.work(&part))
                    .collect();
                let threads = self.model.threads.max(1);
                let at_once = parts.len().min(threads);
                (parts.chunks(threads).map(<[_]>::to_vec).collect(), at_once)
            }
        };
        let bytes = self.model.bytes as u64;
        let trained = self.counts.trainable - self.counts.trained_adapters;
        let at_work = match self.config.parts.language_model {
            Trainable::Full => 4,
            Trainable::Lora | Trainable::Frozen => bytes,
        };
        let sum = |wave: &[Work], of: fn(&Work) -> usize| wave.iter().map(of).sum::<usize>() as u64;
        let gradient = 4 * self.counts.trainable as u64;
        // Sums from what was before, and those of each thread.
        let summed = if waves.len() > 1 || at_once > 1 {
            gradient
        } else {
            0
        };
        let ahead = (AHEAD + 2) as u64;
        let pictures: usize = micro_batches.iter().flatten().map(|row| row.pictures).sum();
        let side = self.model.config.vision.image_size;
        let mut plan = MemoryPlan {
            // What is trained is f32.
            weights: bytes * (self.counts.base - trained) as u64 + 4 * trained as u64,
            adapters: 4 * self.counts.adapters as u64,
            optimizer: 2 * gradient,
            gradients: summed + gradient * at_once as u64,
            pictures: 4 * ahead * (pictures * 3 * side * side) as u64,
            ..MemoryPlan::default()
        };
        let always = plan.weights + plan.adapters + plan.optimizer + plan.pictures;
        plan.peak = always + plan.gradients;
        for wave in &waves {
            let carried = if waves.len() > 1 { gradient } else { 0 };
            let forward = at_work * sum(wave, |work| work.forward);
            let backward = at_work * sum(wave, |work| work.backward);
            let logits = 4 * sum(wave, |work| work.logits);
            let tower = at_work * sum(wave, |work| work.tower);
            let end = at_work * sum(wave, |work| work.end);
            plan.activations = plan.activations.max(forward.max(backward).max(end));
            plan.logits = plan.logits.max(logits);
            plan.tower = plan.tower.max(tower);
            let most = (carried + forward + logits)
                .max(carried + backward)
                .max(plan.gradients + end)
                .max(carried + tower);
            plan.peak = plan.peak.max(always + most);
        }
        plan
    }

    /// As the step divides a micro-batch.
    fn parts(&self, rows: &[RecordShape], micro_batches: usize) -> Vec<Vec<RecordShape>> {
        let lengths: Vec<usize> = rows.iter().map(|row| row.tokens).collect();
        let tokens: usize = lengths.iter().sum();
        let least = self.model.threads.max(1).div_ceil(micro_batches);
        let bins = balance(&lengths, least.max(tokens.div_ceil(PART_TOKENS)));
        let shapes = |bin: Vec<usize>| bin.into_iter().map(|row| rows[row]).collect();
        bins.into_iter().map(shapes).collect()
    }

    fn work(&self, rows: &[RecordShape]) -> Work {
        let PlannedModel { config, .. } = self.model;
        let llama = &config.llama;
        let (h, m) = (llama.hidden_size, llama.intermediate_size);
        let (tokens, longest) = laid_out(self.config, rows);
        let slots = rows.len() * longest;
        let layers = llama.num_hidden_layers;
        let block = self.block(tokens, slots, rows);
        // Gradients of the MLP's inner states, of which two are there at a time.
        let passing = 2 * m * tokens;
        let pictures: usize = rows.iter().map(|row| row.pictures).sum();
        let before = self.before_the_blocks(tokens, pictures);
        let supervised: usize = rows.iter().map(|row| row.supervised).sum();
        let logits = 2 * supervised.min(LOGIT_ROWS) * llama.vocab_size;
        // The last hidden state and its gradient.
        let last = 2 * h * tokens;
        let kept = before + self.again * h * tokens + (layers - self.again) * block;
        let forward = kept + last;
        // Either the kept blocks are still all there, or the first that is run again is.
        let backward = if self.again < layers {
            kept + passing
        } else {
            kept + block + passing
        };
        Work {
            forward,
            backward,
            end: before + block + passing,
            logits,
            tower: self.tower(pictures),
        }
    }

    /// What one block keeps for its backward pass.
    fn block(&self, tokens: usize, slots: usize, rows: &[RecordShape]) -> usize {
        let llama = &self.model.config.llama;
        let (h, m, heads) = (
            llama.hidden_size,
            llama.intermediate_size,
            llama.num_attention_heads,
        );
        let kv = llama.num_key_value_heads * llama.head_dim();
        let full = self.config.parts.language_model == Trainable::Full;
        let adapted = |target| {
            self.config.parts.language_model != Trainable::Frozen
                && self
                    .model
                    .lora
                    .is_some_and(|lora| lora.targets.contains(target))
        };
        // Whether the input of some linears is kept for gradients of theirs.
        let input = |targets: &[LoraTarget], width: usize| {
            let kept = full || targets.iter().any(|&target| adapted(target));
            if kept { width } else { 0 }
        };
        use LoraTarget as T;
        let rank = self.model.lora.map_or(0, |lora| lora.rank);
        let adapters = T::ALL.into_iter().filter(|&target| adapted(target)).count();
        let per_token = 2 * h
            + 4 * m
            + input(&[T::QProj, T::KProj, T::VProj], h)
            + input(&[T::OProj], h)
            + input(&[T::GateProj, T::UpProj], h)
            + input(&[T::DownProj], m)
            + adapters * rank
            // Both norms keep what they scale.
            + if full { 2 * h } else { 0 };
        let scores = match self.model.attention {
            AttentionMemory::Fused => 0,
            AttentionMemory::Scores => {
                let (_, seq) = laid_out(self.config, rows);
                let kept = cpu_attention_scores(seq);
                // Scores, their softmax and its input; and the masks of the blocks on the diagonal.
                3 * heads * rows.len() * kept + seq * seq.min(CPU_QUERY_BLOCK) * 8 / 5
            }
        };
        tokens * per_token + slots * (h + 2 * kv) + scores
    }

    /// What the projector and the splice keep.
    fn before_the_blocks(&self, tokens: usize, pictures: usize) -> usize {
        if self.config.parts.projector == Trainable::Frozen || pictures == 0 {
            return 0;
        }
        let config = self.model.config;
        let (h, mm) = (config.llama.hidden_size, config.vision.hidden_size);
        let of_patch = match config.projector {
            ProjectorKind::Identity => 0,
            ProjectorKind::Linear => mm,
            ProjectorKind::MlpGelu { depth } => mm + (depth - 1) * 2 * h,
        };
        tokens * h + pictures * config.tokens_per_picture() * of_patch
    }

    /// The tower keeps nothing where it is frozen; this is what one block has at work.
    fn tower(&self, pictures: usize) -> usize {
        let vision = &self.model.config.vision;
        let tokens = vision.num_patches() + 1;
        let scores = match self.model.attention {
            AttentionMemory::Fused => 0,
            AttentionMemory::Scores => 2 * vision.num_attention_heads * tokens * tokens,
        };
        let (h, m) = (vision.hidden_size, vision.intermediate_size);
        pictures * (scores + 4 * h * tokens).max(tokens * (2 * h + 3 * m))
    }
}
