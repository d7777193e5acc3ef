//! How to choose the next token, with the names of `transformers`' `GenerationConfig`.

use crate::{END_OF_TEXT, EarlyStopping, GenerationError};

/// The number as it was written: 0.2, not the nearest binary fraction with all its digits.
fn decimal(number: f32) -> f64 {
    number.to_string().parse().unwrap_or(f64::from(number))
}

/// Settings of a generation.
#[derive(Clone, Debug, PartialEq)]
pub struct GenerationConfig {
    /// Most tokens to write.
    pub max_new_tokens: usize,
    /// 0 is greedy; otherwise logits are divided by it and sampled.
    pub temperature: f32,
    /// Sample from so many of the likeliest tokens; 0 is all.
    pub top_k: usize,
    /// Sample from the likeliest tokens that together have this probability; 1 is all.
    pub top_p: f32,
    /// Divides (or multiplies, if negative) the logits of tokens already written; 1 is off.
    pub repetition_penalty: f32,
    /// No run of so many tokens twice; 0 is off.
    pub no_repeat_ngram_size: usize,
    /// Hypotheses kept by a beam search; 1 is none.
    pub num_beams: usize,
    /// Power of the length that a hypothesis' score is divided by: above 0 favours long answers.
    pub length_penalty: f32,
    /// When a beam search ends.
    pub early_stopping: EarlyStopping,
    /// Ids that end an answer. `[2]`, which is `</s>` and the default, stands for the ends that the model's own config lists
    /// ([`GalleryModelConfig::end_ids`](crate::GalleryModelConfig::end_ids)).
    pub stop_ids: Vec<u32>,
    /// Texts that end an answer; they need [`Generator::with_tokenizer`](crate::Generator::with_tokenizer).
    pub stop_strings: Vec<String>,
    /// Tokens of the prompts that are read at once, which bounds the memory of a long prompt.
    pub prefill_chunk_size: usize,
    /// Seed of the sampler.
    pub seed: u64,
}

/// Greedy, at most 512 tokens.
impl Default for GenerationConfig {
    fn default() -> Self {
        Self::greedy(512)
    }
}

impl GenerationConfig {
    /// The likeliest token each time, up to `max_new_tokens`, stopping at `</s>`.
    #[must_use]
    pub fn greedy(max_new_tokens: usize) -> Self {
        Self {
            max_new_tokens,
            temperature: 0.0,
            top_k: 0,
            top_p: 1.0,
            repetition_penalty: 1.0,
            no_repeat_ngram_size: 0,
            num_beams: 1,
            length_penalty: 1.0,
            early_stopping: EarlyStopping::Heuristic,
            stop_ids: vec![END_OF_TEXT],
            stop_strings: Vec::new(),
            prefill_chunk_size: 1024,
            seed: 42,
        }
    }

    /// What `run_llava.py` runs: temperature 0.2, the library's silent top-k of 50, 512 tokens.
    #[must_use]
    pub fn run_llava() -> Self {
        Self {
            temperature: 0.2,
            top_k: 50,
            ..Self::greedy(512)
        }
    }

    /// Whether tokens are sampled.
    #[must_use]
    pub fn do_sample(&self) -> bool {
        self.temperature > 0.0
    }

    /// Checks numbers that came from a user.
    ///
    /// # Errors
    /// A setting out of range.
    pub fn validate(&self) -> Result<(), GenerationError> {
        let wrong = |field, found: f64, expected| {
            Err(GenerationError::Config {
                field,
                found,
                expected,
            })
        };
        if self.max_new_tokens == 0 {
            return wrong("max_new_tokens", 0.0, "at least 1");
        }
        if !(self.temperature >= 0.0 && self.temperature.is_finite()) {
            return wrong("temperature", decimal(self.temperature), "0 or more");
        }
        if !(self.top_p > 0.0 && self.top_p <= 1.0) {
            return wrong("top_p", decimal(self.top_p), "above 0 and at most 1");
        }
        if self.prefill_chunk_size == 0 {
            return wrong("prefill_chunk_size", 0.0, "at least 1");
        }
        if let Some(empty) = self.stop_strings.iter().position(String::is_empty) {
            return wrong(
                "stop_strings",
                empty as f64,
                "a text, not an empty one, in this place",
            );
        }
        if self.num_beams == 0 {
            return wrong("num_beams", 0.0, "at least 1");
        }
        if self.num_beams > 1 && self.do_sample() {
            let found = decimal(self.temperature);
            return wrong("temperature", found, "0 with several beams");
        }
        if !self.length_penalty.is_finite() {
            let found = decimal(self.length_penalty);
            return wrong("length_penalty", found, "a finite number");
        }
        if !(self.repetition_penalty > 0.0 && self.repetition_penalty.is_finite()) {
            return wrong(
                "repetition_penalty",
                decimal(self.repetition_penalty),
                "a positive number",
            );
        }
        Ok(())
    }
}
