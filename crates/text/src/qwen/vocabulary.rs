//! Reads `qwen.tiktoken`: a line of base64, a blank and a rank for every token, in the order of the ranks.

use std::path::Path;

use ahash::AHashMap;
use base64::{Engine as _, engine::general_purpose::STANDARD};

use crate::{TokenizerError, printable, vocabulary::MAX_IDS};

/// Maximum number of bytes of a token; the longest of Qwen's has 128.
const MAX_TOKEN: usize = 1024;

/// The tokens of a `qwen.tiktoken`. A token's id is its rank.
#[derive(Debug)]
pub(crate) struct Vocabulary {
    tokens: Vec<Box<[u8]>>,
    ids: AHashMap<Box<[u8]>, u32>,
    /// The ids of the single bytes.
    bytes: [u32; 256],
    /// Bytes of the longest token.
    longest: usize,
}

/// Whether a file begins as a `qwen.tiktoken` does: with the token of rank 0.
pub(crate) fn is_tiktoken(bytes: &[u8]) -> bool {
    let start = &bytes[..bytes.len().min(MAX_TOKEN)];
    let line = start.split(|&byte| byte == b'\n').next();
    line.is_some_and(|line| token(line).is_ok_and(|(_, rank)| rank == 0))
}

/// The bytes and the rank of a line.
fn token(line: &[u8]) -> Result<(Vec<u8>, usize), String> {
    let line = line.strip_suffix(b"\r").unwrap_or(line);
    let text = std::str::from_utf8(line).map_err(|_| "bytes that are no text".to_owned())?;
    let shown = || printable(text).chars().take(80).collect::<String>();
    let (base64, rank) = text.split_once(' ').ok_or_else(|| {
        format!(
            "{:?}, expected a token in base64, a blank and its rank",
            shown()
        )
    })?;
    let number = rank.bytes().all(|byte| byte.is_ascii_digit());
    let rank = rank.parse().ok().filter(|_| number);
    let rank = rank.ok_or_else(|| format!("{:?}, whose rank is no number", shown()))?;
    let bytes = STANDARD.decode(base64);
    let bytes = bytes.map_err(|error| format!("{:?}, whose base64 is wrong: {error}", shown()))?;
    match bytes.len() {
        0 => Err("an empty token".to_owned()),
        1..=MAX_TOKEN => Ok((bytes, rank)),
        long => Err(format!(
            "a token of {long} bytes; {MAX_TOKEN} are read at most"
        )),
    }
}

impl Vocabulary {
    /// Reads the contents of a file.
    ///
    /// # Errors
    /// A line is not a token and its rank, the ranks are not 0, 1, 2 and so on, a token is there twice, or a byte has no token.
    pub(crate) fn parse(path: &Path, contents: &[u8]) -> Result<Self, TokenizerError> {
        let malformed = |found| TokenizerError::Malformed {
            path: path.to_owned(),
            expected: "vocabulary as qwen.tiktoken",
            found,
        };
        let mut tokens: Vec<Box<[u8]>> = Vec::new();
        let mut ids = AHashMap::new();
        let contents = contents.strip_suffix(b"\n").unwrap_or(contents);
        for (nth, line) in contents.split(|&byte| byte == b'\n').enumerate() {
            let wrong = |found: String| malformed(format!("line {} has {found}", nth + 1));
            if nth == MAX_IDS {
                return Err(wrong(format!("one token too many; {MAX_IDS} are read")));
            }
            let (bytes, rank) = token(line).map_err(wrong)?;
            if rank != nth {
                return Err(wrong(format!(
                    "rank {rank}, expected {nth}: the ranks count the lines, from 0"
                )));
            }
            let bytes = bytes.into_boxed_slice();
            if let Some(first) = ids.insert(bytes.clone(), nth as u32) {
                return Err(wrong(format!("the same token as line {}", first + 1)));
            }
            tokens.push(bytes);
        }
        let mut bytes = [0; 256];
        for (byte, id) in (0..=u8::MAX).zip(&mut bytes) {
            *id = *ids.get([byte].as_slice()).ok_or_else(|| {
                malformed(format!(
                    "no token for the byte 0x{byte:02X} in {} lines; is the file complete?",
                    tokens.len()
                ))
            })?;
        }
        let longest = tokens.iter().map(|token| token.len()).max().unwrap_or(0);
        Ok(Self {
            tokens,
            ids,
            bytes,
            longest,
        })
    }

