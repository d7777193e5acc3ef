//! Adapter folders: PEFT's, and the original's with its `non_lora_trainables.bin`.
//!
//! PEFT's: `adapter_config.json` and `adapter_model.safetensors`; the trained projector is in the same file under PEFT's
//! `modules_to_save`, so that one folder is the whole result of a finetuning. The original's: LLaVA's names, the projector in a
//! PyTorch file of its own, and the model's `config.json`. Those written here also have `gallery_gpt.json`: what the adapter was
//! trained on.
//!
//! LoRA on the linears of the decoder's blocks stays separate from their weights. Everything else in an adapter is merged into the
//! weights when it is loaded, computed in f32 and rounded once to the weight's dtype.

mod base;
mod config;
mod fields;
mod fill;
mod folder;
mod initialization;
mod key;
mod module_rule;
mod olora;
mod origin;
mod plan;
mod planner;
mod save;
#[cfg(test)]
mod tests;

use std::path::{Path, PathBuf};

use gallery_gpt_llama::LoraConfig;
use gallery_gpt_model::{GalleryModel, ModelFamily};

pub use config::{PeftConfig, TrainedBiases};
pub use folder::is_adapter_path;
pub use key::AdapterLayout;
pub use origin::AdapterOrigin;
pub use save::{ensure_savable_adapter, save_adapter, save_projector};

use crate::{
    CheckpointError, LoadOptions, Problem, Strictness, WeightFiles, folder::marker::MARKER,
    verify_folder,
};
use base::is_projector;
use folder::{AdapterTensors, adapter_folder};
use plan::{LowRank, Plan};

/// The contents of an adapter's folder.
#[derive(Clone, Debug, PartialEq)]
pub struct AdapterFile {
    /// The adapter's own folder, also if the folder of a whole run was given.
    pub folder: PathBuf,
    /// Rank, alpha and dropout of the adapter with the highest rank in the decoder, and all targets that have tensors there.
    pub lora: LoraConfig,
    /// The base it was trained on, if its config says so.
    pub base_model: Option<String>,
    /// Whether it changes the projector.
    pub has_projector: bool,
    /// Modules of the base that it is merged into, by their hub names, other than the projector's.
    pub changed_base: Vec<String>,
    /// Its layout.
    pub layout: AdapterLayout,
    /// What it was trained on, if this library wrote it.
    pub origin: Option<AdapterOrigin>,
    /// Tensors used, with their file.
    pub used: Vec<(String, PathBuf)>,
    /// Everything that did not match, in a partial load.
    pub problems: Vec<Problem>,
}

/// Reads what an adapter's folder holds and which of its tensors do not match `model`, without loading it.
///
/// # Errors
/// The folder cannot be read, or its config asks for something that is not supported.
pub fn inspect_adapter(
    model: GalleryModel,
    folder: impl AsRef<Path>,
) -> Result<AdapterFile, CheckpointError> {
    Ok(open(&model, folder.as_ref())?.0)
}

/// Loads the adapter of a folder onto a model, replacing an earlier one, with its projector if it has one. The path may also be a file in
/// the folder, or the folder of a run that has it in `adapter`.
///
/// Adapters of the decoder's linears are f32, as new ones are. Weights that it is merged into keep their dtype, and the model remembers
/// them ([`GalleryModel::changed_base`]).
///
/// # Errors
/// The folder cannot be read, its config asks for something that is not supported, or it does not match the model; or an earlier
/// adapter was merged into the model's weights.
pub fn load_adapter(
    model: GalleryModel,
    folder: impl AsRef<Path>,
    options: &LoadOptions,
) -> Result<(GalleryModel, AdapterFile), CheckpointError> {
    verify_folder(adapter_folder(folder.as_ref()))?;
    let (mut adapter, plan) = open(&model, folder.as_ref())?;
    refuse(&adapter.folder, &adapter.problems, options)?;
    let (model, problems) = fill::fill(model, &plan);
    adapter.problems.extend(problems);
    refuse(&adapter.folder, &adapter.problems, options)?;
    Ok((model.with_changed_base(plan.changed_modules()), adapter))
}

fn open(model: &GalleryModel, path: &Path) -> Result<(AdapterFile, Plan), CheckpointError> {
    let folder = adapter_folder(path);
    let tensors = AdapterTensors::open(&folder)?;
    let config = PeftConfig::read(&folder)?;
    let layout = tensors.layout;
    let named = tensors.named_as();
    if let Some(layout) = named.filter(|layout| layout.family() != model.config().family) {
        return Err(CheckpointError::ForeignAdapter {
            folder,
            layout,
            base: model.config().family,
            base_model: config.base_model().map(str::to_owned),
        });
    }
    let mut plan = planner::plan(model, &config, tensors)?;
    // Weights that an earlier adapter was merged into cannot be restored, unless this one replaces them.
    let mut earlier = model.changed_base().iter();
    if earlier.any(|module| !is_projector(module) || !plan.replaces_projector()) {
        return Err(CheckpointError::HasAdapter {
            path: path.to_owned(),
        });
    }
    let widest = plan.adapters.values().map(LowRank::separate);
    let widest = widest.max_by_key(|lora| lora.rank);
    let (projector, changed_base): (Vec<_>, Vec<_>) = plan
        .changed_modules()
        .into_iter()
        .partition(|module| is_projector(module));
    let adapter = AdapterFile {
        lora: widest
            .unwrap_or_else(|| config.settings())
            .with_targets(plan.targets.iter().copied().collect()),
        base_model: config.base_model().map(str::to_owned),
        has_projector: !projector.is_empty(),
        changed_base,
        layout,
        origin: AdapterOrigin::read(&folder.join(MARKER))?,
        used: std::mem::take(&mut plan.used),
        problems: std::mem::take(&mut plan.problems),
        folder,
    };
    Ok((adapter, plan))
}

/// Loads a projector that was trained alone (`mm_projector.bin`, or a folder with one) onto a model.
///
/// # Errors
/// The file cannot be read, or does not match the model; or the model is a Qwen-VL, whose resampler is never stored alone.
pub fn load_projector(
    model: GalleryModel,
    path: impl AsRef<Path>,
    options: &LoadOptions,
) -> Result<GalleryModel, CheckpointError> {
    let path = path.as_ref();
    let file = if path.is_dir() {
        path.join(crate::layout::PROJECTOR_FILE)
    } else {
        path.to_owned()
    };
    if model.config().family == ModelFamily::QwenVl {
        return Err(CheckpointError::NoOwnProjector);
    }
    if model.language_model.has_lora() {
        return Err(CheckpointError::HasAdapter { path: file });
    }
    let mut tensors = AdapterTensors::default();
    tensors.add(&WeightFiles::open_single(&file)?);
    let plan = planner::plan_projector(&model, tensors);
    refuse(&file, &plan.problems, options)?;
    let (model, problems) = fill::fill(model, &plan);
    refuse(&file, &problems, options)?;
    Ok(model)
}

fn refuse(
    folder: &Path,
    problems: &[Problem],
    options: &LoadOptions,
) -> Result<(), CheckpointError> {
    if options.strictness == Strictness::Strict && !problems.is_empty() {
        return Err(CheckpointError::Mismatch {
            folder: folder.to_owned(),
            problems: problems.to_vec(),
        });
    }
    Ok(())
}
