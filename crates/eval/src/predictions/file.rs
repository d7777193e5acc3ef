//! The file of predictions that an evaluation writes.

use std::path::PathBuf;

use serde_json::json;

use super::read::entry;
use crate::{EvalError, JsonLinesFile, Predictions};

/// A file of predictions that a run appends to, so that an interrupted run can resume.
#[derive(Debug)]
pub struct PredictionsFile {
    lines: JsonLinesFile,
    done: Predictions,
}

impl PredictionsFile {
    /// Opens a file with its predictions so far. An incomplete last line does not count.
    ///
    /// # Errors
    /// It cannot be read or written, or does not contain predictions.
    pub fn resume(path: impl Into<PathBuf>) -> Result<Self, EvalError> {
        let (lines, found) = JsonLinesFile::resume(path)?;
        let mut done = Predictions::default();
        for (line, object) in found {
            let (name, text) =
                entry(&object.into()).map_err(|(expected, found)| EvalError::Predictions {
                    path: lines.path().to_owned(),
                    place: format!("line {line}"),
                    expected,
                    found,
                })?;
            done.push(name, text);
        }
        Ok(Self { lines, done })
    }

    /// The predictions in the file.
    #[must_use]
    pub fn done(&self) -> &Predictions {
        &self.done
    }

    /// Whether the file has the text of a painting.
    #[must_use]
    pub fn has(&self, name: &str) -> bool {
        self.done.iter().any(|(done, _)| done == name)
    }

    /// Appends a text and syncs it to the disk.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn push(&mut self, name: &str, text: &str) -> Result<(), EvalError> {
        self.lines.push(&json!({ "image": name, "text": text }))?;
        self.done.push(name, text);
        Ok(())
    }
}