    /// Number of tokens, without the special ones.
    pub(crate) fn len(&self) -> usize {
        self.tokens.len()
    }

    /// The bytes of an id.
    pub(crate) fn token(&self, id: u32) -> Option<&[u8]> {
        self.tokens.get(id as usize).map(|token| &**token)
    }

    /// The id of some bytes.
    pub(crate) fn id(&self, bytes: &[u8]) -> Option<u32> {
        (bytes.len() <= self.longest)
            .then(|| self.ids.get(bytes).copied())
            .flatten()
    }

    /// The id of a single byte.
    pub(crate) fn byte(&self, byte: u8) -> u32 {
        self.bytes[usize::from(byte)]
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// A vocabulary of the single bytes, in their own order, and some words.
    pub(crate) fn file(words: &[&str]) -> String {
        let bytes = (0..=u8::MAX).map(|byte| vec![byte]);
        let words = words.iter().map(|word| word.as_bytes().to_vec());
        let lines = bytes.chain(words).enumerate();
        lines
            .map(|(rank, token)| format!("{} {rank}\n", STANDARD.encode(token)))
            .collect()
    }

    fn refusal(contents: &[u8]) -> String {
        let path = Path::new("qwen.tiktoken");
        let error = Vocabulary::parse(path, contents).unwrap_err().to_string();
        assert!(
            error.starts_with("qwen.tiktoken is not a vocabulary"),
            "{error}"
        );
        error
    }

    #[test]
    fn line_ends_do_not_matter() {
        let unix = file(&["ab"]);
        for contents in [unix.replace('\n', "\r\n"), unix.trim_end().to_owned(), unix] {
            let vocabulary = Vocabulary::parse(Path::new("x"), contents.as_bytes()).unwrap();
            assert_eq!((vocabulary.len(), vocabulary.id(b"ab")), (257, Some(256)));
            assert!(is_tiktoken(contents.as_bytes()));
        }
    }

    #[test]
    fn a_broken_line_is_named() {
        let whole = file(&["ab", "cd"]);
        let lines: Vec<&str> = whole.lines().collect();
        for nth in 0..lines.len() {
            let name = format!("line {} has", nth + 1);
            for broken in [
                "", "YQ==", "YQ== x", "YQ== +1", "Y 3", "YQ==  3", " 3", "\u{e9} 3",
            ] {
                let mut lines = lines.clone();
                lines[nth] = broken;
                // The end of the file.
                lines.push("YQ== 0");
                let error = refusal(lines.join("\n").as_bytes());
                assert!(error.contains(&name), "{broken:?}: {error}");
            }
            // A line that is missing breaks the count at its place, but the last one.
            let mut lines = lines.clone();
            lines.remove(nth);
            let contents = lines.join("\n");
            match nth == lines.len() {
                true => assert!(Vocabulary::parse(Path::new("x"), contents.as_bytes()).is_ok()),
                false => assert!(refusal(contents.as_bytes()).contains(&name)),
            }
        }
    }

    #[test]
    fn tokens_are_there_once_and_bytes_are_all_there() {
        let twice = refusal(file(&["ab", "ab"]).as_bytes());
        assert!(
            twice.contains("line 258 has the same token as line 257"),
            "{twice}"
        );
        let whole = file(&[]);
        let cut: Vec<&str> = whole.lines().take(200).collect();
        let error = refusal(cut.join("\n").as_bytes());
        assert!(
            error.contains("0xC8") && error.contains("200 lines"),
            "{error}"
        );
        assert!(refusal(b"").contains("line 1"));
        let long = "a".repeat(MAX_TOKEN + 1);
        assert!(refusal(file(&[&long]).as_bytes()).contains("line 257"));
    }
}
