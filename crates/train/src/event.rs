//! The events that a trainer reports to its observer.

use std::path::PathBuf;

use tracing::{debug, info, warn};

use crate::{CurvePoint, StepReport};

/// An event of a training. With a subscriber of `tracing` they are collected as well, in the span `train`: steps at the level `DEBUG`,
/// skipped records at `WARN`, the others at `INFO`.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum TrainEvent {
    /// The training begins.
    Started {
        /// Steps it will take.
        total_steps: usize,
        /// Number of trained parameters.
        parameters: usize,
    },
    /// It resumes from a checkpoint.
    Resumed {
        /// Steps done by then.
        step: usize,
        /// The losses of the steps that were logged so far.
        losses: Vec<CurvePoint>,
        /// The validation losses so far.
        validation: Vec<CurvePoint>,
    },
    /// A bad record is skipped.
    Skipped {
        /// Which, and why.
        record: String,
        /// Records skipped so far.
        count: usize,
    },
    /// The model was evaluated on the validation records.
    Evaluated {
        /// Steps done by then.
        step: usize,
        /// Mean loss per supervised token.
        loss: f64,
    },
    /// The validation loss has not improved for as many evaluations as the patience allows.
    StoppedEarly {
        /// Steps done by then.
        step: usize,
        /// The step of the best evaluation.
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
        /// Its report.
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

impl TrainEvent {
    /// The same as an event of `tracing`, for programs that collect those.
    pub(crate) fn trace(&self) {
        match self {
            Self::Started {
                total_steps,
                parameters,
            } => info!(total_steps, parameters, "training started"),
            Self::Resumed { step, .. } => info!(step, "training resumed"),
            Self::Skipped { record, count } => warn!(record, count, "record skipped"),
            Self::Evaluated { step, loss } => info!(step, loss, "evaluated"),
            Self::StoppedEarly {
                step,
                best_step,
                best_loss,
            } => info!(step, best_step, best_loss, "stopped early"),
            Self::Saved { step, path } => info!(step, path = %path.display(), "checkpoint saved"),
            Self::Step {
                report,
                tokens_per_second,
                data_wait,
            } => debug!(
                step = report.step,
                loss = report.loss,
                grad_norm = report.grad_norm,
                learning_rate = report.learning_rate,
                tokens_per_second,
                data_wait,
                "step"
            ),
            Self::Finished { steps, seconds } => info!(steps, seconds, "training finished"),
        }
    }
}
