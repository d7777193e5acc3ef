//! The loop: read the prompts once, then one token of every row at a time.

use std::ops::ControlFlow;

use burn::tensor::{Int, Tensor, TensorData};
use gallery_gpt_llama::KvCache;
use gallery_gpt_text::Tokenizer;
use gallery_gpt_vision::PixelValues;

use super::stop::StopStrings;
use crate::{
    CancelToken, END_OF_TEXT, GalleryModel, GenerationConfig, GenerationError, LogitsProcessor,
    Sampler, SplicePlan,
};

/// What an answer is wanted to.
#[derive(Clone, Debug)]
pub struct Prompt {
    /// Token ids, `IMAGE_TOKEN_INDEX` for each picture.
    pub input_ids: Vec<i64>,
    /// The pictures, in the order of their marks.
    pub pictures: Vec<PixelValues>,
    /// Tells the random numbers of one prompt from another's under the same seed.
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

/// Why an answer ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FinishReason {
    /// The model wrote one of the stop ids or stop strings.
    Stop,
    /// `max_new_tokens`, or the context, was reached.
    Length,
    /// A [`CancelToken`] or a callback ended it.
    Cancelled,
}

/// An answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Generation {
    /// The ids written, without the stop id, but with those of a stop string.
    pub ids: Vec<u32>,
    /// The stop id, if one was written.
    pub stop_id: Option<u32>,
    /// The stop string, if one was written.
    pub stop_string: Option<String>,
    /// Why it ended.
    pub finish: FinishReason,
}

impl Generation {
    /// The text: up to the stop string, special tokens skipped, blanks at the ends removed. A stop id that is a word, which a model's
    /// own list of ends may have, is part of it, as in transformers.
    #[must_use]
    pub fn text(&self, tokenizer: &Tokenizer) -> String {
        let mut ids = self.ids.clone();
        ids.extend(self.stop_id);
        let text = tokenizer.decode(&ids, true);
        let stop = self.stop_string.as_ref();
        let end = stop.and_then(|stop| text.find(stop.as_str()));
        text[..end.unwrap_or(text.len())].trim().to_owned()
    }
}

/// Writes answers with one model and one set of settings.
#[derive(Debug)]
pub struct Generator<'a> {
    pub(super) model: &'a GalleryModel,
    pub(super) config: GenerationConfig,
    tokenizer: Option<&'a Tokenizer>,
    cancel: CancelToken,
}

impl<'a> Generator<'a> {
    /// A generator.
    #[must_use]
    pub fn new(model: &'a GalleryModel, mut config: GenerationConfig) -> Self {
        if config.stop_ids == [END_OF_TEXT] {
            config.stop_ids.clone_from(&model.config().end_ids);
        }
        Self {
            model,
            config,
            tokenizer: None,
            cancel: CancelToken::new(),
        }
    }

    /// Gives it the tokenizer that stop strings are looked for with.
    #[must_use]
    pub fn with_tokenizer(mut self, tokenizer: &'a Tokenizer) -> Self {
        self.tokenizer = Some(tokenizer);
        self
    }

    /// Lets it end when `cancel` says so.
    #[must_use]
    pub fn with_cancel(mut self, cancel: CancelToken) -> Self {
        self.cancel = cancel;
        self
    }

    /// Answers to a batch of prompts, token for token what each alone would get.
    ///
    /// # Errors
    /// A prompt that does not fit its pictures or the context, or a setting out of range.
    pub fn generate(&self, prompts: &[Prompt]) -> Result<Vec<Generation>, GenerationError> {
        if self.config.num_beams > 1 {
            let found = self.beam_search(prompts)?;
            let best = found
                .into_iter()
                .filter_map(|found| found.into_iter().next());
            return Ok(best.map(|best| best.generation).collect());
        }
        self.generate_with(prompts, |_, _| ControlFlow::Continue(()))
    }

    /// As [`Generator::generate`], calling `on_token` with the number of a prompt and each id written for it; `Break` ends that
    /// prompt's answer.
    ///
    /// # Errors
    /// As [`Generator::start`].
    pub fn generate_with(
        &self,
        prompts: &[Prompt],
        mut on_token: impl FnMut(usize, u32) -> ControlFlow<()>,
    ) -> Result<Vec<Generation>, GenerationError> {
        let mut decoding = self.start(prompts)?;
        while let Some(written) = decoding.step()? {
            for (row, id) in written.into_iter().enumerate() {
                if id.is_some_and(|id| on_token(row, id).is_break()) {
                    decoding.cancel(row);
                }
            }
        }
        Ok(decoding.finish())
    }

