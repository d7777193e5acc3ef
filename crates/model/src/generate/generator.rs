//! Generators: a model, the settings of generation, and what runs them on a batch of prompts.

use std::ops::ControlFlow;

use gallery_gpt_text::Tokenizer;
use gallery_gpt_vision::PixelValues;

use super::stop::StopStrings;
use crate::{
    CancelToken, Decoding, END_OF_TEXT, GalleryModel, Generation, GenerationConfig, GenerationError,
};

/// A prompt: token ids and pictures.
#[derive(Clone, Debug)]
pub struct Prompt {
    /// Token ids, with an `IMAGE_TOKEN_INDEX` for each picture.
    pub input_ids: Vec<i64>,
    /// The pictures, in the order of their placeholders.
    pub pictures: Vec<PixelValues>,
    /// Stream of random numbers: prompts of different streams are sampled independently under one
    /// seed.
    pub stream: u64,
}

impl Prompt {
    /// A prompt without pictures.
    #[must_use]
    pub fn text(input_ids: Vec<i64>) -> Self {
        Self::with_pictures(input_ids, Vec::new())
    }

    /// A prompt with pictures.
    #[must_use]
    pub fn with_pictures(input_ids: Vec<i64>, pictures: Vec<PixelValues>) -> Self {
        Self {
            input_ids,
            pictures,
            stream: 0,
        }
    }
}

/// Generates answers with one model and one set of settings.
#[derive(Debug)]
pub struct Generator<'a> {
    pub(super) model: &'a GalleryModel,
    pub(super) config: GenerationConfig,
    pub(super) cancel: CancelToken,
    tokenizer: Option<&'a Tokenizer>,
}

impl<'a> Generator<'a> {
    /// A generator. Stop ids of `[2]`, the default, become the model's own
    /// ([`GalleryModelConfig::end_ids`](crate::GalleryModelConfig::end_ids)).
    #[must_use]
    pub fn new(model: &'a GalleryModel, mut config: GenerationConfig) -> Self {
        if config.stop_ids == [END_OF_TEXT] {
            config.stop_ids.clone_from(&model.config().end_ids);
        }
        Self {
            model,
            config,
            cancel: CancelToken::new(),
            tokenizer: None,
        }
    }

    /// Sets the tokenizer, which stop strings need.
    #[must_use]
    pub fn with_tokenizer(mut self, tokenizer: &'a Tokenizer) -> Self {
        self.tokenizer = Some(tokenizer);
        self
    }

    /// Sets the token that cancels a generation.
    #[must_use]
    pub fn with_cancel(mut self, cancel: CancelToken) -> Self {
        self.cancel = cancel;
        self
    }

    /// Generates an answer to each prompt of a batch: the same tokens as for each prompt alone.
    ///
    /// # Errors
    /// A prompt does not fit its pictures or the context, or a setting is out of range.
    pub fn generate(&self, prompts: &[Prompt]) -> Result<Vec<Generation>, GenerationError> {
        if self.config.num_beams > 1 {
            let hypotheses = self.beam_search(prompts)?;
            let best = hypotheses.into_iter().filter_map(|hypotheses| {
                let best = hypotheses.into_iter().next();
                best.map(|best| best.generation)
            });
            return Ok(best.collect());
        }
        self.generate_with(prompts, |_, _| ControlFlow::Continue(()))
    }

    /// As [`Generator::generate`], calling `on_token` with the index of a prompt and each id
    /// generated for it; `Break` ends that prompt's answer.
    ///
    /// # Errors
    /// As [`Generator::start`].
    pub fn generate_with(
        &self,
        prompts: &[Prompt],
        mut on_token: impl FnMut(usize, u32) -> ControlFlow<()>,
    ) -> Result<Vec<Generation>, GenerationError> {
        let mut decoding = self.start(prompts)?;
        while let Some(ids) = decoding.step()? {
            for (row, id) in ids.into_iter().enumerate() {
                if id.is_some_and(|id| on_token(row, id).is_break()) {
                    decoding.cancel(row);
                }
            }
        }
        Ok(decoding.finish())
    }

    /// Prefills the prompts and stops before the first token, for callers who want one token at a
    /// time.
    ///
    /// # Errors
    /// As [`Generator::generate`]; and with several beams, whose tokens are not known before the
    /// end.
    pub fn start(&self, prompts: &[Prompt]) -> Result<Decoding<'a>, GenerationError> {
        if self.config.num_beams > 1 {
            return Err(GenerationError::Config {
                field: "num_beams",
                found: self.config.num_beams as f64,
                expected: "1 where tokens are wanted one by one",
            });
        }
        self.config.validate()?;
        let stops = self.stop_strings()?;
        let state = self.prefill(prompts)?;
        Ok(Decoding::new(self, prompts, state, stops))
    }

    /// The stop strings with the tokenizer that finds them, if there are any.
    pub(super) fn stop_strings(&self) -> Result<Option<StopStrings<'a>>, GenerationError> {
        if self.config.stop_strings.is_empty() {
            return Ok(None);
        }
        let tokenizer = self.tokenizer.ok_or(GenerationError::NoTokenizer)?;
        let strings = self.config.stop_strings.clone();
        Ok(Some(StopStrings::new(tokenizer, strings)))
    }
}
