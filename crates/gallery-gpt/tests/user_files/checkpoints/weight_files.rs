//! Files that are something else than weights.

use gallery_gpt::checkpoint::{CheckpointError, WeightFiles};
use gallery_gpt_testkit::copy_of_tiny_base;

use super::refused;

#[test]
fn git_lfs_pointers_are_told() {
    let pointer = "version https://git-lfs.github.com/spec/v1\noid sha256:4d7a214614ab2935c943f9e0ff69d22eadbb8f32b1258daaa5e2ca24d17e2393\nsize 14000000000\n";
    for name in [
        "model.safetensors",
        "config.json",
        "preprocessor_config.json",
    ] {
        let folder = tempfile::tempdir().unwrap();
        let base = copy_of_tiny_base(folder.path());
        std::fs::write(base.join(name), pointer).unwrap();
        let error = refused(&base);
        assert!(
            error.contains(name) && error.contains("git lfs pull"),
            "{error}"
        );
    }
    let folder = tempfile::tempdir().unwrap();
    for name in [
        "pytorch_model.bin",
        "pytorch_model.bin.index.json",
        "model.safetensors.index.json",
    ] {
        std::fs::write(folder.path().join(name), pointer).unwrap();
        let error = WeightFiles::open(folder.path()).unwrap_err();
        let is_told =
            matches!(&error, CheckpointError::GitLfsPointer { path } if path.ends_with(name));
        assert!(is_told, "{error}");
        std::fs::remove_file(folder.path().join(name)).unwrap();
    }
}

#[test]
fn files_of_other_kinds_are_called_what_they_are() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("pytorch_model.bin");
    let tar = [&[b'x'; 257][..], b"ustar\x0000", &[0; 248]].concat();
    for (bytes, expected) in [
        // pickle.dump({"a": 1}), with protocols 2 and 4.
        (
            &b"\x80\x02}q\x00X\x01\x00\x00\x00aq\x01K\x01s."[..],
            "a pickle that torch.save did not write",
        ),
        (
            b"\x80\x04\x95\x0a\0\0\0\0\0\0\0}\x94\x8c\x01a\x94K\x01s.",
            "a pickle that torch.save did not write",
        ),
        (b"GGUF\x03\0\0\0", "a GGUF file"),
        (b"<!DOCTYPE html><html>", "a web page"),
        (b"\x1f\x8b\x08\0", "gzip"),
        (&tar, "tar archive"),
        (b"PK\x03\x04 and nothing else", "archive"),
    ] {
        std::fs::write(&path, bytes).unwrap();
        let error = WeightFiles::open(folder.path()).unwrap_err().to_string();
        assert!(
            error.contains(expected) && error.contains("pytorch_model.bin"),
            "{error}"
        );
    }
}
