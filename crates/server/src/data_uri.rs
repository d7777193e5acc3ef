//! Files in `data:` URIs, in every spelling that clients use, decoded directly from the JSON text of a request.

use std::io::{self, Read};

use base64::{
    alphabet,
    engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig},
    read::DecoderReader,
};

use crate::buffer::Buffer;

/// Most bytes before the comma: the media type and its parameters.
const HEAD: usize = 1024;

/// Stands for a character beyond ASCII, which no URI can have.
const FOREIGN: u8 = 0xff;

const BASE64: GeneralPurpose = GeneralPurpose::new(
    &alphabet::STANDARD,
    GeneralPurposeConfig::new()
        .with_decode_allow_trailing_bits(true)
        .with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// The file in a `data:` URI (RFC 2397), given as a JSON string with its quotes and escapes. Base64 may come with or without
/// padding, in lines, percent-encoded, in the standard alphabet or in that of URLs; without `;base64` the bytes are
/// percent-encoded. Other URIs are refused, never fetched: a server that fetches addresses for its clients is a hole in a firewall.
///
/// # Errors
/// A sentence about what is wrong.
pub(crate) fn file(literal: &str) -> Result<Buffer, String> {
    let mut bytes = Unescaped::new(literal).skip_while(u8::is_ascii_whitespace);
    let mut head = Vec::new();
    let is_whole = loop {
        match bytes.next() {
            Some(b',') => break true,
            Some(byte) if head.len() < HEAD => head.push(byte),
            _ => break false,
        }
    };
    let head = String::from_utf8_lossy(&head);
    let scheme = head.get(..5).filter(|_| is_whole);
    if !scheme.is_some_and(|scheme| scheme.eq_ignore_ascii_case("data:")) {
        let begins: String = head.chars().take(40).collect();
        return Err(format!(
            "{begins:?} is no data URI; expected data:image/...;base64,..."
        ));
    }
    let parameters = head.split(';').skip(1);
    let is_base64 = parameters
        .map(str::trim)
        .any(|parameter| parameter.eq_ignore_ascii_case("base64"));
    let bytes = PercentDecoded { bytes };
    let most = literal.len() / 4 * 3;
    let mut file = Buffer::with_room(most).map_err(|error| error.to_string())?;
    let mut fill = |source: &mut dyn Read| -> io::Result<()> {
        let mut piece = [0; 8 << 10];
        loop {
            match source.read(&mut piece)? {
                0 => return Ok(()),
                read => file.extend(&piece[..read], most)?,
            }
        }
    };
    if is_base64 {
        let symbols = Symbols {
            bytes,
            is_padded: false,
        };
        fill(&mut DecoderReader::new(symbols, &BASE64))
            .map_err(|error| format!("not base64 ({error})"))?;
    } else {
        fill(&mut Bytes(bytes)).map_err(|error| error.to_string())?;
    }
    if file.is_empty() {
        return Err("the data URI has no data".to_owned());
    }
    Ok(file)
}

/// The bytes of a JSON string.
struct Unescaped<'a> {
    bytes: std::slice::Iter<'a, u8>,
}

impl<'a> Unescaped<'a> {
    fn new(literal: &'a str) -> Self {
        let inner = literal
            .strip_prefix('"')
            .and_then(|rest| rest.strip_suffix('"'));
        Self {
            bytes: inner.unwrap_or(literal).as_bytes().iter(),
        }
    }
}

impl Iterator for Unescaped<'_> {
    type Item = u8;

    fn next(&mut self) -> Option<u8> {
        let byte = *self.bytes.next()?;
        if byte != b'\\' {
            return Some(byte);
        }
        Some(match *self.bytes.next()? {
            b'n' => b'\n',
            b'r' => b'\r',
            b't' => b'\t',
            b'b' => 8,
            b'f' => 12,
            b'u' => {
                let digits = self.bytes.as_slice().get(..4);
                self.bytes.nth(3)?;
                let code = digits
                    .and_then(|digits| std::str::from_utf8(digits).ok())
                    .and_then(|digits| u8::from_str_radix(digits, 16).ok());
                code.filter(u8::is_ascii).unwrap_or(FOREIGN)
            }
            same => same,
        })
    }
}

