//! What can go wrong between a picture and its analysis.

use crate::{
    AnswersError, checkpoint::CheckpointError, data::RecordError, eval::EvalError,
    model::GenerationError, text::TokenizerError, vision::ImageError,
};

/// An error of [`crate::GalleryGpt`].
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum GalleryError {
    /// A checkpoint or an adapter.
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
    /// The tokenizer.
    #[error(transparent)]
    Tokenizer(#[from] TokenizerError),
    /// A picture, or the processor's config.
    #[error(transparent)]
    Image(#[from] ImageError),
    /// A picture's name in a test set.
    #[error(transparent)]
    PictureName(#[from] RecordError),
    /// A generation.
    #[error(transparent)]
    Generation(#[from] GenerationError),
    /// A phrase that the answer does not have.
    #[error("the answer has no {phrase:?} in it; it is {answer:?}")]
    NoPhrase {
        /// What was looked for.
        phrase: String,
        /// Where.
        answer: String,
    },
    /// An evaluation.
    #[error(transparent)]
    Eval(#[from] EvalError),
    /// A file of answers.
    #[error(transparent)]
    Answers(#[from] AnswersError),
    /// A cancel token asked for the end.
    #[error("stopped; what was answered is kept")]
    Cancelled,
    /// A test record without a picture, as the first generation of test files has them.
    #[error("test record {index} names no picture; take the current test files")]
    NoPicture {
        /// Zero-based record.
        index: usize,
    },
}
