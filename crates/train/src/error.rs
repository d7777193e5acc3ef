//! What can end a training.

use std::path::{Path, PathBuf};

use gallery_gpt_checkpoint::CheckpointError;
use gallery_gpt_data::BadRecord;
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

/// A training that cannot go on.
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
    /// A batch whose ids and pictures do not fit together.
    #[error("step {step}, records {records}: {source}")]
    Splice {
        /// One-based step.
        step: usize,
        /// The records of the batch.
        records: String,
        /// Why.
        source: SpliceError,
    },
    /// A batch that teaches nothing.
    #[error("step {step}: no token of the records {records} is supervised")]
    NothingSupervised {
        /// One-based step.
        step: usize,
        /// The records of the batch.
        records: String,
    },
    /// The loss is no number any more.
    #[error(
        "step {step}: the {what} is {value}; records {records}. Lower the learning rate, or look at these records{}",
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
    /// There is nothing to train on.
    #[error("there are no records to train on")]
    NoRecords,
    /// No parameter is trained.
    #[error("nothing is trainable: every part is frozen, or the decoder has no adapter to train")]
    NothingTrainable,
    /// More bad records than may be left out.
    #[error(
        "{count} records cannot be used, more than the {most} that may be left out; they are listed in {list}; the last: {last}"
    )]
    TooManyBadRecords {
        /// So far.
        count: usize,
        /// Most of them.
        most: usize,
        /// The list.
        list: PathBuf,
        /// The one that was too much.
        last: Box<BadRecord>,
    },
    /// A step that no record is left for.
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
    /// A file of a run that is not as it was written.
    #[error("{path} is damaged: {found}; go on from an earlier checkpoint by removing this one")]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        found: String,
    },
    /// A DeepSpeed config whose clipping cannot be read.
    #[error("{path} is no DeepSpeed config: {found}")]
    DeepSpeed {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        found: String,
    },
    /// The adapter of a run's best evaluation is gone.
    #[error(
        "{path} is not there, though the evaluation at step {step} is the best so far; put it back, or remove the checkpoints from that step on to have it trained again"
    )]
    NoBest {
        /// Where it was.
        path: PathBuf,
        /// The step of the evaluation.
        step: usize,
    },
    /// The device has no memory left.
    #[error("out of memory in step {step}: {cause}. What helps: {advice}{}", last_good(checkpoint.as_deref()))]
    OutOfMemory {
        /// The step.
        step: usize,
        /// The device's words.
        cause: String,
        /// Settings that need less.
        advice: String,
        /// The newest checkpoint.
        checkpoint: Option<PathBuf>,
    },
    /// The system gives no threads to decode pictures.
    #[error(
        "dataloader_num_workers {wanted}: {cause}; ask for fewer, or for 0 to share the threads of the step"
    )]
    Workers {
        /// Threads asked for.
        wanted: usize,
        /// The system's words.
        cause: String,
    },
    /// One of several devices failed, or fell silent.
    #[error("device {device}: {cause}{}", last_good(checkpoint.as_deref()))]
    Device {
        /// Its number and what it is.
        device: String,
        /// What happened.
        cause: String,
        /// The newest checkpoint.
        checkpoint: Option<PathBuf>,
    },
    /// An argument that says of the model what it is not.
    #[error(
        "{argument} is {wanted}, but the model is trained and run with {has}; leave the argument out, or take another base"
    )]
    Argument {
        /// The argument.
        argument: &'static str,
        /// What it says.
        wanted: String,
        /// What there is.
        has: String,
    },
    /// A run that would not be gone on with, but changed.
    #[error(
        "{run}: {what} was {then} when the run began and is {now} now; go on with what it began with, or begin another run"
    )]
    Changed {
        /// The run's folder.
        run: PathBuf,
        /// What changed.
        what: String,
        /// Then.
        then: String,
        /// Now.
        now: String,
    },
    /// A folder that a run cannot begin in.
    #[error("{run} holds a run already{}", if *whole {
        "; resume it, or name another folder"
    } else {
        ", but not its settings (config.json), so nothing can go on with it; name another folder"
    })]
    HoldsRun {
        /// The folder.
        run: PathBuf,
        /// Whether its settings are there.
        whole: bool,
    },
    /// A folder without a run to go on with.
    #[error("no run in {run} to go on with: {found}")]
    NoRun {
        /// The folder.
        run: PathBuf,
        /// What is wrong with it.
        found: String,
    },
    /// Another process trains in the folder.
    #[error(
        "{run} is in use: {} has had it for {}; wait for it, or end it",
        pid.map_or_else(|| "another process".to_owned(), |pid| format!("process {pid}")),
        duration(*seconds)
    )]
    Locked {
        /// The folder.
        run: PathBuf,
        /// The process, if it is known.
        pid: Option<u32>,
        /// For how long.
        seconds: u64,
    },
    /// The disk is too small for what the run will keep.
    #[error(
        "{folder} is on a disk with {:.1} MB free, and the run will keep up to {:.1} MB there; make room, or keep fewer checkpoints (save_total_limit)",
        *free as f64 / 1e6, *needed as f64 / 1e6
    )]
    DiskFull {
        /// The run's folder.
        folder: PathBuf,
        /// Bytes it will add.
        needed: u64,
        /// Bytes there are.
        free: u64,
    },
    /// The training was asked to stop, and did.
    #[error("stopped after step {step}, as asked; {} has all of it", checkpoint.display())]
    Interrupted {
        /// Steps done.
        step: usize,
        /// The checkpoint it goes on from.
        checkpoint: PathBuf,
    },
    /// Adapters are to be trained of a model that has none.
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
    /// A sample painting that cannot be asked about.
    #[error("sample paintings: {0}")]
    Samples(#[from] GenerationError),
    /// The adapter could not be written.
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
    /// Names the last good checkpoint, where that helps.
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
