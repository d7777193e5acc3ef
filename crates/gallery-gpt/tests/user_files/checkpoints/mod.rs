//! Models of other tools: weights, configs, checksums.

mod configs;
mod hostile;
mod qwen_vl;
mod weight_files;

use std::path::Path;

use burn::tensor::Device;
use gallery_gpt::GalleryGpt;
use serde_json::Value;

use crate::root;

fn read(path: &Path) -> Value {
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
}

fn write(path: &Path, value: &Value) {
    std::fs::write(path, value.to_string()).unwrap();
}

/// The tiny base's config with one field changed, by its path with dots.
fn with_field(field: &str, value: Value) -> Value {
    let mut config = read(&root().join("datasets/tiny-base/config.json"));
    match field.split_once('.') {
        Some((part, name)) => config[part][name] = value,
        None => config[field] = value,
    }
    config
}

fn refused(folder: &Path) -> String {
    let error = GalleryGpt::load(folder, &Device::flex()).unwrap_err();
    error.to_string()
}
