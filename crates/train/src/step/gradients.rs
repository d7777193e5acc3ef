//! Loss and gradients of one micro-batch, with or without recompute of the decoder's blocks.
//!
//! Plain autodiff keeps every activation of every block until the backward pass. Of a recomputed block only the input is kept: it runs
//! once without a graph in the forward pass, and again in the backward pass, last block first, with a graph of its own that is seeded
//! by the gradient of its output (Chen et al. 2016, <https://arxiv.org/abs/1604.06174>).

use burn::{
    module::Module,
    optim::{GradientsAccumulator, GradientsParams},
    tensor::{DType, Int, Tensor},
};
use gallery_gpt_data::Batch;
use gallery_gpt_llama::{AdapterDropout, LlamaModel};
use gallery_gpt_model::{GalleryModel, Packing, SpliceError, SplicePlan, SplicedLabels};

use super::{
    CrossEntropy,
    supervised::{SupervisedBatch, label_chunks},
};
use crate::{Recompute, optim::fill_projector};

/// The source of dropout's masks: they are a function of the seed, the step, the conversation and the position in it, so that they are
/// the same in a recomputed block, on another device, in another layout and with other micro-batches.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dropout {
    /// Seed of the training.
    pub seed: u64,
    /// Step of the training.
    pub step: usize,
    /// For each row of the micro-batch, the index of its conversation in the step.
    pub conversations: Vec<usize>,
}

impl Dropout {
    /// The masks of a step, for rows laid out by a plan; each block has a stream of its own.
    ///
    /// # Panics
    /// If there are more or fewer conversations than rows.
    fn of_step(&self, plan: &SplicePlan) -> AdapterDropout {
        let lengths = plan.row_lengths();
        assert_eq!(self.conversations.len(), lengths.len());
        let rows = self.conversations.iter().zip(lengths);
        let mut tokens = Vec::new();
        for (&conversation, &length) in rows {
            let taken = match plan.packing() {
                Packing::Off => plan.seq(),
                Packing::OneRow => length,
            };
            tokens.extend((0..taken).map(|position| AdapterDropout::token(conversation, position)));
        }
        if plan.packing() == Packing::OneRow {
            tokens.resize(plan.seq(), 0);
        }
        AdapterDropout::Seeded {
            seed: self.seed,
            tokens: tokens.into(),
        }
        .stream(self.step as u64)
    }
}

/// How the gradients of a micro-batch are computed.
#[derive(Clone, Debug, PartialEq)]
pub struct GradientOptions {
    /// What is recomputed in the backward pass.
    pub recompute: Recompute,
    /// Whether conversations are padded or packed.
    pub packing: Packing,
    /// Row lengths are padded to a multiple of this.
    pub pad_to_multiple_of: usize,
    /// Factor of the gradients, for accumulation.
    pub weight: f64,
    /// The source of dropout's masks; `None` turns dropout off.
    pub dropout: Option<Dropout>,
}

impl Default for GradientOptions {
    fn default() -> Self {
        Self {
            recompute: Recompute::Off,
            packing: Packing::Off,
            pad_to_multiple_of: 1,
            weight: 1.0,
            dropout: None,
        }
    }
}

/// Loss and gradients of a micro-batch.
#[derive(Debug)]
pub struct Gradients {
    /// Mean loss over the supervised tokens, `[1]` in f32.
    pub loss: Tensor<1>,
    /// Gradients of `loss * weight`.
    pub grads: GradientsParams,
    /// Supervised tokens.
    pub supervised_tokens: usize,
    /// Tokens without padding, pictures expanded.
    pub tokens: usize,
}

/// Loss and gradients of a micro-batch.
///
/// # Errors
/// The placeholders and the pictures do not match.
///
/// # Panics
/// If the model is not on an autodiff device, or nothing is supervised.
pub fn gradients(
    model: &GalleryModel,
    batch: &Batch,
    options: &GradientOptions,
) -> Result<Gradients, SpliceError> {
    let batch = SupervisedBatch::new(model, batch, options.packing, options.pad_to_multiple_of)?;
    let supervised_tokens = batch.supervised_tokens();
    assert!(supervised_tokens > 0, "a batch with no supervised token");

    let (loss, mut grads) = through_the_blocks(model, &batch, options);
    fill_projector(model, &mut grads);
    Ok(Gradients {
        loss,
        grads,
        supervised_tokens,
        tokens: batch.plan.row_lengths().iter().sum(),
    })
}

