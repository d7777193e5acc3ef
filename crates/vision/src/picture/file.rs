//! Reads picture files: regular files of a limited size.

use std::{
    fs::{File, Metadata},
    io::Read,
    path::Path,
};

use crate::{ImageError, ImageLimits};

/// What a path is, if it is not a regular file.
pub(super) fn irregular(metadata: &Metadata) -> Option<&'static str> {
    #[cfg(unix)]
    {
        use std::os::unix::fs::FileTypeExt;
        let kind = metadata.file_type();
        if kind.is_fifo() {
            return Some("a named pipe");
        }
        if kind.is_char_device() || kind.is_block_device() {
            return Some("a device");
        }
        if kind.is_socket() {
            return Some("a socket");
        }
    }
    if metadata.is_dir() {
        return Some("a folder");
    }
    (!metadata.is_file()).then_some("no regular file")
}

/// Reads a regular file.
pub(crate) fn read_file(path: &Path, limits: &ImageLimits) -> Result<Vec<u8>, ImageError> {
    let unreadable = |source| ImageError::Read {
        path: path.to_owned(),
        source,
    };
    // Checked before opening: opening a pipe would wait for a writer.
    let metadata = path.metadata().map_err(unreadable)?;
    if let Some(found) = irregular(&metadata) {
        return Err(ImageError::NotAFile {
            path: path.to_owned(),
            found,
        });
    }
    let too_large = |needed| ImageError::Memory {
        name: path.display().to_string(),
        needed,
        limit: limits.max_alloc,
    };
    if metadata.len() > limits.max_alloc {
        return Err(too_large(metadata.len()));
    }
    let file = File::open(path).map_err(unreadable)?;
    let mut bytes = Vec::with_capacity(metadata.len() as usize + 1);
    let mut file = file.take(limits.max_alloc.saturating_add(1));
    file.read_to_end(&mut bytes).map_err(unreadable)?;
    match bytes.len() as u64 > limits.max_alloc {
        true => Err(too_large(bytes.len() as u64)),
        false => Ok(bytes),
    }
}