/// The bytes after percent-decoding: `%2B` is `+`.
struct PercentDecoded<I> {
    bytes: I,
}

impl<I: Iterator<Item = u8>> Iterator for PercentDecoded<I> {
    type Item = u8;

    fn next(&mut self) -> Option<u8> {
        let byte = self.bytes.next()?;
        if byte != b'%' {
            return Some(byte);
        }
        let mut digit = || (self.bytes.next()? as char).to_digit(16);
        let code = digit().zip(digit()).map(|(high, low)| high * 16 + low);
        Some(code.map_or(FOREIGN, |code| code as u8))
    }
}

/// The symbols of base64 in the standard alphabet, without white space and padding.
struct Symbols<I> {
    bytes: I,
    is_padded: bool,
}

impl<I: Iterator<Item = u8>> Read for Symbols<I> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let mut read = 0;
        while read < buffer.len() {
            let Some(byte) = self.bytes.next() else {
                break;
            };
            buffer[read] = match byte {
                b'=' => {
                    self.is_padded = true;
                    continue;
                }
                blank if blank.is_ascii_whitespace() => continue,
                _ if self.is_padded => {
                    return Err(io::Error::other("there is more after the padding"));
                }
                b'-' => b'+',
                b'_' => b'/',
                symbol => symbol,
            };
            read += 1;
        }
        Ok(read)
    }
}

/// Bytes as they are.
struct Bytes<I>(I);

impl<I: Iterator<Item = u8>> Read for Bytes<I> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let pairs = buffer.iter_mut().zip(&mut self.0);
        Ok(pairs.map(|(place, byte)| *place = byte).count())
    }
}

#[cfg(test)]
mod tests {
    use super::file;

    const FILE: &[u8] = &[0xfb, 0xef, 0xff, 0x00, 0x89, b'P', b'N'];

    #[test]
    fn every_spelling_is_the_same_file() {
        for uri in [
            "data:image/png;base64,++//AIlQTg==",
            "data:image/png;base64,++//AIlQTg",
            "data:image/png;base64,--__AIlQTg==",
            "data:image/png;base64,--__AIlQTg",
            "data:image/png;base64,+-/_AIlQTg",
            "data:image/png;base64,++//\\nAIlQ\\r\\nTg==\\n",
            "data:image/png;base64, ++// AIlQ\\tTg= =",
            "data:image/png;base64,%2B%2b%2F%2fAIlQTg%3D%3D",
            "data:image/png;base64,++//AIlQTg%0A",
            "data:image\\/png;base64,++\\/\\/AIlQTg==",
            "data:image/png;base64,\\u002b+\\u002F/AIlQTg\\u003D=",
            "DATA:image/PNG;BASE64,++//AIlQTg==",
            " data:image/png;charset=utf-8;base64,++//AIlQTg==",
            "data:image/png;name=a.png; base64 ,++//AIlQTg==",
            "data:;base64,++//AIlQTg==",
            "data:image/png,%FB%EF%FF%00%89PN",
        ] {
            assert_eq!(file(&format!("\"{uri}\"")).as_deref(), Ok(FILE), "{uri}");
        }
    }

    #[test]
    fn other_uris_are_refused_with_a_reason() {
        for (uri, word) in [
            ("http://127.0.0.1/secret.png", "data URI"),
            ("file:///etc/passwd", "data URI"),
            ("data:image/png;base64", "data URI"),
            ("", "data URI"),
            ("data:image/png;base64,", "no data"),
            ("data:image/png;base64,====", "no data"),
            ("data:image/png;base64,A", "base64"),
            ("data:image/png;base64,AAAA!AAA", "base64"),
            ("data:image/png;base64,AA==AAAA", "padding"),
            ("data:image/png;base64,%zzAA", "base64"),
            ("data:image/png;base64,\\u00e9AAA", "base64"),
            ("data:image/png;base64,éAAA", "base64"),
            ("data:image/png;base64,AAAA\\u00", ""),
        ] {
            let said = file(&format!("\"{uri}\"")).err();
            let said = said.unwrap_or_default();
            assert!(said.contains(word), "{uri}: {said}");
        }
        assert!(file(&format!("\"{}\"", "a".repeat(5000))).is_err());
    }
}
