//! The elements of a JSON array, or of a file of JSON lines, each still as text.
//!
//! A file in UTF-8 is never in memory as a whole (one in UTF-16 is, while it is read), and what is wrong inside an element costs that element alone: elements are told apart
//! by brackets and quotes, and parsed later.

use std::{
    fs::File,
    io::{BufRead, BufReader, Cursor, Read},
    path::Path,
};

use memchr::{memchr, memchr_iter, memchr2, memrchr};
use serde_json::Value;

use crate::{DatasetError, RecordError, splitter::Splitter};

/// Bytes of an element that are read: 4 MiB. A longer one is passed over and named.
pub(crate) const LONGEST_ELEMENT: usize = 4 << 20;

pub(crate) const EXPECTED: &str = "a JSON array of records, or one record a line";
const UTF8_MARK: &[u8] = b"\xEF\xBB\xBF";

/// Line and column, from 1; columns are bytes.
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
    const START: Self = Self { line: 1, column: 1 };

    /// Where one is behind some bytes.
    pub(crate) fn behind(self, bytes: &[u8]) -> Self {
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

/// An element of a file, not parsed yet.
#[derive(Debug)]
pub(crate) struct Element {
    /// Its text, or what there is of it when it is longer than [`LONGEST_ELEMENT`].
    pub(crate) text: Vec<u8>,
    /// Where it begins.
    pub(crate) place: Place,
    /// Whether it is one of an array, not a line or value of its own.
    pub(crate) in_array: bool,
}

impl Element {
    /// The value. What Python's reader takes and JSON does not know (`NaN`, `Infinity`, numbers that no double holds) is null.
    ///
    /// # Errors
    /// The text is not JSON, with line and column in the file.
    pub(crate) fn parse(&self) -> Result<Value, RecordError> {
        let schema = |found| RecordError::Schema {
            expected: "a record",
            found,
        };
        if self.text.len() > LONGEST_ELEMENT {
            return Err(schema(format!(
                "one of more than {} MiB that begins at {}",
                LONGEST_ELEMENT >> 20,
                self.place
            )));
        }
        let error = match serde_json::from_slice(&self.text) {
            Ok(value) => return Ok(value),
            Err(error) => error,
        };
        if let Some(Ok(value)) = without_pythons_numbers(&self.text).map(|text| {
            let parsed: serde_json::Result<Value> = serde_json::from_slice(&text);
            parsed
        }) {
            return Ok(value);
        }
        if let Err(wrong) = std::str::from_utf8(&self.text) {
            let place = self.place.behind(&self.text[..wrong.valid_up_to()]);
            let byte = self.text[wrong.valid_up_to()];
            return Err(schema(format!(
                "the byte 0x{byte:02X} at {place}, which is not UTF-8; save the file as UTF-8"
            )));
        }
        // The column of the parser is that of the last byte it read.
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

/// Opens a file that is one: no device, no pipe, no folder, which have no end or block.
///
/// # Errors
/// There is no such file, or it is none.
pub(crate) fn open(path: &Path) -> Result<impl BufRead + use<>, DatasetError> {
    let failed = |source| DatasetError::Read {
        path: path.to_owned(),
        source,
    };
    let kind = std::fs::metadata(path).map_err(failed)?.file_type();
    if !kind.is_file() {
        let found = if kind.is_dir() {
            "a folder"
        } else {
            "a device or a pipe"
        };
        return Err(malformed(path, "a file", found.to_owned()));
    }
    let file = File::open(path).map_err(failed)?;
    Ok(BufReader::with_capacity(1 << 20, file))
}

/// What is done with an element; an error ends the reading.
pub(crate) type Each<'a> = dyn FnMut(Element) -> Result<(), DatasetError> + 'a;

/// Calls `each` with every element of a JSON array, of JSON lines, or of JSON values one after the other, and says whether it was
/// an array.
///
/// # Errors
/// What is read is none of them, or broken between its elements.
pub(crate) fn for_each_element(
    path: &Path,
    mut reader: impl BufRead,
    each: &mut Each<'_>,
) -> Result<bool, DatasetError> {
    let failed = |source| DatasetError::Read {
        path: path.to_owned(),
        source,
    };
    // Not `fill_buf`: it may hold a byte only.
    let mut start = Vec::new();
    reader
        .by_ref()
        .take(256)
        .read_to_end(&mut start)
        .map_err(failed)?;
    if let Some(big_endian) = utf16(&start) {
        let mut bytes = start;
        reader.read_to_end(&mut bytes).map_err(failed)?;
        let text = from_utf16(&bytes, big_endian).ok_or_else(|| {
            malformed(
                path,
                EXPECTED,
                "UTF-16 text with half characters; save the file as UTF-8".to_owned(),
            )
        })?;
        return elements(path, Cursor::new(text), each);
    }
    let mark = if start.starts_with(UTF8_MARK) {
        UTF8_MARK.len()
    } else {
        0
    };
    let mut start = Cursor::new(start);
    start.set_position(mark as u64);
    elements(path, start.chain(reader), each)
}

fn elements(
    path: &Path,
    mut reader: impl BufRead,
    each: &mut Each<'_>,
) -> Result<bool, DatasetError> {
    let failed = |source| DatasetError::Read {
        path: path.to_owned(),
        source,
    };
    let mut place = Place::START;
    let first = loop {
        let bytes = reader.fill_buf().map_err(failed)?;
        if bytes.is_empty() {
            return Err(malformed(path, EXPECTED, "an empty file".to_owned()));
        }
        let blank = bytes
            .iter()
            .take_while(|byte| byte.is_ascii_whitespace())
            .count();
        place = place.behind(&bytes[..blank]);
        match bytes.get(blank) {
            Some(b'[' | b'{') => {}
            Some(_) => return Err(malformed(path, EXPECTED, what_it_is(&bytes[blank..]))),
            None => {
                reader.consume(blank);
                continue;
            }
        }
        let first = bytes[blank];
        reader.consume(blank);
        break first;
    };
    let array = first == b'[';
    let mut head = Vec::new();
    if !array {
        read_line(&mut reader, &mut head).map_err(failed)?;
        let whole: Result<serde::de::IgnoredAny, _> = serde_json::from_slice(&head);
        let goes_on = whole.is_err_and(|error| error.is_eof());
        if !goes_on || head.len() > LONGEST_ELEMENT {
            return lines(path, reader, head, place, each).map(|()| false);
        }
    }
    let mut splitter = Splitter::new(path, array, place, each);
    splitter.feed(&head)?;
    loop {
        let bytes = reader.fill_buf().map_err(failed)?;
        if bytes.is_empty() {
            break;
        }
        let count = bytes.len();
        splitter.feed(bytes)?;
        reader.consume(count);
    }
    splitter.end()?;
    Ok(array)
}

/// Every line that is not blank is an element.
fn lines(
    path: &Path,
    mut reader: impl BufRead,
    mut line: Vec<u8>,
    mut place: Place,
    each: &mut Each<'_>,
) -> Result<(), DatasetError> {
    loop {
        line.truncate(line.trim_ascii_end().len());
        if !line.is_empty() {
            let text = std::mem::take(&mut line);
            each(Element {
                text,
                place,
                in_array: false,
            })?;
        }
        line.clear();
        place = Place {
            line: place.line + 1,
            column: 1,
        };
        let more = read_line(&mut reader, &mut line);
        if !more.map_err(|source| DatasetError::Read {
            path: path.to_owned(),
            source,
        })? {
            return Ok(());
        }
    }
}

/// Reads a line, of which no more than is wanted of an element is kept; false at the end of the file.
fn read_line(reader: &mut impl BufRead, line: &mut Vec<u8>) -> std::io::Result<bool> {
    let mut any = false;
    loop {
        let bytes = reader.fill_buf()?;
        if bytes.is_empty() {
            return Ok(any);
        }
        any = true;
        let end = memchr(b'\n', bytes);
        let count = end.map_or(bytes.len(), |end| end + 1);
        keep(line, &bytes[..count]);
        reader.consume(count);
        if end.is_some() {
            return Ok(true);
        }
    }
}

/// Adds bytes to an element, up to one more than is read of it.
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

/// What a file is that begins with neither bracket.
fn what_it_is(bytes: &[u8]) -> String {
    let known: [(&[u8], &str); 8] = [
        (
            b"version https://git-lfs",
            "a Git LFS pointer: the file itself was not downloaded (`git lfs pull`)",
        ),
        (b"\x1F\x8B", "a gzip file; unpack it"),
        (b"PK\x03\x04", "a zip file; unpack it"),
        (b"(\xB5\x2F\xFD", "a zstd file; unpack it"),
        (b"PAR1", "a Parquet file; write it as JSON"),
        (b"\xFF\xFE\0\0", "UTF-32 text; save the file as UTF-8"),
        (b"\0\0\xFE\xFF", "UTF-32 text; save the file as UTF-8"),
        (b"<", "a web page or XML"),
    ];
    known
        .into_iter()
        .find(|(start, _)| bytes.starts_with(start))
        .map_or("text that is not JSON", |(_, what)| what)
        .to_owned()
}

/// Whether a text is UTF-16 and, if so, big-endian: by its mark, or by the zero beside its first bracket.
fn utf16(start: &[u8]) -> Option<bool> {
    match start {
        [0xFF, 0xFE, 0, 0, ..] => None,
        [0xFF, 0xFE, ..] | [b'[' | b'{', 0, ..] => Some(false),
        [0xFE, 0xFF, ..] | [0, b'[' | b'{', ..] => Some(true),
        _ => None,
    }
}

/// UTF-16 as UTF-8; nothing where half a character is missing.
fn from_utf16(bytes: &[u8], big_endian: bool) -> Option<String> {
    let units = bytes.chunks(2).map(|pair| {
        let pair: [u8; 2] = pair.try_into().unwrap_or_default();
        if big_endian {
            u16::from_be_bytes(pair)
        } else {
            u16::from_le_bytes(pair)
        }
    });
    bytes
        .len()
        .is_multiple_of(2)
        .then(|| {
            char::decode_utf16(units)
                .collect::<Result<String, _>>()
                .ok()
        })
        .flatten()
        .map(|text| text.trim_start_matches('\u{FEFF}').to_owned())
}

/// A text with null in the place of what Python's reader takes for a number and JSON does not have; nothing where it has none.
fn without_pythons_numbers(text: &[u8]) -> Option<Vec<u8>> {
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

/// Bytes of a string that begins with its quote.
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
