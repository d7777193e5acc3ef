//! Cuts a JSON text into the elements of an array, or into values one after the other, by brackets and quotes alone.

use std::path::Path;

use memchr::{memchr, memchr2};

use crate::{
    DatasetError,
    json_reader::{EXPECTED, Each, Element, Place, keep, malformed},
};

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    /// In front of the `[`.
    Start,
    /// In front of an element; of the first, the array may end.
    Before { first: bool },
    /// In an element that has brackets or is a string.
    Within,
    /// In a number or a word.
    Word,
    /// Behind an element.
    Behind,
    /// Behind the `]`.
    End,
}

/// Cuts a file into its elements by brackets and quotes, whatever pieces it comes in.
pub(crate) struct Splitter<'a> {
    path: &'a Path,
    array: bool,
    each: &'a mut Each<'a>,
    state: State,
    /// The place of the next byte.
    place: Place,
    element: Vec<u8>,
    began: Place,
    /// What closes the brackets that are open.
    open: Vec<u8>,
    in_string: bool,
    escaped: bool,
    /// The first line break inside quotes, which JSON has none of.
    broken_string: Option<Place>,
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
                State::Behind => {
                    self.state = match byte {
                        b',' => State::Before { first: false },
                        b']' => State::End,
                        _ => return Err(self.wrong("`,` or `]` behind a record", byte)),
                    };
                    1
                }
                State::End => return Err(self.wrong("the end of the file", byte)),
            };
            self.place = self.place.behind(&bytes[..used]);
            bytes = &bytes[used..];
        }
        Ok(())
    }

    /// Takes bytes of an element up to its end, and says how many.
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
                    self.broken_string = Some(self.place.behind(&bytes[..at + line_break]));
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
                            self.place = self.place.behind(&bytes[..at - 1]);
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
                self.give()?;
                return Ok(at);
            }
        }
        keep(&mut self.element, bytes);
        Ok(at)
    }

    fn word(&mut self, bytes: &[u8]) -> Result<usize, DatasetError> {
        let end = bytes
            .iter()
            .position(|&byte| matches!(byte, b',' | b']') || byte.is_ascii_whitespace());
        let count = end.unwrap_or(bytes.len());
        keep(&mut self.element, &bytes[..count]);
        if end.is_some() {
            self.give()?;
        }
        Ok(count)
    }

    /// Gives the element away.
    fn give(&mut self) -> Result<(), DatasetError> {
        self.state = if self.array {
            State::Behind
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

    pub(crate) fn end(&mut self) -> Result<(), DatasetError> {
        let found = match self.state {
            State::End => return Ok(()),
            State::Before { .. } if !self.array => return Ok(()),
            State::Word if !self.array => {
                return self.give();
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
        self.malformed(format!(
            "`{byte}` in the place of {expected} at {}",
            self.place
        ))
    }

    fn malformed(&self, mut found: String) -> DatasetError {
        if let Some(place) = self.broken_string {
            found +=
                &format!("; a text goes over the end of a line at {place}: a quote may be missing");
        }
        malformed(self.path, EXPECTED, found)
    }
}
