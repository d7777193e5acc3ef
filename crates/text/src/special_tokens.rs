//! Special tokens and ids.

/// Placeholder of a picture in a text. Not a token of the vocabulary: see [`IMAGE_TOKEN_INDEX`].
pub const IMAGE_TOKEN: &str = "<image>";
/// Alternative to [`IMAGE_TOKEN`] in questions (`run_llava.py`).
pub const IMAGE_PLACEHOLDER: &str = "<image-placeholder>";
/// Placeholder in `input_ids` where the features of a picture are spliced in.
pub const IMAGE_TOKEN_INDEX: i64 = -200;
/// Label of positions that the loss ignores.
pub const IGNORE_INDEX: i64 = -100;
/// SentencePiece's symbol for a space, U+2581.
pub const SPIECE_UNDERLINE: char = '\u{2581}';

/// Ids of the three special tokens of a LLaMA vocabulary. Qwen's are [`crate::ChatMlTokens`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SpecialTokens {
    /// `<unk>`; also the padding id of LLaVA v1.
    pub unk: u32,
    /// `<s>`, before every text.
    pub bos: u32,
    /// `</s>`, after every answer.
    pub eos: u32,
}

impl SpecialTokens {
    /// Their texts, in the order of the fields.
    pub const TEXTS: [&'static str; 3] = ["<unk>", "<s>", "</s>"];

    /// Whether an id is one of them.
    #[must_use]
    pub fn contains(&self, id: u32) -> bool {
        [self.unk, self.bos, self.eos].contains(&id)
    }
}

/// Length of a row of ids after each image placeholder is expanded to `tokens_per_picture` tokens.
///
/// ```
/// use gallery_gpt_text::{IMAGE_TOKEN_INDEX, expanded_length};
///
/// assert_eq!(expanded_length(&[1, IMAGE_TOKEN_INDEX, 7], 576), 578);
/// ```
#[must_use]
pub fn expanded_length(ids: &[i64], tokens_per_picture: usize) -> usize {
    let placeholders = ids.iter().filter(|&&id| id == IMAGE_TOKEN_INDEX).count();
    ids.len() - placeholders + placeholders * tokens_per_picture
}
