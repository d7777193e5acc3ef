//! Reading checkpoints: what a folder holds, and a model filled from it.

mod base_identity;
mod checkpoint;
mod detect_layout;
pub(crate) mod fingerprint;
mod load;
mod load_report;
mod model_folder;
mod opened_tensors;
mod options;
mod tower;
pub(crate) mod weight_files;

pub use base_identity::BaseIdentity;
pub use checkpoint::Checkpoint;
pub use load::load_model;
pub use load_report::{LoadReport, UsedTensor};
pub use model_folder::find_model;
pub use options::{LoadOptions, Strictness, VocabRows};
pub use tower::TowerSource;
pub use weight_files::WeightFiles;
