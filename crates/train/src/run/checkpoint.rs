//! A training on disk: all it needs to go on as if it had never stopped.
//!
//! A checkpoint is a folder that appears whole or not at all:
//!
//! - `adapter/`, in PEFT's form with the projector, where adapters are trained; `trained.safetensors`, every trained parameter under
//!   its path in the model, where whole parts are;
//! - `optimizer.safetensors`, Adam's moments under the paths of their parameters;
//! - `state.json`: the step, what the log was, and the SHA-256 of every file, its own included. Nothing is taken from a checkpoint
//!   of which one byte is another.
//!
//! The rest follows from the settings and the step: the rate, the order of the records and dropout's masks are functions of them.

use std::{
    collections::{BTreeMap, HashMap},
    fs,
    path::{Path, PathBuf},
};

use burn::{
    module::{Module, ModuleMapper, ModuleVisitor, Param},
    tensor::{Tensor, TensorData},
};
use gallery_gpt_checkpoint::{
    AdapterLayout, AdapterOrigin, AtomicFolder, Destination, LoadOptions, load_adapter,
    save_adapter, write_file,
};
use gallery_gpt_model::GalleryModel;
use safetensors::{Dtype, SafeTensors, tensor::TensorView};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::{LogState, hex, inputs::contents};
use crate::{TrainError, TrainState, optim::Optimizer};

/// What a checkpoint says of itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CheckpointState {
    /// Steps done.
    pub step: usize,
    /// Whether it is between two of those that `save_steps` asks for, because the training was asked to stop. The next one takes its
    /// place.
    pub interim: bool,
    /// The log by then.
    pub log: LogState,
}

/// `state.json`.
#[derive(Serialize, Deserialize)]
struct StateFile {
    #[serde(flatten)]
    state: CheckpointState,
    /// Every other file, as its path with `/`, and its SHA-256.
    files: BTreeMap<String, String>,
    /// SHA-256 of this file with this field empty.
    sha256: String,
}

impl StateFile {
    /// The file's text, its own digest filled in.
    fn text(mut self) -> serde_json::Result<String> {
        self.sha256.clear();
        self.sha256 = hex(&Sha256::digest(serde_json::to_string_pretty(&self)?));
        Ok(format!("{}\n", serde_json::to_string_pretty(&self)?))
    }

    /// Reads the file of a checkpoint.
    fn read(checkpoint: &Path) -> Result<Self, TrainError> {
        let path = checkpoint.join(STATE);
        let bytes = fs::read(&path).map_err(read_error(&path))?;
        let damaged = |found: String| TrainError::Damaged {
            path: path.clone(),
            found,
        };
        let parse = || serde_json::from_slice::<Self>(&bytes);
        let file = parse().map_err(|error| damaged(error.to_string()))?;
        let text = parse().and_then(Self::text);
        if text.map_err(|error| damaged(error.to_string()))?.as_bytes() != bytes {
            let found = "it does not have the SHA-256 that it was written with".to_owned();
            return Err(damaged(found));
        }
        Ok(file)
    }
}

/// A checkpoint on disk.
#[derive(Clone, Debug)]
pub struct TrainingCheckpoint {
    /// Its folder.
    pub path: PathBuf,
    /// What it says of itself.
    pub state: CheckpointState,
}

const OPTIMIZER: &str = "optimizer.safetensors";
const STATE: &str = "state.json";
/// By which the folder is known as ours; it says nothing of the training.
const LIST: &str = "gallery_gpt.json";
const TRAINED: &str = "trained.safetensors";

impl TrainingCheckpoint {
    /// The newest checkpoint under a folder. What is not whole is not there: a checkpoint is moved into place when it is.
    ///
    /// # Errors
    /// The newest one cannot be read, or a file of it is not what was written, to the byte.
    pub fn newest(folder: &Path) -> Result<Option<Self>, TrainError> {
        let Some((_, path)) = checkpoints(folder)?.pop() else {
            return Ok(None);
        };
        let StateFile { state, files, .. } = StateFile::read(&path)?;
        if path.file_name() != Some(checkpoint_name(state.step).as_ref()) {
            return Err(TrainError::Damaged {
                found: format!("it is of step {}", state.step),
                path,
            });
        }
        let found = digests(&path)?;
        for name in files.keys().chain(found.keys()) {
            let (expected, found) = (files.get(name), found.get(name));
            if expected != found {
                return Err(TrainError::Damaged {
                    path: path.join(name),
                    found: match (expected, found) {
                        (_, None) => "it is not there any more",
                        (None, _) => "the checkpoint was written without it",
                        _ => "it does not have the SHA-256 that it was written with",
                    }
                    .to_owned(),
                });
            }
        }
        Ok(Some(Self { path, state }))
    }

    /// The bytes of the checkpoints in a folder.
    pub(crate) fn bytes(folder: &Path) -> u64 {
        let files = checkpoints(folder).unwrap_or_default().into_iter();
        files.map(|(_, path)| bytes_of(&path)).sum()
    }

