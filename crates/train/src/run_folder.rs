//! What a run leaves behind: `log.jsonl` line by line, `loss.svg` and `adapter/` when it is done.

use std::{
    fs::{File, OpenOptions},
    io::Write,
    path::{Path, PathBuf},
};

use serde::Serialize;

use crate::{CurvePoint, TrainError, write_curve};

/// One line of the log.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct LogLine {
    /// One-based step.
    pub step: usize,
    /// Loss.
    pub loss: f64,
    /// Global gradient norm before clipping.
    pub grad_norm: f64,
    /// Rate of everything but the projector.
    pub learning_rate: f64,
    /// Rate of the projector.
    pub mm_projector_lr: f64,
    /// Tokens the loss saw.
    pub supervised_tokens: usize,
    /// Tokens read.
    pub tokens: usize,
    /// Tokens per second.
    pub tokens_per_second: f64,
    /// Seconds waited for the batch.
    pub data_wait: f64,
}

/// A folder of a run.
#[derive(Debug)]
pub struct RunFolder {
    path: PathBuf,
    log: File,
    points: Vec<CurvePoint>,
}

impl RunFolder {
    /// Makes the folder and an empty log in it.
    ///
    /// # Errors
    /// The folder cannot be written, or holds an earlier run.
    pub fn create(path: impl Into<PathBuf>) -> Result<Self, TrainError> {
        let path = path.into();
        let log_path = path.join("log.jsonl");
        let open = std::fs::create_dir_all(&path).and_then(|()| {
            OpenOptions::new()
                .write(true)
                .create_new(true)
                .open(&log_path)
        });
        let log = open.map_err(|source| TrainError::Write {
            path: log_path,
            source,
        })?;
        Ok(Self {
            path,
            log,
            points: Vec::new(),
        })
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Where the adapter goes.
    #[must_use]
    pub fn adapter(&self) -> PathBuf {
        self.path.join("adapter")
    }

    /// Where the curve goes.
    #[must_use]
    pub fn curve(&self) -> PathBuf {
        self.path.join("loss.svg")
    }

    /// Adds a line to the log.
    ///
    /// # Errors
    /// The line cannot be written.
    pub fn log(&mut self, line: &LogLine) -> Result<(), TrainError> {
        self.points.push(CurvePoint {
            step: line.step,
            loss: line.loss,
        });
        let write = serde_json::to_string(line)
            .map_err(std::io::Error::other)
            .and_then(|text| self.log.write_all(format!("{text}\n").as_bytes()));
        write.map_err(|source| TrainError::Write {
            path: self.path.join("log.jsonl"),
            source,
        })
    }

    /// Draws the curve of what was logged.
    ///
    /// # Errors
    /// The picture cannot be written.
    pub fn draw_curve(&self) -> Result<(), TrainError> {
        write_curve(&self.curve(), "training loss", &self.points)
    }
}
