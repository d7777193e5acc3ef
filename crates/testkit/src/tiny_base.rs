//! A tiny base that a test may change.

use std::path::{Path, PathBuf};

/// A copy of `datasets/tiny-base`, in `base` of a folder.
#[must_use]
pub fn copy_of_tiny_base(folder: &Path) -> PathBuf {
    let from = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../datasets/tiny-base");
    let to = folder.join("base");
    std::fs::create_dir(&to).expect("a new folder");
    for entry in std::fs::read_dir(from).expect("the tiny base is in the repository") {
        let entry = entry.expect("an entry");
        std::fs::copy(entry.path(), to.join(entry.file_name())).expect("a copy");
    }
    to
}
