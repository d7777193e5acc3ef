//! Which model: flags of every command that reads one.

use std::{
    path::{Path, PathBuf},
    str::FromStr,
};

use anyhow::ensure;
use clap::Args;
use gallery_gpt::{
    llama::BlockFormat,
    prelude::*,
    text::{TemplateKind, UnknownName},
};

use super::{hub_cache::cached_folder, sample::TINY_BASE};

/// The base model.
#[derive(Args)]
#[command(rename_all = "snake_case")]
pub(crate) struct BaseFlag {
    /// Folder of the base model, in any layout, with its tokenizer; or its name on the hub, if it is in the hub's cache [default:
    /// datasets/tiny-base].
    #[arg(long, visible_aliases = ["model_base", "model_name_or_path"], value_parser = cached_folder)]
    base: Option<PathBuf>,
}

impl BaseFlag {
    /// Its folder.
    ///
    /// # Errors
    /// No base is given, and the default one is not there.
    pub(crate) fn folder(&self) -> anyhow::Result<&Path> {
        Ok(match &self.base {
            Some(base) if base != Path::new(TINY_BASE) => base,
            _ => default_base()?,
        })
    }
}

fn default_base() -> anyhow::Result<&'static Path> {
    let base = Path::new(TINY_BASE);
    ensure!(
        base.exists(),
        "no such folder: {TINY_BASE} (the default); run in the repository or give --base"
    );
    Ok(base)
}

/// Where a model is.
#[derive(Args)]
#[command(rename_all = "snake_case")]
pub(crate) struct ModelPaths {
    #[command(flatten)]
    base: BaseFlag,
    /// Folder of an adapter, PEFT's or the original's, or an `mm_projector.bin`. If it is the folder of a whole model and no base is
    /// given, it is taken as the base, as LLaVA's programs do.
    #[arg(long, visible_alias = "model_path")]
    adapter: Option<PathBuf>,
    /// Folder of the vision tower, in place of the one that the config names.
    #[arg(long)]
    vision_tower: Option<PathBuf>,
}

impl ModelPaths {
    /// The folder of a whole model that was given as `--adapter`.
    pub(crate) fn whole_model(&self) -> Option<&Path> {
        let adapter = self.adapter.as_deref();
        adapter.filter(|folder| self.base.base.is_none() && is_whole_model(folder))
    }

    /// The base's folder.
    ///
    /// # Errors
    /// No base is given, and the default one is not there.
    pub(crate) fn base(&self) -> anyhow::Result<&Path> {
        self.whole_model().map_or_else(|| self.base.folder(), Ok)
    }

    /// The adapter's folder, if there is one.
    pub(crate) fn adapter(&self) -> Option<&Path> {
        let adapter = self.adapter.as_deref();
        adapter.filter(|_| self.whole_model().is_none())
    }

    /// How to load the base, in a dtype if one is asked for.
    pub(crate) fn load_options(&self, dtype: Option<TensorDtype>) -> LoadOptions {
        LoadOptions {
            dtype,
            vision_tower: self.vision_tower.clone(),
            ..LoadOptions::default()
        }
    }

    /// The folders that were given.
    pub(crate) fn given(&self) -> impl Iterator<Item = &PathBuf> {
        let folders = [&self.base.base, &self.adapter, &self.vision_tower];
        folders.into_iter().flatten()
    }

    /// Every folder that is read.
    ///
    /// # Errors
    /// As [`ModelPaths::base`].
    pub(crate) fn inputs(&self) -> anyhow::Result<Vec<PathBuf>> {
        let base = self.base()?.to_owned();
        Ok(std::iter::once(base).chain(self.given().cloned()).collect())
    }
}

