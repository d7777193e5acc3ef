//! Writing over what is being read, and being killed while writing.

use std::{
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use gallery_gpt_checkpoint::{SaveOptions, save_model};

use crate::{load, tiny, values};

#[test]
fn writing_over_what_is_being_read() {
    let root = tempfile::tempdir().unwrap();
    let folder = root.path().join("model");
    save_model(&tiny(1), &folder, &SaveOptions::default()).unwrap();
    let model = load(&folder).unwrap();
    let before = values(&model);
    save_model(&tiny(2), &folder, &SaveOptions::default()).unwrap();
    assert!(values(&model) == before, "a loaded model keeps its weights");
    // And onto itself.
    save_model(&model, &folder, &SaveOptions::default()).unwrap();
    assert!(values(&load(&folder).unwrap()) == before);
    assert_eq!(std::fs::read_dir(root.path()).unwrap().count(), 1);
}

const VICTIM: &str = "GALLERY_GPT_TEST_VICTIM";

/// Not a test of its own: what the next one kills.
#[test]
fn victim() {
    if let Some(folder) = std::env::var_os(VICTIM) {
        let models = [tiny(1), tiny(2)];
        for turn in 0.. {
            let path = PathBuf::from(&folder);
            save_model(&models[turn % 2], path, &SaveOptions::default()).unwrap();
        }
    }
}

/// What is being written in a folder, or was when its writer was killed.
#[cfg(target_os = "linux")]
fn unfinished(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).unwrap();
    let paths = entries.map(|entry| entry.unwrap().path());
    let is_partial = |path: &PathBuf| path.to_string_lossy().contains(".partial-");
    paths.filter(is_partial).collect()
}

#[test]
#[cfg(target_os = "linux")]
fn killed_while_writing() {
    let root = tempfile::tempdir().unwrap();
    let folder = root.path().join("model");
    save_model(&tiny(1), &folder, &SaveOptions::default()).unwrap();
    // Only a kill that left something unfinished fell into a write.
    let mut kills_in_a_write = 0;
    for attempt in 0..200 {
        let mut victim = Command::new(std::env::current_exe().unwrap())
            .args(["writing::victim", "--exact", "--nocapture"])
            .env(VICTIM, &folder)
            .stdout(std::process::Stdio::null())
            .spawn()
            .unwrap();
        while unfinished(root.path()).is_empty() {
            assert!(
                victim.try_wait().unwrap().is_none(),
                "the writer ended by itself"
            );
        }
        std::thread::sleep(Duration::from_micros(300 * (attempt % 20)));
        victim.kill().unwrap();
        victim.wait().unwrap();
        let left = unfinished(root.path());
        kills_in_a_write += usize::from(!left.is_empty());
        for path in left {
            std::fs::remove_dir_all(path).unwrap();
        }
        load(&folder).unwrap();
        if kills_in_a_write == 20 {
            return;
        }
    }
    panic!("{kills_in_a_write} of 200 kills fell into a write, expected 20");
}
