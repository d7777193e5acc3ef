//! Errors of model configs, batches and generation.

use gallery_gpt_llama::LlamaConfigError;
use gallery_gpt_projector::ProjectorError;
use gallery_gpt_vision::VisionConfigError;

/// An invalid model config.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ModelConfigError {
    /// The vision tower's config.
    #[error(transparent)]
    Vision(#[from] VisionConfigError),
    /// The projector's config.
    #[error(transparent)]
    Projector(#[from] ProjectorError),
    /// The decoder's config.
    #[error(transparent)]
    Llama(#[from] LlamaConfigError),
}

/// A batch whose ids, pictures or labels do not fit together.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SpliceError {
    /// The number of image placeholders differs from the number of pictures.
    #[error(
        "the prompts have {placeholders} <image> placeholders, but {pictures} pictures were given"
    )]
    Pictures {
        /// Placeholders in all rows.
        placeholders: usize,
        /// Pictures given.
        pictures: usize,
    },
    /// A picture has not the size that the vision tower takes.
    #[error(
        "picture {picture} is {found}x{found} pixels, the vision tower takes {expected}x{expected}"
    )]
    PictureSize {
        /// Index of the picture.
        picture: usize,
        /// Its side in pixels.
        found: usize,
        /// The tower's side in pixels.
        expected: usize,
    },
    /// An id is outside the vocabulary.
    #[error("row {row} has id {id} at position {position}; the vocabulary has {vocab_size} ids")]
    UnknownId {
        /// The row.
        row: usize,
        /// Position in the row.
        position: usize,
        /// The id.
        id: i64,
        /// Rows of the embedding.
        vocab_size: usize,
    },
    /// A row has no tokens.
    #[error("row {row} is empty; a prompt has at least the start token")]
    EmptyRow {
        /// The row.
        row: usize,
    },
    /// The batch has no rows.
    #[error("no prompts were given")]
    NoRows,
    /// A row has more or fewer labels than ids.
    #[error("row {row} has {ids} ids and {labels} labels, expected as many")]
    Labels {
        /// The row.
        row: usize,
        /// Number of ids.
        ids: usize,
        /// Number of labels.
        labels: usize,
    },
}

/// A generation that cannot start or continue.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum GenerationError {
    /// The prompts' ids and pictures do not fit together.
    #[error(transparent)]
    Splice(#[from] SpliceError),
    /// A prompt leaves no room in the context.
    #[error(
        "prompt {row} has {length} tokens with its pictures; the model's context is {context} and must leave room for an answer"
    )]
    PromptTooLong {
        /// Index of the prompt.
        row: usize,
        /// Its tokens, with pictures expanded.
        length: usize,
        /// Context length in tokens.
        context: usize,
    },
    /// A setting is out of range.
    #[error("generation: {field} is {found}, expected {expected}")]
    Config {
        /// The field.
        field: &'static str,
        /// Its value.
        found: f64,
        /// The requirement.
        expected: &'static str,
    },
    /// Stop strings are set without a tokenizer to find them.
    #[error(
        "stop strings are set, but the generator has no tokenizer; give it one with `with_tokenizer`"
    )]
    NoTokenizer,
    /// Cancelled during prefill.
    #[error("cancelled during the prefill of the prompt")]
    Cancelled,
    /// The model's logits are NaN.
    #[error(
        "row {row}: the logits of token {token} are not finite; the weights or the input are damaged"
    )]
    NotFinite {
        /// The row.
        row: usize,
        /// Index of the new token.
        token: usize,
    },
}
