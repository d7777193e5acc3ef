//! Checkpoints, read and written.
//!
//! - [`Checkpoint`] opens a folder of any [`Layout`] without reading its values: llava-hf's, transformers', the original LLaVA's, as
//!   safetensors or PyTorch files, in one file or in shards, with the vision tower inside or in a folder of its own.
//! - [`load_model`] fills a model tensor by tensor, in the stored dtype unless another is asked for, and returns a [`LoadReport`];
//!   missing, unused and mis-shaped tensors are an error that lists them. On a CPU the weights stay in the mapped files: nothing is
//!   copied.
//! - [`load_adapter`] and [`save_adapter`] read and write PEFT's folders and the original's LoRA folders; [`save_model`] writes the
//!   layouts of llava-hf and of the original.
//! - Files and folders are written beside their place and renamed when they are complete ([`write_file`], [`AtomicFolder`]). A folder
//!   with files that this library did not write is never replaced ([`Destination`]).
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
pub use config::chat::ChatSettings;
pub use error::{CheckpointError, Problem};
pub use file::{sha256_file, write_file};
pub use folder::{AtomicFolder, Destination, OwnFolder, ensure_free, verify_folder};
pub use format::write_tensors;
pub use layout::{CheckpointKey, Layout, Placement, checkpoint_key, checkpoint_keys};
pub use read::{
    BaseIdentity, Checkpoint, LoadOptions, LoadReport, Strictness, TowerSource, UsedTensor,
    VocabRows, WeightFiles, find_model, load_model,
};
pub use save::{SaveOptions, save_model};
pub use tensor::{LazyTensor, Slot, StoredTensor, TensorDtype};
