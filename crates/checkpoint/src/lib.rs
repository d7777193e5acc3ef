//! Checkpoints, read and written.
//!
//! - [`Checkpoint`] opens a folder of any [`Layout`] without reading its numbers: llava-hf's, transformers', the original LLaVA's, as
//!   safetensors or PyTorch files, in one piece or in shards, with the vision tower inside or in a folder of its own.
//! - [`load_model`] fills a model tensor by tensor, in the stored number type unless asked otherwise, and returns a
//!   [`LoadReport`]; what is missing, unused or mis-shaped is an error that lists it. On a CPU the mapped files themselves are the
//!   weights: nothing is copied.
//! - [`load_adapter`] and [`save_adapter`] speak PEFT and the original's LoRA folders; [`save_model`] writes llava-hf and the
//!   original's layout.
//! - Everything is written beside its place and moved there when whole ([`write_file`], [`AtomicFolder`]); a folder that holds what
//!   this library did not write is refused ([`Destination`]).
//!
//! ```
//! use burn::tensor::Device;
//! use gallery_gpt_checkpoint::{LoadOptions, SaveOptions, load_model, save_model};
//! use gallery_gpt_model::GalleryModelConfig;
//!
//! let folder = tempfile::tempdir()?;
//! let device = Device::flex();
//! let model = GalleryModelConfig::tiny().init(&device);
//! let path = folder.path().join("tiny");
//! save_model(&model, &path, &SaveOptions::default())?;
//! let (again, report) = load_model(&path, &device, &LoadOptions::default())?;
//! assert_eq!(again.config(), model.config());
//! assert!(report.unused.is_empty());
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod adapter;
mod config;
mod error;
mod file;
mod folder;
mod format;
mod layout;
#[cfg(test)]
mod mutations;
mod read;
mod save;
mod tensor;

pub use adapter::{
    AdapterFile, AdapterLayout, AdapterOrigin, PeftConfig, TrainedBiases, ensure_savable_adapter,
    inspect_adapter, is_adapter_path, load_adapter, load_projector, save_adapter, save_projector,
};
pub use error::{CheckpointError, Problem};
pub use file::{sha256_file, write_file};
pub use folder::{AtomicFolder, Destination, OwnFolder, ensure_free, verify_folder};
pub use format::write_tensors;
pub use layout::{
    CheckpointKey, Layout, Placement, UnknownLayoutName, checkpoint_key, checkpoint_keys,
};
pub use read::{
    BaseIdentity, Checkpoint, LoadOptions, LoadReport, Strictness, TowerSource, UsedTensor,
    VocabRows, WeightFiles, find_model, load_model,
};
pub use save::{SaveOptions, save_model};
pub use tensor::{LazyTensor, Slot, StoredTensor, TensorDtype, UnknownDtype};
