//! Writing so that nothing is ever half there: beside the place, synced, then renamed.

use std::{
    fs::{self, File},
    io::Write,
    path::{Path, PathBuf},
};

use crate::CheckpointError;

fn write_error(path: &Path) -> impl FnOnce(std::io::Error) -> CheckpointError + '_ {
    |source| CheckpointError::Write {
        path: path.to_owned(),
        source,
    }
}

/// How the names begin of what is being written; a killed process may leave some behind.
const PARTIAL: &str = ".partial-";

/// Writes a whole file: readers see the old contents or the new ones, never a part.
///
/// # Errors
/// The folder cannot be made or the file not be written.
pub fn write_file(path: &Path, bytes: &[u8]) -> Result<(), CheckpointError> {
    let folder = match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    };
    fs::create_dir_all(folder).map_err(write_error(folder))?;
    let mut file = tempfile::Builder::new()
        .prefix(PARTIAL)
        .tempfile_in(folder)
        .map_err(write_error(path))?;
    file.write_all(bytes).map_err(write_error(path))?;
    make_public(file.path(), 0o644).map_err(write_error(path))?;
    file.as_file().sync_all().map_err(write_error(path))?;
    file.persist(path)
        .map_err(|error| error.error)
        .map_err(write_error(path))?;
    sync_folder(folder)
}

/// Temporary files and folders are private; finished ones are not.
#[cfg(unix)]
fn make_public(path: &Path, mode: u32) -> std::io::Result<()> {
    use std::os::unix::fs::PermissionsExt;
    fs::set_permissions(path, fs::Permissions::from_mode(mode))
}

#[cfg(not(unix))]
fn make_public(_path: &Path, _mode: u32) -> std::io::Result<()> {
    Ok(())
}

fn sync_folder(folder: &Path) -> Result<(), CheckpointError> {
    File::open(folder)
        .and_then(|folder| folder.sync_all())
        .map_err(write_error(folder))
}

/// Lets two folders change places in one step, where the system can. No moment is left in which neither is there.
#[cfg(target_os = "linux")]
fn exchange(a: &Path, b: &Path) -> bool {
    use rustix::fs::{CWD, RenameFlags, renameat_with};
    renameat_with(CWD, a, CWD, b, RenameFlags::EXCHANGE).is_ok()
}

#[cfg(not(target_os = "linux"))]
fn exchange(_a: &Path, _b: &Path) -> bool {
    false
}

/// Makes a folder and all in it public, and syncs it.
fn finish_folder(folder: &Path) -> Result<(), CheckpointError> {
    for entry in fs::read_dir(folder).map_err(write_error(folder))? {
        let path = entry.map_err(write_error(folder))?.path();
        if path.is_dir() {
            finish_folder(&path)?;
        } else {
            make_public(&path, 0o644)
                .and_then(|()| File::open(&path))
                .and_then(|file| file.sync_all())
                .map_err(write_error(&path))?;
        }
    }
    sync_folder(folder)?;
    make_public(folder, 0o755).map_err(write_error(folder))
}

/// A folder that appears whole or not at all.
///
/// Files are written into a sibling; [`AtomicFolder::commit`] moves it into place. Dropped before that, it leaves nothing.
#[derive(Debug)]
pub struct AtomicFolder {
    target: PathBuf,
    partial: tempfile::TempDir,
}

impl AtomicFolder {
    /// Starts a folder that will be at `target`.
    ///
    /// # Errors
    /// `target` is a file, or its parent cannot be written.
    pub fn new(target: impl Into<PathBuf>) -> Result<Self, CheckpointError> {
        let target = target.into();
        if target.exists() && !target.is_dir() {
            return Err(CheckpointError::Occupied { path: target });
        }
        let parent = match target.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => parent.to_owned(),
            _ => PathBuf::from("."),
        };
        fs::create_dir_all(&parent).map_err(write_error(&parent))?;
        let partial = tempfile::Builder::new()
            .prefix(PARTIAL)
            .tempdir_in(&parent)
            .map_err(write_error(&target))?;
        Ok(Self { target, partial })
    }

    /// Where a file goes until then.
    #[must_use]
    pub fn file(&self, name: &str) -> PathBuf {
        self.partial.path().join(name)
    }

    /// A folder inside it, made now.
    ///
    /// # Errors
    /// It cannot be made.
    pub fn folder(&self, name: &str) -> Result<PathBuf, CheckpointError> {
        let folder = self.file(name);
        fs::create_dir_all(&folder).map_err(write_error(&folder))?;
        Ok(folder)
    }

    /// Moves the folder into place; an older one there is replaced as a whole.
    ///
    /// # Errors
    /// A file cannot be synced or the folder not be moved.
    pub fn commit(self) -> Result<(), CheckpointError> {
        let partial = self.partial.path();
        finish_folder(partial)?;
        let parent = partial.parent().unwrap_or(Path::new(".")).to_owned();
        if self.target.exists() && exchange(partial, &self.target) {
            sync_folder(&parent)?;
            // What is dropped now is the older folder.
            return Ok(());
        }
        let old = self.target.exists().then(|| {
            let name = self
                .target
                .file_name()
                .unwrap_or_default()
                .to_string_lossy();
            parent.join(format!(".old-{name}-{}", std::process::id()))
        });
        if let Some(old) = &old {
            fs::rename(&self.target, old).map_err(write_error(&self.target))?;
        }
        let partial = self.partial.keep();
        if let Err(source) = fs::rename(&partial, &self.target) {
            if let Some(old) = &old {
                // Put the older folder back; the first error is the one to report.
                let _ = fs::rename(old, &self.target);
            }
            let _ = fs::remove_dir_all(&partial);
            return Err(CheckpointError::Write {
                path: self.target,
                source,
            });
        }
        sync_folder(&parent)?;
        if let Some(old) = old {
            fs::remove_dir_all(&old).map_err(write_error(&old))?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_appears_whole_or_not_at_all() {
        let root = tempfile::tempdir().unwrap();
        let target = root.path().join("out");
        let folder = AtomicFolder::new(&target).unwrap();
        fs::write(folder.file("a"), "1").unwrap();
        assert!(!target.exists());
        drop(folder);
        assert_eq!(fs::read_dir(root.path()).unwrap().count(), 0);

        for text in ["1", "2"] {
            let folder = AtomicFolder::new(&target).unwrap();
            fs::write(folder.file("a"), text).unwrap();
            folder.commit().unwrap();
            assert_eq!(fs::read_to_string(target.join("a")).unwrap(), text);
        }
        assert_eq!(fs::read_dir(root.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_file_in_the_way_is_refused() {
        let root = tempfile::tempdir().unwrap();
        let target = root.path().join("out");
        write_file(&target, b"x").unwrap();
        assert!(matches!(
            AtomicFolder::new(&target),
            Err(CheckpointError::Occupied { .. })
        ));
    }
}
