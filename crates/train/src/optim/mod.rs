//! What is trained, at which rate, and by how much: parameter groups, learning-rate schedules, AdamW, clipping.

mod adamw;
mod param_group;
mod schedule;

pub use param_group::{ParamGroups, clip_global_norm, global_norm};
pub use schedule::{Schedule, SchedulerType};

pub(crate) use adamw::Optimizer;
pub(crate) use param_group::{fill_projector, mark_trainable};
