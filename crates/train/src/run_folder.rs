//! What a run leaves behind: `log.jsonl` and `speed.jsonl` line by line, `evaluations.jsonl`, `samples.jsonl`,
//! `checkpoints/`, `bad_records.jsonl`, `best/`, and `loss.svg`, `page.html` and `adapter/` when it is done.
//!
//! What a step did is in `log.jsonl`, and depends on settings and records alone; how fast it was is in `speed.jsonl`.

use std::{
    collections::HashSet,
    fs::{File, OpenOptions},
    io::Write,
    path::{Path, PathBuf},
};

use gallery_gpt_checkpoint::write_file;
use gallery_gpt_data::BadRecord;
use serde::{Deserialize, Serialize, de::DeserializeOwned};

use crate::{
    CurvePoint, OnBadRecord, SampleLine, SamplePainting, TrainError, curve::loss_chart, page::Page,
    training_checkpoint::clear_leftovers, write_curve,
};

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

/// A folder of a run.
#[derive(Debug)]
pub struct RunFolder {
    path: PathBuf,
    log: File,
    speed: File,
    lines: Vec<LogLine>,
    speeds: Vec<SpeedLine>,
    evaluations: Vec<EvaluationLine>,
    samples: Vec<SampleLine>,
    /// Positions of the records in the list of bad ones.
    bad: HashSet<usize>,
}

/// A line of the list of records that are left out.
#[derive(Debug, Serialize, Deserialize)]
struct BadLine {
    index: usize,
    id: String,
    cause: String,
}

const BAD: &str = "bad_records.jsonl";
const LOG: &str = "log.jsonl";
const SPEED: &str = "speed.jsonl";
const EVALUATIONS: &str = "evaluations.jsonl";
const SAMPLES: &str = "samples.jsonl";

impl RunFolder {
    /// Makes the folder and empty logs in it.
    ///
    /// # Errors
    /// The folder cannot be written, or holds an earlier run.
    pub fn create(path: impl Into<PathBuf>) -> Result<Self, TrainError> {
        let path = path.into();
        let open = |name: &str| {
            let file = path.join(name);
            let open = std::fs::create_dir_all(&path)
                .and_then(|()| OpenOptions::new().append(true).create_new(true).open(&file));
            open.map_err(|source| TrainError::Write { path: file, source })
        };
        Ok(Self {
            log: open(LOG)?,
            speed: open(SPEED)?,
            path,
            lines: Vec::new(),
            speeds: Vec::new(),
            evaluations: Vec::new(),
            samples: Vec::new(),
            bad: HashSet::new(),
        })
    }

    /// Opens the folder of a run that ended before it was done; [`Trainer`](crate::Trainer) then goes on from its newest
    /// checkpoint, or from the beginning if it had none.
    ///
    /// # Errors
    /// There is no run, or its logs cannot be written.
    pub fn resume(path: impl Into<PathBuf>) -> Result<Self, TrainError> {
        let path = path.into();
        let open = |name: &str| {
            let file = path.join(name);
            // Killed between the two, the second is not there yet.
            let open = OpenOptions::new()
                .append(true)
                .create(name == SPEED)
                .open(&file);
            open.map_err(|source| TrainError::Write { path: file, source })
        };
        let mut run = Self {
            log: open(LOG)?,
            speed: open(SPEED)?,
            path,
            lines: Vec::new(),
            speeds: Vec::new(),
            evaluations: Vec::new(),
            samples: Vec::new(),
            bad: HashSet::new(),
        };
        // A last line may be cut; its record will be found bad again.
        let list = std::fs::read_to_string(run.bad_records()).unwrap_or_default();
        let lines = list
            .lines()
            .filter_map(|line| serde_json::from_str(line).ok());
        run.bad = lines.map(|line: BadLine| line.index).collect();
        clear_leftovers(&run.path)?;
        clear_leftovers(&run.checkpoints())?;
        Ok(run)
    }

