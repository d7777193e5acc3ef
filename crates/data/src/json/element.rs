//! One element of a JSON file: its text, its place in the file, and its value.

use std::path::Path;

use memchr::{memchr_iter, memchr2, memrchr};
use serde_json::Value;

use crate::{DatasetError, RecordError};

/// Maximum size of an element in bytes: 4 MiB. A longer one is a bad record.
pub(crate) const LONGEST_ELEMENT: usize = 4 << 20;

pub(crate) const EXPECTED: &str = "a JSON array of records, or one record per line";

/// Takes an element; its error ends the reading.
pub(crate) type Each<'a> = dyn FnMut(Element) -> Result<(), DatasetError> + 'a;

/// A line and a column, both from 1. Columns count bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    line: usize,
    column: usize,
}

impl std::fmt::Display for Place {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "line {} column {}", self.line, self.column)
    }
}

impl Place {
    pub(crate) const START: Self = Self { line: 1, column: 1 };

    pub(crate) fn next_line(self) -> Self {
        Self {
            line: self.line + 1,
            column: 1,
        }
    }

    /// The place after some bytes, which begin at this one.
    pub(crate) fn after(self, bytes: &[u8]) -> Self {
        match memrchr(b'\n', bytes) {
            None => Self {
                column: self.column + bytes.len(),
                ..self
            },
            Some(last) => Self {
                line: self.line + memchr_iter(b'\n', bytes).count(),
                column: bytes.len() - last,
            },
        }
    }
}

/// An element of an array, or a line or a value of its own, not parsed yet.
#[derive(Debug)]
pub(crate) struct Element {
    /// Its text, cut off one byte after [`LONGEST_ELEMENT`].
    pub(crate) text: Vec<u8>,
    /// Where it begins.
    pub(crate) place: Place,
    /// Whether it is an element of an array.
    pub(crate) in_array: bool,
}

impl Element {
    /// The value. Numbers that Python's `json` reads but JSON does not have (`NaN`, `Infinity`, and
    /// numbers beyond the range of f64) become null.
    ///
    /// # Errors
    /// The text is not JSON, or too long; the error has the place in the file.
    pub(crate) fn parse(&self) -> Result<Value, RecordError> {
        let schema = |found| RecordError::Schema {
            expected: "a record",
            found,
        };
        if self.text.len() > LONGEST_ELEMENT {
            return Err(schema(format!(
                "one of more than {} MiB, which begins at {}",
                LONGEST_ELEMENT >> 20,
                self.place
            )));
        }
        let error = match serde_json::from_slice(&self.text) {
            Ok(value) => return Ok(value),
            Err(error) => error,
        };
        if let Some(text) = non_finite_as_null(&self.text)
            && let Ok(value) = serde_json::from_slice(&text)
        {
            return Ok(value);
        }
        if let Err(wrong) = std::str::from_utf8(&self.text) {
            let place = self.place.after(&self.text[..wrong.valid_up_to()]);
            let byte = self.text[wrong.valid_up_to()];
            return Err(schema(format!(
                "the byte 0x{byte:02X} at {place}, which is not UTF-8; save the file as UTF-8"
            )));
        }
        // The parser counts from the start of the element, and its column is that of the last byte it
        // read.
        let place = match error.line() {
            0 | 1 => Place {
                line: self.place.line,
                column: self.place.column + error.column().saturating_sub(1),
            },
            line => Place {
                line: self.place.line + line - 1,
                column: error.column(),
            },
        };
        let what = error.to_string();
        let what = what.split(" at line ").next().unwrap_or_default();
        Err(schema(format!("text that is not JSON: {what} at {place}")))
    }
}

/// Appends bytes to the text of an element, which ends one byte after [`LONGEST_ELEMENT`].
pub(crate) fn keep(text: &mut Vec<u8>, bytes: &[u8]) {
    let room = (LONGEST_ELEMENT + 1).saturating_sub(text.len());
    text.extend_from_slice(&bytes[..bytes.len().min(room)]);
}

pub(crate) fn malformed(path: &Path, expected: &'static str, found: String) -> DatasetError {
    DatasetError::Malformed {
        path: path.to_owned(),
        expected,
        found,
    }
}

/// The text with null instead of the numbers that JSON does not have ([`Element::parse`]); `None` if
/// there are none.
fn non_finite_as_null(text: &[u8]) -> Option<Vec<u8>> {
    let mut replaced = None;
    let mut at = 0;
    while at < text.len() {
        let rest = &text[at..];
        let used = match rest[0] {
            b'"' => string_length(rest),
            b'N' | b'I' | b'-' | b'0'..=b'9' => {
                let is_end = |byte: &u8| !(byte.is_ascii_alphanumeric() || b"+-.".contains(byte));
                let end = rest.iter().position(is_end).unwrap_or(rest.len());
                let word = std::str::from_utf8(&rest[..end]).unwrap_or_default();
                let infinite = || word.parse::<f64>().is_ok_and(f64::is_infinite);
                if matches!(word, "NaN" | "Infinity" | "-Infinity") || infinite() {
                    let replaced = replaced.get_or_insert_with(|| text[..at].to_vec());
                    replaced.extend_from_slice(b"null");
                    at += end;
                    continue;
                }
                end
            }
            _ => 1,
        };
        if let Some(replaced) = &mut replaced {
            replaced.extend_from_slice(&rest[..used]);
        }
        at += used;
    }
    replaced
}

/// Length in bytes of a string that begins with its opening quote, up to the closing one.
fn string_length(text: &[u8]) -> usize {
    let mut at = 1;
    while let Some(next) = memchr2(b'"', b'\\', text.get(at..).unwrap_or_default()) {
        at += next + 1;
        if text[at - 1] == b'"' {
            return at;
        }
        at += 1;
    }
    text.len()
}
