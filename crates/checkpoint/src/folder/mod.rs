//! Folders that this library writes: atomically, with a list of their files, and never over files of others.

mod atomic;
mod destination;
pub(crate) mod marker;
mod own;
pub(crate) mod verify;

pub use atomic::AtomicFolder;
pub use destination::{Destination, ensure_free};
pub use own::OwnFolder;
pub use verify::verify_folder;
