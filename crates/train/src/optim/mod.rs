//! The update of a step: parameter groups, learning rates, clipping, AdamW.

mod adamw;
mod param_group;
mod schedule;

pub use param_group::{ParamGroups, clip_global_norm, global_norm};
pub use schedule::Schedule;

pub(crate) use adamw::Optimizer;
pub(crate) use param_group::{fill_projector, mark_trainable};
pub(crate) use schedule::Rates;
