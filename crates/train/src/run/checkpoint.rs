//! Checkpoints of a training on disk: folders that are written atomically and verified by checksums when they are read.
//!
//! The contents of their files are not known here. `state.json` beside them has the step, the length and digest of the log at that step,
//! and the SHA-256 of every file, its own included. Together with the settings of the run that is the whole state of a training: the
//! learning rate, the order of the records and the dropout masks are functions of the settings and the step.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

use gallery_gpt_checkpoint::{AtomicFolder, Destination, write_file};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::{
    LogState,
    inputs::{contents, hex},
};
use crate::{
    TrainError,
    error::{read_error, write_error},
};

/// The state in a checkpoint's `state.json`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CheckpointState {
    /// Steps done.
    pub step: usize,
    /// Whether it was written because the training was cancelled, at a step that `save_steps` does not ask for. The next checkpoint
    /// replaces it.
    pub interim: bool,
    /// The log at that step.
    pub log: LogState,
}

/// `state.json`.
#[derive(Serialize, Deserialize)]
struct StateFile {
    #[serde(flatten)]
    state: CheckpointState,
    /// SHA-256 of every other file by its path, with `/`.
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
            let found = "its SHA-256 is not the one that it was written with".to_owned();
            return Err(damaged(found));
        }
        Ok(file)
    }
}

/// A checkpoint on disk.
#[derive(Clone, Debug)]
pub struct TrainingCheckpoint {
    /// Its folder. What is trained is in it, as [`TrainState::save`](crate::TrainState::save) writes it.
    pub path: PathBuf,
    /// Its state.
    pub state: CheckpointState,
}

const STATE: &str = "state.json";
/// The list of files of every folder that this library writes; it is not part of the training's state.
const LIST: &str = "gallery_gpt.json";

impl TrainingCheckpoint {
    /// The newest checkpoint in a folder of checkpoints. Incomplete ones do not count: a checkpoint is moved into place when it is
    /// complete.
    ///
    /// # Errors
    /// The newest one cannot be read, or one of its files has changed.
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
                        (_, None) => "it is missing",
                        (None, _) => "the checkpoint was written without it",
                        _ => "its SHA-256 is not the one that it was written with",
                    }
                    .to_owned(),
                });
            }
        }
        Ok(Some(Self { path, state }))
    }

    /// The bytes of all checkpoints in a folder.
    pub(crate) fn bytes(folder: &Path) -> u64 {
        let files = checkpoints(folder).unwrap_or_default().into_iter();
        files.map(|(_, path)| bytes_of(&path)).sum()
    }

    /// Writes a checkpoint with the files that `save` writes into the folder it is given. Then removes interim checkpoints, and the oldest
    /// of the others beyond `keep`.
    ///
    /// # Errors
    /// A file cannot be written, or `save` fails.
    pub(crate) fn write(
        folder: &Path,
        state: CheckpointState,
        keep: usize,
        save: impl FnOnce(&Path) -> Result<(), TrainError>,
    ) -> Result<Self, TrainError> {
        let path = folder.join(checkpoint_name(state.step));
        let partial = AtomicFolder::new(replacing(&path))?;
        save(&partial.file(""))?;
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
}

fn checkpoint_name(step: usize) -> String {
    format!("step-{step:08}")
}

/// A destination inside the run folder, which replaces whatever is there.
pub(crate) fn replacing(path: &Path) -> Destination {
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

/// Bytes of a file, or of all files under a folder; 0 for a path that does not exist.
pub(super) fn bytes_of(path: &Path) -> u64 {
    let size = |path: &PathBuf| fs::metadata(path).map_or(0, |metadata| metadata.len());
    files(path).unwrap_or_default().iter().map(size).sum()
}

/// The SHA-256 of every file of a checkpoint but `state.json` and the list of files at its top.
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

/// The checkpoints in a folder, oldest first.
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

/// Removes a checkpoint. It is renamed first, so that a half removed one is not taken for a complete one.
fn remove(path: &Path) -> Result<(), TrainError> {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let hidden = path.with_file_name(format!(".old-{name}"));
    let failed = write_error(path);
    if hidden.exists() {
        fs::remove_dir_all(&hidden).map_err(failed)?;
    }
    fs::rename(path, &hidden).map_err(failed)?;
    fs::remove_dir_all(&hidden).map_err(failed)
}

/// Removes files and folders that a killed process was writing or removing.
pub(super) fn clear_leftovers(folder: &Path) -> Result<(), TrainError> {
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
            removed.map_err(write_error(&path))?;
        }
    }
    Ok(())
}
