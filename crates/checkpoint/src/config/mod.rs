//! The JSON files beside a model's weights: read in every family's form, written in ours.

mod config_fields;
pub(crate) mod config_file;
pub(crate) mod config_json;
pub(crate) mod named_ids;
pub(crate) mod processor_config;
