//! Adapter folders: PEFT's, and the original's with its `non_lora_trainables.bin`.
//!
//! PEFT's: `adapter_config.json` and `adapter_model.safetensors`; the trained projector travels in the same file under PEFT's
//! `modules_to_save`, so that one folder is the whole result of a finetuning. The original's: LLaVA's names, the projector in a
//! PyTorch file beside them, and the model's `config.json`. Ours also have `gallery_gpt.json`: what the adapter was trained on.
//!
//! LoRA on the linears of the decoder's blocks stays beside their weights. All else that an adapter can bring goes into the weights
//! when it is loaded: it is linear algebra, done in f32 and rounded once to the weight's number type.

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
use gallery_gpt_model::GalleryModel;

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

/// What an adapter folder says about itself.
#[derive(Clone, Debug, PartialEq)]
pub struct AdapterFile {
    /// Where it is: the adapter's own folder, also where that of a whole run was given.
    pub folder: PathBuf,
    /// Rank, alpha and dropout of the widest adapter in the decoder, and all targets that have tensors there.
    pub lora: LoraConfig,
    /// The base it was trained on, as far as it says.
    pub base_model: Option<String>,
    /// Whether it changes the projector.
    pub has_projector: bool,
    /// Modules of the base whose weights it changes, by their hub names, other than the projector's.
    pub changed_base: Vec<String>,
    /// Whose folder it is.
    pub layout: AdapterLayout,
    /// What it was trained on, if we wrote it.
    pub origin: Option<AdapterOrigin>,
    /// Tensors used, with their file.
    pub used: Vec<(String, PathBuf)>,
    /// Everything that did not match, in a partial load.
    pub problems: Vec<Problem>,
}

/// What an adapter folder holds, without loading it: the config, and tensors that do not belong on `model`.
///
/// # Errors
/// The folder cannot be read, or its config asks for what is not followed.
pub fn inspect_adapter(
    model: GalleryModel,
    folder: impl AsRef<Path>,
) -> Result<AdapterFile, CheckpointError> {
    Ok(open(&model, folder.as_ref())?.0)
}

/// Puts the adapter of a folder on a model, in place of an earlier one, and its projector if it brings one. The path may also be a
/// file in the folder, or the folder of a run that has it in `adapter`.
///
/// Adapters of the decoder's linears are f32, as new ones are. What goes into weights keeps the model's number type; a model with
/// such weights remembers it ([`GalleryModel::changed_base`]).
///
/// # Errors
/// The folder cannot be read, its config asks for what is not followed, or it does not match the model; or an earlier adapter went
/// into the model's weights.
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
    let mut plan = planner::plan(model, &config, tensors)?;
    // An earlier adapter's weights are still there, unless this one replaces them.
    let mut earlier = model.changed_base().iter();
    if earlier.any(|module| !is_projector(module) || !plan.replaces_projector()) {
        return Err(CheckpointError::HasAdapter {
            path: path.to_owned(),
        });
    }
    let widest = plan.adapters.values().map(LowRank::beside);
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

/// Puts a projector that was trained alone (`mm_projector.bin`, or a folder with one) on a model.
///
/// # Errors
/// The file cannot be read, or does not match the model.
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
