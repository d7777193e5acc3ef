//! Files that came from outside: only regular files are opened or mapped.

use std::{
    fs::File,
    io::{Error, ErrorKind, Result},
    path::Path,
};

use bytes::Bytes;
use memmap2::Mmap;

use crate::{CheckpointError, error::read_error};

/// Opens a regular file for reading. A named pipe would wait for a writer, and a device may never end.
pub(crate) fn open(path: &Path) -> Result<File> {
    if std::fs::metadata(path)?.is_file() {
        File::open(path)
    } else {
        Err(Error::new(ErrorKind::InvalidInput, "not a file"))
    }
}

/// Maps a file into memory.
pub(crate) fn map(path: &Path) -> std::result::Result<Bytes, CheckpointError> {
    let read = read_error(path);
    let file = open(path).map_err(read)?;
    #[allow(
        unsafe_code,
        reason = "mapping a file is unsafe because another process could change it; checkpoints are not written in place"
    )]
    // SAFETY: the map is read-only, and our own writers replace files by renaming, never in place.
    Ok(Bytes::from_owner(
        unsafe { Mmap::map(&file) }.map_err(read)?,
    ))
}

/// Whether a file is a Git LFS pointer: a clone made without git-lfs has these in place of large files.
pub(crate) fn is_git_lfs_pointer(bytes: &[u8]) -> bool {
    bytes.starts_with(b"version https://git-lfs.github.com/spec/")
}
