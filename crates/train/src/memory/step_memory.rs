//! The memory of one step, counted from the activations that its operations keep.
//!
//! Values per token that a block keeps for its backward pass, with hidden states of size `h`, an MLP of size `m`, keys and values of
//! size `k` together, and adapters of rank `r` on seven linears:
//!
//! ```text
//! 6h + k + 5m + 7r + 3 heads * keys        (the last term on a CPU only: fused attention keeps no scores)
//! ```
//!
//! `3h` and one `m` of it are inputs of linears, kept for the gradients of adapters or weights; with dropout twice as many for each adapter,
//! which then has an input and a mask of its own. The test `plan` compares this
//! with an allocator's count, in f32 on the CPU.

use gallery_gpt_data::{RecordSize, balance};
use gallery_gpt_llama::{CPU_QUERY_BLOCK, LoraTarget, cpu_attention_scores};
use gallery_gpt_model::Packing;
use gallery_gpt_projector::ProjectorKind;

use super::{AttentionMemory, MemoryPlan, PlannedModel};
use crate::{
    MicroBatches, Trainable, TrainingConfig,
    config::{LOGIT_ROWS, PART_TOKENS, PREFETCHED_STEPS},
};

/// The number of tokens with padding, and the padded length of attention's rows.
pub(super) fn laid_out(config: &TrainingConfig, rows: &[RecordSize]) -> (usize, usize) {
    let multiple = config.pad_to_multiple_of.unwrap_or(1);
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

/// Parameter counts.
pub(super) struct Counts {
    pub(super) base: usize,
    pub(super) adapters: usize,
    pub(super) trainable: usize,
    /// Trainable parameters in adapters.
    trained_adapters: usize,
}

impl Counts {
    pub(super) fn of(model: &PlannedModel<'_>, config: &TrainingConfig) -> Self {
        let llama = &model.config.llama;
        let adapters = model.lora.map_or(0, |lora| {
            let targets = lora.targets.among(llama.linears());
            let of_block: usize = targets
                .iter()
                .map(|target| lora.rank * llama.linear_widths(target).iter().sum::<usize>())
                .sum();
            llama.num_hidden_layers * of_block
        });
        let tower = model.config.vision.num_parameters();
        let projector = model.config.projector_config();
        let fixed = projector.num_fixed_parameters();
        let projector = projector.num_parameters();
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
                + trained(parts.projector, projector - fixed, 0)
                + trained(parts.language_model, decoder, adapters),
        }
    }
}

/// Values (not bytes) in memory while one thread computes a part.
#[derive(Clone, Copy, Default)]
struct Work {
    /// At the end of the forward pass, without the head.
    forward: usize,
    /// At the beginning of the backward pass.
    backward: usize,
    /// At its end, without gradients.
    end: usize,
    /// Logits of the head.
    logits: usize,
    tower: usize,
}

/// The memory of one step.
pub(super) struct StepMemory<'a> {
    pub(super) model: &'a PlannedModel<'a>,
    pub(super) config: &'a TrainingConfig,
    pub(super) counts: &'a Counts,
    /// Blocks that are recomputed.
    pub(super) recomputed: usize,
}

