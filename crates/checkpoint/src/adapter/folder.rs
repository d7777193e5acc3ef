//! The folder of an adapter: finding it, and its tensors.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use super::{
    config::CONFIG,
    key::{AdapterKey, AdapterLayout},
};
use crate::{
    CheckpointError, Layout, Problem, StoredTensor, WeightFiles, read::weight_files::folder_listing,
};

pub(super) const SAFETENSORS: &str = "adapter_model.safetensors";
const PYTORCH: &str = "adapter_model.bin";
pub(super) const NON_LORA: &str = "non_lora_trainables.bin";

/// A tensor in a file of the folder.
#[derive(Clone, Debug)]
pub(super) struct AdapterTensor {
    /// Its name in the file.
    pub(super) name: String,
    /// The trainer's name of its module.
    pub(super) module: String,
    pub(super) stored: StoredTensor,
}

/// The tensors of an adapter's folder, by module and role.
#[derive(Default)]
pub(super) struct AdapterTensors {
    pub(super) tensors: BTreeMap<AdapterKey, AdapterTensor>,
    pub(super) problems: Vec<Problem>,
    pub(super) layout: AdapterLayout,
}

impl AdapterTensors {
    pub(super) fn add(&mut self, files: &WeightFiles) {
        for (name, stored) in files.iter().filter(|(key, _)| !Layout::is_ignored(key)) {
            let Some((key, module)) = AdapterKey::parse(name) else {
                self.problems.push(Problem::Unused {
                    key: name.to_owned(),
                    file: stored.file.clone(),
                });
                continue;
            };
            let tensor = AdapterTensor {
                name: name.to_owned(),
                module,
                stored: stored.clone(),
            };
            if let Some(earlier) = self.tensors.insert(key, tensor) {
                self.problems.push(Problem::Duplicate {
                    keys: [earlier.name, name.to_owned()],
                    file: stored.file.clone(),
                });
            }
        }
    }

    /// Opens the files of an adapter's own folder.
    pub(super) fn open(folder: &Path) -> Result<Self, CheckpointError> {
        let (safetensors, pytorch) = (folder.join(SAFETENSORS), folder.join(PYTORCH));
        let file = match (safetensors.is_file(), pytorch.is_file()) {
            (true, false) => safetensors,
            (false, true) => pytorch,
            (both, _) => {
                return Err(CheckpointError::NoWeights {
                    folder: folder.to_owned(),
                    expected: "adapter_model.safetensors or adapter_model.bin",
                    found: if both {
                        "both; remove the one that is not meant".to_owned()
                    } else {
                        what_else(folder)?
                    },
                });
            }
        };
        let mut tensors = Self::default();
        tensors.add(&WeightFiles::open_single(file)?);
        let rest = folder.join(NON_LORA);
        let has_rest = rest.is_file();
        if has_rest {
            tensors.add(&WeightFiles::open_single(rest)?);
        }
        let mut modules = tensors.tensors.values().map(|tensor| &tensor.module);
        let is_original = has_rest
            || modules
                .clone()
                .any(|name| name.starts_with("model.layers."));
        if is_original && !modules.any(|name| name.contains("language_model")) {
            tensors.layout = AdapterLayout::LlavaLora;
        }
        Ok(tensors)
    }
}

impl AdapterTensors {
    /// The layout that the names of the trainer's modules belong to, if that is certain.
    pub(super) fn named_as(&self) -> Option<Layout> {
        let mut tensors = self.tensors.values();
        tensors.find_map(|tensor| Layout::of(&format!("{}.", tensor.module)))
    }
}

fn is_adapter(folder: &Path) -> bool {
    [SAFETENSORS, PYTORCH]
        .iter()
        .any(|name| folder.join(name).is_file())
}

/// Whether a path is that of an adapter (its folder, a file in it, or the folder of a run that has one) and not of a projector that was
/// trained alone.
#[must_use]
pub fn is_adapter_path(path: impl AsRef<Path>) -> bool {
    let path = path.as_ref();
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    if path.is_file() {
        return [SAFETENSORS, PYTORCH, CONFIG, NON_LORA].contains(&&*name);
    }
    !path.join(crate::layout::PROJECTOR_FILE).is_file() || path.join(CONFIG).is_file()
}

/// The adapter's own folder: the path itself, the folder of the file that was given, or `adapter` in the folder of a run or of one of
/// its checkpoints.
pub(super) fn adapter_folder(path: &Path) -> PathBuf {
    if path.is_file() && is_adapter_path(path) {
        let parent = path.parent().unwrap_or(path);
        return if parent.as_os_str().is_empty() {
            PathBuf::from(".")
        } else {
            parent.to_owned()
        };
    }
    let inner = path.join("adapter");
    if !is_adapter(path) && is_adapter(&inner) {
        inner
    } else {
        path.to_owned()
    }
}

/// What a folder without an adapter contains, with a hint where its last adapter could be.
fn what_else(folder: &Path) -> Result<String, CheckpointError> {
    if folder.is_file() {
        return Ok("a file".to_owned());
    }
    let listing = folder_listing(folder)?;
    let projector = folder.join("projector");
    if projector.join(crate::layout::PROJECTOR_FILE).is_file() {
        return Ok(format!("{listing}; did you mean {}?", projector.display()));
    }
    let mut near: Vec<PathBuf> = Vec::new();
    for parent in [folder.to_owned(), folder.join("checkpoints")] {
        let entries = std::fs::read_dir(parent).into_iter().flatten();
        let folders = entries
            .filter_map(Result::ok)
            .map(|entry| adapter_folder(&entry.path()));
        near.extend(folders.filter(|folder| is_adapter(folder)));
    }
    // The one with the highest number: `step-00000100`, `checkpoint-500`.
    let number = |path: &PathBuf| {
        let name = path.strip_prefix(folder).unwrap_or(path).to_string_lossy();
        let digits = name.split(|c: char| !c.is_ascii_digit());
        digits.filter_map(|digits| digits.parse::<u64>().ok()).max()
    };
    near.sort_by_key(|path| (number(path), path.clone()));
    Ok(match near.pop() {
        Some(last) => format!("{listing}; did you mean {}?", last.display()),
        None => listing,
    })
}
