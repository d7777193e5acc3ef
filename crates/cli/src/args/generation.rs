//! How a model generates its answers: flags of every command that runs one.

use anyhow::ensure;
use clap::Args;
use gallery_gpt::{model::EarlyStopping, prelude::*};

/// Tokens of an answer at most, where a command has no reason for another number.
const MAX_NEW_TOKENS: usize = 512;
/// Prompts per batch.
const BATCH_SIZE: usize = 8;
/// The temperature of `run_llava.py`.
const TEMPERATURE: f32 = 0.2;

/// How answers are generated. The defaults are those of `run_llava.py`.
#[derive(Args)]
#[command(rename_all = "snake_case")]
pub(crate) struct GenerationFlags {
    /// Divides the logits before sampling; 0 is greedy decoding [default: 0.2, and 0 with beam search].
    #[arg(long)]
    temperature: Option<f32>,
    /// Sample from the likeliest tokens whose probabilities add up to this; 1 is all.
    #[arg(long, default_value_t = 1.0)]
    top_p: f32,
    /// Sample from this many of the likeliest tokens; 0 is all.
    #[arg(long, default_value_t = 50)]
    top_k: usize,
    /// Hypotheses of beam search; 1 is no beam search.
    #[arg(long, default_value_t = 1)]
    num_beams: usize,
    /// Exponent of the length that the score of a beam is divided by; above 0 favours long answers.
    #[arg(long, default_value_t = 1.0)]
    length_penalty: f32,
    /// When beam search ends: true, false or never, as in transformers.
    #[arg(long, default_value = "false")]
    early_stopping: EarlyStopping,
    /// Divides the logits of tokens that were generated already; 1 is off.
    #[arg(long, default_value_t = 1.0)]
    repetition_penalty: f32,
    /// No n-gram of this size is generated twice; 0 is off.
    #[arg(long, default_value_t = 0)]
    no_repeat_ngram_size: usize,
    /// Texts that end an answer.
    #[arg(long, num_args = 1..)]
    stop_strings: Vec<String>,
    /// Maximum number of tokens of an answer.
    #[arg(long, default_value_t = MAX_NEW_TOKENS)]
    max_new_tokens: usize,
    /// Seed of the sampling.
    #[arg(long, default_value_t = 42)]
    seed: u64,
}

impl GenerationFlags {
    /// The settings, checked.
    pub(crate) fn config(&self) -> anyhow::Result<GenerationConfig> {
        let temperature = if self.num_beams > 1 { 0.0 } else { TEMPERATURE };
        let config = GenerationConfig {
            temperature: self.temperature.unwrap_or(temperature),
            top_p: self.top_p,
            top_k: self.top_k,
            num_beams: self.num_beams,
            length_penalty: self.length_penalty,
            early_stopping: self.early_stopping,
            repetition_penalty: self.repetition_penalty,
            no_repeat_ngram_size: self.no_repeat_ngram_size,
            stop_strings: self.stop_strings.clone(),
            seed: self.seed,
            ..GenerationConfig::greedy(self.max_new_tokens)
        };
        config.validate()?;
        Ok(config)
    }

    /// The seed.
    pub(crate) fn seed(&self) -> u64 {
        self.seed
    }
}

/// How many prompts a command runs at a time.
#[derive(Args)]
#[command(rename_all = "snake_case")]
pub(crate) struct BatchSize {
    /// Prompts per batch. More are faster and take more memory.
    #[arg(long, default_value_t = BATCH_SIZE)]
    batch_size: usize,
}

impl BatchSize {
    /// The number, checked.
    pub(crate) fn checked(&self) -> anyhow::Result<usize> {
        ensure!(self.batch_size > 0, "--batch_size must be at least 1");
        Ok(self.batch_size)
    }
}
