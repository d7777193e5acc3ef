//! Texts to ids and back.

use std::{
    borrow::Cow,
    path::{Path, PathBuf},
    sync::Arc,
};

use aho_corasick::AhoCorasick;
use unicode_normalization::{IsNormalized, UnicodeNormalization, is_nfc_quick};

use super::{PICTURE_FEATURES, merge, special::ChatMlTokens, vocabulary::Vocabulary};
use crate::{
    IMAGE_TOKEN, IMAGE_TOKEN_INDEX, TokenizerError,
    literal::{self, Literal},
    vocabulary::automaton,
};

/// Which special texts of a text become their ids; the others are text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Allowed {
    /// All of them.
    All,
    /// The tags of regions and pictures.
    Tags,
}

/// A tokenizer of Qwen's first generation.
#[derive(Clone, Debug)]
pub(crate) struct QwenTokenizer {
    path: PathBuf,
    vocabulary: Arc<Vocabulary>,
    tokens: ChatMlTokens,
    /// The texts of the special tokens, and what finds them.
    texts: Arc<Vec<String>>,
    special: Arc<AhoCorasick>,
}

/// A segment of a text.
enum Part<'t> {
    Text(&'t str),
    /// A special token, with the end of its text.
    Special(u32, usize),
}

impl QwenTokenizer {
    /// Reads the contents of a `qwen.tiktoken`.
    ///
    /// # Errors
    /// They are broken; the message names the line.
    pub(crate) fn parse(path: &Path, contents: &[u8]) -> Result<Self, TokenizerError> {
        let vocabulary = Vocabulary::parse(path, contents)?;
        let texts = ChatMlTokens::texts();
        let list: Vec<&str> = texts.iter().map(String::as_str).collect();
        let special = automaton(&list).ok().flatten().expect("a fixed list");
        Ok(Self {
            path: path.to_owned(),
            tokens: ChatMlTokens::after(vocabulary.len() as u32),
            vocabulary: Arc::new(vocabulary),
            texts: Arc::new(texts),
            special: Arc::new(special),
        })
    }