fn through_the_blocks(
    model: &GalleryModel,
    batch: &SupervisedBatch,
    options: &GradientOptions,
) -> (Tensor<1>, GradientsParams) {
    let SupervisedBatch {
        plan,
        labels,
        inputs_embeds,
    } = batch;
    let &GradientOptions {
        weight, recompute, ..
    } = options;
    let dropout = options.dropout.as_ref();
    let dropout = dropout.map_or(AdapterDropout::Off, |dropout| dropout.of_step(plan));
    let masks = |block: usize| dropout.stream(block as u64);
    let decoder = &model.language_model;
    let layers = decoder.layers.len();
    let recomputed = recompute.blocks(layers);

    // Recomputed blocks: the same weights without a graph, and the input of each.
    let mut inputs = Vec::with_capacity(recomputed);
    let mut x = inputs_embeds.clone();
    if recomputed > 0 {
        let frozen = decoder.valid();
        x = x.inner();
        let layout = plan.layout(&decoder.config().in_training(), &x.device());
        for (number, block) in frozen.layers[..recomputed].iter().enumerate() {
            inputs.push(x.clone());
            x = block.forward(x, &layout, masks(number));
        }
        x = x.autodiff().require_grad();
    }
    // The others keep their activations.
    let layout = plan.layout(&decoder.config().in_training(), &inputs_embeds.device());
    let mut last = x.clone();
    for (number, block) in decoder.layers.iter().enumerate().skip(recomputed) {
        last = block.forward(last, &layout, masks(number));
    }

    let mut accumulator = GradientsAccumulator::new();
    let inner = last.clone().inner();
    let (loss, mut dx) = head(model, inner, labels, weight, &mut accumulator);
    if recomputed < layers && last.is_tracked() {
        // d sum(y * dy) / dy is dy.
        let mut grads = (last * dx.clone().autodiff()).sum().backward();
        if recomputed > 0 {
            dx = x
                .grad_remove(&mut grads)
                .expect("a block's output depends on its input");
        }
        accumulator.accumulate(model, GradientsParams::from_grads(grads, model));
    }
    drop(x);
    while let Some(input) = inputs.pop() {
        let number = inputs.len();
        let x = input.autodiff().require_grad();
        let y = decoder.layers[number].forward(x.clone(), &layout, masks(number));
        let mut grads = (y * dx.autodiff()).sum().backward();
        dx = x
            .grad_remove(&mut grads)
            .expect("a block's output depends on its input");
        accumulator.accumulate(model, GradientsParams::from_grads(grads, model));
    }
    // The modules before recomputed blocks (projector, embeddings, tower) have a graph of their own.
    if recomputed > 0 && inputs_embeds.is_tracked() {
        let grads = (inputs_embeds.clone() * dx.autodiff()).sum().backward();
        accumulator.accumulate(model, GradientsParams::from_grads(grads, model));
    }
    (loss, accumulator.grads())
}

/// The part of the mean loss that some rows have, and a scalar with the same gradient as the weighted loss.
fn loss_and_seed(
    decoder: &LlamaModel,
    normed: Tensor<2>,
    targets: Tensor<1, Int>,
    labels: &SplicedLabels,
    weight: f64,
) -> (Tensor<1>, Tensor<1>) {
    let count = labels.targets.len() as f64;
    if decoder.lm_head.weight.is_require_grad() {
        let logits = decoder.logits(normed);
        let CrossEntropy { loss, gradient } = CrossEntropy::new(logits.clone().inner(), targets);
        // d sum(logits * g) / d logits is g.
        let seed = (logits * (gradient * (weight / count)).autodiff()).sum();
        return (loss / count, seed);
    }
    // The head is frozen: the gradient of its input is one product, and no graph keeps a tensor of the logits' size.
    let head = decoder.lm_head.weight.val().inner();
    let dtype = normed.dtype();
    let logits = normed.clone().inner().matmul(head.clone());
    let CrossEntropy { loss, gradient } = CrossEntropy::new(logits.cast(DType::F32), targets);
    let gradient = gradient.cast(dtype).matmul(head.transpose()) * (weight / count);
    (loss / count, (normed * gradient.autodiff()).sum())
}

/// Norm, head and loss, a chunk of rows at a time, and the gradient of the last block's output.
fn head(
    model: &GalleryModel,
    last: Tensor<3>,
    labels: &SplicedLabels,
    weight: f64,
    accumulator: &mut GradientsAccumulator<GalleryModel>,
) -> (Tensor<1>, Tensor<3>) {
    let decoder = &model.language_model;
    let [batch, seq, hidden] = last.dims();
    let device = last.device();
    let mut total: Option<Tensor<1>> = None;
    let mut dx = Tensor::zeros([batch * seq, hidden], (&device, last.dtype()));
    let rows = last.reshape([batch * seq, hidden]);
    for (slots, targets) in label_chunks(labels, &device) {
        let x = rows
            .clone()
            .select(0, slots.clone())
            .autodiff()
            .require_grad();
        let normed = decoder.last_norm(x.clone());
        let (loss, seed) = loss_and_seed(decoder, normed, targets, labels, weight);
        let mut grads = seed.backward();
        let d = x
            .grad_remove(&mut grads)
            .expect("the loss depends on the hidden states");
        accumulator.accumulate(model, GradientsParams::from_grads(grads, model));
        dx = dx.select_assign(0, slots, d, burn::tensor::IndexingUpdateOp::Add);
        total = Some(match total {
            Some(total) => total + loss,
            None => loss,
        });
    }
    let total = total.expect("at least one supervised token");
    (total, dx.reshape([batch, seq, hidden]))
}
