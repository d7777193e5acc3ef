//! The settings of a training.

mod epochs;
mod parts;
mod pieces;
mod recompute;
mod scheduler;
mod script;
mod training;

pub use parts::{Trainable, TrainableParts};
pub use recompute::Recompute;
pub use scheduler::SchedulerType;
pub use script::{ReportTo, ScriptArguments, deepspeed_clipping};
pub use training::{LossMean, MicroBatches, OnBadRecord, TrainingConfig};

pub(crate) use epochs::Epochs;
pub(crate) use pieces::{LOGIT_ROWS, PART_TOKENS, PREFETCHED_STEPS};
