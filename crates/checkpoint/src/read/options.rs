//! How a checkpoint is loaded.

use std::path::PathBuf;

use crate::TensorDtype;

/// What to do about mismatches between the files and the model.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Strictness {
    /// Every mismatch is an error.
    #[default]
    Strict,
    /// Use what matches, leave the rest initialised, and report it.
    Partial,
}

/// Which rows of the embedding and the head to keep.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum VocabRows {
    /// The tokenizer's: llava-hf adds rows for the image and padding tokens and pads to a multiple of 64; the original model and its
    /// loss do not have them. If the folder's tokenizer has tokens after them, all rows up to its last token.
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
    /// Rows of the vocabulary to keep.
    pub vocab_rows: VocabRows,
    /// What to do about mismatches.
    pub strictness: Strictness,
    /// Folder of a vision tower to use in place of the checkpoint's own or the one that its config names.
    pub vision_tower: Option<PathBuf>,
}
