//! Opening files that came from outside.

use std::{
    fs::File,
    io::{Error, ErrorKind, Result},
    path::Path,
};

/// Opens a regular file for reading. A named pipe would wait for a writer, and a device may never end.
pub(crate) fn open(path: &Path) -> Result<File> {
    if std::fs::metadata(path)?.is_file() {
        File::open(path)
    } else {
        Err(Error::new(ErrorKind::InvalidInput, "not a file"))
    }
}

#[cfg(all(test, unix))]
mod tests {
    use std::path::Path;

    use crate::{
        CheckpointError, read::json_file, read::safetensors, read::weight_files, sha256_file,
    };

    /// A device stands for a pipe too: both are no regular files, and opening this one would not wait if it were tried.
    #[test]
    fn only_regular_files_are_read() {
        let device = Path::new("/dev/zero");
        let refused = |error: Option<CheckpointError>| {
            let error = error.unwrap().to_string();
            assert!(error.contains("/dev/zero"), "{error}");
            assert!(error.contains("not a file"), "{error}");
        };
        refused(json_file::read_json(device).err());
        refused(safetensors::open(device).err());
        refused(weight_files::open_file(device).err());
        refused(sha256_file(device).err());
    }
}