    /// Writes one, of the adapters where it is told their origin, of every trained parameter else; then removes those it takes the place of: an interim one, and the oldest beyond `keep`.
    ///
    /// # Errors
    /// A file cannot be written.
    pub(crate) fn write(
        folder: &Path,
        train_state: &TrainState,
        origin: Option<&AdapterOrigin>,
        state: CheckpointState,
        keep: usize,
    ) -> Result<Self, TrainError> {
        let path = folder.join(checkpoint_name(state.step));
        let partial = AtomicFolder::new(own(&path))?;
        match origin {
            Some(origin) => {
                let model = train_state.model().valid();
                let target = partial.file("adapter");
                save_adapter(&model, origin, target, AdapterLayout::Peft)?;
            }
            None => write_file(&partial.file(TRAINED), &trained(train_state.model())?)?,
        }
        let moments = train_state.optimizer_bytes();
        let moments = moments.map_err(|error| TrainError::Write {
            path: path.clone(),
            source: std::io::Error::other(error.to_string()),
        })?;
        write_file(&partial.file(OPTIMIZER), &moments)?;
        let file = StateFile {
            state: state.clone(),
            files: digests(&partial.file(""))?,
            sha256: String::new(),
        };
        let text = file.text().map_err(|error| TrainError::Write {
            path: path.clone(),
            source: error.into(),
        })?;
        write_file(&partial.file(STATE), text.as_bytes())?;
        partial.commit()?;
        let (interim, mut kept): (Vec<_>, Vec<_>) = checkpoints(folder)?
            .into_iter()
            .filter(|(_, other)| *other != path)
            .partition(|(_, other)| StateFile::read(other).is_ok_and(|file| file.state.interim));
        let keep = keep.max(1) - usize::from(!state.interim);
        kept.truncate(kept.len().saturating_sub(keep));
        for (_, old) in interim.into_iter().chain(kept) {
            remove(&old)?;
        }
        Ok(Self { path, state })
    }

    /// The weights of the checkpoint in a model that has them: adapters or whole parts.
    ///
    /// # Errors
    /// A file is missing or damaged, or does not fit the model.
    pub(crate) fn weights(&self, model: GalleryModel) -> Result<GalleryModel, TrainError> {
        let folder = self.path.join("adapter");
        if folder.is_dir() {
            return Ok(load_adapter(model, folder, &LoadOptions::default())?.0);
        }
        let path = self.path.join(TRAINED);
        let bytes = fs::read(&path).map_err(read_error(&path))?;
        let damaged = |found: String| TrainError::Damaged {
            path: path.clone(),
            found,
        };
        let tensors =
            SafeTensors::deserialize(&bytes).map_err(|error| damaged(error.to_string()))?;
        let mut filler = Filler {
            tensors: tensors.tensors().into_iter().collect(),
            stack: Vec::new(),
            wrong: None,
        };
        let model = model.map(&mut filler);
        match (filler.wrong, filler.tensors.keys().next()) {
            (Some(wrong), _) => Err(damaged(wrong)),
            (None, Some(unused)) => Err(damaged(format!("the model has no parameter {unused}"))),
            (None, None) => Ok(model),
        }
    }

    /// Puts the moments of the checkpoint in place of those of an optimizer.
    ///
    /// # Errors
    /// The file is missing or damaged, or does not fit the model.
    pub(crate) fn moments(
        &self,
        optimizer: &mut Optimizer,
        model: &GalleryModel,
    ) -> Result<(), TrainError> {
        let path = self.path.join(OPTIMIZER);
        let bytes = fs::read(&path).map_err(read_error(&path))?;
        optimizer.read(model, &bytes, &path)
    }
}

fn checkpoint_name(step: usize) -> String {
    format!("step-{step:08}")
}

/// A folder of the run's own, which is written over whatever is there.
pub(crate) fn own(path: &Path) -> Destination {
    Destination::new(path).overwriting(true)
}

/// Every file under a folder.
fn files(folder: &Path) -> Result<Vec<PathBuf>, TrainError> {
    let mut found = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).map_err(read_error(&folder))? {
            let path = entry.map_err(read_error(&folder))?.path();
            if path.is_dir() {
                folders.push(path);
            } else {
                found.push(path);
            }
        }
    }
    Ok(found)
}

/// Bytes of a file, or of all files under a folder; what is not there has none.
pub(crate) fn bytes_of(path: &Path) -> u64 {
    let size = |path: &PathBuf| fs::metadata(path).map_or(0, |metadata| metadata.len());
    files(path).unwrap_or_default().iter().map(size).sum()
}

/// The SHA-256 of every file of a checkpoint but its state, and the list that a folder of ours has at its top.
fn digests(checkpoint: &Path) -> Result<BTreeMap<String, String>, TrainError> {
    let mut found = BTreeMap::new();
    for path in files(checkpoint)? {
        let parts = path.strip_prefix(checkpoint).unwrap_or(&path).iter();
        let parts: Vec<_> = parts.map(|part| part.to_string_lossy()).collect();
        let name = parts.join("/");
        if name != STATE && name != LIST {
            let digest = contents(&path).map_err(read_error(&path))?;
            found.insert(name, hex(&digest));
        }
    }
    Ok(found)
}