    /// Cuts the logs back to a checkpoint: what was done after it is done again.
    ///
    /// # Errors
    /// The log is shorter than it was, or a file cannot be cut.
    pub(crate) fn rewind(&mut self, step: usize, log_bytes: u64) -> Result<(), TrainError> {
        let file = self.path.join(LOG);
        let text = std::fs::read(&file).map_err(|source| TrainError::Read {
            path: file.clone(),
            source,
        })?;
        let Some(kept) = text.get(..log_bytes as usize) else {
            return Err(TrainError::Damaged {
                path: file,
                found: format!(
                    "{} bytes, but the checkpoint of step {step} knows {log_bytes}",
                    text.len()
                ),
            });
        };
        let lines = kept
            .split(|&byte| byte == b'\n')
            .filter(|line| !line.is_empty());
        let lines: Result<Vec<LogLine>, _> = lines.map(serde_json::from_slice).collect();
        self.lines = lines.map_err(|error| TrainError::Damaged {
            path: file.clone(),
            found: error.to_string(),
        })?;
        self.log
            .set_len(log_bytes)
            .map_err(|source| TrainError::Write { path: file, source })?;
        // Of the others, the whole lines of the steps that stay.
        let path = self.path.join(SPEED);
        self.speeds = keep_lines(&path, |line: &SpeedLine| line.step <= step)?;
        let path = self.path.join(SAMPLES);
        self.samples = keep_lines(&path, |line: &SampleLine| line.step <= step)?;
        let path = self.path.join(EVALUATIONS);
        self.evaluations = keep_lines(&path, |line: &EvaluationLine| line.step <= step)?;
        Ok(())
    }

    /// Notes a look at the validation records.
    ///
    /// # Errors
    /// The line cannot be written.
    pub fn evaluated(&mut self, line: EvaluationLine) -> Result<(), TrainError> {
        self.evaluations.push(line);
        append(&self.path.join(EVALUATIONS), &line)
    }

    /// Notes what was written of the sample paintings.
    ///
    /// # Errors
    /// The line cannot be written.
    pub fn sampled(&mut self, line: SampleLine) -> Result<(), TrainError> {
        append(&self.path.join(SAMPLES), &line)?;
        self.samples.push(line);
        Ok(())
    }

    /// Whether the sample paintings were asked about at a step.
    pub(crate) fn has_samples(&self, step: usize) -> bool {
        self.samples.iter().any(|line| line.step == step)
    }

    /// The look with the lowest loss, the first among equals, and its place among the looks.
    fn best_look(&self) -> Option<(usize, &EvaluationLine)> {
        let looks = self.evaluations.iter().enumerate();
        looks.min_by(|(_, a), (_, b)| a.loss.total_cmp(&b.loss))
    }

    /// Whether the look at a step is the best so far.
    pub(crate) fn is_best(&self, step: usize) -> bool {
        self.best_look().is_some_and(|(_, best)| best.step == step)
    }

    /// The best look, once `patience` looks since were no better.
    #[must_use]
    pub fn out_of_patience(&self, patience: usize) -> Option<EvaluationLine> {
        let (nth, best) = self.best_look()?;
        (self.evaluations.len() - 1 - nth >= patience).then_some(*best)
    }

    /// Where the adapter of the best look goes.
    #[must_use]
    pub fn best(&self) -> PathBuf {
        self.path.join("best")
    }

