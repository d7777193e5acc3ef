//! The settings of a training.

mod script;
mod training;

pub use script::{ReportTo, ScriptArguments, deepspeed_clipping};
pub use training::{
    LossMean, MicroBatches, OnBadRecord, Trainable, TrainableParts, TrainingConfig,
};
