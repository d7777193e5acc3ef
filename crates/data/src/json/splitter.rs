//! Splits a JSON text into the elements of an array, or into values one after another, by brackets
//! and quotes only.

use std::path::Path;

use memchr::{memchr, memchr2};

use super::element::{EXPECTED, Each, Element, Place, keep, malformed};
use crate::DatasetError;

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    /// Before the `[`.
    Start,
    /// Before an element. Before the first one the array may end.
    Before { first: bool },
    /// Inside an element with brackets, or a string.
    Within,
    /// Inside a number, or `true`, `false` or `null`.
    Word,
    /// After an element of an array.
    After,
    /// After the `]`.
    End,
}

/// Splits a file, which is fed in pieces of any size.
pub(crate) struct Splitter<'a> {
    path: &'a Path,
    /// Whether the file is an array, not values one after another.
    array: bool,
    each: &'a mut Each<'a>,
    state: State,
    /// The place of the next byte.
    place: Place,
    /// The text of the element so far.
    element: Vec<u8>,
    /// The place of its first byte.
    began: Place,
    /// The closing brackets of those that are open.
    open: Vec<u8>,
    in_string: bool,
    escaped: bool,
    /// The first line break inside quotes, which JSON does not allow.
    broken_string: Option<Place>,
    /// Elements that were passed on.
    count: usize,
}

impl<'a> Splitter<'a> {
    pub(crate) fn new(path: &'a Path, array: bool, place: Place, each: &'a mut Each<'a>) -> Self {
        Self {
            path,
            array,
            each,
            state: if array {
                State::Start
            } else {
                State::Before { first: true }
            },
            place,
            element: Vec::new(),
            began: place,
            open: Vec::new(),
            in_string: false,
            escaped: false,
            broken_string: None,
            count: 0,
        }
    }

    /// Takes the next bytes of the file.
    pub(crate) fn feed(&mut self, mut bytes: &[u8]) -> Result<(), DatasetError> {
        while let Some(&byte) = bytes.first() {
            let used = match self.state {
                State::Within => self.within(bytes)?,
                State::Word => self.word(bytes)?,
                _ if byte.is_ascii_whitespace() => bytes
                    .iter()
                    .take_while(|byte| byte.is_ascii_whitespace())
                    .count(),
                State::Start => {
                    self.state = State::Before { first: true };
                    1
                }
                State::Before { first } => match byte {
                    b']' if first && self.array => {
                        self.state = State::End;
                        1
                    }
                    b',' | b']' | b'}' | b':' => return Err(self.wrong("a record", byte)),
                    _ => {
                        self.began = self.place;
                        self.state = match byte {
                            b'{' | b'[' | b'"' => State::Within,
                            _ => State::Word,
                        };
                        0
                    }
                },
                State::After => {
                    self.state = match byte {
                        b',' => State::Before { first: false },
                        b']' => State::End,
                        _ => return Err(self.wrong("`,` or `]` after a record", byte)),
                    };
                    1
                }
                State::End => return Err(self.wrong("the end of the file", byte)),
            };
            self.place = self.place.after(&bytes[..used]);
            bytes = &bytes[used..];
        }
        Ok(())
    }

    /// Takes bytes of an element up to its end, and returns their number.
    fn within(&mut self, bytes: &[u8]) -> Result<usize, DatasetError> {
        let mut at = 0;
        while at < bytes.len() {
            if self.escaped {
                self.escaped = false;
                at += 1;
                continue;
            }
            if self.in_string {
                let rest = &bytes[at..];
                let end = memchr2(b'"', b'\\', rest);
                let text = &rest[..end.unwrap_or(rest.len())];
                if self.broken_string.is_none()
                    && let Some(line_break) = memchr(b'\n', text)
                {
                    self.broken_string = Some(self.place.after(&bytes[..at + line_break]));
                }
                at += text.len();
                if end.is_some() {
                    self.escaped = bytes[at] == b'\\';
                    self.in_string = self.escaped;
                    at += 1;
                }
            } else {
                let byte = bytes[at];
                at += 1;
                match byte {
                    b'"' => self.in_string = true,
                    b'{' => self.open.push(b'}'),
                    b'[' => self.open.push(b']'),
                    b'}' | b']' => {
                        let expected = self.open.pop();
                        if expected != Some(byte) {
                            self.place = self.place.after(&bytes[..at - 1]);
                            let expected = match expected {
                                Some(b'}') => "`}`",
                                _ => "`]`",
                            };
                            return Err(self.wrong(expected, byte));
                        }
                    }
                    _ => continue,
                }
            }
            if self.open.is_empty() && !self.in_string {
                keep(&mut self.element, &bytes[..at]);
                self.pass_on()?;
                return Ok(at);
            }
        }
        keep(&mut self.element, bytes);
        Ok(at)
    }

    /// As [`Splitter::within`], of an element without brackets or quotes.
    fn word(&mut self, bytes: &[u8]) -> Result<usize, DatasetError> {
        let end = bytes
            .iter()
            .position(|&byte| matches!(byte, b',' | b']') || byte.is_ascii_whitespace());
        let count = end.unwrap_or(bytes.len());
        keep(&mut self.element, &bytes[..count]);
        if end.is_some() {
            self.pass_on()?;
        }
        Ok(count)
    }

    /// Passes the element on.
    fn pass_on(&mut self) -> Result<(), DatasetError> {
        self.state = if self.array {
            State::After
        } else {
            State::Before { first: false }
        };
        self.count += 1;
        (self.each)(Element {
            text: std::mem::take(&mut self.element),
            place: self.began,
            in_array: self.array,
        })
    }

    /// Takes the end of the file.
    pub(crate) fn end(&mut self) -> Result<(), DatasetError> {
        let found = match self.state {
            State::End => return Ok(()),
            State::Before { .. } if !self.array => return Ok(()),
            State::Word if !self.array => {
                return self.pass_on();
            }
            State::Within | State::Word => format!(
                "the end of the file at {} inside record {}, which begins at {}: the file is cut off, or a bracket or quote is missing",
                self.place, self.count, self.began
            ),
            _ => format!(
                "the end of the file at {} without the closing `]`: the file is cut off",
                self.place
            ),
        };
        Err(self.malformed(found))
    }

    fn wrong(&self, expected: &str, byte: u8) -> DatasetError {
        let byte = char::from(byte).escape_default();
        self.malformed(format!("`{byte}` instead of {expected} at {}", self.place))
    }

    fn malformed(&self, mut found: String) -> DatasetError {
        if let Some(place) = self.broken_string {
            found +=
                &format!("; a string contains a line break at {place}: a quote may be missing");
        }
        malformed(self.path, EXPECTED, found)
    }
}