/// Which model runs, and how.
#[derive(Args)]
#[command(rename_all = "snake_case")]
pub(crate) struct ModelFlags {
    #[command(flatten)]
    pub(crate) paths: ModelPaths,
    /// cpu, cuda or cuda:N.
    #[arg(long, default_value = "cpu")]
    device: DeviceKind,
    /// f32, f16 or bf16; by default bf16 on a GPU, and on a CPU f32 for small models and the stored dtype for large ones. On a CPU also
    /// `q8_0`, `q6_k`, `q4_k` or `q4_0`: the weights of the decoder's blocks in a block format of GGUF.
    #[arg(long)]
    dtype: Option<WeightDtype>,
    /// Keep the weights of the decoder's blocks in 8 bits: on a CPU `--dtype q8_0`, on a GPU with a scale for each output.
    #[arg(long)]
    load_8bit: bool,
    /// Keep the weights of the decoder's blocks in 4 bits: `--dtype q4_k`, on a CPU only.
    #[arg(long)]
    load_4bit: bool,
    /// Conversation template, or `guess`: by the model's name, as in `run_llava.py`, which prompts adapters without "v1" in their
    /// name with `llava_v0` although training uses v1 [default: that of the model's family, `vicuna_v1` or `chatml`].
    #[arg(long, visible_alias = "conv_mode")]
    template: Option<TemplateChoice>,
}

impl ModelFlags {
    /// The folder that the model is named after: the adapter's, if there is one.
    ///
    /// # Errors
    /// As [`ModelPaths::base`].
    pub(crate) fn folder(&self) -> anyhow::Result<&Path> {
        self.paths.adapter().map_or_else(|| self.paths.base(), Ok)
    }

    /// The last part of that folder's path.
    ///
    /// # Errors
    /// As [`ModelPaths::base`].
    pub(crate) fn name(&self) -> anyhow::Result<String> {
        Ok(last_part(self.folder()?))
    }

    /// Loads the model. Its name, and what a user should know about base and adapter together, go to standard error.
    ///
    /// # Errors
    /// It cannot be loaded.
    pub(crate) fn load(&self) -> anyhow::Result<GalleryGpt> {
        let base = self.paths.base()?;
        let Some(adapter) = self.paths.adapter() else {
            note!("{}", last_part(base));
            return self.load_base();
        };
        note!("{} + {}", last_part(base), adapter.display());
        self.prepared(self.open()?.with_adapter(adapter)?, adapter, &[])
    }

    /// Loads the base alone.
    ///
    /// # Errors
    /// It cannot be loaded.
    pub(crate) fn load_base(&self) -> anyhow::Result<GalleryGpt> {
        self.prepared(self.open()?, self.paths.base()?, &[])
    }

    /// Puts an adapter on what [`ModelFlags::load_base`] loaded. A quantized base takes none, so it is loaded anew.
    ///
    /// # Errors
    /// It cannot be loaded.
    pub(crate) fn with_adapter(
        &self,
        base: GalleryGpt,
        adapter: &Path,
    ) -> anyhow::Result<GalleryGpt> {
        let printed = base.notes();
        let base = if self.quantization()?.is_some() {
            drop(base);
            self.open()?
        } else {
            base
        };
        self.prepared(base.with_adapter(adapter)?, adapter, &printed)
    }

    /// The base before anything is done to it.
    fn open(&self) -> anyhow::Result<GalleryGpt> {
        // Refused before anything is loaded.
        self.quantization()?;
        let dtype = match self.dtype {
            Some(WeightDtype::Dense(dtype)) => Some(dtype),
            _ => None,
        };
        let options = self.paths.load_options(dtype);
        let base = self.paths.base()?;
        Ok(GalleryGpt::load_with(
            base,
            &self.device.device()?,
            &options,
        )?)
    }

