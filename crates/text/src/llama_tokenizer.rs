//! LLaMA's tokenizer, read from `tokenizer.json` or a SentencePiece model.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use crate::{
    IMAGE_TOKEN, SPIECE_UNDERLINE, SpecialTokens, TokenizerError,
    added_tokens::{AddedToken, AddedTokens, Part},
    sentencepiece, tokenizer_file, tokenizer_folder,
    tokenizer_json::{self, Prefix},
    vocabulary::{Piece, Vocabulary, byte_of},
};

/// Which of the two LLaMA tokenizers of `transformers` to reproduce.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum TokenizerMode {
    /// The slow tokenizer with `legacy=False`, which LLaVA-1.5 and GalleryGPT train and run with: a
    /// U+2581 is prepended to every non-empty text (also before a leading space), but not after a
    /// special token, nor right before one. A `tokenizer.json` cannot express this; its vocabulary,
    /// merges and added tokens are used.
    #[default]
    Slow,
    /// The pipeline of a LLaMA `tokenizer.json` as the file specifies it (`use_fast=True`).
    Fast,
}

/// A LLaMA tokenizer.
#[derive(Clone, Debug)]
pub(crate) struct LlamaTokenizer {
    path: PathBuf,
    mode: TokenizerMode,
    vocabulary: Arc<Vocabulary>,
    added: Arc<AddedTokens>,
    prefix: Prefix,
    special: SpecialTokens,
    notes: Vec<String>,
}

/// The contents of a vocabulary file.
struct Source {
    vocabulary: Vocabulary,
    prefix: Prefix,
    listed: Vec<AddedToken>,
}

impl LlamaTokenizer {
    /// Reads `path`, the `tokenizer.model` or `tokenizer.json` of a folder, with the files beside it.
    ///
    /// # Errors
    /// A file is not a LLaMA vocabulary or asks for unsupported settings, or the files contradict each other.
    pub(crate) fn from_folder(folder: &Path, path: &Path) -> Result<Self, TokenizerError> {
        let json = folder.join("tokenizer.json");
        let bytes = tokenizer_file::read(path)?;
        let mut source = Source::read(path, &bytes, TokenizerMode::Slow)?;
        if path != json && json.is_file() {
            let bytes = tokenizer_file::read(&json)?;
            source.listed = tokenizer_json::added_tokens(&json, &bytes)?;
        }
        let listed = std::mem::take(&mut source.listed);
        let beside = tokenizer_folder::read(folder, &source.vocabulary, listed)?;
        if beside.add_prefix_space == Some(false) {
            source.prefix = Prefix::Never;
        }
        let pad = beside.pad.as_deref();
        let mut tokenizer = Self::assemble(path, TokenizerMode::Slow, source, beside.tokens, pad)?;
        tokenizer.notes = beside.notes;
        let standard = SpecialTokens::TEXTS.len();
        if beside.legacy && tokenizer.added.words().count() > standard {
            tokenizer.notes.push(
                "tokenizer_config.json has legacy: true; texts after an added token are encoded as with false, as LLaVA-1.5 was trained"
                    .to_owned(),
            );
        }
        Ok(tokenizer)
    }

    /// Reads the contents of a `tokenizer.json` or a SentencePiece model; `path` is used in messages only.
    ///
    /// # Errors
    /// They are neither of the two, or a SentencePiece model in [`TokenizerMode::Fast`].
    pub(crate) fn from_bytes(
        path: &Path,
        bytes: &[u8],
        mode: TokenizerMode,
    ) -> Result<Self, TokenizerError> {
        let mut source = Source::read(path, bytes, mode)?;
        let listed = std::mem::take(&mut source.listed);
        let tokens = tokenizer_folder::listed(path, &source.vocabulary, listed)?;
        Self::assemble(path, mode, source, tokens, None)
    }

