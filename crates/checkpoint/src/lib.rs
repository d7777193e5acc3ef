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
mod adapter_origin;
mod atomic;
mod checkpoint;
mod checksums;
mod config_fields;
mod config_file;
mod config_json;
mod destination;
mod error;
mod json_file;
mod key_map;
mod layout;
mod load;
mod load_report;
mod marker;
mod model_folder;
#[cfg(test)]
mod mutations;
mod named_ids;
mod own_folder;
mod pickle_writer;
mod processor_config;
mod pytorch;
mod regular_file;
mod safetensors;
mod save;
mod stored_tensor;
mod tower;
mod weight_files;

pub use adapter::{
    AdapterFile, AdapterLayout, PeftConfig, TrainedBiases, ensure_savable_adapter, inspect_adapter,
    is_adapter_path, load_adapter, load_projector, save_adapter, save_projector,
};
pub use adapter_origin::AdapterOrigin;
pub use atomic::{AtomicFolder, write_file};
pub use checkpoint::Checkpoint;
pub use checksums::{BaseIdentity, sha256_file, verify_folder};
pub use destination::{Destination, ensure_free};
pub use error::{CheckpointError, Problem};
pub use key_map::{CheckpointKey, Placement, checkpoint_key, checkpoint_keys};
pub use layout::{Layout, UnknownLayoutName};
pub use load::{LoadOptions, Strictness, VocabRows, load_model};
pub use load_report::{LoadReport, UsedTensor};
pub use model_folder::find_model;
pub use own_folder::OwnFolder;
pub use save::{SaveOptions, save_model};
pub use stored_tensor::{StoredTensor, TensorDtype, UnknownDtype};
pub use tower::TowerSource;
pub use weight_files::WeightFiles;
