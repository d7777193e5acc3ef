//! Picture files: pixels equal to Pillow's, and bounded memory and time for hostile files.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod as_pillow;
mod cost;
mod mutated;

use std::{
    path::{Path, PathBuf},
    sync::{Mutex, MutexGuard},
};

use gallery_gpt_vision::{ImageProcessor, ImageProcessorConfig};

/// Lets one test run at a time, because memory is counted for the whole process.
fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    ALONE
        .lock()
        .unwrap_or_else(std::sync::PoisonError::into_inner)
}

/// A folder of fixtures.
fn folder(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/pictures")
        .join(name)
}

fn processor() -> ImageProcessor {
    ImageProcessorConfig::new(336).init()
}
