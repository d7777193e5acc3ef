//! JSON-lines files that a long run appends to.

use std::{
    fs::{File, OpenOptions, TryLockError},
    io::{self, Write},
    path::{Path, PathBuf},
};

use serde_json::{Map, Value};

use crate::{
    EvalError,
    error::{read_error, write_error},
};

/// A JSON-lines file. Every line is synced to the disk before the next is written.
///
/// The file is not changed before the first new line, so that the caller can check whose lines it
/// holds. Then an incomplete last line of an interrupted run is removed.
#[derive(Debug)]
pub struct JsonLinesFile {
    path: PathBuf,
    file: File,
    end: End,
}

/// How a file ends.
#[derive(Debug)]
enum End {
    /// With a complete line, or empty.
    Line,
    /// With a complete line without its line end.
    Unended,
    /// With an incomplete line, which starts at this byte.
    Part(u64),
}

/// An object of a file, and its line number, from 1.
pub type JsonLine = (usize, Map<String, Value>);

impl JsonLinesFile {
    /// Opens a file to append to it, or creates it and its folder. Also returns its lines.
    ///
    /// # Errors
    /// The file cannot be read or written, another process is writing it, or a line is not a JSON
    /// object.
    pub fn resume(path: impl Into<PathBuf>) -> Result<(Self, Vec<JsonLine>), EvalError> {
        let path = path.into();
        let write = write_error(&path);
        if path.metadata().is_ok_and(|found| !found.is_file()) {
            return Err(write(io::Error::other("it is not a file")));
        }
        if let Some(folder) = path.parent() {
            std::fs::create_dir_all(folder).map_err(write)?;
        }
        let options = OpenOptions::new().create(true).append(true).clone();
        let file = options.open(&path).map_err(write)?;
        if let Err(TryLockError::WouldBlock) = file.try_lock() {
            let source = io::Error::other("another process is writing it");
            return Err(write(source));
        }
        let bytes = std::fs::read(&path).map_err(read_error(&path))?;
        let mut lines = Vec::new();
        let mut end = End::Line;
        let mut at = 0;
        for (number, line) in bytes.split_inclusive(|&byte| byte == b'\n').enumerate() {
            let is_ended = line.ends_with(b"\n");
            match serde_json::from_slice(line) {
                Ok(object) => {
                    lines.push((number + 1, object));
                    if !is_ended {
                        end = End::Unended;
                    }
                }
                Err(_) if is_ended && line.trim_ascii().is_empty() => {}
                Err(_) if !is_ended && (line.starts_with(b"{") || !lines.is_empty()) => {
                    end = End::Part(at);
                }
                Err(error) => {
                    return Err(EvalError::Predictions {
                        path,
                        place: format!("line {}", number + 1),
                        expected: "a JSON object on each line",
                        found: error.to_string(),
                    });
                }
            }
            at += line.len() as u64;
        }
        Ok((Self { path, file, end }, lines))
    }

    /// Path of the file.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Appends a line and syncs it to the disk.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn push(&mut self, line: &Value) -> Result<(), EvalError> {
        let mut write = || {
            let before = match std::mem::replace(&mut self.end, End::Line) {
                End::Line => "",
                End::Unended => "\n",
                End::Part(behind) => {
                    self.file.set_len(behind)?;
                    ""
                }
            };
            let text = format!("{before}{line}\n");
            self.file.write_all(text.as_bytes())?;
            self.file.sync_data()
        };
        write().map_err(write_error(&self.path))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_file_of_another_kind_is_not_changed() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("notes");
        for text in [
            "no end of line",
            "two\nlines",
            "{\n  \"pretty\": 1\n}",
            "[1]\n",
            "{\"a\": 1}\n3\n",
        ] {
            std::fs::write(&path, text).unwrap();
            assert!(JsonLinesFile::resume(&path).is_err(), "{text}");
            assert_eq!(std::fs::read_to_string(&path).unwrap(), text);
        }
        assert!(JsonLinesFile::resume(folder.path()).is_err());
    }

    #[test]
    fn an_incomplete_last_line_is_replaced_by_the_first_new_one() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("lines");
        for (text, kept) in [
            ("", ""),
            ("{\"a\":1}\n", "{\"a\":1}\n"),
            ("{\"a\":1}", "{\"a\":1}\n"),
            ("{\"a\":1}\n\n{\"b\"", "{\"a\":1}\n\n"),
            ("{\"a\":1}\n\0\0\0", "{\"a\":1}\n"),
            ("{\"a\":", ""),
        ] {
            std::fs::write(&path, text).unwrap();
            let (mut file, _) = JsonLinesFile::resume(&path).unwrap();
            assert_eq!(std::fs::read_to_string(&path).unwrap(), text);
            file.push(&json!({"new": 1})).unwrap();
            file.push(&json!({"new": 2})).unwrap();
            assert_eq!(
                std::fs::read_to_string(&path).unwrap(),
                format!("{kept}{{\"new\":1}}\n{{\"new\":2}}\n"),
                "{text:?}"
            );
        }
    }

    #[test]
    fn a_file_has_one_writer() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("lines");
        let first = JsonLinesFile::resume(&path).unwrap();
        assert!(JsonLinesFile::resume(&path).is_err());
        drop(first);
        JsonLinesFile::resume(&path).unwrap();
    }
}
