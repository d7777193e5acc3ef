//! Single files: opened only where they are regular, JSON and checksums of them, and written whole or not at all.

pub(crate) mod atomic;
pub(crate) mod checksum;
pub(crate) mod json;
pub(crate) mod regular;

pub use atomic::write_file;
pub use checksum::sha256_file;