    pub(crate) fn tokens(&self) -> ChatMlTokens {
        self.tokens
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Number of ids.
    pub(crate) fn len(&self) -> usize {
        self.vocabulary.len() + ChatMlTokens::COUNT
    }

    /// The text of a special token.
    pub(crate) fn special_text(&self, id: u32) -> Option<&str> {
        let nth = (id as usize).checked_sub(self.vocabulary.len())?;
        self.texts.get(nth).map(String::as_str)
    }

    /// The first token with an id of at least `rows`.
    pub(crate) fn beyond(&self, rows: usize) -> Option<(u32, &str)> {
        let last = self.len() - 1;
        let id = rows.max(self.vocabulary.len()) as u32;
        // The last merges are not named by their bytes: that the special ones lie beyond says as much.
        (last >= rows)
            .then(|| Some((id, self.special_text(id)?)))
            .flatten()
    }

    /// The bytes of an id.
    pub(crate) fn bytes(&self, id: u32) -> Option<&[u8]> {
        let special = || self.special_text(id).map(str::as_bytes);
        self.vocabulary.token(id).or_else(special)
    }

    /// Splits a text at its special tokens, but for those within which a guard stood.
    fn split<'t>(&self, text: &'t str, guards: &[usize], allowed: Allowed) -> Vec<Part<'t>> {
        let first = self.vocabulary.len() as u32;
        let mut parts = Vec::new();
        let mut at = 0;
        for found in self.special.find_iter(text) {
            let id = first + found.pattern().as_u32();
            let next = guards.partition_point(|&guard| guard <= found.start());
            let guarded = guards.get(next).is_some_and(|&guard| guard < found.end());
            if guarded || (allowed == Allowed::Tags && !self.tokens.is_tag(id)) {
                continue;
            }
            if found.start() > at {
                parts.push(Part::Text(&text[at..found.start()]));
            }
            parts.push(Part::Special(id, found.end()));
            at = found.end();
        }
        if at < text.len() {
            parts.push(Part::Text(&text[at..]));
        }
        parts
    }

    /// The original's ids of a text: special texts become their ids, and `<img>PATH</img>` becomes 258 ids.
    ///
    /// # Errors
    /// An `<img>` without `</img>`, a special token within a path, a path of more than 256 bytes, or a text of 1 GiB or more.
    pub(crate) fn encode(&self, text: &str) -> Result<Vec<u32>, TokenizerError> {
        check_length(text)?;
        let failed = |reason: String| TokenizerError::Encode {
            text: text.chars().take(60).collect(),
            reason,
        };
        let text = normalized(text);
        let mut ids = Vec::new();
        let mut parts = self.split(&text, &[], Allowed::All).into_iter();
        while let Some(part) = parts.next() {
            match part {
                Part::Text(text) => merge::encode(&self.vocabulary, text, &mut ids),
                Part::Special(id, start) if id == self.tokens.img_start => {
                    let Some(length) = text[start..].find("</img>") else {
                        return Err(failed("`<img>` without `</img>`".to_owned()));
                    };
                    let path = &text[start..start + length];
                    // The path, if it is not empty, and the closing tag.
                    for _ in 0..=usize::from(!path.is_empty()) {
                        if let Some(Part::Special(id, _)) = parts.next()
                            && id != self.tokens.img_end
                        {
                            let tag = self.special_text(id).unwrap_or_default();
                            return Err(failed(format!("`{tag}` in the path of a picture")));
                        }
                    }
                    if path.len() > PICTURE_FEATURES {
                        let bytes = path.len();
                        return Err(failed(format!(
                            "the path of a picture has {bytes} bytes, more than {PICTURE_FEATURES}; shorten it"
                        )));
                    }
                    ids.extend(self.tokens.padded(path.as_bytes()));
                }
                Part::Special(id, _) => ids.push(id),
            }
        }
        Ok(ids)
    }

    /// The ids of a text with `<image>` placeholders: `<img>`, [`IMAGE_TOKEN_INDEX`] and `</img>` for each of them.
    ///
    /// # Errors
    /// An `<img>` that no guard marks as text, or a text of 1 GiB or more.
    pub(crate) fn encode_content(
        &self,
        text: &str,
        allowed: Allowed,
    ) -> Result<Vec<i64>, TokenizerError> {
        check_length(text)?;
        let text = normalized(text);
        let mut all = Vec::new();
        let mut ids = Vec::new();
        for (nth, part) in text.split(IMAGE_TOKEN).enumerate() {
            if nth > 0 {
                let tags = [self.tokens.img_start, self.tokens.img_end].map(i64::from);
                all.extend([tags[0], IMAGE_TOKEN_INDEX, tags[1]]);
            }
            let Literal { text, guards } = literal::without_guards(part);
            for part in self.split(&text, &guards, allowed) {
                match part {
                    Part::Text(text) => merge::encode(&self.vocabulary, text, &mut ids),
                    Part::Special(id, _) if id == self.tokens.img_start => {
                        return Err(TokenizerError::Encode {
                            text: text.chars().take(60).collect(),
                            reason: "it contains `<img>`; write `<image>` for a picture, and pass text that is no prompt through `literal_image`".to_owned(),
                        });
                    }
                    Part::Special(id, _) => ids.push(id),
                }
            }
            all.extend(ids.drain(..).map(i64::from));
        }
        Ok(all)
    }

    /// The text of some ids. A picture becomes `<img>PATH</img>`; ids that begin a picture but are none are shown as they are, and ids
    /// outside of the vocabulary are skipped. Bytes that are no text become U+FFFD.
    pub(crate) fn decode(&self, ids: &[u32], skip_special_tokens: bool) -> String {
        let shown = |id: u32| match skip_special_tokens && id >= self.tokens.endoftext {
            true => &[],
            false => self.bytes(id).unwrap_or_default(),
        };
        let mut bytes = Vec::new();
        let mut rest = ids;
        while let Some((&id, after)) = rest.split_first() {
            bytes.extend_from_slice(shown(id));
            rest = after;
            if id == self.tokens.img_start
                && let Some((path, length)) = self.tokens.path_at(after)
            {
                bytes.extend_from_slice(path.as_bytes());
                bytes.extend_from_slice(shown(self.tokens.img_end));
                rest = &after[length..];
            }
        }
        String::from_utf8_lossy(&bytes).into_owned()
    }
}

fn check_length(text: &str) -> Result<(), TokenizerError> {
    // Positions are 32 bits wide, and normalization makes a text up to three times as long.
    if text.len() < 1 << 30 {
        return Ok(());
    }
    Err(TokenizerError::Encode {
        text: text.chars().take(60).collect(),
        reason: format!("it has {} bytes", text.len()),
    })
}

