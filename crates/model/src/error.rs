//! What can go wrong between a prompt and an answer.

use gallery_gpt_llama::LlamaConfigError;
use gallery_gpt_projector::ProjectorError;
use gallery_gpt_vision::VisionConfigError;

/// A model config whose parts do not fit.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ModelConfigError {
    /// The tower.
    #[error(transparent)]
    Vision(#[from] VisionConfigError),
    /// The projector.
    #[error(transparent)]
    Projector(#[from] ProjectorError),
    /// The decoder.
    #[error(transparent)]
    Llama(#[from] LlamaConfigError),
}

/// Ids and pictures that do not fit together.
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
    /// A picture of another size than the tower takes.
    #[error(
        "picture {picture} is {found}x{found} pixels, the vision tower takes {expected}x{expected}"
    )]
    PictureSize {
        /// Which picture.
        picture: usize,
        /// Its side.
        found: usize,
        /// The tower's side.
        expected: usize,
    },
    /// An id the model has no row for.
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
    /// A row without tokens.
    #[error("row {row} is empty; a prompt has at least the start token")]
    EmptyRow {
        /// The row.
        row: usize,
    },
    /// No row at all.
    #[error("no prompts were given")]
    NoRows,
    /// Labels of another length than the ids.
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

/// A generation that cannot start.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum GenerationError {
    /// Ids and pictures do not fit together.
    #[error(transparent)]
    Splice(#[from] SpliceError),
    /// The prompt fills the context.
    #[error(
        "prompt {row} has {length} tokens with its pictures; the model's context is {context} and must leave room for an answer"
    )]
    PromptTooLong {
        /// The prompt.
        row: usize,
        /// Its tokens, pictures expanded.
        length: usize,
        /// Tokens of the context.
        context: usize,
    },
    /// A setting out of range.
    #[error("generation: {field} is {found}, expected {expected}")]
    Config {
        /// The field.
        field: &'static str,
        /// Its value.
        found: f64,
        /// What it has to be.
        expected: &'static str,
    },
    /// Stop strings without a tokenizer to find them with.
    #[error(
        "stop strings are set, but the generator has no tokenizer; give it one with `with_tokenizer`"
    )]
    NoTokenizer,
    /// Cancelled before the first token.
    #[error("cancelled while the prompt was read")]
    Cancelled,
    /// The model's numbers are not numbers.
    #[error(
        "row {row}: the logits of token {token} are not finite; the weights or the input are damaged"
    )]
    NotFinite {
        /// The row.
        row: usize,
        /// Which new token.
        token: usize,
    },
}
