//! Checkpoints, read and written.
//!
//! - [`WeightFiles`] maps the safetensors of a folder (one file, or shards with an index) without reading them.
//! - [`Layout`] tells whose names the tensors have; [`checkpoint_key`] leads from a parameter to its tensor.
//! - [`load_model`] fills a model tensor by tensor, in the stored number type unless asked otherwise, and returns a
//!   [`LoadReport`]; what is missing, unused or mis-shaped is an error that lists it.
//! - [`load_adapter`] and [`save_adapter`] speak PEFT; [`save_model`] writes llava-hf.
//! - Everything is written beside its place and moved there when whole ([`write_file`], [`AtomicFolder`]).
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
mod atomic;
mod config_file;
mod error;
mod key_map;
mod layout;
mod load;
mod load_report;
mod safetensors;
mod save;

pub use adapter::{AdapterFile, load_adapter, save_adapter};
pub use atomic::{AtomicFolder, write_file};
pub use config_file::{ConfigFile, read_config};
pub use error::{CheckpointError, Problem};
pub use key_map::{CheckpointKey, Placement, checkpoint_key, checkpoint_keys};
pub use layout::Layout;
pub use load::{LoadOptions, Strictness, VocabRows, load_model, load_weights};
pub use load_report::LoadReport;
pub use safetensors::{StoredTensor, TensorDtype, WeightFiles};
pub use save::{SaveOptions, save_model};
