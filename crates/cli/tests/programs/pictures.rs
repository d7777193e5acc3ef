//! Pictures as they are found in folders.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Output,
    time::{Duration, Instant},
};

use crate::{program, root};

/// A picture of the tests of `vision`.
fn kept(name: &str) -> PathBuf {
    root().join("crates/vision/tests/pictures").join(name)
}

fn caption(arguments: &[&Path], more: &[&str]) -> Output {
    let mut caption = program("caption");
    caption.args(["--max_new_tokens", "3"]).args(more);
    caption.args(arguments).output().unwrap()
}

fn error(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn a_folder_says_what_it_left_out_and_why() {
    let folder = tempfile::tempdir().unwrap();
    let put = |name: &str, bytes: &[u8]| fs::write(folder.path().join(name), bytes).unwrap();
    let picture = |name: &str| fs::read(kept(name)).unwrap();
    put("scan.tif", &picture("corpus/t_17x16_RGB_tiff_lzw.tif"));
    put("scan", &picture("corpus/p_17x16_RGB.png"));
    put("page.jpg", b"<!DOCTYPE html><title>not found</title>");
    put(
        "pointer.jpg",
        b"version https://git-lfs.github.com/spec/v1\n",
    );
    put("notes.txt", b"two scans");
    fs::create_dir(folder.path().join("more")).unwrap();
    let elsewhere = tempfile::tempdir().unwrap();
    let answers = elsewhere.path().join("answers.jsonl");
    let output = caption(&[folder.path()], &["--output", answers.to_str().unwrap()]);
    let said = error(&output);
    assert!(output.status.success(), "{said}");
    for (name, reason) in [
        ("page.jpg", "web page"),
        ("pointer.jpg", "git lfs pull"),
        ("notes.txt", "text"),
        ("more", "folder"),
    ] {
        let mut lines = said.lines();
        let named = lines.find(|line| line.contains("left out") && line.contains(name));
        assert!(named.is_some_and(|line| line.contains(reason)), "{said}");
    }
    let written = fs::read_to_string(&answers).unwrap();
    for name in ["scan.tif", "scan\""] {
        assert!(written.contains(name), "{written}");
    }
}

#[test]
fn a_rotation_that_is_not_applied_is_noted() {
    let turned = kept("turned/6.jpg");
    let output = caption(&[&turned], &[]);
    let said = error(&output);
    assert!(output.status.success(), "{said}");
    assert!(
        said.contains("a rotation by 90 degrees clockwise that is not applied"),
        "{said}"
    );
    for (picture, more) in [
        (turned, &["--apply_orientation"][..]),
        (kept("turned/1.jpg"), &[]),
    ] {
        let output = caption(&[&picture], more);
        assert!(output.status.success(), "{}", error(&output));
        assert!(!error(&output).contains("rotation"), "{}", error(&output));
    }
}

#[test]
fn a_picture_made_to_hang_ends_with_its_name() {
    let folder = tempfile::tempdir().unwrap();
    let strip = |height: u32| {
        let path = folder.path().join(format!("{height}.png"));
        image::GrayImage::new(1, height).save(&path).unwrap();
        path
    };
    let began = Instant::now();
    let output = caption(&[&strip(200_000)], &[]);
    assert!(!output.status.success());
    assert!(error(&output).contains("200000.png"), "{}", error(&output));
    let output = caption(&[&strip(65_000)], &[]);
    assert!(output.status.success(), "{}", error(&output));
    // Two starts of the program and two pictures, on a machine that may be busy; an unbounded decoder takes a minute.
    assert!(
        began.elapsed() < Duration::from_secs(30),
        "{:?}",
        began.elapsed()
    );
}