    /// Makes sure that the log is on disk, and tells its length.
    pub(crate) fn sync(&self) -> Result<u64, TrainError> {
        let length = self.log.sync_all().and_then(|()| self.log.metadata());
        length
            .map(|metadata| metadata.len())
            .map_err(|source| TrainError::Write {
                path: self.path.join(LOG),
                source,
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

    /// Where the list of records that are left out goes; there is none while there are none.
    #[must_use]
    pub fn bad_records(&self) -> PathBuf {
        self.path.join(BAD)
    }

    /// Records that are left out so far.
    #[must_use]
    pub fn bad_count(&self) -> usize {
        self.bad.len()
    }

    /// Notes a record that is left out, once.
    ///
    /// # Errors
    /// The list cannot be written, or `policy` does not let so many be left out.
    pub fn leave_out(&mut self, record: BadRecord, policy: OnBadRecord) -> Result<(), TrainError> {
        let OnBadRecord::Skip { most } = policy else {
            return Err(record.into());
        };
        let list = self.bad_records();
        if self.bad.insert(record.index) {
            let line = BadLine {
                index: record.index,
                id: record.id.clone(),
                cause: record.cause.to_string(),
            };
            append(&list, &line)?;
        }
        if self.bad.len() > most {
            return Err(TrainError::TooManyBadRecords {
                count: self.bad.len(),
                most,
                list,
                last: Box::new(record),
            });
        }
        Ok(())
    }

    /// Where the checkpoints go.
    #[must_use]
    pub fn checkpoints(&self) -> PathBuf {
        self.path.join("checkpoints")
    }

    /// Adds a line to each log.
    ///
    /// # Errors
    /// A line cannot be written.
    pub fn log(&mut self, line: &LogLine, speed: &SpeedLine) -> Result<(), TrainError> {
        self.lines.push(line.clone());
        self.speeds.push(speed.clone());
        let write = |mut log: &File, name, text: serde_json::Result<String>| {
            text.map_err(std::io::Error::other)
                .and_then(|text| log.write_all(format!("{text}\n").as_bytes()))
                .map_err(|source| TrainError::Write {
                    path: self.path.join(name),
                    source,
                })
        };
        write(&self.log, LOG, serde_json::to_string(line))?;
        write(&self.speed, SPEED, serde_json::to_string(speed))
    }

    /// Draws the curves of what was logged.
    ///
    /// # Errors
    /// The picture cannot be written.
    pub fn draw_curve(&self) -> Result<(), TrainError> {
        let (points, validation) = self.points();
        write_curve(&self.curve(), "training loss", &points, &validation)
    }

    fn points(&self) -> (Vec<CurvePoint>, Vec<CurvePoint>) {
        let points = self.lines.iter();
        let points = points.map(|line| CurvePoint {
            step: line.step,
            loss: line.loss,
        });
        let validation = self.evaluations.iter();
        let validation = validation.map(|&EvaluationLine { step, loss }| CurvePoint { step, loss });
        (points.collect(), validation.collect())
    }

    /// Where the page goes.
    #[must_use]
    pub fn page(&self) -> PathBuf {
        self.path.join("page.html")
    }

    /// Writes the page: the result if the folder has one in `test.json`, curves, settings, machine, and what was written of the
    /// sample paintings. One file that stands alone, and loads itself again until the training is `finished`.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn write_page(
        &self,
        paintings: &[SamplePainting],
        finished: bool,
    ) -> Result<(), TrainError> {
        let (points, validation) = self.points();
        let failed = |error: Box<dyn std::error::Error>| TrainError::Write {
            path: self.page(),
            source: std::io::Error::other(error.to_string()),
        };
        let json = |name: &str| {
            let bytes = std::fs::read(self.path.join(name)).ok()?;
            serde_json::from_slice(&bytes).ok()
        };
        let page = Page {
            title: &self.path.display().to_string(),
            loss: &loss_chart("training loss", &points, &validation).map_err(failed)?,
            log: &self.lines,
            speed: &self.speeds,
            paintings,
            samples: &self.samples,
            settings: json("config.json"),
            results: json("test.json"),
            left_out: self.bad.len(),
            finished,
        };
        Ok(write_file(&self.page(), page.html().as_bytes())?)
    }
}

/// Adds a line to a file and makes sure that it is on disk.
fn append(path: &Path, line: &impl Serialize) -> Result<(), TrainError> {
    let write = || {
        let text = serde_json::to_string(line).map_err(std::io::Error::other)?;
        let mut file = OpenOptions::new().append(true).create(true).open(path)?;
        file.write_all(format!("{text}\n").as_bytes())?;
        file.sync_all()
    };
    write().map_err(|source| TrainError::Write {
        path: path.to_owned(),
        source,
    })
}

/// Cuts a file of lines behind the last of those at its beginning that are whole and wanted; returns them. No file has no lines.
fn keep_lines<L: DeserializeOwned>(
    path: &Path,
    wanted: impl Fn(&L) -> bool,
) -> Result<Vec<L>, TrainError> {
    let text = match std::fs::read_to_string(path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
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
