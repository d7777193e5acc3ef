//! Files of JSON lines that grow while a long run goes on.

use std::{
    fs::{File, OpenOptions},
    io::Write,
    path::{Path, PathBuf},
};

use serde_json::Value;

use crate::EvalError;

/// A file of JSON lines. Every line is on the disk before the next is begun; a line that a broken run left half written is
/// removed when the file is opened again.
#[derive(Debug)]
pub struct JsonLinesFile {
    path: PathBuf,
    file: File,
}

impl JsonLinesFile {
    /// Opens a file to go on with it, or makes it.
    ///
    /// # Errors
    /// It cannot be read or written.
    pub fn resume(path: impl Into<PathBuf>) -> Result<Self, EvalError> {
        let path = path.into();
        let write = |source| EvalError::Write {
            path: path.clone(),
            source,
        };
        let file = OpenOptions::new()
            .create(true)
            .append(true)
            .open(&path)
            .map_err(write)?;
        let bytes = std::fs::read(&path).map_err(|source| EvalError::Read {
            path: path.clone(),
            source,
        })?;
        let end = bytes.iter().rposition(|byte| *byte == b'\n');
        let whole = end.map_or(0, |at| at + 1);
        if whole < bytes.len() {
            file.set_len(whole as u64).map_err(write)?;
        }
        Ok(Self { path, file })
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Writes a line through to the disk.
    ///
    /// # Errors
    /// The disk refuses it.
    pub fn push(&mut self, line: &Value) -> Result<(), EvalError> {
        self.file
            .write_all(format!("{line}\n").as_bytes())
            .and_then(|()| self.file.sync_data())
            .map_err(|source| EvalError::Write {
                path: self.path.clone(),
                source,
            })
    }
}
