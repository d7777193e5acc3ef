//! Flags that several programs share: which model, and how it writes.

#[path = "hub_cache.rs"]
mod hub_cache;

use std::{
    path::{Path, PathBuf},
    str::FromStr,
};

use anyhow::anyhow;
use clap::Args;
use gallery_gpt::{
    model::EarlyStopping,
    prelude::*,
    text::{TemplateKind, UnknownTemplate},
};
use hub_cache::TINY_BASE;

/// Which model.
#[derive(Args)]
#[command(rename_all = "snake_case")]
pub(crate) struct ModelFlags {
    /// Folder of the base model, in any layout, with its tokenizer; or its name on the hub, if the hub's cache has it [default:
    /// datasets/tiny-base].
    #[arg(long, visible_alias = "model_base", value_parser = hub_cache::model_folder)]
    base: Option<PathBuf>,
    /// Folder of an adapter, PEFT's or the original's, or an `mm_projector.bin`. The folder of a whole model is taken for the base
    /// where none is given, as LLaVA's programs take it.
    #[arg(long, visible_alias = "model_path")]
    adapter: Option<PathBuf>,
    /// Folder of the vision tower, in place of the one that the config names.
    #[arg(long)]
    vision_tower: Option<PathBuf>,
    /// cpu, cuda or cuda:N.
    #[arg(long, default_value = "cpu")]
    device: DeviceKind,
    /// f32, f16 or bf16; by default bf16 on a GPU, and on a CPU f32 for small models and the stored one for large ones.
    #[arg(long)]
    dtype: Option<TensorDtype>,
    /// Keep the weights of the decoder's blocks in 8 bits.
    #[arg(long)]
    load_8bit: bool,
    /// Conversation template, or `guess`: by the model's name, as `run_llava.py` does, which asks adapters without "v1" in their
    /// name with `llava_v0` although training uses v1.
    #[arg(long, default_value = "vicuna_v1")]
    conv_mode: ConvMode,
}

impl ModelFlags {
    /// The base's folder, and the adapter if there is one.
    pub(crate) fn paths(&self) -> (&Path, Option<&Path>) {
        match (self.base.as_deref(), self.adapter.as_deref()) {
            (None, Some(model)) if is_whole_model(model) => (model, None),
            (base, adapter) => (base.unwrap_or(Path::new(TINY_BASE)), adapter),
        }
    }

    /// The last part of the folder that the model is called by.
    pub(crate) fn name(&self) -> String {
        let (base, adapter) = self.paths();
        last_part(adapter.unwrap_or(base))
    }

    /// The model. Who speaks, and what a user should know about the combination, is said on standard error.
    pub(crate) fn load(&self) -> anyhow::Result<GalleryGpt> {
        let template = match self.conv_mode {
            ConvMode::Named(template) => template,
            ConvMode::Guess => TemplateKind::guess_as_run_llava(&self.name())?,
        };
        let (base, adapter) = self.paths();
        if self.base.is_none() && base == Path::new(TINY_BASE) {
            hub_cache::model_folder(TINY_BASE).map_err(|error| anyhow!("{TINY_BASE}: {error}"))?;
        }
        let options = LoadOptions {
            dtype: self.dtype,
            vision_tower: self.vision_tower.clone(),
            ..LoadOptions::default()
        };
        let mut gallery =
            GalleryGpt::load_with(base, &self.device.device()?, &options)?.template(template);
        if let Some(adapter) = adapter {
            gallery = gallery.adapter(adapter)?;
        }
        if self.load_8bit {
            gallery = gallery.quantize();
        }
        let base = last_part(base);
        match adapter {
            Some(adapter) => note!("{base} + {}", adapter.display()),
            None => note!("{base}"),
        }
        for text in gallery.notes() {
            note!("note: {text}");
        }
        if self.conv_mode == ConvMode::Guess {
            note!("note: template {template}, by the name {}", self.name());
        }
        Ok(gallery)
    }
}

/// Whether a folder holds a model rather than something to put on one.
fn is_whole_model(folder: &Path) -> bool {
    let has = |name: &str| folder.join(name).is_file();
    has("config.json")
        && ![
            "adapter_config.json",
            "non_lora_trainables.bin",
            "mm_projector.bin",
        ]
        .into_iter()
        .any(has)
}

fn last_part(path: &Path) -> String {
    // `.` has no last part, its real path has.
    let real = path.canonicalize().unwrap_or_default();
    let name = path.file_name().or_else(|| real.file_name());
    name.unwrap_or(path.as_os_str())
        .to_string_lossy()
        .into_owned()
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
