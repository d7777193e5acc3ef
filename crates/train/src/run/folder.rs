//! A run folder: its files, its lock, and how a run begins and resumes in it.

use std::{
    fs,
    io::ErrorKind,
    path::{Path, PathBuf},
};

use gallery_gpt_checkpoint::{CheckpointError, verify_folder};
use gallery_gpt_data::BadRecord;

use super::{
    LogState, RunSettings,
    bad_records::BadRecords,
    checkpoint::clear_leftovers,
    history::{Evaluations, SampleHistory},
    lock::{LOCK, RunLock},
    log::{LOG, RunLog, SPEED},
    settings::SETTINGS,
};
use crate::{
    OnBadRecord, TrainError,
    error::{read_error, write_error},
};

/// The folder of a run. As long as this value lives, no other process can use the folder.
#[derive(Debug)]
pub struct RunFolder {
    path: PathBuf,
    flags: Vec<String>,
    pub(crate) log: RunLog,
    pub(crate) evaluations: Evaluations,
    pub(crate) samples: SampleHistory,
    bad: BadRecords,
    _lock: RunLock,
}

const BAD: &str = "bad_records.jsonl";
const CHECKPOINTS: &str = "checkpoints";

/// Files that may be left by a run that ended before it began.
const BEFORE_IT_BEGINS: [&str; 4] = [LOCK, BAD, LOG, SPEED];

impl RunFolder {
    /// Makes the folder and locks it. A run begins when the trainer writes its settings; a folder whose run never got that far counts as
    /// new.
    ///
    /// # Errors
    /// The folder cannot be written, another process has locked it, or it holds an earlier run or other files.
    pub fn create(path: impl Into<PathBuf>) -> Result<Self, TrainError> {
        let path = path.into();
        Self::ensure_free(&path)?;
        fs::create_dir_all(&path).map_err(write_error(&path))?;
        let run = Self::take(path)?;
        // Another process may have begun a run in it before the lock was taken.
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

    /// Checks that a run can begin in a folder: it does not exist, or is empty except for files of a run that never began. Nothing is
    /// created.
    ///
    /// # Errors
    /// The folder holds an earlier run or other files.
    pub fn ensure_free(path: impl AsRef<Path>) -> Result<(), TrainError> {
        let path = path.as_ref();
        let entries = match fs::read_dir(path) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
            entries => entries.and_then(Iterator::collect::<Result<Vec<_>, _>>),
        };
        let entries = entries.map_err(read_error(path))?;
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

    /// Locks the folder of a run that has begun; [`Trainer`](crate::Trainer) then resumes from its newest checkpoint, or starts from the
    /// beginning if it has none.
    ///
    /// # Errors
    /// There is no run, or another process has locked it.
    pub fn resume(path: impl Into<PathBuf>) -> Result<Self, TrainError> {
        let path = path.into();
        RunSettings::read(&path)?;
        let mut run = Self::take(path)?;
        run.bad.read();
        clear_leftovers(&run.path)?;
        clear_leftovers(&run.checkpoints())?;
        Ok(run)
    }

    fn take(path: PathBuf) -> Result<Self, TrainError> {
        Ok(Self {
            _lock: RunLock::take(&path)?,
            flags: Vec::new(),
            log: RunLog::new(&path),
            evaluations: Evaluations::new(&path),
            samples: SampleHistory::new(&path),
            bad: BadRecords::new(path.join(BAD)),
            path,
        })
    }

    /// Arguments with which the program resumes the run; they are written into the settings.
    #[must_use]
    pub fn with_flags(mut self, flags: Vec<String>) -> Self {
        self.flags = flags;
        self
    }

    /// The settings that the run began with; `None` before it begins.
    pub(crate) fn settings(&self) -> Result<Option<RunSettings>, TrainError> {
        let has_begun = self.path.join(SETTINGS).exists();
        has_begun.then(|| RunSettings::read(&self.path)).transpose()
    }

    /// Begins a run with its settings, or checks that a run that has begun has the same ones.
    ///
    /// # Errors
    /// They would change the training, or cannot be written.
    pub(crate) fn begin(&self, mut settings: RunSettings) -> Result<(), TrainError> {
        if let Some(began) = self.settings()? {
            // As they would be read back: JSON may change the last digit of a number.
            began.ensure_same(&settings.as_written(&self.path)?, &self.path)?;
        } else {
            settings.flags.clone_from(&self.flags);
            settings.write(&self.path)?;
        }
        self.log.create()
    }

    /// Truncates the run's JSON-lines files to a checkpoint: the steps after it are trained again.
    ///
    /// # Errors
    /// The log does not begin with the bytes that the checkpoint recorded, or a file cannot be truncated.
    pub(crate) fn rewind(&mut self, step: usize, log: &LogState) -> Result<(), TrainError> {
        self.log.rewind(step, log)?;
        self.samples.rewind(step)?;
        self.evaluations.rewind(step)
    }

    /// Checks that the adapter of the best evaluation so far is on disk and unchanged.
    ///
    /// # Errors
    /// It is missing, or one of its files has changed.
    pub(crate) fn ensure_best(&self) -> Result<(), TrainError> {
        let Some(best) = self.evaluations.best() else {
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

    /// Skips a bad record and lists it in [`RunFolder::bad_records`], unless it is listed already.
    ///
    /// # Errors
    /// `policy` does not allow it, or the list cannot be written.
    pub fn skip_record(
        &mut self,
        record: BadRecord,
        policy: OnBadRecord,
    ) -> Result<(), TrainError> {
        self.bad.skip(record, policy)
    }

    /// Records skipped so far.
    #[must_use]
    pub fn bad_count(&self) -> usize {
        self.bad.count()
    }

    /// The folder itself.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Folder of the adapter that the run ends with.
    #[must_use]
    pub fn adapter(&self) -> PathBuf {
        self.path.join("adapter")
    }

    /// Folder of the adapter with the best evaluation.
    #[must_use]
    pub fn best(&self) -> PathBuf {
        self.path.join("best")
    }

    /// Folder of the checkpoints.
    #[must_use]
    pub fn checkpoints(&self) -> PathBuf {
        self.path.join(CHECKPOINTS)
    }

    /// File of the loss curve.
    #[must_use]
    pub fn curve(&self) -> PathBuf {
        self.path.join("loss.svg")
    }

    /// File of the run's page.
    #[must_use]
    pub fn page(&self) -> PathBuf {
        self.path.join("page.html")
    }

    /// File that lists the skipped records; it does not exist if there are none.
    #[must_use]
    pub fn bad_records(&self) -> PathBuf {
        self.path.join(BAD)
    }
}
