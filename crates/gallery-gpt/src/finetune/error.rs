//! The errors of a finetuning.

use std::path::PathBuf;

use crate::{
    GalleryError,
    data::{BadRecord, DatasetError},
    train::{AvailableMemory, TrainError},
};

/// What ends a finetuning, or keeps it from beginning.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FinetuneError {
    /// The base, a sample picture or the result fails.
    #[error(transparent)]
    Gallery(#[from] GalleryError),
    /// The training fails.
    #[error(transparent)]
    Train(#[from] TrainError),
    /// A file of records cannot be read.
    #[error(transparent)]
    Dataset(#[from] DatasetError),
    /// The base is quantized, which is for generation.
    #[error("the base is quantized, which is for generation; finetune it as it was loaded")]
    Quantized,
    /// Training records cannot be used, and none may be left out.
    #[error(
        "{bad} of {total} records of {} cannot be used; the first: {first}; mend them, or allow bad records to be left out (on_bad_record)",
        path.display()
    )]
    BadRecords {
        /// The file.
        path: PathBuf,
        /// How many cannot be used.
        bad: usize,
        /// How many there are.
        total: usize,
        /// The first of them.
        first: Box<BadRecord>,
    },
    /// No training record can be used.
    #[error("{} has no usable record{}", path.display(), first.as_ref().map(|first| format!("; the first: {first}")).unwrap_or_default())]
    NothingUsable {
        /// The file.
        path: PathBuf,
        /// The first bad record.
        first: Option<Box<BadRecord>>,
    },
    /// A validation record cannot be used.
    #[error("{}: {bad}; no validation record is ever left out", path.display())]
    BadValidation {
        /// The file.
        path: PathBuf,
        /// The record.
        bad: Box<BadRecord>,
    },
    /// New adapters are asked for on a model that has adapters.
    #[error(
        "the base has an adapter loaded and new ones are asked for; pass no LoraConfig to train the loaded one further, or merge it into the base first"
    )]
    TwoAdapters,
    /// There are adapters, but the settings train none.
    #[error(
        "there are LoRA adapters, but the decoder's adapters are not among the trained parts, so the result would lack them; train them (parts), or leave them out"
    )]
    AdapterNotTrained,
    /// A linear layer to adapt that the decoder's blocks have not.
    #[error(
        "the adapters are to be on {target}, but a block of this model has {has}; choose among these (targets)"
    )]
    MissingTarget {
        /// The layer.
        target: &'static str,
        /// The layers of a block.
        has: String,
    },
    /// A resampler is to be trained without the decoder.
    #[error(
        "Qwen-VL's resampler is among the trained parts, but an adapter's folder cannot hold it; train the adapters alone (`TrainableParts::ADAPTERS`), as the original does, or decoder and resampler as a whole"
    )]
    ResamplerNotSaved,
    /// The training does not fit the memory.
    #[error(
        "out of memory before it begins: {:.2} GB more are needed, of {available}. What helps: {}",
        *needed as f64 / 1e9, options.join("; ")
    )]
    OutOfMemory {
        /// Bytes that the plan asks for beside the weights.
        needed: u64,
        /// What there is.
        available: AvailableMemory,
        /// Settings that need less.
        options: Vec<String>,
    },
}
