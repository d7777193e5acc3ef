//! The model and optimizer of one device.

use std::{borrow::Cow, path::Path};

use burn::{
    module::Module,
    optim::{GradientsAccumulator, GradientsParams},
    tensor::Tensor,
};
use gallery_gpt_checkpoint::AdapterOrigin;
use gallery_gpt_data::Batch;
use gallery_gpt_model::{GalleryModel, SpliceError};
use gallery_gpt_text::expanded_length;
use gallery_gpt_text::printable;
use rayon::prelude::*;

use super::{
    Dropout, GradientOptions, Gradients,
    files::{OPTIMIZER, load_weights, save_weights},
    gradients,
};
use crate::{
    LossMean, MicroBatches, ParamGroups, TrainError, TrainingConfig, clip_global_norm,
    config::PART_TOKENS,
    optim::{Optimizer, Rates, mark_trainable},
};

/// A model and its optimizer, on one device.
pub(crate) struct Replica {
    /// `None` only while an update moves it through the optimizers.
    model: Option<GalleryModel>,
    optimizer: Optimizer,
    groups: ParamGroups,
    config: TrainingConfig,
}

/// The part of a step that one device computes.
#[derive(Clone)]
pub(crate) struct Share<'a> {
    /// Zero-based step.
    pub(crate) step: usize,
    pub(crate) micro_batches: Vec<MicroBatch<'a>>,
}

/// A micro-batch of a step.
#[derive(Clone)]
pub(crate) struct MicroBatch<'a> {
    pub(crate) batch: Cow<'a, Batch>,
    /// Index in the step of its first conversation.
    pub(crate) first: usize,
    /// Weight of its mean loss in the loss of the step.
    pub(crate) weight: f64,
}

impl<'a> MicroBatch<'a> {
    /// The micro-batches of a whole step.
    pub(crate) fn of_step(batches: &'a [Batch], loss_mean: LossMean) -> Vec<Self> {
        let of_step = batches.iter().map(Batch::supervised_tokens).sum::<usize>() as f64;
        let mut first = 0;
        let micro_batch = |batch: &'a Batch| {
            let weight = match loss_mean {
                LossMean::Step => batch.supervised_tokens() as f64 / of_step,
                LossMean::MicroBatches => 1.0 / batches.len() as f64,
            };
            first += batch.len();
            Self {
                batch: Cow::Borrowed(batch),
                first: first - batch.len(),
                weight,
            }
        };
        batches.iter().map(micro_batch).collect()
    }
}

/// The result of a share.
pub(crate) struct ShareGradients {
    /// Gradients of its part of the step's loss.
    pub(crate) grads: GradientsParams,
    /// Its part of the step's loss, `[1]` in f32; `None` without micro-batches.
    pub(crate) loss: Option<Tensor<1>>,
    pub(crate) supervised_tokens: usize,
    pub(crate) tokens: usize,
}

impl Share<'_> {
    /// The same with owned batches, to send to another thread.
    pub(crate) fn into_owned(self) -> Share<'static> {
        let owned = |micro_batch: MicroBatch<'_>| MicroBatch {
            batch: Cow::Owned(micro_batch.batch.into_owned()),
            ..micro_batch
        };
        Share {
            step: self.step,
            micro_batches: self.micro_batches.into_iter().map(owned).collect(),
        }
    }
}

/// The ids of some batches' records, for messages.
pub(crate) fn record_ids<'a>(batches: impl IntoIterator<Item = &'a Batch>) -> String {
    let ids = batches.into_iter().flat_map(|batch| &batch.ids);
    ids.map(|id| printable(id)).collect::<Vec<_>>().join(", ")
}

impl Replica {
    /// Marks the trained parameters and makes the optimizer.
    ///
    /// # Errors
    /// Nothing is trained.
    pub(crate) fn new(model: GalleryModel, config: &TrainingConfig) -> Result<Self, TrainError> {
        let model = mark_trainable(model, config.parts).train();
        let groups = ParamGroups::of(&model);
        if groups.parameters == 0 {
            return Err(TrainError::NothingTrainable);
        }
        Ok(Self {
            model: Some(model),
            optimizer: Optimizer::new(config),
            groups,
            config: config.clone(),
        })
    }

    /// The model, on the autodiff device.
    ///
    /// # Panics
    /// If an update has panicked in the middle.
    pub(crate) fn model(&self) -> &GalleryModel {
        self.model
            .as_ref()
            .expect("the model is away only inside an update")
    }

    pub(crate) fn into_model(self) -> GalleryModel {
        self.model
            .expect("the model is away only inside an update")
            .valid()
    }

    pub(crate) fn groups(&self) -> &ParamGroups {
        &self.groups
    }

    pub(crate) fn config(&self) -> &TrainingConfig {
        &self.config
    }

    /// Writes what is trained into a folder: adapters if their origin is given, else every trained parameter, and the moments.
    ///
    /// # Errors
    /// A file cannot be written.
    pub(crate) fn save(
        &self,
        folder: &Path,
        origin: Option<&AdapterOrigin>,
    ) -> Result<(), TrainError> {
        save_weights(self.model(), origin, folder)?;
        self.optimizer.save(self.model(), &folder.join(OPTIMIZER))
    }

