//! What a run leaves behind: `config.json`, `log.jsonl` and `speed.jsonl` line by line, `evaluations.jsonl`, `samples.jsonl`,
//! `checkpoints/`, `bad_records.jsonl`, `best/`, and `loss.svg`, `page.html` and `adapter/` when it is done.
//!
//! What a step did is in `log.jsonl`, and depends on settings and records alone; how fast it was is in `speed.jsonl`.

use std::{
    collections::HashSet,
    fs::{self, File, OpenOptions},
    io::ErrorKind,
    path::{Path, PathBuf},
};

use gallery_gpt_checkpoint::{CheckpointError, verify_folder, write_file};
use gallery_gpt_data::BadRecord;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::{
    EvaluationLine, LogLine, RunSettings, SpeedLine,
    checkpoint::clear_leftovers,
    curve::loss_chart,
    hex,
    lines::{append, keep_lines},
    lock::{LOCK, RunLock},
    page::Page,
};
use crate::{CurvePoint, OnBadRecord, SampleLine, SamplePainting, TrainError, write_curve};

/// A folder of a run. As long as it lives, no other process can take the folder.
#[derive(Debug)]
pub struct RunFolder {
    path: PathBuf,
    flags: Vec<String>,
    lines: Vec<LogLine>,
    speeds: Vec<SpeedLine>,
    evaluations: Vec<EvaluationLine>,
    samples: Vec<SampleLine>,
    /// Positions of the records in the list of bad ones.
    bad: HashSet<usize>,
    _lock: RunLock,
}

/// What a checkpoint knows of the log.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogState {
    /// Its bytes by then.
    pub bytes: u64,
    /// Their SHA-256.
    pub sha256: String,
}

impl LogState {
    /// Before the first line.
    pub(crate) fn empty() -> Self {
        Self {
            bytes: 0,
            sha256: hex(&Sha256::digest(b"")),
        }
    }
}

/// A line of the list of records that are left out.
#[derive(Debug, Serialize, Deserialize)]
struct BadLine {
    index: usize,
    id: String,
    cause: String,
}

const SETTINGS: &str = "config.json";
const BAD: &str = "bad_records.jsonl";
const LOG: &str = "log.jsonl";
const SPEED: &str = "speed.jsonl";
const EVALUATIONS: &str = "evaluations.jsonl";
const SAMPLES: &str = "samples.jsonl";
const CHECKPOINTS: &str = "checkpoints";

/// What the folder may hold of a run that was ended before it began.
const BEFORE_IT_BEGINS: [&str; 4] = [LOCK, BAD, LOG, SPEED];

impl RunFolder {
    /// Makes the folder and takes it. A run begins in it with its settings, which the trainer writes; a folder whose run never came
    /// so far is as good as a new one.
    ///
    /// # Errors
    /// The folder cannot be written, another process has it, or it holds an earlier run or anything else.
    pub fn create(path: impl Into<PathBuf>) -> Result<Self, TrainError> {
        let path = path.into();
        Self::ensure_free(&path)?;
        fs::create_dir_all(&path).map_err(|source| TrainError::Write {
            path: path.clone(),
            source,
        })?;
        let run = Self::take(path)?;
        // A process that had it until now may have begun a run in it.
        if run.path.join(SETTINGS).exists() {
            return Err(TrainError::HoldsRun {
                whole: true,
                run: run.path,
            });
        }
        for name in [BAD, LOG, SPEED] {
            let file = run.path.join(name);
            match fs::remove_file(&file) {
                Err(source) if source.kind() != ErrorKind::NotFound => {
                    return Err(TrainError::Write { path: file, source });
                }
                _ => {}
            }
        }
        Ok(run)
    }

