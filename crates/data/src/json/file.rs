//! Reads files of JSON elements: an array, JSON lines, or values one after another.
//!
//! Elements are separated by brackets and quotes only and parsed later, so that an error inside one
//! affects that one only, and a file in UTF-8 is never in memory as a whole. One in UTF-16 is.

use std::{
    fs::File,
    io::{BufRead, BufReader, Cursor, Read},
    path::Path,
};

use memchr::memchr;

use super::{
    element::{EXPECTED, Each, Element, LONGEST_ELEMENT, Place, keep, malformed},
    splitter::Splitter,
};
use crate::{DatasetError, error::read_error};

const UTF8_BOM: &[u8] = b"\xEF\xBB\xBF";

/// Opens a regular file. Devices and pipes are rejected, because they can block or never end.
///
/// # Errors
/// The file cannot be opened, or is not a regular one.
pub(crate) fn open(path: &Path) -> Result<impl BufRead + use<>, DatasetError> {
    let failed = read_error(path);
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

/// Calls `each` with every element. Returns whether the file is an array.
///
/// # Errors
/// The file cannot be read, is not JSON, or is damaged between its elements; or an error of `each`.
pub(crate) fn for_each_element(
    path: &Path,
    mut reader: impl BufRead,
    each: &mut Each<'_>,
) -> Result<bool, DatasetError> {
    let failed = read_error(path);
    // Not `fill_buf`, which may return a single byte.
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
                "damaged UTF-16 text; save the file as UTF-8".to_owned(),
            )
        })?;
        return elements(path, Cursor::new(text), each);
    }
    let bom = if start.starts_with(UTF8_BOM) {
        UTF8_BOM.len()
    } else {
        0
    };
    let mut start = Cursor::new(start);
    start.set_position(bom as u64);
    elements(path, start.chain(reader), each)
}

/// As [`for_each_element`], of UTF-8 without a byte order mark.
fn elements(
    path: &Path,
    mut reader: impl BufRead,
    each: &mut Each<'_>,
) -> Result<bool, DatasetError> {
    let failed = read_error(path);
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
        place = place.after(&bytes[..blank]);
        match bytes.get(blank) {
            Some(b'[' | b'{') => {}
            Some(_) => return Err(malformed(path, EXPECTED, identify(&bytes[blank..]))),
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
        // A first line that begins a value without ending it belongs to a value of several lines;
        // otherwise each line is an element.
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

/// Calls `each` with every line that is not blank.
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
        place = place.next_line();
        let more = read_line(&mut reader, &mut line);
        if !more.map_err(read_error(path))? {
            return Ok(());
        }
    }
}

/// Reads a line, of which `line` keeps what an element keeps. Returns false at the end of the file.
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

/// What a file is that does not begin with `[` or `{`.
fn identify(bytes: &[u8]) -> String {
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

/// `None` if a text is not UTF-16, else whether it is big-endian: by its byte order mark, or by the
/// zero byte next to its first bracket.
fn utf16(start: &[u8]) -> Option<bool> {
    match start {
        [0xFF, 0xFE, 0, 0, ..] => None,
        [0xFF, 0xFE, ..] | [b'[' | b'{', 0, ..] => Some(false),
        [0xFE, 0xFF, ..] | [0, b'[' | b'{', ..] => Some(true),
        _ => None,
    }
}

/// UTF-16 as UTF-8; `None` if half a character is missing.
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
