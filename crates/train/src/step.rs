//! One step of a training.

use std::borrow::Cow;

use burn::{
    module::{Module, ParamGroup},
    optim::{AdamWConfig, GradientsAccumulator, ModuleOptimizer},
    tensor::{Int, Tensor, TensorData},
};
use gallery_gpt_data::Batch;
use gallery_gpt_model::{GalleryModel, SpliceError, SplicePlan};
use gallery_gpt_vision::PixelValues;
use rayon::prelude::*;

use crate::{
    CrossEntropy, Dropout, GradientOptions, Gradients, MicroBatches, ParamGroups, Schedule,
    TrainError, TrainingCheckpoint, TrainingConfig, clip_global_norm, global_norm, gradients,
    param_group::{mark_trainable, split_off},
};

/// A model under training.
#[allow(
    missing_debug_implementations,
    reason = "Burn's optimizer has no Debug; the parts that matter have accessors"
)]
pub struct TrainState {
    /// `None` only while a step moves it through the optimizers.
    model: Option<GalleryModel>,
    optimizer: ModuleOptimizer,
    projector_optimizer: ModuleOptimizer,
    groups: ParamGroups,
    schedule: Schedule,
    config: TrainingConfig,
    step: usize,
}

/// What a step did.
#[derive(Clone, Debug, PartialEq)]
pub struct StepReport {
    /// One-based.
    pub step: usize,
    /// Mean over the micro-batches.
    pub loss: f64,
    /// Global norm of the gradients before clipping.
    pub grad_norm: f64,
    /// Rate of everything but the projector.
    pub learning_rate: f64,
    /// Rate of the projector.
    pub mm_projector_lr: f64,
    /// Tokens the loss saw.
    pub supervised_tokens: usize,
    /// Tokens read, pictures expanded.
    pub tokens: usize,
}

impl TrainState {
    /// Marks what is trained and prepares the optimizers for `total_steps` steps.
    ///
    /// # Errors
    /// A setting out of range, or nothing to train.
    pub fn new(
        model: GalleryModel,
        config: &TrainingConfig,
        total_steps: usize,
    ) -> Result<Self, TrainError> {
        config.validate()?;
        let model = mark_trainable(model, config.parts).train();
        let groups = ParamGroups::of(&model);
        if groups.parameters == 0 {
            return Err(TrainError::NothingTrainable);
        }
        let adamw = |weight_decay: f64| {
            AdamWConfig::new()
                .with_beta_1(config.adam_beta1 as f32)
                .with_beta_2(config.adam_beta2 as f32)
                .with_epsilon(config.adam_epsilon as f32)
                .with_weight_decay(weight_decay as f32)
        };
        let optimizer = || {
            adamw(config.weight_decay).init().with_group(
                ParamGroup::from_ids(groups.no_decay.clone()),
                adamw(0.0).build(),
                None,
            )
        };
        Ok(Self {
            model: Some(model),
            optimizer: optimizer(),
            projector_optimizer: optimizer(),
            groups,
            schedule: Schedule::new(config.lr_scheduler_type, total_steps, config.warmup_ratio),
            config: config.clone(),
            step: 0,
        })
    }

    /// The model as it is now, on the autodiff device.
    ///
    /// # Panics
    /// Never: the model is away only inside a step.
    #[must_use]
    pub fn model(&self) -> &GalleryModel {
        self.model
            .as_ref()
            .expect("the model is away only inside a step")
    }

    /// What is trained.
    #[must_use]
    pub fn groups(&self) -> &ParamGroups {
        &self.groups
    }

    /// The optimizers: of everything but the projector, and of the projector.
    pub(crate) fn optimizers(&self) -> (&ModuleOptimizer, &ModuleOptimizer) {
        (&self.optimizer, &self.projector_optimizer)
    }

    /// Goes on from a checkpoint: its weights, its moments, its step.
    ///
    /// # Errors
    /// A file of it is missing or damaged, or does not fit the model.
    pub fn restore(mut self, checkpoint: &TrainingCheckpoint) -> Result<Self, TrainError> {
        let parts = self.config.parts;
        if let Some(model) = self.model.take() {
            let model = checkpoint.weights(model.valid())?;
            self.model = Some(mark_trainable(model, parts).train());
        }
        (self.optimizer, self.projector_optimizer) =
            checkpoint.optimizers(self.optimizer, self.projector_optimizer)?;
        self.step = checkpoint.state.step;
        Ok(self)
    }

