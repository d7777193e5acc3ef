//! A folder that grows file by file and never overwrites files of others.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

use super::{Destination, marker};
use crate::{CheckpointError, error::write_error};

/// A folder to which a program adds files, run after run. Every file is listed in the folder's `gallery_gpt.json` before it is
/// written, so that the next run may replace it.
///
/// ```
/// use gallery_gpt_checkpoint::OwnFolder;
///
/// # let root = tempfile::tempdir()?;
/// let mut folder = OwnFolder::open(root.path().join("scores"))?;
/// std::fs::write(folder.claim("scores.json")?, "{}")?;
/// let mut again = OwnFolder::open(folder.path())?;
/// assert!(again.claim("scores.json").is_ok());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct OwnFolder {
    path: PathBuf,
    files: BTreeSet<String>,
    overwriting: bool,
}

impl OwnFolder {
    /// Opens a folder, or makes it. Files that others added to a folder that [`OwnFolder`] wrote are left as they are.
    ///
    /// # Errors
    /// The destination is refused ([`Destination::check`]), or cannot be made.
    pub fn open(destination: impl Into<Destination>) -> Result<Self, CheckpointError> {
        let destination = destination.into();
        let real = destination.real()?;
        let files = marker::listed(&real);
        if files.is_empty() {
            destination.check()?;
        }
        fs::create_dir_all(&real).map_err(write_error(destination.path()))?;
        marker::list(&real, files.iter().map(|name| (name.clone(), None)))?;
        Ok(Self {
            path: destination.path().to_owned(),
            files,
            overwriting: destination.is_overwriting(),
        })
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The path of a file that is about to be written or replaced.
    ///
    /// # Errors
    /// A file of this name that this library did not write may not be overwritten, or the list cannot be written.
    pub fn claim(&mut self, name: &str) -> Result<PathBuf, CheckpointError> {
        let file = self.path.join(name);
        if !self.files.contains(name) {
            if file.symlink_metadata().is_ok() && !self.overwriting {
                return Err(CheckpointError::Foreign {
                    path: self.path.clone(),
                    found: vec![name.to_owned()],
                });
            }
            self.files.insert(name.to_owned());
            marker::list(
                &self.path,
                self.files.iter().map(|name| (name.clone(), None)),
            )?;
        }
        Ok(file)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_of_others_are_left_alone() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("scores");
        let mut folder = OwnFolder::open(&path).unwrap();
        fs::write(folder.claim("scores.json").unwrap(), "1").unwrap();
        fs::write(path.join("report.html"), "mine").unwrap();
        // It may be there beside ours, but is not overwritten.
        let mut folder = OwnFolder::open(&path).unwrap();
        folder.claim("scores.json").unwrap();
        assert!(matches!(
            folder.claim("report.html"),
            Err(CheckpointError::Foreign { .. })
        ));
        let mut folder = OwnFolder::open(Destination::new(&path).overwriting(true)).unwrap();
        folder.claim("report.html").unwrap();
        // A folder of others is not used at all.
        let other = root.path().join("other");
        fs::create_dir(&other).unwrap();
        fs::write(other.join("thesis.txt"), "mine").unwrap();
        assert!(OwnFolder::open(&other).is_err());
        assert_eq!(fs::read_dir(&other).unwrap().count(), 1);
    }
}