    fn assemble(
        path: &Path,
        mode: TokenizerMode,
        source: Source,
        mut tokens: Vec<AddedToken>,
        pad: Option<&str>,
    ) -> Result<Self, TokenizerError> {
        let Source {
            vocabulary, prefix, ..
        } = source;
        let mut ids = [0; SpecialTokens::TEXTS.len()];
        for (id, text) in ids.iter_mut().zip(SpecialTokens::TEXTS) {
            if let Some(token) = tokens.iter_mut().find(|token| token.content == text) {
                token.special = true;
                *id = token.id;
                continue;
            }
            *id = vocabulary
                .id(text)
                .ok_or_else(|| TokenizerError::MissingToken {
                    path: path.to_owned(),
                    token: text.to_owned(),
                })?;
            tokens.push(AddedToken::special(*id, text));
        }
        let [unk, bos, eos] = ids;
        let is_word = |content: &str| match mode {
            TokenizerMode::Fast => true,
            // Pictures are spliced, and padding is known from lengths: neither token occurs in
            // texts.
            TokenizerMode::Slow => {
                ![IMAGE_TOKEN, "<pad>", "[PAD]"].contains(&content) && Some(content) != pad
            }
        };
        let added =
            AddedTokens::new(tokens, is_word).map_err(|found| TokenizerError::Malformed {
                path: path.to_owned(),
                expected: "usable tokenizer file",
                found,
            })?;
        Ok(Self {
            path: path.to_owned(),
            mode,
            vocabulary: Arc::new(vocabulary),
            added: Arc::new(added),
            prefix,
            special: SpecialTokens { unk, bos, eos },
            notes: Vec::new(),
        })
    }

    /// The ids of `<unk>`, `<s>` and `</s>`.
    pub(crate) fn special_tokens(&self) -> SpecialTokens {
        self.special
    }

    /// The mode.
    pub(crate) fn mode(&self) -> TokenizerMode {
        self.mode
    }

    /// Settings of the folder's files that are not followed, one sentence each.
    pub(crate) fn notes(&self) -> &[String] {
        &self.notes
    }

    /// Number of ids, including added tokens.
    pub(crate) fn vocab_size(&self) -> usize {
        let added = self.added.ids();
        let beside = added.filter(|&id| self.vocabulary.text(id).is_none());
        self.vocabulary.len() + beside.count()
    }

    /// Rows that the embedding needs: one more than the largest id that can occur in a text. The
    /// image and padding tokens do not occur in texts.
    pub(crate) fn required_rows(&self) -> usize {
        let words = self.added.words().map(|token| token.id as usize + 1);
        words.max().unwrap_or(0).max(self.vocabulary.rows())
    }

