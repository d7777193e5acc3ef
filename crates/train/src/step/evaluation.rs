//! Evaluation: the loss of batches that are not trained on.

use burn::module::Module;
use gallery_gpt_data::Batch;
use gallery_gpt_model::{GalleryModel, Packing, SpliceError};

use super::{
    CrossEntropy,
    supervised::{SupervisedBatch, label_chunks},
};
use crate::TrainError;

/// Mean loss per supervised token over some batches, without gradients or dropout.
///
/// # Errors
/// A batch whose placeholders and pictures do not match.
pub fn evaluate_loss(model: &GalleryModel, batches: &[Batch]) -> Result<f64, TrainError> {
    let (mut total, mut count) = (0.0, 0);
    for batch in batches {
        let (sum, tokens) = summed_loss(model, batch, Packing::Off, 1)
            .map_err(|source| TrainError::evaluation(batch, source))?;
        total += sum;
        count += tokens;
    }
    Ok(total / count.max(1) as f64)
}

/// The sum of the losses of a batch's supervised tokens, and their number.
pub(crate) fn summed_loss(
    model: &GalleryModel,
    batch: &Batch,
    packing: Packing,
    pad_to_multiple_of: usize,
) -> Result<(f64, usize), SpliceError> {
    let model = model.valid();
    let decoder = &model.language_model;
    let batch = SupervisedBatch::new(&model, batch, packing, pad_to_multiple_of)?;
    let supervised_tokens = batch.supervised_tokens();
    if supervised_tokens == 0 {
        return Ok((0.0, 0));
    }
    let device = model.device();
    let layout = batch.plan.layout(decoder.config(), &device);
    let hidden_states = decoder.forward_with_layout(batch.inputs_embeds, &layout);
    let [rows, seq, hidden] = hidden_states.dims();
    let hidden_states = hidden_states.reshape([rows * seq, hidden]);
    let mut total = 0.0;
    for (slots, targets) in label_chunks(&batch.labels, &device) {
        let logits = decoder.logits(hidden_states.clone().select(0, slots));
        let loss = CrossEntropy::new(logits, targets).loss;
        total += f64::from(loss.into_scalar::<f32>());
    }
    Ok((total, supervised_tokens))
}
