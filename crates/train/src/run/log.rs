//! The log of a run: the report and the speed of every step.

use std::{
    fs::{self, File, OpenOptions},
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::{
    hex,
    json_lines::{append, keep_lines},
};
use crate::{
    CurvePoint, StepReport, TrainError,
    error::{read_error, write_error},
};

pub(super) const LOG: &str = "log.jsonl";
pub(super) const SPEED: &str = "speed.jsonl";

/// One line of the log.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LogLine {
    /// The step's report. Its fields are in the line itself.
    #[serde(flatten)]
    pub report: StepReport,
    /// Epochs done after the step.
    pub epoch: f64,
}

/// How fast a step was.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SpeedLine {
    /// One-based step.
    pub step: usize,
    /// Tokens per second.
    pub tokens_per_second: f64,
    /// Seconds spent waiting for the batch.
    pub data_wait: f64,
    /// Floating-point operations of the decoder per second, in 10^12 ([`flops_per_token`](crate::flops_per_token)); the time
    /// spent waiting for the batch is included.
    pub tflops: f64,
    /// Model FLOPs utilization: the fraction of the device's peak, if that is known.
    pub mfu: Option<f64>,
    /// Bytes that the device's memory pool has reserved, if it has one. If this grows from step to step, the run
    /// will run out of memory.
    #[serde(default)]
    pub device_memory: Option<u64>,
}

/// The log at some step, as a checkpoint records it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogState {
    /// Its length in bytes.
    pub bytes: u64,
    /// Its SHA-256.
    pub sha256: String,
}

impl LogState {
    /// Before the first line.
    pub(crate) fn empty() -> Self {
        Self::of(b"")
    }

    fn of(log: &[u8]) -> Self {
        Self {
            bytes: log.len() as u64,
            sha256: hex(&Sha256::digest(log)),
        }
    }
}

/// The two files of the log and their lines.
#[derive(Debug)]
pub(crate) struct RunLog {
    folder: PathBuf,
    lines: Vec<LogLine>,
    speeds: Vec<SpeedLine>,
}

impl RunLog {
    /// The log of a run folder; nothing is read yet.
    pub(super) fn new(folder: &Path) -> Self {
        Self {
            folder: folder.to_owned(),
            lines: Vec::new(),
            speeds: Vec::new(),
        }
    }

    /// Creates the files that do not exist yet.
    ///
    /// # Errors
    /// They cannot be created.
    pub(super) fn create(&self) -> Result<(), TrainError> {
        for name in [LOG, SPEED] {
            let path = self.folder.join(name);
            let open = OpenOptions::new().append(true).create(true).open(&path);
            open.map_err(write_error(&path))?;
        }
        Ok(())
    }

    /// Truncates the log to its state at a checkpoint: the steps after it are trained again.
    ///
    /// # Errors
    /// The log does not begin with the bytes that the checkpoint recorded, or a file cannot be truncated.
    pub(super) fn rewind(&mut self, step: usize, state: &LogState) -> Result<(), TrainError> {
        let path = self.folder.join(LOG);
        let damaged = |found: String| TrainError::Damaged {
            path: path.clone(),
            found,
        };
        let text = fs::read(&path).map_err(read_error(&path))?;
        let kept = text.get(..state.bytes as usize);
        let Some(kept) = kept.filter(|kept| LogState::of(kept) == *state) else {
            return Err(damaged(format!(
                "it does not begin with the {} bytes that the checkpoint of step {step} recorded",
                state.bytes
            )));
        };
        let lines = kept
            .split(|&byte| byte == b'\n')
            .filter(|line| !line.is_empty());
        let lines: Result<Vec<LogLine>, _> = lines.map(serde_json::from_slice).collect();
        self.lines = lines.map_err(|error| damaged(error.to_string()))?;
        let open = OpenOptions::new().write(true).open(&path);
        open.and_then(|file| file.set_len(state.bytes))
            .map_err(write_error(&path))?;
        let path = self.folder.join(SPEED);
        self.speeds = keep_lines(&path, |line: &SpeedLine| line.step <= step)?;
        Ok(())
    }

    /// Adds a line to each file.
    ///
    /// # Errors
    /// A line cannot be written.
    pub(crate) fn append(&mut self, line: LogLine, speed: SpeedLine) -> Result<(), TrainError> {
        append(&self.folder.join(LOG), &line, false)?;
        append(&self.folder.join(SPEED), &speed, false)?;
        self.lines.push(line);
        self.speeds.push(speed);
        Ok(())
    }

    /// Syncs the log to disk, and returns its state.
    ///
    /// # Errors
    /// The file cannot be synced or read.
    pub(crate) fn sync(&self) -> Result<LogState, TrainError> {
        let path = self.folder.join(LOG);
        let log = File::open(&path).and_then(|file| file.sync_all());
        let log = log.and_then(|()| fs::read(&path));
        let log = log.map_err(read_error(&path))?;
        Ok(LogState::of(&log))
    }

    pub(super) fn lines(&self) -> &[LogLine] {
        &self.lines
    }

    pub(super) fn speeds(&self) -> &[SpeedLine] {
        &self.speeds
    }

    /// The loss of every step.
    pub(super) fn losses(&self) -> Vec<CurvePoint> {
        let points = self.lines.iter().map(|line| CurvePoint {
            step: line.report.step,
            loss: line.report.loss,
        });
        points.collect()
    }
}
