//! What a trainer tells its observer.

use std::path::PathBuf;

use crate::{CurvePoint, StepReport};

/// Something that happened.
#[derive(Clone, Debug)]
pub enum TrainEvent {
    /// The training begins.
    Started {
        /// Steps it will take.
        total_steps: usize,
        /// Numbers that are trained.
        parameters: usize,
    },
    /// It goes on from a checkpoint.
    Resumed {
        /// Steps done by then.
        step: usize,
        /// The losses of the steps that were logged by then.
        losses: Vec<CurvePoint>,
        /// The validation losses by then.
        validation: Vec<CurvePoint>,
    },
    /// A record is left out.
    LeftOut {
        /// Which, and why.
        record: String,
        /// So far.
        count: usize,
    },
    /// The validation records were looked at.
    Evaluated {
        /// Steps done by then.
        step: usize,
        /// Mean loss per supervised token.
        loss: f64,
    },
    /// The validation loss has not become better for as long as was allowed.
    StoppedEarly {
        /// Steps done by then.
        step: usize,
        /// The step of the best look.
        best_step: usize,
        /// Its loss.
        best_loss: f64,
    },
    /// A checkpoint was written.
    Saved {
        /// Steps done by then.
        step: usize,
        /// Its folder.
        path: PathBuf,
    },
    /// A step was done.
    Step {
        /// What it did.
        report: StepReport,
        /// Tokens per second of this step.
        tokens_per_second: f64,
        /// Seconds the step waited for its batch.
        data_wait: f64,
    },
    /// The training is over.
    Finished {
        /// Steps done.
        steps: usize,
        /// Seconds it took.
        seconds: f64,
    },
}
