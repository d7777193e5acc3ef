//! Writing a file atomically: beside its place, synced, then renamed.

use std::{
    fs::{self, File},
    io::Write,
    path::Path,
};

use crate::{CheckpointError, error::write_error};

/// Prefix of the names of files and folders that are being written; a killed process may leave some behind.
pub(crate) const PARTIAL: &str = ".partial-";

/// Writes a file atomically: readers see the old contents or the new ones, never a part.
///
/// # Errors
/// The folder cannot be made or the file not be written.
pub fn write_file(path: &Path, bytes: &[u8]) -> Result<(), CheckpointError> {
    let folder = match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    };
    fs::create_dir_all(folder).map_err(write_error(folder))?;
    let mut file = partial_builder(0o666)
        .tempfile_in(folder)
        .map_err(write_error(path))?;
    file.write_all(bytes).map_err(write_error(path))?;
    file.as_file().sync_all().map_err(write_error(path))?;
    file.persist(path)
        .map_err(|error| error.error)
        .map_err(write_error(path))?;
    sync_folder(folder)
}

/// Makes the temporary files and folders. They become the finished ones, so they get the mode that the umask leaves instead of a
/// private one.
#[cfg_attr(
    not(unix),
    allow(unused_variables, reason = "other systems have no modes")
)]
pub(crate) fn partial_builder(mode: u32) -> tempfile::Builder<'static, 'static> {
    let mut builder = tempfile::Builder::new();
    builder.prefix(PARTIAL);
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        builder.permissions(fs::Permissions::from_mode(mode));
    }
    builder
}

pub(crate) fn sync_folder(folder: &Path) -> Result<(), CheckpointError> {
    File::open(folder)
        .and_then(|folder| folder.sync_all())
        .map_err(write_error(folder))
}
