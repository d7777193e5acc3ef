//! What users really bring, through the whole model and through the programs: odd files, pipes, keys, other people's weights.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod adapters;
mod checkpoints;
mod pictures;
mod programs;
mod records;
mod scores;
mod server;
mod tokenizers;
mod training;

use std::{
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

/// The repository's root, where the programs' default paths begin.
fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../..")
        .canonicalize()
        .unwrap()
}

/// A file of `tests/user_files/fixtures`.
#[allow(dead_code, reason = "not every area has fixtures")]
fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/user_files/fixtures")
        .join(name)
}

/// A built program, ready to run in the repository's root. `cargo test` builds the examples before the tests; with
/// `--test user_files` alone, build the program first.
fn program(name: &str) -> Command {
    let target = std::env::current_exe().unwrap();
    let folder = target.ancestors().nth(2).unwrap().join("examples");
    let path = folder.join(format!("{name}{}", std::env::consts::EXE_SUFFIX));
    assert!(
        path.is_file(),
        "{} is not built: cargo build --release --example {name}",
        path.display()
    );
    let mut command = Command::new(path);
    command.current_dir(root()).stdin(Stdio::null());
    command
}
