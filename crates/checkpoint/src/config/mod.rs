//! The JSON files beside a model's weights: read from either family, and written.

pub(crate) mod chat;
mod fields;
pub(crate) mod file;
pub(crate) mod json;
mod limit;
mod llama;
mod llava;
pub(crate) mod llava_hf;
pub(crate) mod named_ids;
pub(crate) mod processor;
pub(crate) mod qwen_vl;
pub(crate) mod vision;
