//! Reads tokenizer files: regular files of a limited size, and no Git LFS pointers.

use std::{
    fs::File,
    io::{Error, ErrorKind, Read},
    path::Path,
};

use crate::TokenizerError;

/// Maximum size of a file in bytes; a vocabulary of 32,000 pieces takes 0.5 to 4 MB.
const MAX_BYTES: u64 = 24 << 20;
/// The beginning of a Git LFS pointer.
const LFS_POINTER: &[u8] = b"version https://git-lfs.github.com/spec/";

/// Reads a file.
///
/// # Errors
/// It cannot be read, is not a regular file, is too large, or is a Git LFS pointer.
pub(crate) fn read(path: &Path) -> Result<Vec<u8>, TokenizerError> {
    let failed = |source| TokenizerError::Read {
        path: path.to_owned(),
        source,
    };
    // Checked before opening: opening a pipe would wait for a writer.
    if !std::fs::metadata(path).map_err(failed)?.is_file() {
        return Err(failed(Error::new(ErrorKind::InvalidInput, "not a file")));
    }
    let mut bytes = Vec::new();
    let file = File::open(path).map_err(failed)?;
    file.take(MAX_BYTES + 1)
        .read_to_end(&mut bytes)
        .map_err(failed)?;
    check(path, &bytes)?;
    Ok(bytes)
}

/// Checks the bytes of a tokenizer file.
///
/// # Errors
/// They are too many, or they are a Git LFS pointer.
pub(crate) fn check(path: &Path, bytes: &[u8]) -> Result<(), TokenizerError> {
    if bytes.len() as u64 > MAX_BYTES {
        return Err(TokenizerError::Malformed {
            path: path.to_owned(),
            expected: "tokenizer file",
            found: format!("more than {MAX_BYTES} bytes"),
        });
    }
    if bytes.starts_with(LFS_POINTER) {
        return Err(TokenizerError::LfsPointer {
            path: path.to_owned(),
        });
    }
    Ok(())
}
