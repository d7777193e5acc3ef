//! The tokenizer of a model: LLaMA's or Qwen's.

use std::path::Path;

use crate::{
    SpecialTokens, TokenizerError, TokenizerMode,
    llama_tokenizer::LlamaTokenizer,
    printable,
    qwen::{ChatMlTokens, QwenTokenizer, is_tiktoken},
    tokenizer_file,
};

/// A tokenizer: LLaMA's, or the byte pairs of Qwen's first generation.
#[derive(Clone, Debug)]
pub struct Tokenizer(Kind);

#[derive(Clone, Debug)]
pub(crate) enum Kind {
    Llama(LlamaTokenizer),
    Qwen(QwenTokenizer),
}

/// Files of a tokenizer, in the order in which they are looked for.
const FILES: [&str; 3] = ["qwen.tiktoken", "tokenizer.model", "tokenizer.json"];

impl Tokenizer {
    /// Reads the tokenizer of a checkpoint folder.
    ///
    /// Where there is a `qwen.tiktoken`, it is read, and nothing else, as Qwen's own code does. Otherwise `tokenizer.model`, or else
    /// `tokenizer.json`, is read as LLaVA would: in [`TokenizerMode::Slow`], with the tokens that `tokenizer_config.json`,
    /// `added_tokens.json`, `special_tokens_map.json` and `tokenizer.json` add.
    ///
    /// # Errors
    /// The folder has no such file; a file is not such a vocabulary or asks for unsupported
    /// settings; or the files contradict each other.
    pub fn from_folder(folder: impl AsRef<Path>) -> Result<Self, TokenizerError> {
        let folder = folder.as_ref();
        let paths = FILES.map(|name| folder.join(name));
        let path = paths.iter().find(|path| path.is_file());
        let path = path.ok_or_else(|| TokenizerError::NotFound {
            folder: folder.to_owned(),
        })?;
        if path == &paths[0] {
            return Ok(Self(Kind::Qwen(QwenTokenizer::parse(
                path,
                &tokenizer_file::read(path)?,
            )?)));
        }
        let llama = LlamaTokenizer::from_folder(folder, path)?;
        Ok(Self(Kind::Llama(llama)))
    }

    /// Reads one file: `tokenizer.json`, a SentencePiece model or a `qwen.tiktoken`, recognised by its contents. The mode is that of a LLaMA
    /// tokenizer.
    ///
    /// # Errors
    /// The file cannot be read, is none of these, or is a SentencePiece model in
    /// [`TokenizerMode::Fast`].
    pub fn from_file(path: impl AsRef<Path>, mode: TokenizerMode) -> Result<Self, TokenizerError> {
        let path = path.as_ref();
        let bytes = tokenizer_file::read(path)?;
        Self::from_bytes(path, &bytes, mode)
    }

    /// As [`Tokenizer::from_file`], from bytes; `path` is used in messages, and a `.tiktoken` is read as such whatever it contains.
    ///
    /// # Errors
    /// As [`Tokenizer::from_file`].
    pub fn from_bytes(
        path: &Path,
        bytes: &[u8],
        mode: TokenizerMode,
    ) -> Result<Self, TokenizerError> {
        tokenizer_file::check(path, bytes)?;
        let named = path.extension().is_some_and(|name| name == "tiktoken");
        Ok(Self(match named || is_tiktoken(bytes) {
            true => Kind::Qwen(QwenTokenizer::parse(path, bytes)?),
            false => Kind::Llama(LlamaTokenizer::from_bytes(path, bytes, mode)?),
        }))
    }

    pub(crate) fn kind(&self) -> &Kind {
        &self.0
    }

