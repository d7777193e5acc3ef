//! JSON-lines files, which a killed process may have left with an incomplete last line.

use std::{
    fs::OpenOptions,
    io::{ErrorKind, Write},
    path::Path,
};

use serde::{Serialize, de::DeserializeOwned};

use crate::{
    TrainError,
    error::{read_error, write_error},
};

/// Appends a line to a file; with `sync` it is on disk when this returns.
pub(super) fn append(path: &Path, line: &impl Serialize, sync: bool) -> Result<(), TrainError> {
    let write = || {
        let text = serde_json::to_string(line).map_err(std::io::Error::other)?;
        let mut file = OpenOptions::new().append(true).create(true).open(path)?;
        file.write_all(format!("{text}\n").as_bytes())?;
        if sync { file.sync_all() } else { Ok(()) }
    };
    write().map_err(write_error(path))
}

/// Truncates a JSON-lines file after the longest prefix of complete lines that `wanted` accepts, and returns them. A missing file
/// counts as empty.
pub(super) fn keep_lines<L: DeserializeOwned>(
    path: &Path,
    wanted: impl Fn(&L) -> bool,
) -> Result<Vec<L>, TrainError> {
    let text = match std::fs::read_to_string(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        text => text.map_err(read_error(path))?,
    };
    let mut kept = Vec::new();
    let mut bytes = 0;
    for line in text
        .split_inclusive('\n')
        .filter(|line| line.ends_with('\n'))
    {
        match serde_json::from_str(line) {
            Ok(parsed) if wanted(&parsed) => kept.push(parsed),
            _ => break,
        }
        bytes += line.len() as u64;
    }
    let file = OpenOptions::new().write(true).open(path);
    file.and_then(|file| file.set_len(bytes))
        .map_err(write_error(path))?;
    Ok(kept)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_truncated_after_its_last_complete_wanted_line() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("lines.jsonl");
        let keep = || keep_lines(&path, |&number: &u32| number < 5).expect("readable");
        assert!(keep().is_empty() && !path.exists());
        for number in 1..=4 {
            append(&path, &number, number == 4).expect("writable");
        }
        std::fs::write(&path, std::fs::read_to_string(&path).expect("text") + "4")
            .expect("written");
        assert_eq!(keep(), [1, 2, 3, 4]);
        append(&path, &7, false).expect("writable");
        append(&path, &1, false).expect("writable");
        assert_eq!(keep(), [1, 2, 3, 4]);
        assert_eq!(
            std::fs::read_to_string(&path).expect("text"),
            "1\n2\n3\n4\n"
        );
    }
}
