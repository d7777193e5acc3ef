//! A run on disk: its folder, settings, log, history, and the checkpoints it resumes from.

mod bad_records;
mod checkpoint;
mod disk;
mod draw;
mod early_stop;
mod folder;
mod history;
mod inputs;
mod json_lines;
mod lock;
mod log;
mod page;
mod samples;
mod settings;

pub use checkpoint::{CheckpointState, TrainingCheckpoint};
pub use draw::write_curve;
pub use folder::RunFolder;
pub use history::EvaluationLine;
pub use inputs::{PictureDigest, PictureEvidence, RecordDigest};
pub use log::{LogLine, LogState, SpeedLine};
pub use samples::{SampleLine, SamplePainting, Samples};
pub use settings::{LoraSettings, RunSettings};

pub(crate) use checkpoint::replacing;
pub(crate) use disk::{Kept, ensure_room};
pub(crate) use early_stop::EarlyStop;
pub(crate) use inputs::hex;
