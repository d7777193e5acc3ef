//! The memory that a training will need, and the memory that is available.

mod available;
mod out_of_memory;
mod plan;
mod planner;
mod step_memory;

pub use available::AvailableMemory;
pub use out_of_memory::memory_saving_options;
pub use plan::{AttentionMemory, MemoryPlan, PlannedModel, TrainingPlan, flops_per_token};

pub(crate) use out_of_memory::{catch, message};
pub(crate) use planner::Planner;
