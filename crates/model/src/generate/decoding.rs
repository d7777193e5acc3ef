//! Greedy decoding and sampling: one token of every row at a time.

use gallery_gpt_text::Tokenizer;

use super::{
    generation::with_stop_word,
    prefill::DecoderState,
    stop::{StopStrings, settled, text_before},
};
use crate::{
    CancelToken, FinishReason, Generation, GenerationConfig, GenerationError, LogitsProcessor,
    Prompt, Sampler,
};

/// The generation of one row.
#[derive(Debug)]
struct Row {
    ids: Vec<u32>,
    stop_id: Option<u32>,
    stop_string: Option<String>,
    finish: Option<FinishReason>,
    sampler: Sampler,
}

/// A generation in progress ([`Generator::start`](crate::Generator::start)).
#[derive(Debug)]
pub struct Decoding<'a> {
    config: GenerationConfig,
    processor: LogitsProcessor,
    stops: Option<StopStrings<'a>>,
    cancel: CancelToken,
    state: DecoderState<'a>,
    rows: Vec<Row>,
    /// Tokens generated for the unfinished rows.
    steps: usize,
}

impl<'a> Decoding<'a> {
    pub(super) fn new(
        state: DecoderState<'a>,
        prompts: &[Prompt],
        config: GenerationConfig,
        stops: Option<StopStrings<'a>>,
        cancel: CancelToken,
    ) -> Self {
        let row = |prompt: &Prompt| Row {
            ids: Vec::new(),
            stop_id: None,
            stop_string: None,
            finish: None,
            sampler: if config.do_sample() {
                Sampler::seeded(config.seed, prompt.stream)
            } else {
                Sampler::greedy()
            },
        };
        Self {
            rows: prompts.iter().map(row).collect(),
            processor: LogitsProcessor::new(config.clone()),
            config,
            stops,
            cancel,
            state,
            steps: 0,
        }
    }

    /// Generates one token of every unfinished row and returns it; `None` for finished rows (a stop
    /// id is not returned), and `None` as a whole when all rows are finished.
    ///
    /// # Errors
    /// The model's logits are not finite.
    pub fn step(&mut self) -> Result<Option<Vec<Option<u32>>>, GenerationError> {
        if self.cancel.is_cancelled() {
            (0..self.rows.len()).for_each(|row| self.cancel(row));
        }
        if self.rows.iter().all(|row| row.finish.is_some()) {
            return Ok(None);
        }
        let lengths = self.state.row_lengths();
        let mut generated = Vec::with_capacity(self.rows.len());
        let mut next = Vec::with_capacity(self.rows.len());
        for (index, mut logits) in self.state.next_logits().into_iter().enumerate() {
            let row = &mut self.rows[index];
            if row.finish.is_some() {
                generated.push(None);
                next.push(0);
                continue;
            }
            if logits.iter().any(|logit| logit.is_nan()) {
                return Err(GenerationError::NotFinite {
                    row: index,
                    token: self.steps,
                });
            }
            self.processor.apply(&row.ids, &mut logits);
            let id = row.sampler.choose(&logits);
            next.push(i64::from(id));
            generated.push(self.accept(index, id, lengths[index] + 1));
        }
        self.steps += 1;
        if self.rows.iter().any(|row| row.finish.is_none()) {
            self.state.decode(&next);
        }
        Ok(Some(generated))
    }

    /// Appends an id to a row, which then has `length` tokens with its prompt, and finishes the row
    /// where it ends. Returns the id, unless it is a stop id.
    fn accept(&mut self, index: usize, id: u32, length: usize) -> Option<u32> {
        let row = &mut self.rows[index];
        if self.config.stop_ids.contains(&id) {
            row.stop_id = Some(id);
            row.finish = Some(FinishReason::Stop);
            return None;
        }
        row.ids.push(id);
        let stop = self.stops.as_ref().and_then(|stops| stops.find(&row.ids));
        if let Some(stop) = stop {
            row.stop_string = Some(stop.clone());
            row.finish = Some(FinishReason::Stop);
        } else if row.ids.len() >= self.config.max_new_tokens || length >= self.state.context() {
            row.finish = Some(FinishReason::Length);
        }
        Some(id)
    }

    /// Ends the answer of a row, unless it has ended already.
    ///
    /// # Panics
    /// If there is no such row.
    pub fn cancel(&mut self, row: usize) {
        self.rows[row].finish.get_or_insert(FinishReason::Cancelled);
    }

    /// The text of a row so far that further tokens cannot change: it does not end inside a
    /// character, nor with what may become a stop string. Once the row is finished, its whole text.
    /// It is that of [`Tokenizer::decode_answer`]; blanks at the ends are kept.
    ///
    /// # Panics
    /// If there is no such row.
    #[must_use]
    pub fn settled_text(&self, row: usize, tokenizer: &Tokenizer) -> String {
        let row = &self.rows[row];
        let text = tokenizer.decode_answer(&with_stop_word(&row.ids, row.stop_id, tokenizer));
        let text = if row.finish.is_some() {
            text_before(row.stop_string.as_deref(), &text)
        } else {
            let whole = text.trim_end_matches(char::REPLACEMENT_CHARACTER);
            settled(&self.config.stop_strings, whole)
        };
        text.to_owned()
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
