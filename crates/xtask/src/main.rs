//! Checks of this repository that are not tests, and what comes before a release: `cargo xtask`.

#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a program talks on the terminal"
)]

mod check;
mod command;
mod outside;
mod packages;
mod registry;
mod tidy;

use std::{
    path::{Path, PathBuf},
    process::ExitCode,
};

use command::Failure;

const HELP: &str = "\
cargo xtask COMMAND

  tidy              the written rules of this repository, each finding with its file and line
  check             formatting, tidy, lints, documentation, every feature set, licences, packages
  packages          packs every published crate, and prints what each weighs
  registry FOLDER   packs every published crate into a registry of its own, for cargo's `registries`
  outside FOLDER    a project outside of this repository that adds gallery-gpt from such a registry,
                    and runs the snippets of the README";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let root = root();
    let done = match words[..] {
        ["tidy"] => tidy::run(&root),
        ["check"] => check::run_all(&root),
        ["packages"] => packages::weigh(&root),
        ["registry", folder] => registry::make(&root, Path::new(folder)),
        ["outside", folder] => outside::prove(&root, Path::new(folder)),
        ["help" | "--help" | "-h"] => {
            println!("{HELP}");
            Ok(())
        }
        _ => Err(Failure(format!("expected a command\n\n{HELP}"))),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(Failure(message)) => {
            eprintln!("{message}");
            ExitCode::FAILURE
        }
    }
}

/// The root of the repository: this crate is two folders below it.
fn root() -> PathBuf {
    let own = Path::new(env!("CARGO_MANIFEST_DIR"));
    own.ancestors().nth(2).unwrap_or(own).to_owned()
}
