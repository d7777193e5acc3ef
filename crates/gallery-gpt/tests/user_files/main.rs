//! What users really bring, through the whole model: odd files, other people's weights.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod adapters;
mod checkpoints;
mod finetuning;
mod qwen_vl;
mod records;
mod tokenizers;
mod training;

use std::path::{Path, PathBuf};

/// The repository's root.
fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../..")
        .canonicalize()
        .unwrap()
}

/// A file of `tests/user_files/fixtures`.
fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/user_files/fixtures")
        .join(name)
}
