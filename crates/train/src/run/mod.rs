//! A run on disk: its folder, what it was begun with, and the checkpoints it goes on from.

mod checkpoint;
mod folder;
mod inputs;
mod lines;
mod lock;
mod settings;

pub use checkpoint::{AdapterWriting, CheckpointState, TrainingCheckpoint};
pub use folder::{LogState, RunFolder};
pub use inputs::{PictureDigest, PictureEvidence, RecordDigest};
pub use lines::{EvaluationLine, LogLine, SpeedLine};
pub use settings::{LoraSettings, RunSettings};

pub(crate) use checkpoint::{bytes_of, own};
pub(crate) use inputs::hex;
