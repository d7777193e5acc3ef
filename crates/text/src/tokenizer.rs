//! One tokenizer for both files people have.

use std::path::Path;

use tokenizers::{
    AddedToken, Encoding, ModelWrapper,
    decoders::DecoderWrapper,
    models::bpe::{BPE, Vocab},
    pre_tokenizers::PreTokenizerWrapper,
};

use crate::{
    SPIECE_UNDERLINE, SpecialTokens, TokenizerError,
    sentencepiece::{self, PieceModel},
};

/// Which of the two LLaMA tokenizers of `transformers` to be.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum TokenizerMode {
    /// The slow tokenizer with `legacy=False`, which LLaVA-1.5 and GalleryGPT train and run with: one U+2581 in
    /// front of every non-empty text (also before a leading space), none after a special token, and dropped
    /// right before one. No `tokenizer.json` can express it, so only the vocabulary and merges of the file are used.
    #[default]
    Slow,
    /// The pipeline of a `tokenizer.json` as the file says it (`use_fast=True`).
    Fast,
}

/// A LLaMA tokenizer.
#[derive(Clone, Debug)]
pub struct Tokenizer {
    inner: tokenizers::Tokenizer,
    mode: TokenizerMode,
    special: SpecialTokens,
}

/// A token with the bytes of the text it came from.
#[derive(Clone, Debug)]
pub(crate) struct Piece {
    pub(crate) id: u32,
    pub(crate) start: usize,
    pub(crate) end: usize,
}

impl Tokenizer {
    /// Reads the tokenizer of a checkpoint folder as LLaVA would: `tokenizer.model` if there is one, else
    /// `tokenizer.json`, in [`TokenizerMode::Slow`].
    ///
    /// # Errors
    /// No such file in the folder, or one that is not a LLaMA vocabulary.
    pub fn from_folder(folder: impl AsRef<Path>) -> Result<Self, TokenizerError> {
        let folder = folder.as_ref();
        for name in ["tokenizer.model", "tokenizer.json"] {
            let path = folder.join(name);
            if path.is_file() {
                return Self::from_file(path, TokenizerMode::Slow);
            }
        }
        Err(TokenizerError::NotFound {
            folder: folder.to_owned(),
        })
    }

    /// Reads one file, `tokenizer.json` or a SentencePiece model; which of the two is told from its contents.
    ///
    /// # Errors
    /// The file cannot be read, or is neither; a SentencePiece model in [`TokenizerMode::Fast`].
    pub fn from_file(path: impl AsRef<Path>, mode: TokenizerMode) -> Result<Self, TokenizerError> {
        let path = path.as_ref();
        let bytes = std::fs::read(path).map_err(|source| TokenizerError::Read {
            path: path.to_owned(),
            source,
        })?;
        Self::from_bytes(path, &bytes, mode)
    }

    /// As [`Tokenizer::from_file`], from bytes already read; `path` is only for the messages.
    ///
    /// # Errors
    /// As [`Tokenizer::from_file`].
    pub fn from_bytes(
        path: &Path,
        bytes: &[u8],
        mode: TokenizerMode,
    ) -> Result<Self, TokenizerError> {
        let malformed = |expected, found: String| TokenizerError::Malformed {
            path: path.to_owned(),
            expected,
            found,
        };
        let is_json = bytes.iter().find(|byte| !byte.is_ascii_whitespace()) == Some(&b'{');
        let inner = match (is_json, mode) {
            (true, TokenizerMode::Fast) => tokenizers::Tokenizer::from_bytes(bytes)
                .map_err(|error| malformed("tokenizer.json", error.to_string()))?,
            (true, TokenizerMode::Slow) => {
                let fast = tokenizers::Tokenizer::from_bytes(bytes)
                    .map_err(|error| malformed("tokenizer.json", error.to_string()))?;
                let ModelWrapper::BPE(bpe) = fast.get_model().clone() else {
                    return Err(malformed(
                        "LLaMA tokenizer.json",
                        "a model that is not BPE".to_owned(),
                    ));
                };
                // Tokens added to the file (`<image>`, `<pad>`) are none of the slow tokenizer's.
                slow_pipeline(bpe)
            }
            (false, TokenizerMode::Slow) => {
                let model = sentencepiece::parse(path, bytes)?;
                slow_pipeline(bpe(path, model)?)
            }
            (false, TokenizerMode::Fast) => {
                return Err(malformed(
                    "tokenizer.json",
                    "not JSON; a SentencePiece model is read in the slow mode".to_owned(),
                ));
            }
        };
        let id = |token: &str| {
            inner
                .token_to_id(token)
                .ok_or_else(|| TokenizerError::MissingToken {
                    path: path.to_owned(),
                    token: token.to_owned(),
                })
        };
        let [unk, bos, eos] = SpecialTokens::TEXTS;
        let special = SpecialTokens {
            unk: id(unk)?,
            bos: id(bos)?,
            eos: id(eos)?,
        };
        Ok(Self {
            inner,
            mode,
            special,
        })
    }

