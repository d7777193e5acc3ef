//! Flags that several programs share: which model, and how it writes.

#[path = "hub_cache.rs"]
mod hub_cache;

use std::{path::PathBuf, str::FromStr};

use clap::Args;
use gallery_gpt::{
    model::EarlyStopping,
    prelude::*,
    text::{TemplateKind, UnknownTemplate},
};

/// Which model.
#[derive(Args)]
#[command(rename_all = "snake_case")]
pub(crate) struct ModelFlags {
    /// Folder of the base model, in any layout, with its tokenizer; or its name on the hub, if the hub's cache has it.
    #[arg(long, alias = "model_base", default_value = "datasets/tiny-base", value_parser = hub_cache::model_folder)]
    pub(crate) base: PathBuf,
    /// Folder of an adapter, PEFT's or the original's, or an `mm_projector.bin`.
    #[arg(long, alias = "model_path")]
    pub(crate) adapter: Option<PathBuf>,
    /// Folder of the vision tower, in place of the one that the config names.
    #[arg(long)]
    pub(crate) vision_tower: Option<PathBuf>,
    /// cpu, cuda or cuda:N.
    #[arg(long, default_value = "cpu")]
    pub(crate) device: DeviceKind,
    /// f32, f16 or bf16; by default bf16 on a GPU, and on a CPU f32 for small models and the stored one for large ones.
    #[arg(long)]
    pub(crate) dtype: Option<TensorDtype>,
    /// Keep the weights of the decoder's blocks in 8 bits.
    #[arg(long)]
    pub(crate) load_8bit: bool,
    /// Conversation template, or `guess`: by the model's name, as `run_llava.py` does, which asks adapters without "v1" in their
    /// name with `llava_v0` although training uses v1.
    #[arg(long, default_value = "vicuna_v1")]
    pub(crate) conv_mode: ConvMode,
}

impl ModelFlags {
    /// The folder that the model is called by.
    pub(crate) fn path(&self) -> &PathBuf {
        self.adapter.as_ref().unwrap_or(&self.base)
    }

    /// Its last part.
    pub(crate) fn name(&self) -> String {
        let path = self.path();
        let name = path.file_name().unwrap_or(path.as_os_str());
        name.to_string_lossy().into_owned()
    }

    /// The model. What a user should know about the combination is said on standard error.
    pub(crate) fn load(&self) -> anyhow::Result<GalleryGpt> {
        let template = match self.conv_mode {
            ConvMode::Named(template) => template,
            ConvMode::Guess => TemplateKind::guess_as_run_llava(&self.name())?,
        };
        let options = LoadOptions {
            dtype: self.dtype,
            vision_tower: self.vision_tower.clone(),
            ..LoadOptions::default()
        };
        let mut gallery =
            GalleryGpt::load_with(&self.base, &self.device.device()?, &options)?.template(template);
        if let Some(adapter) = &self.adapter {
            gallery = gallery.adapter(adapter)?;
        }
        if self.load_8bit {
            gallery = gallery.quantize();
        }
        for note in gallery.notes() {
            eprintln!("note: {note}");
        }
        if self.conv_mode == ConvMode::Guess {
            eprintln!("note: template {template}, by the name {}", self.name());
        }
        Ok(gallery)
    }
}

/// A template, or the original's way to pick one.
#[derive(Clone, Copy, PartialEq)]
pub(crate) enum ConvMode {
    Named(TemplateKind),
    Guess,
}

impl FromStr for ConvMode {
    type Err = UnknownTemplate;

    fn from_str(name: &str) -> Result<Self, Self::Err> {
        match name {
            "guess" => Ok(Self::Guess),
            name => name.parse().map(Self::Named),
        }
    }
}

/// How it writes. The defaults are those of `run_llava.py`.
#[derive(Args)]
#[command(rename_all = "snake_case")]
pub(crate) struct GenerationFlags {
    /// 0 is greedy.
    #[arg(long, default_value_t = 0.2)]
    pub(crate) temperature: f32,
    /// Sample from the likeliest tokens that together have this probability.
    #[arg(long, default_value_t = 1.0)]
    pub(crate) top_p: f32,
    /// Sample from so many of the likeliest tokens; 0 is all.
    #[arg(long, default_value_t = 50)]
    pub(crate) top_k: usize,
    /// Hypotheses of a beam search, with temperature 0; 1 is none.
    #[arg(long, default_value_t = 1)]
    pub(crate) num_beams: usize,
    /// Power of the length that a hypothesis' score is divided by.
    #[arg(long, default_value_t = 1.0)]
    pub(crate) length_penalty: f32,
    /// When a beam search ends: true, false or never, as in transformers.
    #[arg(long, default_value = "false")]
    pub(crate) early_stopping: EarlyStopping,
    /// Divides the logits of tokens already written.
    #[arg(long, default_value_t = 1.0)]
    pub(crate) repetition_penalty: f32,
    /// No run of so many tokens twice; 0 allows all.
    #[arg(long, default_value_t = 0)]
    pub(crate) no_repeat_ngram_size: usize,
    /// Texts that end an answer.
    #[arg(long, num_args = 1..)]
    pub(crate) stop_strings: Vec<String>,
    /// Most tokens to write [default: 512, or 1024 where many questions are answered].
    #[arg(long)]
    pub(crate) max_new_tokens: Option<usize>,
    /// Seed of the sampling.
    #[arg(long, default_value_t = 42)]
    pub(crate) seed: u64,
}

impl GenerationFlags {
    /// The settings, checked.
    pub(crate) fn config(&self, max_new_tokens: usize) -> anyhow::Result<GenerationConfig> {
        let config = GenerationConfig {
            temperature: self.temperature,
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
