//! Flags that several commands share, and the defaults that they have in common.

mod generation;
mod hub_cache;
mod model;
mod output_model;
pub(crate) mod sample;

pub(crate) use generation::{BatchSize, GenerationFlags};
pub(crate) use hub_cache::cached_folder;
pub(crate) use model::{BaseFlag, ModelFlags, ModelPaths, TrainingTemplate};
pub(crate) use output_model::OutputModel;
