//! SHA-256 of files.

use std::{
    collections::{BTreeMap, BTreeSet},
    io::Read,
    path::Path,
};

use rayon::prelude::*;
use sha2::{Digest, Sha256};

use super::regular;
use crate::{CheckpointError, error::read_error};

/// A digest in hexadecimal.
pub(crate) fn hex(hash: Sha256) -> String {
    let digest = hash.finalize();
    digest.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The SHA-256 of a whole file, in hexadecimal.
///
/// # Errors
/// The file cannot be read.
pub fn sha256_file(path: impl AsRef<Path>) -> Result<String, CheckpointError> {
    let path = path.as_ref();
    let digest = || {
        let mut file = regular::open(path)?;
        let mut hash = Sha256::new();
        let mut buffer = vec![0; 1 << 20];
        loop {
            match file.read(&mut buffer)? {
                0 => return Ok(hex(hash)),
                read => hash.update(&buffer[..read]),
            }
        }
    };
    digest().map_err(read_error(path))
}

/// The SHA-256 of some files of a folder by their names in it, computed in parallel.
pub(crate) fn sha256_files(
    folder: &Path,
    names: BTreeSet<String>,
) -> Result<BTreeMap<String, Option<String>>, CheckpointError> {
    let digests = names.into_par_iter().map(|name| {
        let digest = sha256_file(folder.join(&name))?;
        Ok((name, Some(digest)))
    });
    digests.collect()
}