/// The checkpoints under a folder, oldest first.
fn checkpoints(folder: &Path) -> Result<Vec<(usize, PathBuf)>, TrainError> {
    let entries = match fs::read_dir(folder) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries.map_err(read_error(folder))?,
    };
    let mut found = Vec::new();
    for entry in entries {
        let path = entry.map_err(read_error(folder))?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let step = name
            .strip_prefix("step-")
            .and_then(|step| step.parse().ok());
        if let Some(step) = step {
            found.push((step, path));
        }
    }
    found.sort();
    Ok(found)
}

/// Takes a checkpoint out of sight first: half removed, it must not look whole.
fn remove(path: &Path) -> Result<(), TrainError> {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let hidden = path.with_file_name(format!(".old-{name}"));
    let write_error = |source| TrainError::Write {
        path: path.to_owned(),
        source,
    };
    if hidden.exists() {
        fs::remove_dir_all(&hidden).map_err(write_error)?;
    }
    fs::rename(path, &hidden).map_err(write_error)?;
    fs::remove_dir_all(&hidden).map_err(write_error)
}

/// Removes what a killed process left beside what it was writing.
pub(crate) fn clear_leftovers(folder: &Path) -> Result<(), TrainError> {
    let Ok(entries) = fs::read_dir(folder) else {
        return Ok(());
    };
    for entry in entries.filter_map(Result::ok) {
        let path = entry.path();
        let name = entry.file_name();
        let name = name.to_string_lossy();
        if name.starts_with(".partial-") || name.starts_with(".old-") {
            let removed = if path.is_dir() {
                fs::remove_dir_all(&path)
            } else {
                fs::remove_file(&path)
            };
            removed.map_err(|source| TrainError::Write { path, source })?;
        }
    }
    Ok(())
}

fn read_error(path: &Path) -> impl FnOnce(std::io::Error) -> TrainError {
    let path = path.to_owned();
    move |source| TrainError::Read { path, source }
}

/// Every trained parameter under its path, as a safetensors file.
fn trained(model: &GalleryModel) -> Result<Vec<u8>, TrainError> {
    #[derive(Default)]
    struct Collector {
        stack: Vec<String>,
        found: Vec<(String, TensorData)>,
    }
    impl ModuleVisitor for Collector {
        fn enter_module(&mut self, name: &str, _container_type: &str) {
            self.stack.push(name.to_owned());
        }
        fn exit_module(&mut self, _name: &str, _container_type: &str) {
            self.stack.pop();
        }
        fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
            if param.is_require_grad() {
                let data = param.val().inner().into_data();
                self.found.push((self.stack.join("."), data));
            }
        }
    }
    let mut collector = Collector::default();
    model.visit(&mut collector);
    let views = collector.found.iter().map(|(name, data)| {
        let dtype = match data.dtype() {
            burn::tensor::DType::BF16 => Dtype::BF16,
            burn::tensor::DType::F16 => Dtype::F16,
            _ => Dtype::F32,
        };
        TensorView::new(dtype, data.shape().to_vec(), data.as_bytes())
            .map(|view| (name.clone(), view))
    });
    let views = views.collect::<Result<Vec<_>, _>>();
    views
        .and_then(|views| safetensors::serialize(views, None))
        .map_err(|error| TrainError::Write {
            path: TRAINED.into(),
            source: std::io::Error::other(error.to_string()),
        })
}

/// Puts tensors in the places of their paths.
struct Filler<'a> {
    tensors: HashMap<String, TensorView<'a>>,
    stack: Vec<String>,
    wrong: Option<String>,
}

impl ModuleMapper for Filler<'_> {
    fn enter_module(&mut self, name: &str, _container_type: &str) {
        self.stack.push(name.to_owned());
    }

    fn exit_module(&mut self, _name: &str, _container_type: &str) {
        self.stack.pop();
    }

    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        let path = self.stack.join(".");
        let Some(view) = self.tensors.remove(&path) else {
            return param;
        };
        let expected = param.lazy_shape().to_vec();
        if view.shape() != expected {
            self.wrong.get_or_insert(format!(
                "{path} has the shape {:?}, expected {expected:?}",
                view.shape()
            ));
            return param;
        }
        let dtype = match view.dtype() {
            Dtype::BF16 => burn::tensor::DType::BF16,
            Dtype::F16 => burn::tensor::DType::F16,
            _ => burn::tensor::DType::F32,
        };
        let data = TensorData::from_bytes_vec(view.data().to_vec(), expected, dtype);
        let value = Tensor::from_data(data, (&param.lazy_device(), dtype));
        let id = param.id;
        param.transform_for_load(value, id)
    }
}
