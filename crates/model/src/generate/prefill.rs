//! Prefill: running the prompts through the model, once, before the first token is generated.

use burn::tensor::Tensor;
use gallery_gpt_llama::{KvCache, int_tensor};
use gallery_gpt_vision::PixelValues;

use crate::{
    CancelToken, GalleryModel, GenerationConfig, GenerationError, PictureCache, Prompt, SplicePlan,
};

/// The decoder's state for a batch of sequences: their keys and values, and the logits of the next
/// token of each.
#[derive(Debug)]
pub(super) struct DecoderState<'a> {
    model: &'a GalleryModel,
    cache: KvCache,
    /// `[batch, vocab]`.
    logits: Tensor<2>,
}

/// What a prefill needs beside the prompts.
pub(super) struct Prefill<'s, 'a> {
    pub(super) model: &'a GalleryModel,
    pub(super) config: &'s GenerationConfig,
    pub(super) cancel: &'s CancelToken,
    pub(super) pictures: Option<&'s PictureCache>,
}

impl<'a> Prefill<'_, 'a> {
    /// Runs the prompts through the model.
    ///
    /// # Errors
    /// The prompts do not fit their pictures or the context, or the generation was cancelled
    /// meanwhile.
    pub(super) fn run(&self, prompts: &[Prompt]) -> Result<DecoderState<'a>, GenerationError> {
        let rows: Vec<Vec<i64>> = prompts
            .iter()
            .map(|prompt| prompt.input_ids.clone())
            .collect();
        let pictures: Vec<&PixelValues> =
            prompts.iter().flat_map(|prompt| &prompt.pictures).collect();
        let plan = self.model.plan(&rows, &pictures)?;
        self.check_context(&plan)?;

        let inputs_embeds = match self.pictures {
            None => self.model.embed(&plan, self.model.pixel_values(&pictures)),
            Some(cache) => {
                let projected = cache.features(self.model, &pictures);
                self.model.splice(&plan, projected)
            }
        };
        let decoder = &self.model.language_model;
        let context = self.model.config().llama.max_position_embeddings;
        let max_new_tokens = self.config.max_new_tokens.min(context - 1);
        let mut cache = decoder.new_cache(plan.row_lengths(), max_new_tokens);
        let last_states = self.prefill_chunks(&inputs_embeds, plan.row_lengths(), &mut cache)?;
        Ok(DecoderState {
            model: self.model,
            cache,
            logits: decoder.logits(last_states),
        })
    }

    /// Each prompt must leave room for a new token.
    fn check_context(&self, plan: &SplicePlan) -> Result<(), GenerationError> {
        let context = self.model.config().llama.max_position_embeddings;
        let mut lengths = plan.row_lengths().iter().copied().enumerate();
        match lengths.find(|&(_, length)| length >= context) {
            None => Ok(()),
            Some((row, length)) => Err(GenerationError::PromptTooLong {
                row,
                length,
                context,
            }),
        }
    }

    /// Prefills the cache a chunk at a time, which bounds the memory of long prompts. Returns the
    /// hidden state of the last token of each row, `[batch, hidden]`.
    fn prefill_chunks(
        &self,
        inputs_embeds: &Tensor<3>,
        row_lengths: &[usize],
        cache: &mut KvCache,
    ) -> Result<Tensor<2>, GenerationError> {
        let seq = inputs_embeds.dims()[1];
        let mut last_states = vec![None; row_lengths.len()];
        for start in (0..seq).step_by(self.config.prefill_chunk_size) {
            if self.cancel.is_cancelled() {
                return Err(GenerationError::Cancelled);
            }
            let chunk = start..seq.min(start + self.config.prefill_chunk_size);
            let embeds = inputs_embeds.clone().slice_dim(1, chunk.clone());
            let hidden_states = self.model.language_model.prefill(embeds, cache);
            for (row, &length) in row_lengths.iter().enumerate() {
                if chunk.contains(&(length - 1)) {
                    let last = length - 1 - start;
                    let state = hidden_states.clone().slice([row..row + 1, last..last + 1]);
                    last_states[row] = Some(state.squeeze_dim::<2>(1));
                }
            }
        }
        Ok(Tensor::cat(last_states.into_iter().flatten().collect(), 0))
    }
}

impl DecoderState<'_> {
    /// Logits of the next token of each row.
    ///
    /// # Panics
    /// Never: logits are f32.
    pub(super) fn next_logits(&self) -> Vec<Vec<f32>> {
        let vocab = self.logits.dims()[1];
        let logits: Vec<f32> = self
            .logits
            .clone()
            .into_data()
            .convert::<f32>()
            .try_into_vec()
            .expect("converted to f32");
        logits.chunks(vocab).map(<[f32]>::to_vec).collect()
    }

    /// Runs one more token of each row through the decoder.
    pub(super) fn decode(&mut self, ids: &[i64]) {
        let decoder = &self.model.language_model;
        let ids = int_tensor(ids, &decoder.device()).unsqueeze_dim(1);
        let hidden_states = decoder.decode(decoder.embed(ids), &mut self.cache);
        self.logits = decoder.logits(hidden_states.squeeze_dim::<2>(1));
    }

    /// Keeps the given rows, in the given order. The logits are those of the old rows until the
    /// next [`DecoderState::decode`].
    pub(super) fn select_rows(&mut self, rows: &[usize]) {
        self.cache.select_rows(rows);
    }

    /// Tokens of each row, padding left out.
    pub(super) fn row_lengths(&self) -> Vec<usize> {
        self.cache.row_lengths()
    }

    /// Most tokens that a row can have.
    pub(super) fn context(&self) -> usize {
        self.model.config().llama.max_position_embeddings
    }
}
