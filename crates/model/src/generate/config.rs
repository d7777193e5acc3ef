//! Settings of generation, with the names of `transformers`' `GenerationConfig`.

use std::str::FromStr;

use gallery_gpt_text::UnknownName;

use crate::{END_OF_TEXT, GenerationError};

/// The number as it was written: 0.2, and not the digits of the nearest `f32`.
fn decimal(number: f32) -> f64 {
    number.to_string().parse().unwrap_or(f64::from(number))
}

/// When a beam search ends (`early_stopping`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum EarlyStopping {
    /// When no running hypothesis, scored at its present length, beats the worst finished one
    /// (`False`).
    #[default]
    Heuristic,
    /// As soon as there are `num_beams` finished hypotheses (`True`).
    WhenFull,
    /// When no running hypothesis could beat the worst finished one at any length up to the limit
    /// (`"never"`).
    Never,
}

impl FromStr for EarlyStopping {
    type Err = UnknownName;

    fn from_str(name: &str) -> Result<Self, Self::Err> {
        match name.to_ascii_lowercase().as_str() {
            "false" => Ok(Self::Heuristic),
            "true" => Ok(Self::WhenFull),
            "never" => Ok(Self::Never),
            _ => Err(UnknownName::new(
                "early stopping",
                name,
                "true, false or never",
            )),
        }
    }
}

/// Settings of a generation.
#[derive(Clone, Debug, PartialEq)]
pub struct GenerationConfig {
    /// Maximum number of tokens to generate.
    pub max_new_tokens: usize,
    /// 0 is greedy decoding; otherwise tokens are sampled, with the logits divided by it.
    pub temperature: f32,
    /// Sample from this many of the likeliest tokens; 0 means all.
    pub top_k: usize,
    /// Sample from the likeliest tokens whose probabilities sum up to this; 1 means all.
    pub top_p: f32,
    /// Divides the logits of generated tokens (multiplies negative ones); 1 is off.
    pub repetition_penalty: f32,
    /// No n-gram of this size is generated twice; 0 is off.
    pub no_repeat_ngram_size: usize,
    /// Hypotheses of beam search; 1 is no beam search.
    pub num_beams: usize,
    /// Exponent of the length that a hypothesis' score is divided by; above 0 favours long answers.
    pub length_penalty: f32,
    /// When beam search ends.
    pub early_stopping: EarlyStopping,
    /// Ids that end an answer. The default, `[2]` (`</s>`), means those of the model's config
    /// ([`GalleryModelConfig::end_ids`](crate::GalleryModelConfig::end_ids)).
    pub stop_ids: Vec<u32>,
    /// Texts that end an answer. They need
    /// [`Generator::with_tokenizer`](crate::Generator::with_tokenizer).
    pub stop_strings: Vec<String>,
    /// Tokens per forward pass of the prefill, which bounds the memory of long prompts.
    pub prefill_chunk_size: usize,
    /// Seed of the sampler.
    pub seed: u64,
}

/// Greedy decoding of at most 512 tokens.
impl Default for GenerationConfig {
    fn default() -> Self {
        Self::greedy(512)
    }
}

impl GenerationConfig {
    /// Greedy decoding of at most `max_new_tokens` tokens.
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

    /// The settings of `run_llava.py`: temperature 0.2, transformers' default top-k of 50, 512
    /// tokens.
    #[must_use]
    pub fn run_llava() -> Self {
        Self {
            temperature: 0.2,
            top_k: 50,
            ..Self::greedy(512)
        }
    }

    /// The settings of Qwen-VL-Chat's `chat`: the likeliest tokens up to a probability of 0.3, at
    /// temperature 1, 512 tokens.
    #[must_use]
    pub fn qwen_vl_chat() -> Self {
        Self {
            temperature: 1.0,
            top_p: 0.3,
            ..Self::greedy(512)
        }
    }

    /// Whether tokens are sampled.
    #[must_use]
    pub fn do_sample(&self) -> bool {
        self.temperature > 0.0
    }

    /// Checks values from a user.
    ///
    /// # Errors
    /// A setting is out of range.
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
