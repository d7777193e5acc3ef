//! How a checkpoint is loaded.

use std::path::PathBuf;

use crate::TensorDtype;

/// What to do about tensors that do not match.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Strictness {
    /// Every mismatch is an error.
    #[default]
    Strict,
    /// Use what matches, keep the rest as initialised, and report it.
    Partial,
}

/// Which rows of the embedding and the head to keep.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum VocabRows {
    /// The tokenizer's: llava-hf adds rows for the picture and padding tokens and fills up to a multiple of 64; the original
    /// model, and its loss, do not have them. Where the folder's tokenizer has words behind them, all rows up to the last word.
    #[default]
    Tokenizer,
    /// All that are stored.
    AsStored,
}

/// How to load.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LoadOptions {
    /// Dtype of the weights; the stored one by default.
    pub dtype: Option<TensorDtype>,
    /// Which rows of the vocabulary.
    pub vocab_rows: VocabRows,
    /// What to do about mismatches.
    pub strictness: Strictness,
    /// Folder of the vision tower, in place of the checkpoint's own or the one that its config names.
    pub vision_tower: Option<PathBuf>,
}