    /// How the weights are quantized, if they are.
    ///
    /// # Errors
    /// The flags contradict each other, or the device has no such weights.
    fn quantization(&self) -> anyhow::Result<Option<Quantization>> {
        let blocks = match self.dtype {
            Some(WeightDtype::Blocks(format)) => Some(format),
            _ => None,
        };
        let flags = [blocks.is_some(), self.load_8bit, self.load_4bit];
        ensure!(
            flags.into_iter().filter(|given| *given).count() <= 1,
            "--load_8bit, --load_4bit and a --dtype of blocks exclude each other"
        );
        let on_cpu = self.device.is_cpu();
        let blocks = match blocks {
            None if self.load_4bit => Some(BlockFormat::Q4K),
            None if self.load_8bit && on_cpu => Some(BlockFormat::Q8_0),
            blocks => blocks,
        };
        Ok(match blocks {
            Some(format) => {
                ensure!(
                    on_cpu,
                    "{format} is for the CPU; on a GPU --load_8bit takes half of bf16's memory"
                );
                Some(Quantization::Blocks(format))
            }
            None => self.load_8bit.then_some(Quantization::PerOutput),
        })
    }

    /// A model with the template that is asked for, and quantized if that is. Its notes are printed, but for those that were before.
    fn prepared(
        &self,
        gallery: GalleryGpt,
        folder: &Path,
        printed: &[String],
    ) -> anyhow::Result<GalleryGpt> {
        let name = last_part(folder);
        let template = match self.template {
            None => gallery.template(),
            Some(TemplateChoice::Named(template)) => template,
            Some(TemplateChoice::Guess) => TemplateKind::guess_as_run_llava(&name)?,
        };
        let gallery = gallery.with_template(template);
        for text in gallery.notes() {
            if !printed.contains(&text) {
                note!("note: {text}");
            }
        }
        if self.template == Some(TemplateChoice::Guess) {
            note!("note: template {template}, by the name {name}");
        }
        Ok(match self.quantization()? {
            None => gallery,
            Some(Quantization::PerOutput) => gallery.quantize(),
            Some(Quantization::Blocks(format)) => {
                let gallery = gallery.quantize_blocks(format);
                let formats = gallery.block_formats();
                if formats.iter().any(|(found, _)| *found != Some(format)) {
                    let counts = formats.iter().map(|(found, count)| {
                        let name = found.map_or("as they were", BlockFormat::name);
                        format!("{count} {name}")
                    });
                    let counts = counts.collect::<Vec<_>>().join(", ");
                    note!(
                        "note: not every width is a multiple of the blocks of {format}; linear layers: {counts}"
                    );
                }
                gallery
            }
        })
    }
}

/// How weights are quantized.
enum Quantization {
    /// To 8 bits with a scale for each output.
    PerOutput,
    Blocks(BlockFormat),
}

/// A dtype of weights, or a block format.
#[derive(Clone, Copy)]
enum WeightDtype {
    Dense(TensorDtype),
    Blocks(BlockFormat),
}

impl FromStr for WeightDtype {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, Self::Err> {
        match BlockFormat::by_name(name) {
            Some(format) => Ok(Self::Blocks(format)),
            None => name.parse().map(Self::Dense).map_err(|error: UnknownName| {
                format!(
                    "{error}, or a block format: {}",
                    BlockFormat::ALL.map(BlockFormat::name).join(", ")
                )
            }),
        }
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

/// A template, or the original's way to choose one.
#[derive(Clone, Copy, PartialEq)]
enum TemplateChoice {
    Named(TemplateKind),
    Guess,
}

impl FromStr for TemplateChoice {
    type Err = UnknownName;

    fn from_str(name: &str) -> Result<Self, Self::Err> {
        match name {
            "guess" => Ok(Self::Guess),
            name => name.parse().map(Self::Named),
        }
    }
}

/// The conversation template of training records.
#[derive(Args)]
#[command(rename_all = "snake_case")]
pub(crate) struct TrainingTemplate {
    /// Conversation template; `--version v1`, as the original spells it, is read as well [default: that of the base's family,
    /// `vicuna_v1` or `chatml`].
    #[arg(long, visible_alias = "conv_mode")]
    pub(crate) template: Option<TemplateKind>,
}