    /// Reads the prompts and stops before the first token, for callers who want them one by one.
    ///
    /// # Errors
    /// As [`Generator::generate`]; and with several beams, which write nothing before their end.
    pub fn start(&self, prompts: &[Prompt]) -> Result<Decoding<'a>, GenerationError> {
        if self.config.num_beams > 1 {
            return Err(GenerationError::Config {
                field: "num_beams",
                found: self.config.num_beams as f64,
                expected: "1 where tokens are wanted one by one",
            });
        }
        self.read(prompts)
    }

    /// Reads the prompts.
    pub(super) fn read(&self, prompts: &[Prompt]) -> Result<Decoding<'a>, GenerationError> {
        self.config.validate()?;
        let stops = self.stop_strings()?;
        let model = self.model;
        let config = model.config();
        let rows: Vec<Vec<i64>> = prompts
            .iter()
            .map(|prompt| prompt.input_ids.clone())
            .collect();
        let pictures: Vec<&PixelValues> =
            prompts.iter().flat_map(|prompt| &prompt.pictures).collect();
        for (picture, pixels) in pictures.iter().enumerate() {
            let found = pixels.shape()[1];
            if found != config.vision.image_size {
                return Err(GenerationError::PictureSize {
                    picture,
                    found,
                    expected: config.vision.image_size,
                });
            }
        }
        let plan = SplicePlan::new(
            &rows,
            config.tokens_per_picture(),
            pictures.len(),
            config.llama.vocab_size,
        )?;
        let context = config.llama.max_position_embeddings;
        for (row, &length) in plan.row_lengths().iter().enumerate() {
            if length >= context {
                return Err(GenerationError::PromptTooLong {
                    row,
                    length,
                    context,
                });
            }
        }

        let device = model.device();
        let projected = (!pictures.is_empty()).then(|| {
            let pixel_values = PixelValues::stack(&pictures, &device);
            model.project(model.picture_features(pixel_values))
        });
        let inputs_embeds = model.splice(&plan, projected);
        let room = self.config.max_new_tokens.min(context - 1);
        let mut cache = KvCache::new(
            &config.llama,
            plan.batch(),
            plan.seq() + room,
            model.dtype(),
            &device,
        );
        let last_states = self.prefill(&inputs_embeds, plan.row_lengths(), &mut cache)?;
        let rows = prompts
            .iter()
            .map(|prompt| Row {
                ids: Vec::new(),
                stop_id: None,
                stop_string: None,
                finish: None,
                sampler: if self.config.do_sample() {
                    Sampler::seeded(self.config.seed, prompt.stream)
                } else {
                    Sampler::greedy()
                },
            })
            .collect();
        Ok(Decoding {
            model,
            processor: LogitsProcessor::new(self.config.clone()),
            config: self.config.clone(),
            cache,
            logits: model.language_model.logits(last_states),
            rows,
            written: 0,
            stops,
            cancel: self.cancel.clone(),
        })
    }

    /// What finds the stop strings, if there are any.
    pub(super) fn stop_strings(&self) -> Result<Option<StopStrings<'a>>, GenerationError> {
        if self.config.stop_strings.is_empty() {
            return Ok(None);
        }
        let tokenizer = self.tokenizer.ok_or(GenerationError::NoTokenizer)?;
        let strings = self.config.stop_strings.clone();
        Ok(Some(StopStrings::new(tokenizer, strings)))
    }

    /// Reads the prompts a chunk at a time and returns the hidden state of the last token of each row, `[batch, hidden]`.
    fn prefill(
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
        cache.end_prefill(row_lengths);
        Ok(Tensor::cat(last_states.into_iter().flatten().collect(), 0))
    }
}

#[derive(Debug)]
struct Row {
    ids: Vec<u32>,
    stop_id: Option<u32>,
    stop_string: Option<String>,
    finish: Option<FinishReason>,
    sampler: Sampler,
}

/// A generation under way.
#[derive(Debug)]
pub struct Decoding<'a> {
    model: &'a GalleryModel,
    processor: LogitsProcessor,
    config: GenerationConfig,
    cache: KvCache,
    /// Logits of the next token of each row, `[batch, vocab]`.
    logits: Tensor<2>,
    rows: Vec<Row>,
    written: usize,
    stops: Option<StopStrings<'a>>,
    cancel: CancelToken,
}

