//! A run on disk: its folder, what it was begun with, and the checkpoints it goes on from.

mod checkpoint;
mod curve;
mod folder;
mod inputs;
mod lines;
mod lock;
mod page;
mod samples;
mod settings;

pub use checkpoint::{CheckpointState, TrainingCheckpoint};
pub use curve::{CurvePoint, write_curve};
pub use folder::{LogState, RunFolder};
pub use inputs::{PictureDigest, PictureEvidence, RecordDigest};
pub use lines::{EvaluationLine, LogLine, SpeedLine};
pub use samples::{SampleLine, SamplePainting, Samples};
pub use settings::{LoraSettings, RunSettings};

pub(crate) use checkpoint::{bytes_of, own};
pub(crate) use inputs::hex;