    /// The ids of `<unk>`, `<s>` and `</s>`.
    #[must_use]
    pub fn special_tokens(&self) -> SpecialTokens {
        self.special
    }

    /// The mode it was read in.
    #[must_use]
    pub fn mode(&self) -> TokenizerMode {
        self.mode
    }

    /// Number of ids, added tokens included.
    #[must_use]
    pub fn vocab_size(&self) -> usize {
        self.inner.get_vocab_size(true)
    }

    /// The text of one id, `▁` and byte tokens as they stand in the vocabulary.
    #[must_use]
    pub fn token(&self, id: u32) -> Option<String> {
        self.inner.id_to_token(id)
    }

    /// The ids of a text, without `<s>` in front.
    ///
    /// # Errors
    /// The tokenizer library refuses the text.
    pub fn encode(&self, text: &str) -> Result<Vec<u32>, TokenizerError> {
        Ok(self
            .encode_pieces(text)?
            .into_iter()
            .map(|piece| piece.id)
            .collect())
    }

    /// The ids of a text with the bytes each came from.
    pub(crate) fn encode_pieces(&self, text: &str) -> Result<Vec<Piece>, TokenizerError> {
        let pieces = |encoding: &Encoding| {
            encoding
                .get_ids()
                .iter()
                .zip(encoding.get_offsets())
                .map(|(&id, &(start, end))| Piece { id, start, end })
                .collect::<Vec<_>>()
        };
        let encode = |text: &str| {
            self.inner
                .encode(text, false)
                .map_err(|error| TokenizerError::Encode {
                    text: text.chars().take(60).collect(),
                    reason: error.to_string(),
                })
        };
        match self.mode {
            TokenizerMode::Fast => Ok(pieces(&encode(text)?)),
            TokenizerMode::Slow => {
                if text.is_empty() {
                    return Ok(Vec::new());
                }
                let (prefixed, origin) = prefix_and_underline(text);
                let mut pieces = pieces(&encode(&prefixed)?);
                let underline = self.inner.token_to_id("\u{2581}");
                if pieces.len() > 1
                    && Some(pieces[0].id) == underline
                    && self.special.contains(pieces[1].id)
                {
                    pieces.remove(0);
                }
                for piece in &mut pieces {
                    piece.start = origin(piece.start);
                    piece.end = origin(piece.end);
                }
                Ok(pieces)
            }
        }
    }

    /// The text of a row of ids.
    ///
    /// In the slow mode this is what SentencePiece gives: one leading space dropped, and one U+FFFD for every byte
    /// that belongs to no character. Ids outside the vocabulary have no text.
    #[must_use]
    pub fn decode(&self, ids: &[u32], skip_special_tokens: bool) -> String {
        match self.mode {
            TokenizerMode::Fast => self
                .inner
                .decode(ids, skip_special_tokens)
                .unwrap_or_default(),
            TokenizerMode::Slow => self.decode_slow(ids, skip_special_tokens),
        }
    }

