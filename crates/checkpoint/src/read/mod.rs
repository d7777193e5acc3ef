//! Reading checkpoints: what a folder holds, and a model filled from it.

pub(crate) mod checkpoint;
pub(crate) mod json_file;
mod load;
pub(crate) mod load_report;
pub(crate) mod model_folder;
mod pytorch;
pub(crate) mod regular_file;
mod safetensors;
pub(crate) mod stored_tensor;
mod tower;
pub(crate) mod weight_files;

pub use checkpoint::Checkpoint;
pub use load::{LoadOptions, Strictness, VocabRows, load_model};
pub use load_report::{LoadReport, UsedTensor};
pub use model_folder::find_model;
pub use stored_tensor::{Slot, StoredTensor, TensorDtype, UnknownDtype};
pub use tower::TowerSource;
pub use weight_files::WeightFiles;