    /// Whether a run can begin in a folder: there is none, or it is empty but for what a run leaves that never began. Nothing is made.
    ///
    /// # Errors
    /// The folder holds an earlier run or anything else.
    pub fn ensure_free(path: impl AsRef<Path>) -> Result<(), TrainError> {
        let path = path.as_ref();
        let entries = match fs::read_dir(path) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
            entries => entries.and_then(Iterator::collect::<Result<Vec<_>, _>>),
        };
        let entries = entries.map_err(|source| TrainError::Read {
            path: path.to_owned(),
            source,
        })?;
        let names = entries.iter().map(fs::DirEntry::file_name);
        let names = names.map(|name| name.to_string_lossy().into_owned());
        let names: Vec<String> = names
            .filter(|name| !name.starts_with(".partial-"))
            .collect();
        let is_run = names
            .iter()
            .any(|name| name == SETTINGS || name == CHECKPOINTS);
        if is_run || fs::metadata(path.join(LOG)).is_ok_and(|log| log.len() > 0) {
            return Err(TrainError::HoldsRun {
                run: path.to_owned(),
                whole: path.join(SETTINGS).is_file(),
            });
        }
        let foreign = |name: &String| !BEFORE_IT_BEGINS.contains(&name.as_str());
        let found: Vec<String> = names.into_iter().filter(foreign).collect();
        if found.is_empty() {
            return Ok(());
        }
        Err(CheckpointError::Foreign {
            path: path.to_owned(),
            found,
        }
        .into())
    }

    /// Takes the folder of a run that was begun; [`Trainer`](crate::Trainer) then goes on from its newest checkpoint, or from the
    /// beginning if it had none.
    ///
    /// # Errors
    /// There is no run, or another process has it.
    pub fn resume(path: impl Into<PathBuf>) -> Result<Self, TrainError> {
        let path = path.into();
        RunSettings::read(&path)?;
        let mut run = Self::take(path)?;
        // A last line may be cut; its record will be found bad again.
        let list = fs::read_to_string(run.bad_records()).unwrap_or_default();
        let lines = list
            .lines()
            .filter_map(|line| serde_json::from_str(line).ok());
        run.bad = lines.map(|line: BadLine| line.index).collect();
        clear_leftovers(&run.path)?;
        clear_leftovers(&run.checkpoints())?;
        Ok(run)
    }

    fn take(path: PathBuf) -> Result<Self, TrainError> {
        Ok(Self {
            _lock: RunLock::take(&path)?,
            path,
            flags: Vec::new(),
            lines: Vec::new(),
            speeds: Vec::new(),
            evaluations: Vec::new(),
            samples: Vec::new(),
            bad: HashSet::new(),
        })
    }

    /// Notes in the settings, when the run begins, what its program has to be called with to go on with it.
    #[must_use]
    pub fn with_flags(mut self, flags: Vec<String>) -> Self {
        self.flags = flags;
        self
    }

    /// What the run was begun with; nothing before it begins.
    pub(crate) fn settings(&self) -> Result<Option<RunSettings>, TrainError> {
        let there = self.path.join(SETTINGS).exists();
        there.then(|| RunSettings::read(&self.path)).transpose()
    }

    /// Begins a run with its settings, or goes on with one that they are the same as.
    ///
    /// # Errors
    /// They make another training than the run was begun with, or cannot be written.
    pub(crate) fn begin(&self, mut settings: RunSettings) -> Result<(), TrainError> {
        if let Some(began) = self.settings()? {
            // As they would be read back: a number may be another in its last digit.
            began.ensure_same(&settings.as_written(&self.path)?, &self.path)?;
        } else {
            settings.flags.clone_from(&self.flags);
            settings.write(&self.path)?;
        }
        for name in [LOG, SPEED] {
            let path = self.path.join(name);
            let open = OpenOptions::new().append(true).create(true).open(&path);
            open.map_err(|source| TrainError::Write { path, source })?;
        }
        Ok(())
    }

    /// Cuts the logs back to a checkpoint: what was done after it is done again.
    ///
    /// # Errors
    /// The log is shorter than it was, or a file cannot be cut.
    pub(crate) fn rewind(&mut self, step: usize, log: &LogState) -> Result<(), TrainError> {
        let file = self.path.join(LOG);
        let text = fs::read(&file).map_err(|source| TrainError::Read {
            path: file.clone(),
            source,
        })?;
        let kept = text.get(..log.bytes as usize);
        let Some(kept) = kept.filter(|kept| hex(&Sha256::digest(kept)) == log.sha256) else {
            return Err(TrainError::Damaged {
                path: file,
                found: format!(
                    "it does not begin with the {} bytes that the checkpoint of step {step} knows",
                    log.bytes
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
        let open = OpenOptions::new().write(true).open(&file);
        open.and_then(|file| file.set_len(log.bytes))
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
        append(&self.path.join(EVALUATIONS), &line, true)
    }

    /// Notes what was written of the sample paintings.
    ///
    /// # Errors
    /// The line cannot be written.
    pub fn sampled(&mut self, line: SampleLine) -> Result<(), TrainError> {
        append(&self.path.join(SAMPLES), &line, true)?;
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

    /// Makes sure that the adapter of the best evaluation so far is there, as it was written.
    ///
    /// # Errors
    /// It is not there, or one of its files is not what was written.
    pub(crate) fn ensure_best(&self) -> Result<(), TrainError> {
        let Some((_, best)) = self.best_look() else {
            return Ok(());
        };
        let path = self.best();
        if !path.is_dir() {
            return Err(TrainError::NoBest {
                path,
                step: best.step,
            });
        }
        Ok(verify_folder(path)?)
    }

    /// Makes sure that the log is on disk, and tells what it is by now.
    pub(crate) fn sync(&self) -> Result<LogState, TrainError> {
        let path = self.path.join(LOG);
        let log = File::open(&path).and_then(|file| file.sync_all());
        let log = log.and_then(|()| fs::read(&path));
        let log = log.map_err(|source| TrainError::Read { path, source })?;
        Ok(LogState {
            bytes: log.len() as u64,
            sha256: hex(&Sha256::digest(&log)),
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
            append(&list, &line, true)?;
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
        self.path.join(CHECKPOINTS)
    }

    /// Adds a line to each log.
    ///
    /// # Errors
    /// A line cannot be written.
    pub fn log(&mut self, line: &LogLine, speed: &SpeedLine) -> Result<(), TrainError> {
        self.lines.push(line.clone());
        self.speeds.push(speed.clone());
        append(&self.path.join(LOG), line, false)?;
        append(&self.path.join(SPEED), speed, false)
    }

    /// Draws the curves of what was logged.
    ///
    /// # Errors
    /// The picture cannot be written.
    pub fn draw_curve(&self) -> Result<(), TrainError> {
        let (points, validation) = self.points();
        write_curve(&self.curve(), "training loss", &points, &validation)
    }

    /// The losses of the steps and of the validations so far.
    pub(crate) fn points(&self) -> (Vec<CurvePoint>, Vec<CurvePoint>) {
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
            let bytes = fs::read(self.path.join(name)).ok()?;
            serde_json::from_slice(&bytes).ok()
        };
        let page = Page {
            title: &self.path.display().to_string(),
            loss: &loss_chart("training loss", &points, &validation).map_err(failed)?,
            log: &self.lines,
            speed: &self.speeds,
            paintings,
            samples: &self.samples,
            settings: json(SETTINGS),
            results: json("test.json"),
            left_out: self.bad.len(),
            finished,
        };
        Ok(write_file(&self.page(), page.html().as_bytes())?)
    }
}
