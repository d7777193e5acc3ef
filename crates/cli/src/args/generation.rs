//! How a model generates its answers: flags of every command that runs one.

use anyhow::ensure;
use clap::Args;
use gallery_gpt::{model::EarlyStopping, prelude::*};

/// Prompts per batch.
const BATCH_SIZE: usize = 8;

/// How answers are generated. The defaults are those of the model's family: `run_llava.py`'s, or those of Qwen-VL-Chat's own files.
#[derive(Args)]
#[command(rename_all = "snake_case")]
pub(crate) struct GenerationFlags {
    /// Divides the logits before sampling; 0 is greedy decoding [default: 0.2, of Qwen-VL-Chat 1, and 0 with beam search].
    #[arg(long)]
    temperature: Option<f32>,
    /// Sample from the likeliest tokens whose probabilities add up to this; 1 is all [default: 1, of Qwen-VL-Chat 0.3].
    #[arg(long)]
    top_p: Option<f32>,
    /// Sample from this many of the likeliest tokens; 0 is all [default: 50, of Qwen-VL-Chat 0].
    #[arg(long)]
    top_k: Option<usize>,
    /// Hypotheses of beam search; 1 is no beam search.
    #[arg(long, default_value_t = 1)]
    num_beams: usize,
    /// Exponent of the length that the score of a beam is divided by; above 0 favours long answers.
    #[arg(long, default_value_t = 1.0)]
    length_penalty: f32,
    /// When beam search ends: true, false or never, as in transformers.
    #[arg(long, default_value = "false")]
    early_stopping: EarlyStopping,
    /// Divides the logits of tokens that were generated already; 1 is off [default: 1, or what the files of Qwen-VL-Chat say].
    #[arg(long)]
    repetition_penalty: Option<f32>,
    /// No n-gram of this size is generated twice; 0 is off.
    #[arg(long, default_value_t = 0)]
    no_repeat_ngram_size: usize,
    /// Texts that end an answer.
    #[arg(long, num_args = 1..)]
    stop_strings: Vec<String>,
    /// Maximum number of tokens of an answer [default: 512, of Qwen-VL-Chat what its files say].
    #[arg(long)]
    max_new_tokens: Option<usize>,
    /// Seed of the sampling.
    #[arg(long, default_value_t = 42)]
    seed: u64,
}

impl GenerationFlags {
    /// Checks the flags before a model is loaded.
    ///
    /// # Errors
    /// A setting is out of range.
    pub(crate) fn check(&self) -> anyhow::Result<()> {
        self.over(GenerationConfig::run_llava()).map(drop)
    }

    /// The settings for a model.
    ///
    /// # Errors
    /// A setting is out of range.
    pub(crate) fn config(&self, gallery: &GalleryGpt) -> anyhow::Result<GenerationConfig> {
        self.over(gallery.default_generation())
    }

    /// The flags over the settings that a model has by default.
    fn over(&self, defaults: GenerationConfig) -> anyhow::Result<GenerationConfig> {
        let temperature = match self.num_beams {
            0 | 1 => defaults.temperature,
            _ => 0.0,
        };
        let config = GenerationConfig {
            max_new_tokens: self.max_new_tokens.unwrap_or(defaults.max_new_tokens),
            temperature: self.temperature.unwrap_or(temperature),
            top_p: self.top_p.unwrap_or(defaults.top_p),
            top_k: self.top_k.unwrap_or(defaults.top_k),
            num_beams: self.num_beams,
            length_penalty: self.length_penalty,
            early_stopping: self.early_stopping,
            repetition_penalty: self
                .repetition_penalty
                .unwrap_or(defaults.repetition_penalty),
            no_repeat_ngram_size: self.no_repeat_ngram_size,
            stop_strings: self.stop_strings.clone(),
            seed: self.seed,
            ..defaults
        };
        config.validate()?;
        Ok(config)
    }

    /// Whether answers can be sent while they are generated, and end where each request says.
    pub(crate) fn is_streamable(&self) -> bool {
        self.num_beams == 1 && self.stop_strings.is_empty()
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
