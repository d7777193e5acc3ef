//! Single files: opened only if they are regular, read and written as JSON, hashed, and written atomically.

pub(crate) mod atomic;
pub(crate) mod checksum;
pub(crate) mod json;
pub(crate) mod regular;

pub use atomic::write_file;
pub use checksum::sha256_file;
