//! Writing folders and files: a destination that nobody else's files are in, written beside its place and renamed when whole.

mod atomic;
pub(crate) mod checksums;
mod destination;
pub(crate) mod marker;
pub(crate) mod model;
mod own_folder;
pub(crate) mod pickle_writer;
pub(crate) mod tensors;

pub use atomic::{AtomicFolder, write_file};
pub use checksums::{BaseIdentity, sha256_file, verify_folder};
pub use destination::{Destination, ensure_free};
pub use model::{SaveOptions, save_model};
pub use own_folder::OwnFolder;
pub use tensors::{LazyTensor, write_tensors};
