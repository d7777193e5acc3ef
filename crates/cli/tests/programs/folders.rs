//! Folders that a command is told to write, with something in them.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Output,
};

use gallery_gpt::prelude::*;

use crate::{program, root};

/// An untrained adapter of the tiny base.
pub(super) fn adapter(folder: &Path) {
    let gallery = GalleryGpt::load(root().join("datasets/tiny-base"), &Device::flex()).unwrap();
    let lora = LoraConfig::new(2, 4.0);
    let model = gallery.model().clone().apply_lora(&lora);
    let layout = gallery_gpt::checkpoint::AdapterLayout::Peft;
    save_adapter(&model, &gallery.origin(), folder, layout).unwrap();
}

/// Names and contents of all files in a folder.
fn contents(folder: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files.extend(contents(&path));
        } else {
            files.push((path.clone(), fs::read(&path).unwrap()));
        }
    }
    files.sort();
    files
}

fn succeeded(output: &Output) {
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{error}");
}

fn refused(output: &Output, words: &str) {
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success(), "{error}");
    assert!(error.contains(words), "{error}");
}

/// Every command that writes a folder of its own and needs no training, told to write `output`.
fn write(scratch: &Path, output: &Path, more: &[&str]) -> [Output; 3] {
    let adapter = scratch.join("ad").display().to_string();
    [
        ("merge", vec!["--adapter", &adapter]),
        ("convert", vec!["--layout", "llava"]),
        (
            "convert",
            vec!["--layout", "llava_hf", "--adapter", &adapter],
        ),
    ]
    .map(|(name, arguments)| {
        let mut command = program(name);
        command.args(arguments).arg("--output_dir").arg(output);
        command.args(more).output().unwrap()
    })
}

#[test]
fn a_folder_with_other_files_is_left_as_it_is() {
    let scratch = tempfile::tempdir().unwrap();
    adapter(&scratch.path().join("ad"));
    let precious = scratch.path().join("precious");
    fs::create_dir_all(precious.join("sub")).unwrap();
    fs::write(precious.join("thesis.txt"), "mine").unwrap();
    fs::write(precious.join("sub/notes.md"), "mine").unwrap();
    let before = contents(scratch.path());
    for output in write(scratch.path(), &precious, &[]) {
        refused(&output, "thesis.txt");
        assert_eq!(contents(scratch.path()), before);
    }
    for output in write(scratch.path(), &precious, &["--overwrite"]) {
        succeeded(&output);
        assert!(!precious.join("thesis.txt").exists());
    }
}

#[test]
fn own_empty_and_missing_folders_are_written() {
    let scratch = tempfile::tempdir().unwrap();
    adapter(&scratch.path().join("ad"));
    let folder = scratch.path().join("out");
    for output in write(scratch.path(), &folder, &[]) {
        succeeded(&output);
    }
    fs::remove_dir_all(&folder).unwrap();
    fs::create_dir(&folder).unwrap();
    for output in write(scratch.path(), &folder, &[]) {
        succeeded(&output);
    }
    // With one file more it is refused.
    fs::write(folder.join("notes.md"), "mine").unwrap();
    for output in write(scratch.path(), &folder, &[]) {
        refused(&output, "notes.md");
    }
}

#[cfg(unix)]
#[test]
fn an_input_is_never_an_output() {
    let scratch = tempfile::tempdir().unwrap();
    let path = |name: &str| scratch.path().join(name);
    adapter(&path("ad"));
    std::os::unix::fs::symlink(path("ad"), path("link")).unwrap();
    fs::create_dir(path("empty")).unwrap();
    let base = path("models/base");
    fs::create_dir_all(&base).unwrap();
    for entry in fs::read_dir(root().join("datasets/tiny-base")).unwrap() {
        let file = entry.unwrap().path();
        fs::copy(&file, base.join(file.file_name().unwrap())).unwrap();
    }
    std::os::unix::fs::symlink(path("models"), path("linked")).unwrap();
    let before = contents(scratch.path());
    let run = |name, folder: &str, output: &str| {
        let mut command = program(name);
        command.current_dir(path(folder)).arg("--overwrite");
        command.args(["--adapter", "../link", "--output_dir", output]);
        if name == "convert" {
            command.args(["--layout", "llava"]);
        }
        command.arg("--base").arg(&base).output().unwrap()
    };
    for output in [
        "../ad",
        "../link",
        "../missing/../ad",
        "../link/inside",
        "..",
        "../linked/base",
        "../models",
        "../linked/base/new",
    ] {
        for name in ["merge", "convert"] {
            refused(&run(name, "empty", output), "is read from there");
            assert_eq!(contents(scratch.path()), before, "{name} {output}");
        }
    }
    succeeded(&run("merge", "empty", "."));
    assert!(path("empty/model.safetensors").is_file());
}

#[test]
fn shards_are_sized_as_transformers_says_it() {
    let scratch = tempfile::tempdir().unwrap();
    for (size, shards) in [
        ("1MB", 3),
        ("1MiB", 3),
        ("5GB", 0),
        ("1000000", 3),
        ("2.5MB", 2),
    ] {
        let folder = scratch.path().join(size);
        let mut convert = program("convert");
        convert.args([
            "--layout",
            "llava_hf",
            "--max_shard_size",
            size,
            "--output_dir",
        ]);
        succeeded(&convert.arg(&folder).output().unwrap());
        let index = folder.join("model.safetensors.index.json");
        let found = contents(&folder)
            .iter()
            .filter(|(path, _)| path.to_string_lossy().contains("-of-"))
            .count();
        assert_eq!(found, shards, "{size}");
        assert_eq!(index.is_file(), shards > 0);
    }
    for size in ["5XB", "", "many", "0"] {
        let mut convert = program("convert");
        convert.args([
            "--layout",
            "llava_hf",
            "--max_shard_size",
            size,
            "--output_dir",
        ]);
        refused(
            &convert.arg(scratch.path().join("no")).output().unwrap(),
            "max_shard_size",
        );
    }
}

#[cfg(unix)]
#[test]
fn what_is_written_has_the_modes_that_the_umask_leaves() {
    use std::os::unix::fs::PermissionsExt;
    let scratch = tempfile::tempdir().unwrap();
    let output = scratch.path().join("out");
    let convert = program("convert");
    let private = std::process::Command::new("sh")
        .args(["-c", "umask 077; exec \"$@\"", "sh"])
        .arg(convert.get_program())
        .args(["convert", "--layout", "llava", "--output_dir"])
        .arg(&output)
        .current_dir(root())
        .output()
        .unwrap();
    succeeded(&private);
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&output), 0o700);
    for name in ["config.json", "gallery_gpt.json"] {
        assert_eq!(mode(&output.join(name)), 0o600, "{name}");
    }
}
