//! Generators: a model, the settings of generation, and what runs them on a batch of prompts.

use std::ops::ControlFlow;

use gallery_gpt_text::Tokenizer;

use super::{
    beam,
    prefill::{DecoderState, Prefill},
    stop::StopStrings,
};
use crate::{
    CancelToken, Decoding, END_OF_TEXT, GalleryModel, Generation, GenerationConfig,
    GenerationError, Hypothesis, PictureCache, Prompt,
};

/// Generates answers with one model and one set of settings.
#[derive(Debug)]
pub struct Generator<'a> {
    model: &'a GalleryModel,
    config: GenerationConfig,
    cancel: CancelToken,
    tokenizer: Option<&'a Tokenizer>,
    pictures: Option<&'a PictureCache>,
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
            pictures: None,
        }
    }

    /// Sets the tokenizer, which stop strings need.
    #[must_use]
    pub fn with_tokenizer(mut self, tokenizer: &'a Tokenizer) -> Self {
        self.tokenizer = Some(tokenizer);
        self
    }

    /// Sets where the features of pictures are kept between generations of this model.
    #[must_use]
    pub fn with_picture_cache(mut self, pictures: &'a PictureCache) -> Self {
        self.pictures = Some(pictures);
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
        let (state, stops) = self.prefill(prompts)?;
        let (config, cancel) = (self.config.clone(), self.cancel.clone());
        Ok(Decoding::new(state, prompts, config, stops, cancel))
    }

    /// The best hypotheses for each prompt, best first, at most `num_beams` of them. Each prompt is
    /// searched on its own.
    ///
    /// # Errors
    /// As [`Generator::generate`].
    pub fn beam_search(&self, prompts: &[Prompt]) -> Result<Vec<Vec<Hypothesis>>, GenerationError> {
        let search = |prompt| {
            let (state, stops) = self.prefill(std::slice::from_ref(prompt))?;
            beam::search(state, &self.config, stops, &self.cancel)
        };
        prompts.iter().map(search).collect()
    }

    /// Checks the settings and runs the prompts through the model: the state before the first new
    /// token, and what finds the stop strings, if there are any.
    fn prefill(
        &self,
        prompts: &[Prompt],
    ) -> Result<(DecoderState<'a>, Option<StopStrings<'a>>), GenerationError> {
        self.config.validate()?;
        let stops = match self.config.stop_strings.as_slice() {
            [] => None,
            strings => {
                let tokenizer = self.tokenizer.ok_or(GenerationError::NoTokenizer)?;
                Some(StopStrings::new(tokenizer, strings.to_vec()))
            }
        };
        let prefill = Prefill {
            model: self.model,
            config: &self.config,
            cancel: &self.cancel,
            pictures: self.pictures,
        };
        Ok((prefill.run(prompts)?, stops))
    }
}
