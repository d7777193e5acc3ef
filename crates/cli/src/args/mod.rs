//! Flags that several commands share.

mod generation;
mod hub_cache;
mod model;
mod output_folder;

pub(crate) use generation::GenerationFlags;
pub(crate) use hub_cache::{TINY_BASE, cached_folder, model_folder};
pub(crate) use model::ModelFlags;
pub(crate) use output_folder::{OutputFolder, shard_size};
