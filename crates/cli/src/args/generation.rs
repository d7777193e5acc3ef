//! How a model writes: flags of every command that lets one write.

use clap::Args;
use gallery_gpt::{model::EarlyStopping, prelude::*};

/// How it writes. The defaults are those of `run_llava.py`.
#[derive(Args)]
#[command(rename_all = "snake_case")]
pub(crate) struct GenerationFlags {
    /// 0 is greedy [default: 0.2, and 0 for a beam search].
    #[arg(long)]
    temperature: Option<f32>,
    /// Sample from the likeliest tokens that together have this probability.
    #[arg(long, default_value_t = 1.0)]
    top_p: f32,
    /// Sample from so many of the likeliest tokens; 0 is all.
    #[arg(long, default_value_t = 50)]
    top_k: usize,
    /// Hypotheses of a beam search; 1 is none.
    #[arg(long, default_value_t = 1)]
    num_beams: usize,
    /// Power of the length that a hypothesis' score is divided by.
    #[arg(long, default_value_t = 1.0)]
    length_penalty: f32,
    /// When a beam search ends: true, false or never, as in transformers.
    #[arg(long, default_value = "false")]
    early_stopping: EarlyStopping,
    /// Divides the logits of tokens already written.
    #[arg(long, default_value_t = 1.0)]
    repetition_penalty: f32,
    /// No run of so many tokens twice; 0 allows all.
    #[arg(long, default_value_t = 0)]
    no_repeat_ngram_size: usize,
    /// Texts that end an answer.
    #[arg(long, num_args = 1..)]
    stop_strings: Vec<String>,
    /// Most tokens to write [default: 512, or 1024 where many questions are answered].
    #[arg(long)]
    max_new_tokens: Option<usize>,
    /// Seed of the sampling.
    #[arg(long, default_value_t = 42)]
    seed: u64,
}

impl GenerationFlags {
    /// The settings, checked.
    pub(crate) fn config(&self, max_new_tokens: usize) -> anyhow::Result<GenerationConfig> {
        let temperature = if self.num_beams > 1 { 0.0 } else { 0.2 };
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
            ..GenerationConfig::greedy(self.max_new_tokens.unwrap_or(max_new_tokens))
        };
        config.validate()?;
        Ok(config)
    }
}