impl Decoding<'_> {
    /// Writes one token of every unfinished row and returns it, `None` for rows that are finished (a stop id is not
    /// returned); `None` as a whole when there is nothing left to write.
    ///
    /// # Errors
    /// The model's logits are not finite.
    ///
    /// # Panics
    /// Never: logits are f32 when they are read.
    pub fn step(&mut self) -> Result<Option<Vec<Option<u32>>>, GenerationError> {
        if self.cancel.is_cancelled() {
            (0..self.rows.len()).for_each(|row| self.cancel(row));
        }
        if self.rows.iter().all(|row| row.finish.is_some()) {
            return Ok(None);
        }
        let all = self.next_logits();
        let context = self.model.config().llama.max_position_embeddings;
        let mut written = Vec::with_capacity(self.rows.len());
        let mut fed = Vec::with_capacity(self.rows.len());
        for ((number, row), mut logits) in self.rows.iter_mut().enumerate().zip(all) {
            if row.finish.is_some() {
                written.push(None);
                fed.push(0);
                continue;
            }
            if logits.iter().any(|logit| logit.is_nan()) {
                return Err(GenerationError::NotFinite {
                    row: number,
                    token: self.written,
                });
            }
            self.processor.apply(&row.ids, &mut logits);
            let id = row.sampler.choose(&logits);
            if self.config.stop_ids.contains(&id) {
                row.stop_id = Some(id);
                row.finish = Some(FinishReason::Stop);
                written.push(None);
            } else {
                row.ids.push(id);
                let length = self.cache.row_lengths()[number] + 1;
                let stop = self.stops.as_ref().and_then(|stops| stops.find(&row.ids));
                if let Some(stop) = stop {
                    row.stop_string = Some(stop.clone());
                    row.finish = Some(FinishReason::Stop);
                } else if row.ids.len() >= self.config.max_new_tokens || length >= context {
                    row.finish = Some(FinishReason::Length);
                }
                written.push(Some(id));
            }
            fed.push(i64::from(id));
        }
        self.written += 1;
        if self.rows.iter().any(|row| row.finish.is_none()) {
            self.feed(fed);
        }
        Ok(Some(written))
    }

    /// Ends the answer of a row, if it has not ended already.
    ///
    /// # Panics
    /// If there is no such row.
    pub fn cancel(&mut self, row: usize) {
        self.rows[row].finish.get_or_insert(FinishReason::Cancelled);
    }

    /// The stop id that ended a row, if one did.
    ///
    /// # Panics
    /// If there is no such row.
    #[must_use]
    pub fn stop_id(&self, row: usize) -> Option<u32> {
        self.rows[row].stop_id
    }

    /// Whether a [`CancelToken`] asked for the end.
    pub(super) fn is_cancelled(&self) -> bool {
        self.cancel.is_cancelled()
    }

    /// Logits of the next token of each row.
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

    /// Lets every row read one more token.
    fn feed(&mut self, ids: Vec<i64>) {
        let device = self.model.device();
        let rows = ids.len();
        let ids = Tensor::<2, Int>::from_data(TensorData::new(ids, [rows, 1]), &device);
        let language_model = &self.model.language_model;
        let inputs_embeds = language_model.embed(ids);
        let hidden_states = language_model.decode(inputs_embeds, &mut self.cache);
        self.logits = language_model.logits(hidden_states.squeeze_dim::<2>(1));
    }

    /// Tokens of the longest row.
    pub(super) fn length(&self) -> usize {
        self.cache.row_lengths().iter().copied().max().unwrap_or(0)
    }

    /// Goes on with copies of some rows, each with a token of its own.
    pub(super) fn follow(&mut self, rows: &[usize], ids: Vec<i64>) {
        self.cache.select_rows(rows);
        self.feed(ids);
    }

    /// The answers so far. Unfinished rows count as ended by length.
    #[must_use]
    pub fn finish(self) -> Vec<Generation> {
        self.rows
            .into_iter()
            .map(|row| Generation {
                ids: row.ids,
                stop_id: row.stop_id,
                stop_string: row.stop_string,
                finish: row.finish.unwrap_or(FinishReason::Length),
            })
            .collect()
    }
}