    /// A token that can occur in a text and has an id of at least `rows`, with its id.
    pub(crate) fn beyond(&self, rows: usize) -> Option<(u32, &str)> {
        let added = self.added.words().map(|token| (token.id, &*token.content));
        let last = self.vocabulary.rows().checked_sub(1).map(|id| id as u32);
        let last = last.and_then(|id| Some((id, self.vocabulary.text(id)?)));
        added.chain(last).find(|(id, _)| *id as usize >= rows)
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// The vocabulary entry of an id, with `▁` and byte tokens as they are.
    pub(crate) fn text(&self, id: u32) -> Option<&str> {
        let added = self.added.get(id).map(|token| token.content.as_str());
        added.or_else(|| self.vocabulary.text(id))
    }

    /// Encodes a text, each id with the byte range it came from.
    pub(crate) fn encode_pieces(&self, text: &str) -> Result<Vec<Piece>, TokenizerError> {
        // Byte positions in the prepared text, which is up to three times as long, are 32 bits
        // wide.
        if text.len() >= 1 << 30 {
            return Err(TokenizerError::Encode {
                text: text.chars().take(60).collect(),
                reason: format!("it has {} bytes", text.len()),
            });
        }
        let mut pieces = Vec::new();
        for (nth, part) in self.added.split(text).into_iter().enumerate() {
            match part {
                Part::Text(range) => {
                    let starts_with_space =
                        text[range.clone()].starts_with([' ', SPIECE_UNDERLINE]);
                    let prefix = match (self.mode, self.prefix) {
                        (_, Prefix::Never) => false,
                        (TokenizerMode::Slow, _) => nth == 0,
                        (TokenizerMode::Fast, Prefix::EveryText) => true,
                        (_, Prefix::FirstText) => range.start == 0 && !starts_with_space,
                        (_, Prefix::EveryTextWithoutSpace) => !starts_with_space,
                    };
                    self.vocabulary
                        .encode(&text[range.clone()], range.start, prefix, &mut pieces);
                }
                Part::Added(id, range) => {
                    // No prefix right before a special token.
                    let is_prefixed = nth == 0
                        && self.mode == TokenizerMode::Slow
                        && self.prefix != Prefix::Never
                        && !self.added.is_special(id);
                    if is_prefixed {
                        self.vocabulary.encode("", 0, true, &mut pieces);
                    }
                    pieces.push(Piece {
                        id,
                        start: range.start,
                        end: range.end,
                    });
                }
            }
        }
        Ok(pieces)
    }

    /// Decodes a row of ids.
    ///
    /// In the slow mode as SentencePiece does: one leading space is dropped, and every byte that is
    /// not part of a character becomes U+FFFD. Ids outside the vocabulary are skipped.
    pub(crate) fn decode(&self, ids: &[u32], skip_special_tokens: bool) -> String {
        let ids = ids.iter().copied();
        let ids = ids.filter(|&id| !(skip_special_tokens && self.added.is_special(id)));
        match self.mode {
            TokenizerMode::Fast => self.decode_fast(ids),
            TokenizerMode::Slow => self.decode_slow(ids),
        }
    }

    fn decode_slow(&self, ids: impl Iterator<Item = u32>) -> String {
        let mut bytes = Vec::new();
        // The space that encoding prepended.
        let mut in_front = self.prefix != Prefix::Never;
        for id in ids {
            let Some(token) = self.text(id) else {
                continue;
            };
            if self.added.get(id).is_some() {
                bytes.extend(token.bytes());
            } else if let Some(byte) = self.vocabulary.byte(id) {
                bytes.push(byte);
            } else {
                let text = match token.strip_prefix(SPIECE_UNDERLINE) {
                    Some(rest) if in_front => rest,
                    _ => token,
                };
                bytes.extend(text.replace(SPIECE_UNDERLINE, " ").bytes());
            }
            in_front = false;
        }
        lossy_per_byte(&bytes)
    }

    /// The steps of LLaMA's decoder: U+2581 to spaces, bytes to characters, one leading space
    /// dropped.
    fn decode_fast(&self, ids: impl Iterator<Item = u32>) -> String {
        let mut text = String::new();
        let mut bytes = Vec::new();
        let flush = |bytes: &mut Vec<u8>, text: &mut String| {
            match std::str::from_utf8(bytes) {
                Ok(whole) => text.push_str(whole),
                Err(_) => text.extend(bytes.iter().map(|_| char::REPLACEMENT_CHARACTER)),
            }
            bytes.clear();
        };
        for token in ids.filter_map(|id| self.text(id)) {
            match byte_of(token) {
                Some(byte) => bytes.push(byte),
                None => {
                    flush(&mut bytes, &mut text);
                    text.push_str(&token.replace(SPIECE_UNDERLINE, " "));
                }
            }
        }
        flush(&mut bytes, &mut text);
        text.strip_prefix(' ').unwrap_or(&text).to_owned()
    }
}

impl Source {
    fn read(path: &Path, bytes: &[u8], mode: TokenizerMode) -> Result<Self, TokenizerError> {
        let is_json = bytes.iter().find(|byte| !byte.is_ascii_whitespace()) == Some(&b'{');
        if is_json {
            let json = tokenizer_json::parse(path, bytes)?;
            if mode == TokenizerMode::Fast {
                json.check_fast(path)?;
            }
            return Ok(Self {
                vocabulary: json.vocabulary,
                prefix: json.prefix,
                listed: json.added_tokens,
            });
        }
        if mode == TokenizerMode::Fast {
            return Err(TokenizerError::Malformed {
                path: path.to_owned(),
                expected: "tokenizer.json",
                found: "not JSON; a SentencePiece model is read in the slow mode".to_owned(),
            });
        }
        let model = sentencepiece::parse(path, bytes)?;
        Ok(Self {
            vocabulary: model.vocabulary,
            prefix: if model.dummy_prefix {
                Prefix::EveryText
            } else {
                Prefix::Never
            },
            listed: Vec::new(),
        })
    }
}

/// UTF-8 with one U+FFFD for every byte that is not part of a character (`from_utf8_lossy` gives
/// one per run).
fn lossy_per_byte(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len());
    let mut rest = bytes;
    while !rest.is_empty() {
        match std::str::from_utf8(rest) {
            Ok(valid) => {
                text.push_str(valid);
                break;
            }
            Err(error) => {
                let (valid, after) = rest.split_at(error.valid_up_to());
                text.push_str(std::str::from_utf8(valid).expect("checked by from_utf8"));
                text.push(char::REPLACEMENT_CHARACTER);
                rest = &after[1..];
            }
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_stray_byte_is_marked() {
        assert_eq!(lossy_per_byte(&[0xE2, 0x82]), "\u{FFFD}\u{FFFD}");
        assert_eq!(
            lossy_per_byte(&[0xE2, 0x82, 0xAC, 0xFF, b'a']),
            "€\u{FFFD}a"
        );
    }
}
