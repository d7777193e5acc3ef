//! Added tokens: found in a text before merging, and never part of a merge.

use std::ops::Range;

use ahash::AHashMap;
use aho_corasick::AhoCorasick;
use serde::Deserialize;

use crate::vocabulary::automaton;

/// Maximum number of added tokens in a file.
pub(crate) const MAX_ADDED: usize = 40_000;

/// An added token, with the field names of `tokenizer.json`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub(crate) struct AddedToken {
    pub(crate) id: u32,
    pub(crate) content: String,
    /// Left out when decoding skips special tokens, like `</s>`.
    #[serde(default)]
    pub(crate) special: bool,
    /// Whether it consumes the white space before it.
    #[serde(default)]
    pub(crate) lstrip: bool,
    /// Whether it consumes the white space after it.
    #[serde(default)]
    pub(crate) rstrip: bool,
    /// Whether it matches only between spaces.
    #[serde(default)]
    pub(crate) single_word: bool,
    /// Whether a fast tokenizer matches it in the normalized text.
    #[serde(default)]
    pub(crate) normalized: bool,
}

impl AddedToken {
    pub(crate) fn special(id: u32, content: impl Into<String>) -> Self {
        Self {
            id,
            content: content.into(),
            special: true,
            lstrip: false,
            rstrip: false,
            single_word: false,
            normalized: false,
        }
    }
}

/// A segment of a text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Part {
    /// Text to be merged into pieces.
    Text(Range<usize>),
    /// An added token.
    Added(u32, Range<usize>),
}

/// The added tokens of a tokenizer.
#[derive(Clone, Debug)]
pub(crate) struct AddedTokens {
    by_id: AHashMap<u32, AddedToken>,
    /// Matches the tokens that can occur in a text, with their ids.
    words: Option<(AhoCorasick, Vec<u32>)>,
}

impl AddedTokens {
    /// The given tokens. Only those accepted by `is_word` are matched in texts.
    ///
    /// # Errors
    /// Too many tokens. The message says so.
    pub(crate) fn new(
        tokens: Vec<AddedToken>,
        is_word: impl Fn(&str) -> bool,
    ) -> Result<Self, String> {
        let words: Vec<&AddedToken> = tokens
            .iter()
            .filter(|token| is_word(&token.content))
            .collect();
        let texts: Vec<&str> = words.iter().map(|token| token.content.as_str()).collect();
        let ids = words.iter().map(|token| token.id).collect();
        let words = automaton(&texts)?.map(|automaton| (automaton, ids));
        Ok(Self {
            words,
            by_id: tokens.into_iter().map(|token| (token.id, token)).collect(),
        })
    }

    pub(crate) fn get(&self, id: u32) -> Option<&AddedToken> {
        self.by_id.get(&id)
    }

    pub(crate) fn is_special(&self, id: u32) -> bool {
        self.get(id).is_some_and(|token| token.special)
    }

    /// The tokens that are matched in texts.
    pub(crate) fn words(&self) -> impl Iterator<Item = &AddedToken> {
        let ids = self.words.iter().flat_map(|(_, ids)| ids);
        ids.filter_map(|id| self.get(*id))
    }

    pub(crate) fn ids(&self) -> impl Iterator<Item = u32> {
        self.by_id.keys().copied()
    }

    /// Splits a text into segments, from left to right. White space that a token consumes is in
    /// none.
    pub(crate) fn split(&self, text: &str) -> Vec<Part> {
        let mut parts = Vec::new();
        let mut at = 0;
        if let Some((automaton, ids)) = &self.words {
            for found in automaton.find_iter(text) {
                let token = &self.by_id[&ids[found.pattern().as_usize()]];
                let (before, after) = (&text[..found.start()], &text[found.end()..]);
                // The U+2581 before a text does not count as a space here.
                if found.start() < at || (token.single_word && !before.ends_with(' ')) {
                    continue;
                }
                if token.single_word && !(after.is_empty() || after.starts_with(' ')) {
                    // No match, but the text is split here.
                    parts.push(Part::Text(at..found.start()));
                    at = found.start();
                    continue;
                }
                let end = if token.lstrip {
                    at + text[at..found.start()].trim_end().len()
                } else {
                    found.start()
                };
                if end > at {
                    parts.push(Part::Text(at..end));
                }
                parts.push(Part::Added(token.id, found.range()));
                at = found.end();
                if token.rstrip {
                    at += after.len() - after.trim_start().len();
                }
            }
        }
        if at < text.len() {
            parts.push(Part::Text(at..text.len()));
        }
        parts
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parts(token: AddedToken, text: &str) -> Vec<&str> {
        let tokens = AddedTokens::new(vec![token], |_| true).unwrap();
        let range = |part| match part {
            Part::Text(range) | Part::Added(_, range) => &text[range],
        };
        tokens.split(text).into_iter().map(range).collect()
    }

    #[test]
    fn a_token_takes_the_spaces_that_it_strips() {
        let art = AddedToken::special(7, "<art>");
        let text = "a  <art>  b";
        assert_eq!(parts(art.clone(), text), ["a  ", "<art>", "  b"]);
        let left = AddedToken {
            lstrip: true,
            ..art.clone()
        };
        assert_eq!(parts(left, text), ["a", "<art>", "  b"]);
        let right = AddedToken {
            rstrip: true,
            ..art
        };
        assert_eq!(parts(right, text), ["a  ", "<art>", "b"]);
    }

    #[test]
    fn a_single_word_stands_between_spaces() {
        let light = AddedToken {
            single_word: true,
            ..AddedToken::special(7, "light")
        };
        assert_eq!(
            parts(light.clone(), "a light lightly light"),
            ["a ", "light", " ", "lightly ", "light"]
        );
        assert_eq!(parts(light, "twilight."), ["twilight."]);
    }
}
