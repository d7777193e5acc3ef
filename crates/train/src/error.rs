//! Errors that end a training.

use std::path::{Path, PathBuf};

use gallery_gpt_checkpoint::CheckpointError;
use gallery_gpt_data::{BadRecord, Batch};
use gallery_gpt_llama::LoraConfigError;
use gallery_gpt_model::{GenerationError, SpliceError};

/// A setting out of range.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[error("training: {field} is {found}, expected {expected}")]
pub struct TrainingConfigError {
    /// The field.
    pub field: &'static str,
    /// Its value.
    pub found: f64,
    /// What it has to be.
    pub expected: &'static str,
}

/// An error that ends a training.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TrainError {
    /// A setting out of range.
    #[error(transparent)]
    Config(#[from] TrainingConfigError),
    /// A setting of the adapter out of range.
    #[error(transparent)]
    Lora(#[from] LoraConfigError),
    /// A record that cannot be used.
    #[error(transparent)]
    Record(#[from] BadRecord),
    /// A batch whose placeholders and pictures do not match.
    #[error("step {step}, records {records}: {source}")]
    Splice {
        /// One-based step.
        step: usize,
        /// The records of the batch.
        records: String,
        /// Why.
        source: SpliceError,
    },
    /// A batch that is evaluated and whose placeholders and pictures do not match.
    #[error("evaluation, records {records}: {source}")]
    Evaluation {
        /// The records of the batch.
        records: String,
        /// Why.
        source: SpliceError,
    },
    /// A batch without a supervised token.
    #[error("step {step}: no token of the records {records} is supervised")]
    NothingSupervised {
        /// One-based step.
        step: usize,
        /// The records of the batch.
        records: String,
    },
    /// The loss or the gradient norm is infinite or NaN.
    #[error(
        "step {step}: the {what} is {value}; records {records}. Lower the learning rate, or check these records{}",
        last_good(checkpoint.as_deref())
    )]
    NotFinite {
        /// One-based step.
        step: usize,
        /// Loss or gradient norm.
        what: &'static str,
        /// Its value.
        value: f64,
        /// The records of the batch.
        records: String,
        /// The last checkpoint before it.
        checkpoint: Option<PathBuf>,
    },
    /// The training set is empty.
    #[error("there are no records to train on")]
    NoRecords,
    /// No parameter is trained.
    #[error("nothing is trainable: every part is frozen, or the decoder has no adapter to train")]
    NothingTrainable,
    /// More bad records than may be skipped.
    #[error(
        "{count} records cannot be used, more than the {max} that may be skipped; they are listed in {list}; the last: {last}"
    )]
    TooManyBadRecords {
        /// Bad records so far.
        count: usize,
        /// How many may be skipped.
        max: usize,
        /// The list.
        list: PathBuf,
        /// The one that exceeded it.
        last: Box<BadRecord>,
    },
    /// A step whose records are all bad.
    #[error("step {step}: none of its records can be used; they are listed in {list}")]
    NothingLeft {
        /// One-based step.
        step: usize,
        /// The list.
        list: PathBuf,
    },
    /// A file of a checkpoint that could not be read.
    #[error("cannot read {path}: {source}")]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// A file of a run that has changed since it was written.
    #[error("{path} is damaged: {found}; remove this checkpoint to resume from an earlier one")]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        found: String,
    },
    /// A DeepSpeed config that cannot be read.
    #[error("{path} is not a DeepSpeed config: {found}")]
    DeepSpeed {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        found: String,
    },
    /// The adapter of a run's best evaluation is missing.
    #[error(
        "{path} is missing, though the evaluation at step {step} is the best so far; put it back, or remove the checkpoints from that step on to train it again"
    )]
    NoBest {
        /// Where it was.
        path: PathBuf,
        /// The step of the evaluation.
        step: usize,
    },
    /// The device is out of memory.
    #[error("out of memory in step {step}: {cause}. What helps: {advice}{}", last_good(checkpoint.as_deref()))]
    OutOfMemory {
        /// The step.
        step: usize,
        /// The device's message.
        cause: String,
        /// Settings that need less memory.
        advice: String,
        /// The newest checkpoint.
        checkpoint: Option<PathBuf>,
    },
    /// The threads that decode pictures cannot be started.
    #[error(
        "dataloader_num_workers {wanted}: {cause}; use fewer, or 0 to share the threads of the step"
    )]
    Workers {
        /// Threads that were asked for.
        wanted: usize,
        /// The system's message.
        cause: String,
    },
    /// One of several devices failed or did not reply.
    #[error("device {device}: {cause}{}", last_good(checkpoint.as_deref()))]
    Device {
        /// Its number and what it is.
        device: String,
        /// What happened.
        cause: String,
        /// The newest checkpoint.
        checkpoint: Option<PathBuf>,
    },
    /// An argument that contradicts the model.
    #[error(
        "{argument} is {wanted}, but the model has {has}; leave the argument out, or use another base"
    )]
    Argument {
        /// The argument.
        argument: &'static str,
        /// Its value.
        wanted: String,
        /// The model's value.
        has: String,
    },
    /// A resume that would change the training.
    #[error(
        "{run}: {what} was {then} when the run began and is {now} now; resume with what it began with, or start another run"
    )]
    Changed {
        /// The run's folder.
        run: PathBuf,
        /// What differs.
        what: String,
        /// Its value when the run began.
        then: String,
        /// Its value now.
        now: String,
    },
    /// A folder that already holds a run.
    #[error("{run} holds a run already{}", if *whole {
        "; resume it, or name another folder"
    } else {
        ", but not its settings (config.json), so it cannot be resumed; name another folder"
    })]
    HoldsRun {
        /// The folder.
        run: PathBuf,
        /// Whether its settings are there, so that it can be resumed.
        whole: bool,
    },
    /// A folder without a run to resume.
    #[error("no run in {run} to resume: {found}")]
    NoRun {
        /// The folder.
        run: PathBuf,
        /// What is wrong with it.
        found: String,
    },
    /// The folder is locked by another process.
    #[error(
        "{run} is in use: {} has locked it for {}; wait for it, or end it",
        pid.map_or_else(|| "another process".to_owned(), |pid| format!("process {pid}")),
        duration(*seconds)
    )]
    Locked {
        /// The folder.
        run: PathBuf,
        /// The process, if it is known.
        pid: Option<u32>,
        /// How long it has held the lock.
        seconds: u64,
    },
    /// The disk has no room for what the run will write.
    #[error(
        "{folder} is on a disk with {:.1} MB free, but the run needs up to {:.1} MB there; make room, or keep fewer checkpoints (save_total_limit)",
        *free as f64 / 1e6, *needed as f64 / 1e6
    )]
    DiskFull {
        /// The run's folder.
        folder: PathBuf,
        /// Bytes that it will write.
        needed: u64,
        /// Free bytes.
        free: u64,
    },
    /// The training was cancelled.
    #[error("stopped after step {step}, as requested; the checkpoint is {}", checkpoint.display())]
    Interrupted {
        /// Steps done.
        step: usize,
        /// The checkpoint to resume from.
        checkpoint: PathBuf,
    },
    /// Adapters are to be trained, but the model has none.
    #[error("the model has no LoRA adapters to train; apply LoRA to it before the training")]
    NoAdapter,
    /// A file of the run could not be written.
    #[error("cannot write {path}: {source}")]
    Write {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// A sample painting that cannot be captioned.
    #[error("sample paintings: {0}")]
    Samples(#[from] GenerationError),
    /// A checkpoint or an adapter could not be read or written.
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
}

fn duration(seconds: u64) -> String {
    match seconds {
        0..120 => format!("{seconds} s"),
        120..7200 => format!("{} min", seconds / 60),
        _ => format!("{} h", seconds / 3600),
    }
}

fn last_good(checkpoint: Option<&Path>) -> String {
    checkpoint
        .map(|path| format!("; the last good checkpoint is {}", path.display()))
        .unwrap_or_default()
}

impl TrainError {
    /// A batch that cannot be evaluated.
    pub(crate) fn evaluation(batch: &Batch, source: SpliceError) -> Self {
        Self::Evaluation {
            records: batch.ids.join(", "),
            source,
        }
    }

    /// Adds the last good checkpoint to errors that name it.
    pub(crate) fn after(mut self, last: Option<PathBuf>) -> Self {
        if let Self::NotFinite { checkpoint, .. }
        | Self::OutOfMemory { checkpoint, .. }
        | Self::Device { checkpoint, .. } = &mut self
        {
            *checkpoint = last;
        }
        self
    }
}

/// Makes the error of a path that cannot be read.
pub(crate) fn read_error(path: &Path) -> impl Fn(std::io::Error) -> TrainError + Copy + '_ {
    |source| TrainError::Read {
        path: path.to_owned(),
        source,
    }
}

/// Makes the error of a path that cannot be written.
pub(crate) fn write_error(path: &Path) -> impl Fn(std::io::Error) -> TrainError + Copy + '_ {
    |source| TrainError::Write {
        path: path.to_owned(),
        source,
    }
}
