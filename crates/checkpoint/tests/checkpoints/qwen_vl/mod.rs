//! Folders of Qwen-VL-Chat, with files changed.

mod adapters;
mod chat;
mod configs;
mod saving;

use std::path::{Path, PathBuf};

use gallery_gpt_checkpoint::{Checkpoint, CheckpointError, LoadOptions};
use serde_json::Value;
use tempfile::TempDir;

/// The fixtures of Qwen-VL-Chat.
fn goldens() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../gallery-gpt/tests/goldens/qwen_basic")
}

fn read(path: &Path) -> Value {
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
}

/// A copy of the fixtures' model.
fn folder() -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    for entry in std::fs::read_dir(goldens().join("model")).unwrap() {
        let path = entry.unwrap().path();
        std::fs::copy(&path, folder.path().join(path.file_name().unwrap())).unwrap();
    }
    folder
}

/// The copy with one of its JSON files changed.
fn changed(file: &str, change: impl FnOnce(&mut Value)) -> TempDir {
    let folder = folder();
    let path = folder.path().join(file);
    let mut json = read(&path);
    change(&mut json);
    std::fs::write(&path, json.to_string()).unwrap();
    folder
}

fn open(folder: &TempDir) -> Result<Checkpoint, CheckpointError> {
    Checkpoint::open(folder.path(), &LoadOptions::default())
}
