//! The program as users run it: pipes, keys, paths, odd files, stopped runs.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod answers;
mod checkpoints;
mod command_line;
mod folders;
mod help;
mod inspect;
mod models;
mod pictures;
mod pipes;
mod pseudo_terminal;
mod qwen_vl;
mod records;
mod runs;
mod scores;
mod script;
mod server;

use std::{
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

/// The repository's root, where the program's default paths begin.
fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../..")
        .canonicalize()
        .unwrap()
}

/// A command of the program, ready to run in the repository's root.
fn program(command: &str) -> Command {
    let mut program = Command::new(env!("CARGO_BIN_EXE_gallery-gpt"));
    program
        .arg(command)
        .current_dir(root())
        .stdin(Stdio::null());
    program
}