    fn decode_slow(&self, ids: &[u32], skip_special_tokens: bool) -> String {
        let mut bytes = Vec::new();
        let mut first = true;
        for &id in ids {
            let special = self.special.contains(id);
            if special && skip_special_tokens {
                continue;
            }
            let Some(token) = self.inner.id_to_token(id) else {
                continue;
            };
            match byte_of(&token) {
                Some(byte) if !special => bytes.push(byte),
                _ => {
                    let text = match token.strip_prefix(SPIECE_UNDERLINE) {
                        Some(rest) if first => rest,
                        _ => &token,
                    };
                    bytes.extend(text.replace(SPIECE_UNDERLINE, " ").bytes());
                }
            }
            first = false;
        }
        lossy_per_byte(&bytes)
    }
}

/// A BPE of `tokenizers` out of SentencePiece's vocabulary.
fn bpe(path: &Path, model: PieceModel) -> Result<BPE, TokenizerError> {
    let vocab: Vocab = model
        .pieces
        .into_iter()
        .enumerate()
        .map(|(id, piece)| (piece, id as u32))
        .collect();
    BPE::builder()
        .vocab_and_merges(vocab, model.merges)
        .unk_token(SpecialTokens::TEXTS[0].to_owned())
        .fuse_unk(true)
        .byte_fallback(true)
        .build()
        .map_err(|error| TokenizerError::Malformed {
            path: path.to_owned(),
            expected: "SentencePiece BPE model",
            found: error.to_string(),
        })
}

/// A pipeline that merges and nothing else: [`Tokenizer::encode_pieces`] lays the text out itself.
fn slow_pipeline(bpe: BPE) -> tokenizers::Tokenizer {
    let mut inner = tokenizers::Tokenizer::new(bpe);
    let special: Vec<_> = SpecialTokens::TEXTS
        .iter()
        .filter(|token| inner.token_to_id(token).is_some())
        .map(|&token| AddedToken::from(token, true).normalized(false))
        .collect();
    // Adding known tokens changes no id and cannot fail; a missing one is reported by the caller.
    let _ = inner.add_special_tokens(special);
    inner.with_pre_tokenizer(None::<PreTokenizerWrapper>);
    inner.with_decoder(None::<DecoderWrapper>);
    inner
}

/// Puts U+2581 in front and in the place of every space; also returns the way back for byte offsets.
fn prefix_and_underline(text: &str) -> (String, impl Fn(usize) -> usize + '_) {
    let mut prefixed = String::with_capacity(text.len() + text.len() / 2 + 3);
    prefixed.push(SPIECE_UNDERLINE);
    for c in text.chars() {
        prefixed.push(if c == ' ' { SPIECE_UNDERLINE } else { c });
    }
    let underline = SPIECE_UNDERLINE.len_utf8();
    // Start offset, in the laid-out text, of each run that begins after a replaced space.
    let spaces: Vec<usize> = text
        .bytes()
        .enumerate()
        .filter_map(|(at, byte)| (byte == b' ').then_some(at))
        .enumerate()
        .map(|(nth, at)| underline + at + nth * (underline - 1))
        .collect();
    let origin = move |at: usize| {
        let before = spaces.partition_point(|&space| space < at);
        at.saturating_sub(underline + before * (underline - 1))
    };
    (prefixed, origin)
}

/// The byte of a byte-fallback token such as `<0x0A>`.
fn byte_of(token: &str) -> Option<u8> {
    let hex = token.strip_prefix("<0x")?.strip_suffix('>')?;
    (hex.len() == 2)
        .then(|| u8::from_str_radix(hex, 16).ok())
        .flatten()
}

/// UTF-8 with one U+FFFD for every byte that is part of no character (`from_utf8_lossy` gives one for a run).
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
    fn offsets_lead_back_to_the_text() {
        let text = "a b  c";
        let (prefixed, origin) = prefix_and_underline(text);
        assert_eq!(prefixed, "▁a▁b▁▁c");
        for (at, _) in text.char_indices() {
            let moved = 3 + text[..at].replace(' ', "▁").len();
            assert_eq!(origin(moved), at);
        }
    }

    #[test]
    fn every_stray_byte_is_marked() {
        assert_eq!(lossy_per_byte(&[0xE2, 0x82]), "\u{FFFD}\u{FFFD}");
        assert_eq!(
            lossy_per_byte(&[0xE2, 0x82, 0xAC, 0xFF, b'a']),
            "€\u{FFFD}a"
        );
    }
}