impl StepMemory<'_> {
    /// The memory of some micro-batches.
    pub(super) fn bytes(&self, micro_batches: &[Vec<RecordSize>]) -> MemoryPlan {
        // Parts that are computed at the same time.
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
        // The sum so far, beside the gradients of each thread.
        let summed = if waves.len() > 1 || at_once > 1 {
            gradient
        } else {
            0
        };
        let ahead = (PREFETCHED_STEPS + 2) as u64;
        let pictures: usize = micro_batches.iter().flatten().map(|row| row.pictures).sum();
        let side = self.model.config.vision.image_size;
        let mut plan = MemoryPlan {
            // Trained parameters are f32.
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
            let highest = (carried + forward + logits)
                .max(carried + backward)
                .max(plan.gradients + end)
                .max(carried + tower);
            plan.peak = plan.peak.max(always + highest);
        }
        plan
    }

    /// Splits a micro-batch as the step does.
    fn parts(&self, rows: &[RecordSize], micro_batches: usize) -> Vec<Vec<RecordSize>> {
        let lengths: Vec<usize> = rows.iter().map(|row| row.tokens).collect();
        let tokens: usize = lengths.iter().sum();
        let least = self.model.threads.max(1).div_ceil(micro_batches);
        let bins = balance(&lengths, least.max(tokens.div_ceil(PART_TOKENS)));
        let sizes = |bin: Vec<usize>| bin.into_iter().map(|row| rows[row]).collect();
        bins.into_iter().map(sizes).collect()
    }

    fn work(&self, rows: &[RecordSize]) -> Work {
        let PlannedModel { config, .. } = self.model;
        let llama = &config.llama;
        let (h, m) = (llama.hidden_size, llama.intermediate_size);
        let (tokens, longest) = laid_out(self.config, rows);
        let slots = rows.len() * longest;
        let layers = llama.num_hidden_layers;
        let block = self.block(tokens, slots, rows);
        // Gradients of the MLP's intermediate states, of which two are in memory at a time.
        let passing = 2 * m * tokens;
        let pictures: usize = rows.iter().map(|row| row.pictures).sum();
        let before = self.before_the_blocks(tokens, pictures);
        let supervised: usize = rows.iter().map(|row| row.supervised).sum();
        let logits = 2 * supervised.min(LOGIT_ROWS) * llama.vocab_size;
        // The last hidden state and its gradient.
        let last = 2 * h * tokens;
        let kept = before + self.recomputed * h * tokens + (layers - self.recomputed) * block;
        let forward = kept + last;
        // Either all kept blocks are still in memory, or the first recomputed one is.
        let backward = if self.recomputed < layers {
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
    fn block(&self, tokens: usize, slots: usize, rows: &[RecordSize]) -> usize {
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
        let dropout = self.model.lora.is_some_and(|lora| lora.dropout > 0.0);
        // The input of some linears is kept if their weights or adapters are trained. With dropout each adapter keeps an input of its own,
        // and the mask that made it.
        let input = |targets: &[LoraTarget], width: usize| {
            let trained = targets.iter().filter(|&&target| adapted(target)).count();
            match trained {
                0 if !full => 0,
                _ if dropout && !full => 2 * trained * width,
                _ => width,
            }
        };
        use LoraTarget as T;
        let rank = self.model.lora.map_or(0, |lora| lora.rank);
        let adapters = llama.linears().filter(|&target| adapted(target)).count();
        let per_token = 2 * h
            + 4 * m
            + input(&[T::CAttn, T::QProj, T::KProj, T::VProj], h)
            + input(&[T::OProj], h)
            + input(&[T::GateProj, T::UpProj], h)
            + input(&[T::DownProj], m)
            + adapters * rank
            // Both norms keep their normalised input.
            + if full { 2 * h } else { 0 };
        let scores = match self.model.attention {
            AttentionMemory::Fused => 0,
            AttentionMemory::Scores => {
                let (_, seq) = laid_out(self.config, rows);
                let kept = cpu_attention_scores(seq);
                // Scores, their softmax and its input, and the masks of the blocks on the diagonal.
                3 * heads * rows.len() * kept + seq * seq.min(CPU_QUERY_BLOCK) * 8 / 5
            }
        };
        tokens * per_token + slots * (h + 2 * kv) + scores
    }

    /// Values that the projector and the splice keep.
    fn before_the_blocks(&self, tokens: usize, pictures: usize) -> usize {
        if self.config.parts.projector == Trainable::Frozen || pictures == 0 {
            return 0;
        }
        let config = self.model.config;
        let (h, mm) = (config.llama.hidden_size, config.vision.hidden_size);
        let patches = config.tokens_per_picture();
        let of_picture = match config.projector {
            ProjectorKind::Identity => 0,
            ProjectorKind::Linear => patches * mm,
            ProjectorKind::MlpGelu { depth } => patches * (mm + (depth - 1) * 2 * h),
            // The projected features, their norm, keys and values; queries, attention and its norm.
            ProjectorKind::Resampler { queries } => {
                config.vision.num_patches() * (mm + 4 * h) + queries * 6 * h
            }
        };
        tokens * h + pictures * of_picture
    }

    /// Temporary values of one block of the tower, which keeps nothing as it is frozen.
    fn tower(&self, pictures: usize) -> usize {
        let vision = &self.model.config.vision;
        let tokens = vision.num_tokens();
        let scores = match self.model.attention {
            AttentionMemory::Fused => 0,
            AttentionMemory::Scores => 2 * vision.num_attention_heads * tokens * tokens,
        };
        let (h, m) = (vision.hidden_size, vision.intermediate_size);
        pictures * (scores + 4 * h * tokens).max(tokens * (2 * h + 3 * m))
    }
}