    /// Steps done.
    #[must_use]
    pub fn steps_done(&self) -> usize {
        self.step
    }

    /// The model without its graph.
    ///
    /// # Panics
    /// Never: the model is away only inside a step.
    #[must_use]
    pub fn into_model(self) -> GalleryModel {
        self.model
            .expect("the model is away only inside a step")
            .valid()
    }

    /// One step over some micro-batches. The model is unchanged if it fails.
    ///
    /// # Errors
    /// A batch that does not fit together or teaches nothing, or a loss that is no number.
    ///
    /// # Panics
    /// If there is no micro-batch.
    pub fn step(&mut self, micro_batches: &[Batch]) -> Result<StepReport, TrainError> {
        assert!(!micro_batches.is_empty(), "a step needs a micro-batch");
        let number = self.step + 1;
        let records = || {
            let ids: Vec<&str> = micro_batches
                .iter()
                .flat_map(|batch| batch.ids.iter().map(String::as_str))
                .collect();
            ids.join(", ")
        };
        let model = self.model();
        for batch in micro_batches {
            if batch.supervised_tokens() == 0 {
                return Err(TrainError::NothingSupervised {
                    step: number,
                    records: records(),
                });
            }
        }
        let part = |model: &GalleryModel, part: &Part<'_>| {
            let options = GradientOptions {
                recompute: self.config.gradient_checkpointing,
                packing: self.config.packing,
                weight: part.weight,
                dropout: Some(Dropout {
                    seed: self.config.seed,
                    step: self.step,
                    micro_batch: part.micro_batch,
                }),
            };
            gradients(model, &part.batch, &options)
        };
        let mut accumulator = GradientsAccumulator::new();
        let mut loss: Option<Tensor<1>> = None;
        let (mut supervised_tokens, mut tokens) = (0, 0);
        let mut add = |weight: f64, done: Result<Gradients, SpliceError>| {
            let done = done.map_err(|source| TrainError::Splice {
                step: number,
                records: records(),
                source,
            })?;
            accumulator.accumulate(model, done.grads);
            let part_loss = done.loss * weight;
            loss = Some(match loss.take() {
                Some(loss) => loss + part_loss,
                None => part_loss,
            });
            supervised_tokens += done.supervised_tokens;
            tokens += done.tokens;
            Ok::<(), TrainError>(())
        };
        match self.config.micro_batches {
            MicroBatches::OneByOne => {
                for (micro_batch, batch) in micro_batches.iter().enumerate() {
                    let whole = Part {
                        micro_batch,
                        batch: Cow::Borrowed(batch),
                        weight: 1.0 / micro_batches.len() as f64,
                    };
                    add(whole.weight, part(model, &whole))?;
                }
            }
            // On the pool's own threads: a product within a part then finds no idle thread to wait for.
            MicroBatches::InParallel => {
                let threads = rayon::current_num_threads();
                let work = parts(micro_batches, threads.div_ceil(micro_batches.len()), model);
                // No more gradients at a time than there are threads, added in their order: the sum does not depend on which is
                // done first.
                for work in work.chunks(threads) {
                    let done: Vec<_> = work
                        .par_iter()
                        // The same storage under leaves of its own: graphs that share a leaf share a lock.
                        .map(|work| part(&model.valid().train(), work))
                        .collect();
                    for (work, done) in work.iter().zip(done) {
                        add(work.weight, done)?;
                    }
                }
            }
        }
        let mut grads = accumulator.grads();
        let norm = global_norm(model, &grads);
        // The only host synchronisation of a step: both numbers are read before anything is changed.
        let scalar = |tensor: Option<Tensor<1>>| {
            tensor.map_or(0.0, |tensor| f64::from(tensor.into_scalar::<f32>()))
        };
        let (loss, grad_norm) = (scalar(loss), scalar(norm.clone()));
        for (what, value) in [("loss", loss), ("gradient norm", grad_norm)] {
            if !value.is_finite() {
                return Err(TrainError::NotFinite {
                    step: number,
                    what,
                    value,
                    records: records(),
                    checkpoint: None,
                });
            }
        }
        if let (Some(norm), Some(max_norm)) = (norm, self.config.max_grad_norm) {
            grads = clip_global_norm(model, grads, &norm, max_norm);
        }
        let projector_grads = split_off(model, &mut grads, &self.groups.projector);

