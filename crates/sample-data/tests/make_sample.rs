//! What stands in the folder that the sample is drawn into.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::{
    fs,
    path::Path,
    process::{Command, Output},
};

fn draw(folder: &Path, more: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_make-sample"))
        .args(["--train", "1", "--test", "1", "--output_dir"])
        .arg(folder)
        .args(more)
        .output()
        .unwrap()
}

fn refused(output: &Output, words: &str) {
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success(), "{error}");
    assert!(error.contains(words), "{error}");
}

#[test]
fn a_folder_with_other_files_is_left_as_it_is() {
    let scratch = tempfile::tempdir().unwrap();
    let folder = scratch.path().join("out");
    assert!(draw(&folder, &[]).status.success());
    assert!(draw(&folder, &[]).status.success(), "its own is replaced");
    fs::write(folder.join("thesis.txt"), "mine").unwrap();
    refused(&draw(&folder, &[]), "thesis.txt");
    assert_eq!(fs::read(folder.join("thesis.txt")).unwrap(), b"mine");
    assert!(draw(&folder, &["--overwrite"]).status.success());
    assert!(!folder.join("thesis.txt").exists());
}

#[test]
fn a_sample_of_nothing_is_refused() {
    let scratch = tempfile::tempdir().unwrap();
    let folder = scratch.path().join("out");
    refused(&draw(&folder, &["--train=0"]), "at least 1");
    assert!(!folder.exists());
}
