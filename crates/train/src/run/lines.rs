//! The logs of a run, line by line.

use std::{
    fs::OpenOptions,
    io::{ErrorKind, Write},
    path::Path,
};

use serde::{Deserialize, Serialize, de::DeserializeOwned};

use crate::TrainError;

/// One line of the log: what a step did.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LogLine {
    /// One-based step.
    pub step: usize,
    /// Times over the records so far.
    pub epoch: f64,
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
}

/// How fast a step was.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SpeedLine {
    /// One-based step.
    pub step: usize,
    /// Tokens per second.
    pub tokens_per_second: f64,
    /// Seconds waited for the batch.
    pub data_wait: f64,
    /// Operations a second of the decoder, in 10^12 ([`flops_per_token`](crate::flops_per_token)), waiting included.
    pub tflops: f64,
    /// Their share of what the device can do (model FLOPs utilization), if that is known.
    pub mfu: Option<f64>,
    /// Bytes that the device's memory pool has taken, if it has one: where these grow from step to step, a run will end without memory.
    #[serde(default)]
    pub device_memory: Option<u64>,
}

/// A look at the validation records.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct EvaluationLine {
    /// Steps done by then.
    pub step: usize,
    /// Mean loss per supervised token.
    pub loss: f64,
}

/// Adds a line to a file, and with `sync` makes sure that it is on disk.
pub(super) fn append(path: &Path, line: &impl Serialize, sync: bool) -> Result<(), TrainError> {
    let write = || {
        let text = serde_json::to_string(line).map_err(std::io::Error::other)?;
        let mut file = OpenOptions::new().append(true).create(true).open(path)?;
        file.write_all(format!("{text}\n").as_bytes())?;
        if sync { file.sync_all() } else { Ok(()) }
    };
    write().map_err(|source| TrainError::Write {
        path: path.to_owned(),
        source,
    })
}

/// Cuts a file of lines behind the last of those at its beginning that are whole and wanted; returns them. No file has no lines.
pub(super) fn keep_lines<L: DeserializeOwned>(
    path: &Path,
    wanted: impl Fn(&L) -> bool,
) -> Result<Vec<L>, TrainError> {
    let text = match std::fs::read_to_string(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        text => text.map_err(|source| TrainError::Read {
            path: path.to_owned(),
            source,
        })?,
    };
    let mut kept = Vec::new();
    let mut bytes = 0;
    for line in text
        .split_inclusive('\n')
        .filter(|line| line.ends_with('\n'))
    {
        match serde_json::from_str(line) {
            Ok(parsed) if wanted(&parsed) => kept.push(parsed),
            _ => break,
        }
        bytes += line.len() as u64;
    }
    let file = OpenOptions::new().write(true).open(path);
    file.and_then(|file| file.set_len(bytes))
        .map_err(|source| TrainError::Write {
            path: path.to_owned(),
            source,
        })?;
    Ok(kept)
}
