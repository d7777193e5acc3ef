//! Compares the files of a folder that this library wrote with their checksums.

use std::{
    collections::BTreeMap,
    path::{Component, Path},
};

use rayon::prelude::*;
use serde::Deserialize;

use super::marker::MARKER;
use crate::{
    CheckpointError,
    file::{checksum::sha256_file, json::read_json_as},
};

/// The part of `gallery_gpt.json` that lists the folder's files with their SHA-256.
#[derive(Deserialize)]
struct Marker {
    #[serde(default)]
    files: BTreeMap<String, Option<String>>,
}

/// Compares every file of a folder that this library wrote with the checksum in its list. A folder without checksums, such as another
/// program's, passes. Reads all bytes, in parallel over the files.
///
/// # Errors
/// [`CheckpointError::Checksum`] if a file is missing or has changed; or a file cannot be read.
pub fn verify_folder(folder: impl AsRef<Path>) -> Result<(), CheckpointError> {
    verify_files(folder.as_ref(), |_| true)
}

/// As [`verify_folder`], for the files whose names `wanted` accepts.
pub(crate) fn verify_files(
    folder: &Path,
    wanted: impl Fn(&str) -> bool,
) -> Result<(), CheckpointError> {
    let list = folder.join(MARKER);
    if !list.is_file() {
        return Ok(());
    }
    let files = read_json_as::<Marker>(&list, "list of files")?.files;
    let files: Vec<(String, String)> = files
        .into_iter()
        .filter(|(name, _)| wanted(name))
        .filter_map(|(name, digest)| Some((name, digest?)))
        .collect();
    files.par_iter().try_for_each(|(name, expected)| {
        let path = folder.join(name);
        let wrong = |found: String| CheckpointError::Checksum {
            path: path.clone(),
            found,
            list: list.clone(),
        };
        let inside = Path::new(name)
            .components()
            .all(|part| matches!(part, Component::Normal(_)));
        if !inside || !path.is_file() {
            return Err(wrong("there is no such file".to_owned()));
        }
        let found = sha256_file(&path)?;
        if found == *expected {
            Ok(())
        } else {
            Err(wrong(format!(
                "its SHA-256 is {found}, expected {expected}"
            )))
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_changed_file_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let write =
            |name: &str, text: &str| std::fs::write(folder.path().join(name), text).unwrap();
        assert!(verify_folder(folder.path()).is_ok(), "another program's");
        write("a", "abc");
        let digest = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        assert_eq!(sha256_file(folder.path().join("a")).unwrap(), digest);
        write(MARKER, &format!(r#"{{"files": {{"a": "{digest}"}}}}"#));
        verify_folder(folder.path()).unwrap();
        write("b", "not ours");
        verify_folder(folder.path()).unwrap();
        write("a", "abd");
        let error = verify_folder(folder.path()).unwrap_err();
        assert!(matches!(&error, CheckpointError::Checksum { path, .. } if path.ends_with("a")));
        std::fs::remove_file(folder.path().join("a")).unwrap();
        let error = verify_folder(folder.path()).unwrap_err().to_string();
        assert!(error.contains("no such file"), "{error}");
        write(MARKER, &format!(r#"{{"files": {{"../a": "{digest}"}}}}"#));
        assert!(verify_folder(folder.path()).is_err());
        for older in [r#"{"base_model": "x"}"#, r#"{"files": {"a": null}}"#] {
            write(MARKER, older);
            verify_folder(folder.path()).unwrap();
        }
    }
}