        let scale = self.schedule.scale(self.step);
        let learning_rate = self.config.learning_rate * scale;
        let mm_projector_lr = self
            .config
            .mm_projector_lr
            .unwrap_or(self.config.learning_rate)
            * scale;
        if let Some(model) = self.model.take() {
            let model = self
                .projector_optimizer
                .step(mm_projector_lr, model, projector_grads);
            self.model = Some(self.optimizer.step(learning_rate, model, grads));
        }
        self.step = number;
        Ok(StepReport {
            step: number,
            loss,
            grad_norm,
            learning_rate,
            mm_projector_lr,
            supervised_tokens,
            tokens,
        })
    }
}

/// What one thread computes of a step.
struct Part<'a> {
    micro_batch: usize,
    batch: Cow<'a, Batch>,
    /// Share of its mean loss in the loss of the step.
    weight: f64,
}

/// Tokens that one thread computes at a time, where rows allow it: what it reads again and again then stays near it. On two cores a
/// step of 16 records of the sample at width 512 took 6.4 s in 8 or 16 parts, 7.6 s in 4 and 10.3 s in 2.
pub(crate) const PART_TOKENS: usize = 512;

/// Each micro-batch in parts of about as many tokens: at least `least` of them, of at most [`PART_TOKENS`] where its rows allow it. The
/// loss of a micro-batch is the mean over its supervised tokens, so a part counts by those it has.
fn parts<'a>(micro_batches: &'a [Batch], least: usize, model: &GalleryModel) -> Vec<Part<'a>> {
    let patches = model.config().tokens_per_picture();
    let length = |ids: &[i64]| SplicePlan::expanded_length(ids, patches);
    let share = 1.0 / micro_batches.len() as f64;
    let of_one = |(micro_batch, whole): (usize, &'a Batch)| {
        let tokens: usize = whole.input_ids.iter().map(|ids| length(ids)).sum();
        let total = whole.supervised_tokens() as f64;
        let parts = whole.split(least.max(tokens.div_ceil(PART_TOKENS)), length);
        parts.into_iter().filter_map(move |batch| {
            let supervised = batch.supervised_tokens();
            (supervised > 0).then(|| Part {
                micro_batch,
                weight: share * (supervised as f64 / total),
                batch: Cow::Owned(batch),
            })
        })
    };
    micro_batches.iter().enumerate().flat_map(of_one).collect()
}

/// Mean loss per supervised token over some batches, without gradients or dropout.
///
/// # Errors
/// A batch that does not fit together.
pub fn evaluate_loss(model: &GalleryModel, batches: &[Batch]) -> Result<f64, TrainError> {
    let (total, count) = summed_loss(model, batches)?;
    Ok(total / count.max(1) as f64)
}

/// The sum of the losses of all supervised tokens, and their number.
pub(crate) fn summed_loss(
    model: &GalleryModel,
    batches: &[Batch],
) -> Result<(f64, usize), TrainError> {
    let model = model.valid();
    let config = model.config();
    let device = model.device();
    let (mut total, mut count) = (0.0, 0);
    for batch in batches {
        let plan = SplicePlan::new(
            &batch.input_ids,
            config.tokens_per_picture(),
            batch.pictures.len(),
            config.llama.vocab_size,
        );
        let labels = plan.and_then(|plan| {
            let labels =
                plan.labels(&batch.input_ids, &batch.labels, config.tokens_per_picture())?;
            Ok((plan, labels))
        });
        let (plan, labels) = labels.map_err(|source| TrainError::Splice {
            step: 0,
            records: batch.ids.join(", "),
            source,
        })?;
        if labels.slots.is_empty() {
            continue;
        }
        let pictures: Vec<&PixelValues> = batch.pictures.iter().collect();
        let projected = (!pictures.is_empty())
            .then(|| model.project(model.picture_features(PixelValues::stack(&pictures, &device))));
        let hidden_states = model.language_model.forward(model.splice(&plan, projected));
        let [rows, seq, hidden] = hidden_states.dims();
        let ints = |values: &[i64]| {
            Tensor::<1, Int>::from_data(TensorData::new(values.to_vec(), [values.len()]), &device)
        };
        let chosen = hidden_states
            .reshape([rows * seq, hidden])
            .select(0, ints(&labels.slots));
        let logits = model.language_model.logits(chosen);
        let loss = CrossEntropy::new(logits, ints(&labels.targets)).loss;
        total += f64::from(loss.into_scalar::<f32>());
        count += labels.targets.len();
    }
    Ok((total, count))
}
