//! JSON files: read from outside, with a limit on their size, and written.

use std::{io::Read, path::Path};

use serde::de::DeserializeOwned;
use serde_json::Value;

use super::{
    atomic::write_file,
    regular::{self, is_git_lfs_pointer},
};
use crate::{CheckpointError, error::read_error};

/// Largest `config.json` and the like. Those of models are a few kilobytes.
const MAX_CONFIG: u64 = 1 << 20;
/// Largest index of shards, which has a line for each tensor: room for some forty thousand.
const MAX_INDEX: u64 = 4 << 20;

/// The bytes of a JSON file, at most `limit` of them.
fn read(path: &Path, limit: u64) -> Result<Vec<u8>, CheckpointError> {
    let failed = read_error(path);
    let mut bytes = Vec::new();
    let file = regular::open(path).map_err(failed)?;
    file.take(limit + 1)
        .read_to_end(&mut bytes)
        .map_err(failed)?;
    if is_git_lfs_pointer(&bytes) {
        return Err(CheckpointError::GitLfsPointer {
            path: path.to_owned(),
        });
    }
    if bytes.len() as u64 > limit {
        return Err(CheckpointError::Config {
            path: path.to_owned(),
            reason: format!("more than {} MiB, which no such file has", limit >> 20),
        });
    }
    Ok(bytes)
}

/// Reads a small JSON file, such as a config.
pub(crate) fn read_json(path: &Path) -> Result<Value, CheckpointError> {
    let bytes = read(path, MAX_CONFIG)?;
    serde_json::from_slice(&bytes).map_err(|error| CheckpointError::Config {
        path: path.to_owned(),
        reason: format!("not JSON: {error}"),
    })
}

/// Reads a JSON file into a type.
pub(crate) fn read_json_as<T: DeserializeOwned>(
    path: &Path,
    expected: &'static str,
) -> Result<T, CheckpointError> {
    let bytes = read(path, MAX_INDEX)?;
    serde_json::from_slice(&bytes).map_err(|error| CheckpointError::Malformed {
        path: path.to_owned(),
        expected,
        found: error.to_string(),
    })
}

/// Writes a JSON file atomically.
pub(crate) fn write_json(path: &Path, value: &Value) -> Result<(), CheckpointError> {
    write_file(path, format!("{value:#}\n").as_bytes())
}
