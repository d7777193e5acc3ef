//! One optimizer step: loss, gradients, and the devices that it is divided over.

mod data_parallel;
mod evaluation;
mod files;
mod gradients;
mod loss;
mod replica;
mod state;
mod supervised;

pub use evaluation::evaluate_loss;
pub use gradients::{Dropout, GradientOptions, Gradients, gradients};
pub use loss::CrossEntropy;
pub use state::{StepReport, TrainState};

pub(crate) use evaluation::summed_loss;
