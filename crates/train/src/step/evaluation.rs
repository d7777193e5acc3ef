//! Evaluation: the loss of batches that are not trained on.

use burn::module::Module;
use gallery_gpt_data::Batch;
use gallery_gpt_llama::int_tensor;
use gallery_gpt_model::GalleryModel;

use super::CrossEntropy;
use crate::TrainError;

/// Mean loss per supervised token over some batches, without gradients or dropout.
///
/// # Errors
/// A batch whose placeholders and pictures do not match.
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
    let device = model.device();
    let (mut total, mut count) = (0.0, 0);
    for batch in batches {
        let plan = model.plan(&batch.input_ids, &batch.pictures);
        let planned = plan.and_then(|plan| Ok((plan.labels(&batch.labels)?, plan)));
        let (labels, plan) = planned.map_err(|source| TrainError::Splice {
            step: 0,
            records: batch.ids.join(", "),
            source,
        })?;
        if labels.slots.is_empty() {
            continue;
        }
        let inputs_embeds = model.embed(&plan, model.pixel_values(&batch.pictures));
        let hidden_states = model.language_model.forward(inputs_embeds);
        let [rows, seq, hidden] = hidden_states.dims();
        let chosen = hidden_states
            .reshape([rows * seq, hidden])
            .select(0, int_tensor(&labels.slots, &device));
        let logits = model.language_model.logits(chosen);
        let loss = CrossEntropy::new(logits, int_tensor(&labels.targets, &device)).loss;
        total += f64::from(loss.into_scalar::<f32>());
        count += labels.targets.len();
    }
    Ok((total, count))
}
