//! What a training will need of memory and disk, and what there is.

mod available;
mod disk;
mod out_of_memory;
mod plan;

pub use available::AvailableMemory;
pub use out_of_memory::less_memory;
pub use plan::{AttentionMemory, MemoryPlan, PlannedModel, TrainingPlan, flops_per_token};

pub(crate) use disk::{Kept, ensure_room};
pub(crate) use out_of_memory::{catch, message};
