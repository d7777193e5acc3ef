//! One optimizer step: loss, gradients, and the devices that share them.

mod data_parallel;
mod gradients;
mod loss;
mod replica;
mod state;

pub use gradients::{Dropout, GradientOptions, Gradients, Recompute, gradients};
pub use loss::CrossEntropy;
pub use state::{StepReport, TrainState, evaluate_loss};

pub(crate) use gradients::LOGIT_ROWS;
pub(crate) use replica::{PART_TOKENS, Rates};
pub(crate) use state::summed_loss;