    /// Whose tokenizer it is, for messages.
    #[must_use]
    pub fn family(&self) -> &'static str {
        match &self.0 {
            Kind::Llama(_) => "LLaMA",
            Kind::Qwen(_) => "Qwen",
        }
    }

    /// The ids of `<unk>`, `<s>` and `</s>` of a LLaMA tokenizer. Qwen's has none of them, see [`Tokenizer::chat_ml`].
    #[must_use]
    pub fn special_tokens(&self) -> Option<SpecialTokens> {
        match &self.0 {
            Kind::Llama(llama) => Some(llama.special_tokens()),
            Kind::Qwen(_) => None,
        }
    }

    /// The ids of Qwen's special tokens. A LLaMA tokenizer has none of them.
    #[must_use]
    pub fn chat_ml(&self) -> Option<ChatMlTokens> {
        match &self.0 {
            Kind::Llama(_) => None,
            Kind::Qwen(qwen) => Some(qwen.tokens()),
        }
    }

    /// The mode of a LLaMA tokenizer.
    #[must_use]
    pub fn mode(&self) -> Option<TokenizerMode> {
        match &self.0 {
            Kind::Llama(llama) => Some(llama.mode()),
            Kind::Qwen(_) => None,
        }
    }

    /// Settings of the folder's files that are not followed, one sentence each.
    #[must_use]
    pub fn notes(&self) -> &[String] {
        match &self.0 {
            Kind::Llama(llama) => llama.notes(),
            Kind::Qwen(_) => &[],
        }
    }

    /// Number of ids, including added tokens.
    #[must_use]
    pub fn vocab_size(&self) -> usize {
        match &self.0 {
            Kind::Llama(llama) => llama.vocab_size(),
            Kind::Qwen(qwen) => qwen.len(),
        }
    }

    /// Rows that the embedding needs: one more than the largest id that can occur in a text. Of a LLaMA tokenizer, the
    /// image and padding tokens do not occur in texts.
    #[must_use]
    pub fn required_rows(&self) -> usize {
        match &self.0 {
            Kind::Llama(llama) => llama.required_rows(),
            Kind::Qwen(qwen) => qwen.len(),
        }
    }

    /// Checks that an embedding of `rows` rows covers every id that can occur in a text.
    ///
    /// # Errors
    /// It does not cover a token, which the error names.
    pub fn check_rows(&self, rows: usize) -> Result<(), TokenizerError> {
        let (beyond, path) = match &self.0 {
            Kind::Llama(llama) => (llama.beyond(rows), llama.path()),
            Kind::Qwen(qwen) => (qwen.beyond(rows), qwen.path()),
        };
        match beyond {
            None => Ok(()),
            Some((id, token)) => Err(TokenizerError::NoRow {
                path: path.to_owned(),
                token: printable(token).into_owned(),
                id,
                rows,
            }),
        }
    }

    /// The vocabulary entry of an id: of a LLaMA tokenizer with `▁` and byte tokens as they are, of Qwen's with U+FFFD for bytes that
    /// are no text.
    #[must_use]
    pub fn token(&self, id: u32) -> Option<String> {
        match &self.0 {
            Kind::Llama(llama) => llama.text(id).map(str::to_owned),
            Kind::Qwen(qwen) => {
                let bytes = qwen.bytes(id)?;
                Some(String::from_utf8_lossy(bytes).into_owned())
            }
        }
    }

    /// Encodes a text, without a leading `<s>`. All special texts become their ids.
    ///
    /// Qwen's tokenizer normalizes the text first (NFC), and `<img>PATH</img>` becomes the original's 258 ids; prompts have
    /// placeholders instead ([`crate::Template::encode`]).
    ///
    /// # Errors
    /// A text of 1 GiB or more. With Qwen's tokenizer also an `<img>` without `</img>`, and a path that contains a special token or
    /// has more than 256 bytes.
    pub fn encode(&self, text: &str) -> Result<Vec<u32>, TokenizerError> {
        match &self.0 {
            Kind::Llama(llama) => {
                let pieces = llama.encode_pieces(text)?;
                Ok(pieces.into_iter().map(|piece| piece.id).collect())
            }
            Kind::Qwen(qwen) => qwen.encode(text),
        }
    }

    /// Decodes a row of ids. Ids outside the vocabulary are skipped.
    ///
    /// A LLaMA tokenizer in the slow mode does it as SentencePiece: one leading space is dropped, and every byte that is
    /// not part of a character becomes U+FFFD. Qwen's puts one U+FFFD for each beginning of a character, and shows a picture's ids as
    /// `<img>PATH</img>`, or as the path alone without special tokens. Where the original ends with an error, at ids of a picture that
    /// are not complete, they are shown as they are.
    #[must_use]
    pub fn decode(&self, ids: &[u32], skip_special_tokens: bool) -> String {
        match &self.0 {
            Kind::Llama(llama) => llama.decode(ids, skip_special_tokens),
            Kind::Qwen(qwen) => qwen.decode(ids, skip_special_tokens),
        }
    }

    /// The text of an answer's ids. LLaMA's special tokens are left out; of Qwen-VL's nothing is, as in the original's `chat`, because the
    /// tags of regions are among them ([`crate::answer_regions`]).
    #[must_use]
    pub fn decode_answer(&self, ids: &[u32]) -> String {
        self.decode(ids, self.chat_ml().is_none())
    }
}
