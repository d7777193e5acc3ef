//! SHA-256 of files: what our own folders are verified with, and what tells whether a base is still the same.

use std::{
    collections::{BTreeMap, BTreeSet},
    io::Read,
    path::{Component, Path},
};

use rayon::prelude::*;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::{
    CheckpointError, read::json_file::read_json_as, read::regular_file, write::marker::MARKER,
};

/// A digest in hexadecimal.
pub(crate) fn hex(hash: Sha256) -> String {
    let digest = hash.finalize();
    digest.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The SHA-256 of a whole file, in hexadecimal.
///
/// # Errors
/// The file cannot be read.
pub fn sha256_file(path: impl AsRef<Path>) -> Result<String, CheckpointError> {
    let path = path.as_ref();
    let digest = || {
        let mut file = regular_file::open(path)?;
        let mut hash = Sha256::new();
        let mut buffer = vec![0; 1 << 20];
        loop {
            match file.read(&mut buffer)? {
                0 => return Ok(hex(hash)),
                read => hash.update(&buffer[..read]),
            }
        }
    };
    digest().map_err(|source| CheckpointError::Read {
        path: path.to_owned(),
        source,
    })
}

/// The SHA-256 of some files of a folder by their names in it, computed in parallel.
pub(crate) fn sha256_files(
    folder: &Path,
    names: BTreeSet<String>,
) -> Result<BTreeMap<String, Option<String>>, CheckpointError> {
    let digests = names.into_par_iter().map(|name| {
        let digest = sha256_file(folder.join(&name))?;
        Ok((name, Some(digest)))
    });
    digests.collect()
}

/// The part of `gallery_gpt.json` that says what files the folder was written with.
#[derive(Deserialize)]
struct Marker {
    #[serde(default)]
    files: BTreeMap<String, Option<String>>,
}

/// Compares every file of a folder that this library wrote with the checksum it was written with. A folder without checksums, such
/// as another program's, has nothing to compare. Reads all bytes, in parallel over the files.
///
/// # Errors
/// [`CheckpointError::Checksum`] for a file that is missing or not what was written; or a file cannot be read.
pub fn verify_folder(folder: impl AsRef<Path>) -> Result<(), CheckpointError> {
    verify_files(folder.as_ref(), |_| true)
}

/// As [`verify_folder`], of the files that are `wanted` by their names.
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

/// What a base consists of, so that it can be told whether a later one is the same: SHA-256 by name, of its weights (one for all
/// tensors, whatever files they are in) and of each file beside them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct BaseIdentity {
    /// `weights`, and the names of the files in the base's folder; those of a vision tower that lies elsewhere begin with
    /// `vision_tower/`.
    pub files: BTreeMap<String, String>,
}

/// Files beside a model's weights that say what it does.
const BESIDE: [&str; 9] = [
    "added_tokens.json",
    "config.json",
    "generation_config.json",
    "preprocessor_config.json",
    "processor_config.json",
    "special_tokens_map.json",
    "tokenizer.json",
    "tokenizer.model",
    "tokenizer_config.json",
];

impl BaseIdentity {
    /// Of the weights' fingerprint and the files beside them.
    pub(crate) fn new(
        weights: Option<&str>,
        folder: &Path,
        tower: &Path,
    ) -> Result<Self, CheckpointError> {
        let mut files = BTreeMap::new();
        if let Some(weights) = weights {
            files.insert("weights".to_owned(), weights.to_owned());
        }
        let mut add = |folder: &Path, prefix: &str| -> Result<(), CheckpointError> {
            for name in BESIDE {
                let path = folder.join(name);
                if path.is_file() {
                    files.insert(format!("{prefix}{name}"), sha256_file(path)?);
                }
            }
            Ok(())
        };
        add(folder, "")?;
        if tower != folder {
            add(tower, "vision_tower/")?;
        }
        Ok(Self { files })
    }

    /// What differs from an earlier identity, a sentence each.
    #[must_use]
    pub fn differences(&self, earlier: &Self) -> Vec<String> {
        let names = self.files.keys().chain(earlier.files.keys());
        let mut names: Vec<&String> = names.collect();
        names.sort();
        names.dedup();
        let differences = names.into_iter().filter_map(|name| {
            match (earlier.files.get(name), self.files.get(name)) {
                (Some(then), Some(now)) if then == now => None,
                (Some(_), Some(_)) if name == "weights" => {
                    Some("the base's weights are not the same".to_owned())
                }
                (Some(_), Some(_)) => Some(format!("the base's {name} is not the same")),
                (Some(_), None) => Some(format!("the base no longer has {name}")),
                (None, _) => Some(format!("the base had no {name}")),
            }
        });
        differences.collect()
    }
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
