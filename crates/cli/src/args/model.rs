//! Which model: flags of every command that runs one.

use std::{
    path::{Path, PathBuf},
    str::FromStr,
};

use anyhow::anyhow;
use clap::Args;
use gallery_gpt::{
    prelude::*,
    text::{TemplateKind, UnknownTemplate},
};

use super::hub_cache::{self, TINY_BASE};

/// Which model.
#[derive(Args)]
#[command(rename_all = "snake_case")]
pub(crate) struct ModelFlags {
    /// Folder of the base model, in any layout, with its tokenizer; or its name on the hub, if the hub's cache has it [default:
    /// datasets/tiny-base].
    #[arg(long, visible_aliases = ["model_base", "model_name_or_path"], value_parser = hub_cache::model_folder)]
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
    #[arg(
        long = "template",
        visible_alias = "conv_mode",
        default_value = "vicuna_v1"
    )]
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
            GalleryGpt::load_with(base, &self.device.device()?, &options)?.with_template(template);
        if let Some(adapter) = adapter {
            gallery = gallery.with_adapter(adapter)?;
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
