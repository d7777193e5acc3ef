//! A batch on its way to a loss, the same in training and evaluation: laid out, embedded, and its labels in chunks.

use burn::tensor::{Device, Int, Tensor};
use gallery_gpt_data::Batch;
use gallery_gpt_llama::int_tensor;
use gallery_gpt_model::{GalleryModel, Packing, SpliceError, SplicePlan, SplicedLabels};

use crate::config::LOGIT_ROWS;

/// A batch as the decoder's input, with its labels.
pub(super) struct SupervisedBatch {
    pub(super) plan: SplicePlan,
    pub(super) labels: SplicedLabels,
    /// `[rows, seq, hidden]`
    pub(super) inputs_embeds: Tensor<3>,
}

impl SupervisedBatch {
    /// # Errors
    /// The placeholders and the pictures do not match.
    pub(super) fn new(
        model: &GalleryModel,
        batch: &Batch,
        packing: Packing,
        pad_to_multiple_of: usize,
    ) -> Result<Self, SpliceError> {
        let plan = model
            .plan(&batch.input_ids, &batch.pictures)?
            .with_packing(packing)
            .pad_to_multiple_of(pad_to_multiple_of);
        let labels = plan.labels(&batch.labels)?;
        let inputs_embeds = model.embed(&plan, model.pixel_values(&batch.pictures));
        Ok(Self {
            plan,
            labels,
            inputs_embeds,
        })
    }

    /// Supervised tokens.
    pub(super) fn supervised_tokens(&self) -> usize {
        self.labels.targets.len()
    }
}

/// The supervised tokens in chunks, so that logits exist for one chunk at a time: the positions whose hidden states predict them,
/// in `[rows * seq]`, and their ids.
///
/// # Shapes
/// - both: `[chunk]`
pub(super) fn label_chunks(
    labels: &SplicedLabels,
    device: &Device,
) -> impl Iterator<Item = (Tensor<1, Int>, Tensor<1, Int>)> {
    let chunks = labels.slots.chunks(LOGIT_ROWS);
    chunks
        .zip(labels.targets.chunks(LOGIT_ROWS))
        .map(|(slots, targets)| (int_tensor(slots, device), int_tensor(targets, device)))
}
