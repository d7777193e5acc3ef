//! Reading a tokenizer's file: only a real file, only of a size that a tokenizer has, and not the pointer to one.

use std::{
    fs::File,
    io::{Error, ErrorKind, Read},
    path::Path,
};

use crate::TokenizerError;

/// Most bytes of a file; a vocabulary of 32,000 pieces takes 0.5 to 4 MB.
const MAX_BYTES: u64 = 24 << 20;
/// How the text begins that Git LFS leaves in the place of a file.
const LFS_POINTER: &[u8] = b"version https://git-lfs.github.com/spec/";

/// The bytes of a file.
///
/// # Errors
/// It cannot be read, is none, is too large or a Git LFS pointer.
pub(crate) fn read(path: &Path) -> Result<Vec<u8>, TokenizerError> {
    let failed = |source| TokenizerError::Read {
        path: path.to_owned(),
        source,
    };
    // Asked before it is opened: a pipe would wait for a writer.
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

/// What holds for the bytes of any tokenizer's file.
///
/// # Errors
/// They are too many, or a Git LFS pointer.
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
