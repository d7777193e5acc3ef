//! Folders that this library writes: in a place that holds nobody else's files, whole or not at all, with a list of their files.

mod atomic;
mod destination;
pub(crate) mod marker;
mod own;
pub(crate) mod verify;

pub use atomic::AtomicFolder;
pub use destination::{Destination, ensure_free};
pub use own::OwnFolder;
pub use verify::verify_folder;