    /// Loads the weights and moments that [`Replica::save`] wrote into a folder.
    ///
    /// # Errors
    /// A file is missing or damaged, or does not fit the model.
    pub(crate) fn restore(&mut self, folder: &Path) -> Result<(), TrainError> {
        let model = load_weights(self.model().valid(), folder)?;
        let model = mark_trainable(model, self.config.parts).train();
        self.optimizer.restore(&model, &folder.join(OPTIMIZER))?;
        self.model = Some(model);
        Ok(())
    }

    /// Loss and gradients of a share.
    ///
    /// # Errors
    /// A batch whose placeholders and pictures do not match.
    pub(crate) fn gradients(&self, share: &Share<'_>) -> Result<ShareGradients, TrainError> {
        let model = self.model();
        let mut accumulator = GradientsAccumulator::new();
        let mut sum = ShareGradients {
            grads: GradientsParams::new(),
            loss: None,
            supervised_tokens: 0,
            tokens: 0,
        };
        let mut add = |weight: f64, done: Result<Gradients, SpliceError>| {
            let done = done.map_err(|source| TrainError::Splice {
                step: share.step + 1,
                records: record_ids(share.micro_batches.iter().map(|one| &*one.batch)),
                source,
            })?;
            accumulator.accumulate(model, done.grads);
            let loss = done.loss * weight;
            sum.loss = Some(match sum.loss.take() {
                Some(sum) => sum + loss,
                None => loss,
            });
            sum.supervised_tokens += done.supervised_tokens;
            sum.tokens += done.tokens;
            Ok::<(), TrainError>(())
        };
        match self.config.micro_batches {
            MicroBatches::OneByOne => {
                for micro_batch in &share.micro_batches {
                    let whole = Part::whole(micro_batch);
                    add(whole.weight, self.part(model, share.step, &whole))?;
                }
            }
            // On the threads of the global pool: matrix products inside a part then run on the same thread.
            MicroBatches::InParallel => {
                let threads = rayon::current_num_threads();
                let work = parts(
                    share,
                    threads.div_ceil(share.micro_batches.len().max(1)),
                    model,
                );
                // At most as many gradients at a time as threads, added in a fixed order, so that the sum does not depend on which
                // part finishes first.
                for work in work.chunks(threads) {
                    let done: Vec<_> = work
                        .par_iter()
                        // The same weights as leaves of its own: graphs that share a leaf share a lock.
                        .map(|work| self.part(&model.valid().train(), share.step, work))
                        .collect();
                    for (work, done) in work.iter().zip(done) {
                        add(work.weight, done)?;
                    }
                }
            }
        }
        sum.grads = accumulator.grads();
        Ok(sum)
    }

    fn part(
        &self,
        model: &GalleryModel,
        step: usize,
        part: &Part<'_>,
    ) -> Result<Gradients, SpliceError> {
        let options = GradientOptions {
            recompute: self.config.gradient_checkpointing,
            packing: self.config.packing,
            pad_to_multiple_of: self.config.pad_to_multiple_of.unwrap_or(1),
            weight: part.weight,
            dropout: Some(Dropout {
                seed: self.config.seed,
                step,
                conversations: part.conversations.clone(),
            }),
        };
        gradients(model, &part.batch, &options)
    }

    /// Clips the gradients of the whole step by their global norm and updates the weights.
    pub(crate) fn update(
        &mut self,
        mut grads: GradientsParams,
        norm: Option<&Tensor<1>>,
        rates: Rates,
    ) {
        let model = self.model();
        if let (Some(norm), Some(max_norm)) = (norm, self.config.max_grad_norm) {
            grads = clip_global_norm(model, grads, norm, max_norm);
        }
        if let Some(model) = self.model.take() {
            self.model = Some(self.optimizer.step(model, grads, &self.groups, rates));
        }
    }
}

/// The part of a share that one thread computes.
struct Part<'a> {
    batch: Cow<'a, Batch>,
    /// Indices of its conversations in the step.
    conversations: Vec<usize>,
    /// Weight of its mean loss in the loss of the step.
    weight: f64,
}

impl<'a> Part<'a> {
    fn whole(micro_batch: &'a MicroBatch<'_>) -> Self {
        let MicroBatch { batch, first, .. } = micro_batch;
        Self {
            batch: Cow::Borrowed(batch.as_ref()),
            conversations: (*first..first + batch.len()).collect(),
            weight: micro_batch.weight,
        }
    }
}

/// Splits each micro-batch into at least `least` parts with about the same number of tokens, at most [`PART_TOKENS`] if its rows are
/// short enough. A part is weighted by its supervised tokens, as the loss of a micro-batch is the mean over them.
fn parts<'a>(share: &'a Share<'_>, least: usize, model: &GalleryModel) -> Vec<Part<'a>> {
    let patches = model.config().tokens_per_picture();
    let length = |ids: &[i64]| expanded_length(ids, patches);
    let of_one = |whole: &'a MicroBatch<'_>| {
        let tokens: usize = whole.batch.input_ids.iter().map(|ids| length(ids)).sum();
        let total = whole.batch.supervised_tokens() as f64;
        let parts = whole
            .batch
            .split(least.max(tokens.div_ceil(PART_TOKENS)), length);
        parts.into_iter().filter_map(move |(rows, batch)| {
            let supervised = batch.supervised_tokens();
            (supervised > 0).then(|| Part {
                conversations: rows.into_iter().map(|row| whole.first + row).collect(),
                weight: whole.weight * (supervised as f64 / total),
                batch: Cow::Owned(batch),
            })
        })
    };
    share.micro_batches.iter().flat_map(of_one).collect()
}
