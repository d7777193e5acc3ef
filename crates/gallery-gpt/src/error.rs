//! The error type of the facade.

use crate::{
    AnswersError, checkpoint::CheckpointError, data::RecordError, eval::EvalError,
    model::GenerationError, text::TokenizerError, vision::ImageError,
};

/// An error of [`crate::GalleryGpt`].
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum GalleryError {
    /// A checkpoint or an adapter cannot be loaded or saved.
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
    /// A tokenizer cannot be loaded, or rejects a text.
    #[error(transparent)]
    Tokenizer(#[from] TokenizerError),
    /// A picture or the image processor's config cannot be used.
    #[error(transparent)]
    Image(#[from] ImageError),
    /// A picture's name in a test set is invalid.
    #[error(transparent)]
    PictureName(#[from] RecordError),
    /// A generation fails.
    #[error(transparent)]
    Generation(#[from] GenerationError),
    /// The phrase of an attention map is not in the answer.
    #[error("the answer has no {phrase:?} in it; it is {answer:?}")]
    NoPhrase {
        /// The phrase.
        phrase: String,
        /// The answer.
        answer: String,
    },
    /// An evaluation fails.
    #[error(transparent)]
    Eval(#[from] EvalError),
    /// A file of answers cannot be resumed or written.
    #[error(transparent)]
    Answers(#[from] AnswersError),
    /// A cancel token was cancelled.
    #[error("stopped; what was answered is kept")]
    Cancelled,
    /// A test record has no picture, as in the first generation of test files.
    #[error("test record {index} names no picture; take the current test files")]
    NoPicture {
        /// Zero-based index of the record.
        index: usize,
    },
}