fn normalized(text: &str) -> Cow<'_, str> {
    match is_nfc_quick(text.chars()) {
        IsNormalized::Yes => text.into(),
        _ => text.nfc().collect::<String>().into(),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{super::vocabulary::tests::file, *};
    use crate::literal_image;

    fn tokenizer() -> QwenTokenizer {
        let words = [
            "th", "the", " the", "li", "ght", "aa", "aaaa", "  ", "im", "<im",
        ];
        QwenTokenizer::parse(Path::new("qwen.tiktoken"), file(&words).as_bytes()).unwrap()
    }

    #[test]
    fn a_long_text_of_one_letter_takes_less_than_a_second() {
        let tokenizer = tokenizer();
        for text in [
            "a", " ", "\n", " \n", "e\u{301}", "<", "<img", "<image>", "!", "1", "\u{301}",
            "</img>",
        ] {
            let long = text.repeat((1 << 20) / text.len());
            let start = std::time::Instant::now();
            let ids = tokenizer.encode(&long).unwrap_or_default();
            let content = tokenizer
                .encode_content(&long, Allowed::Tags)
                .unwrap_or_default();
            tokenizer.decode(&ids, false);
            assert!(!content.is_empty());
            let took = start.elapsed().as_secs_f64();
            // Unoptimized code may take longer.
            assert!(cfg!(debug_assertions) || took < 1.0, "{text:?}: {took} s");
        }
        let ids = vec![tokenizer.tokens.img_start; 1 << 20];
        let start = std::time::Instant::now();
        assert_eq!(tokenizer.decode(&ids, false).len(), 5 << 20);
        assert_eq!(
            tokenizer.decode(&[&ids[1..], &[tokenizer.tokens.img_end]].concat(), true),
            ""
        );
        let took = start.elapsed().as_secs_f64();
        assert!(cfg!(debug_assertions) || took < 1.0, "{took} s");
    }

    #[test]
    fn an_unbalanced_picture_is_refused_and_a_literal_one_is_text() {
        let tokenizer = tokenizer();
        for text in ["<img>a", "<img>a<ref>b</img>", "<img><img>x</img></img>"] {
            assert!(
                matches!(tokenizer.encode(text), Err(TokenizerError::Encode { .. })),
                "{text}"
            );
        }
        assert!(
            tokenizer
                .encode(&format!("<img>{}</img>", "a".repeat(256)))
                .is_ok()
        );
        let long = tokenizer.encode(&format!("<img>{}</img>", "a".repeat(257)));
        assert!(long.unwrap_err().to_string().contains("257 bytes"));
        for text in [
            "<img>",
            "<img>a</img>",
            "an <image> and <img>",
            "<imgpad> \u{fdd0}<\u{fdd0}img>",
        ] {
            let ids = tokenizer
                .encode_content(&literal_image(text), Allowed::All)
                .unwrap();
            let ids: Vec<u32> = ids
                .into_iter()
                .map(|id| u32::try_from(id).unwrap())
                .collect();
            assert!(
                ids.iter().all(|&id| id < tokenizer.tokens.endoftext),
                "{text}"
            );
            assert_eq!(tokenizer.decode(&ids, false), text);
        }
        let error = tokenizer
            .encode_content("<img>a</img>", Allowed::Tags)
            .unwrap_err();
        assert!(error.to_string().contains("literal_image"), "{error}");
    }

    #[test]
    fn only_tags_are_special_in_the_texts_of_a_chat() {
        let tokenizer = tokenizer();
        let tokens = tokenizer.tokens;
        let ids = |allowed| {
            tokenizer
                .encode_content("<|im_end|><ref>", allowed)
                .unwrap()
        };
        assert_eq!(
            ids(Allowed::All),
            [tokens.im_end, tokens.ref_start].map(i64::from)
        );
        let chat = ids(Allowed::Tags);
        assert_eq!(chat.last(), Some(&i64::from(tokens.ref_start)));
        assert!(!chat.contains(&i64::from(tokens.im_end)));
    }

    proptest! {
        #[test]
        fn ids_decode_to_the_normalized_text(text in "([a-z \n]|\\PC|<\\|im_end\\|>|<box>|<imgpad>|</img>){0,40}") {
            let tokenizer = tokenizer();
            if let Ok(ids) = tokenizer.encode(&text) {
                let normal: String = text.nfc().collect();
                prop_assert_eq!(tokenizer.decode(&ids, false), normal);
            }
        }

        #[test]
        fn any_ids_decode(ids in prop::collection::vec(prop_oneof![0..490_u32, 470..480_u32, Just(97_u32)], 0..40)) {
            let tokenizer = tokenizer();
            tokenizer.decode(&ids, false);
            tokenizer.decode(&ids, true);
        }
    }
}
