//! Writing a folder atomically: beside its place, synced, then renamed.

use std::{
    ffi::OsString,
    fs::{self, File},
    path::{Path, PathBuf},
};

use super::{Destination, marker};
use crate::{
    CheckpointError,
    error::write_error,
    file::{
        atomic::{partial_builder, sync_folder},
        checksum::sha256_files,
    },
};

/// Swaps two folders in one step, where the system can, so that the target exists at every moment.
#[cfg(target_os = "linux")]
fn exchange(a: &Path, b: &Path) -> bool {
    use rustix::fs::{CWD, RenameFlags, renameat_with};
    renameat_with(CWD, a, CWD, b, RenameFlags::EXCHANGE).is_ok()
}

#[cfg(not(target_os = "linux"))]
fn exchange(_a: &Path, _b: &Path) -> bool {
    false
}

/// Syncs a folder and all in it.
fn finish_folder(folder: &Path) -> Result<(), CheckpointError> {
    for entry in fs::read_dir(folder).map_err(write_error(folder))? {
        let path = entry.map_err(write_error(folder))?.path();
        if path.is_dir() {
            finish_folder(&path)?;
        } else {
            File::open(&path)
                .and_then(|file| file.sync_all())
                .map_err(write_error(&path))?;
        }
    }
    sync_folder(folder)
}

/// A folder that is written atomically, with a list of its files in `gallery_gpt.json` by which it is later recognised as ours.
///
/// Files are written into a sibling folder; [`AtomicFolder::commit`] moves it into place. Dropped before that, it leaves nothing. An
/// existing folder that cannot be swapped with a sibling (a mount point, the working directory or one above it, or a folder whose
/// parent is not writable) gets its files one by one, the list last.
#[derive(Debug)]
pub struct AtomicFolder {
    target: PathBuf,
    partial: tempfile::TempDir,
}

impl AtomicFolder {
    /// Starts a folder.
    ///
    /// # Errors
    /// The destination is refused ([`Destination::check`]), or its parent cannot be written.
    pub fn new(target: impl Into<Destination>) -> Result<Self, CheckpointError> {
        let target = target.into().check()?;
        let parent = target.parent().unwrap_or(&target);
        fs::create_dir_all(parent).map_err(write_error(parent))?;
        let begin = |folder| {
            partial_builder(0o777)
                .tempdir_in(folder)
                .map_err(write_error(&target))
        };
        let partial = if is_fixed(&target) {
            begin(&*target)?
        } else {
            match begin(parent) {
                Err(_) if target.is_dir() => begin(&*target)?,
                partial => partial?,
            }
        };
        Ok(Self { target, partial })
    }

    /// Where a file of the folder is written until the commit.
    #[must_use]
    pub fn file(&self, name: &str) -> PathBuf {
        self.partial.path().join(name)
    }

    /// Makes a folder inside it.
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
        let mut files = marker::files(partial)?;
        files.remove(marker::MARKER);
        marker::list(partial, sha256_files(partial, files)?)?;
        finish_folder(partial)?;
        if partial.parent() == Some(&*self.target) {
            return self.move_files();
        }
        let parent = partial.parent().unwrap_or(Path::new(".")).to_owned();
        if self.target.exists() && exchange(partial, &self.target) {
            sync_folder(&parent)?;
            // The older folder is now the partial one, and is removed when that is dropped.
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

    /// Moves the files up into the folder, in place of those that are there. The list is removed first and added last: in between
    /// the folder is recognisably incomplete.
    fn move_files(self) -> Result<(), CheckpointError> {
        let partial = self.partial.path();
        let target = &self.target;
        let names = |folder: &Path| -> Result<Vec<OsString>, CheckpointError> {
            let entries = fs::read_dir(folder).and_then(Iterator::collect::<Result<Vec<_>, _>>);
            let entries = entries.map_err(write_error(folder))?.into_iter();
            let mut names: Vec<OsString> = entries.map(|entry| entry.file_name()).collect();
            names.sort_by_key(|name| name == marker::MARKER);
            Ok(names)
        };
        for name in names(target)?.into_iter().rev() {
            let path = target.join(name);
            if path != partial {
                let removed = if path.is_dir() && !path.is_symlink() {
                    fs::remove_dir_all(&path)
                } else {
                    fs::remove_file(&path)
                };
                removed.map_err(write_error(&path))?;
            }
        }
        for name in names(partial)? {
            let path = target.join(&name);
            fs::rename(partial.join(name), &path).map_err(write_error(&path))?;
        }
        sync_folder(target)
    }
}

/// Whether a folder cannot be replaced by another: it is a mount point, or the working directory is in it.
fn is_fixed(folder: &Path) -> bool {
    folder.is_dir()
        && (is_mounted(folder)
            || std::env::current_dir().is_ok_and(|current| current.starts_with(folder)))
}

#[cfg(unix)]
fn is_mounted(folder: &Path) -> bool {
    use std::os::unix::fs::MetadataExt;
    let device = |path: &Path| fs::metadata(path).map(|metadata| metadata.dev()).ok();
    folder
        .parent()
        .is_none_or(|parent| device(parent) != device(folder))
}

#[cfg(not(unix))]
fn is_mounted(folder: &Path) -> bool {
    folder.parent().is_none()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{file::atomic::PARTIAL, write_file};

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

    /// Writes a folder with a file at the top and one below.
    fn write(target: impl Into<Destination>) -> Result<(), CheckpointError> {
        let folder = AtomicFolder::new(target)?;
        fs::write(folder.file("a"), "ours").unwrap();
        fs::write(folder.folder("tower")?.join("b"), "ours").unwrap();
        folder.commit()
    }

    #[test]
    fn files_of_others_are_never_replaced() {
        for (name, text) in [
            ("thesis.txt", "mine"),
            ("tower/notes.txt", "mine"),
            ("sub/deep/x", "mine"),
            (".hidden", "mine"),
        ] {
            for written_before in [false, true] {
                let root = tempfile::tempdir().unwrap();
                let target = root.path().join("out");
                if written_before {
                    write(&target).unwrap();
                }
                let file = target.join(name);
                fs::create_dir_all(file.parent().unwrap()).unwrap();
                fs::write(&file, text).unwrap();
                let error = write(&target).unwrap_err();
                let CheckpointError::Foreign { found, .. } = &error else {
                    panic!("{error}");
                };
                assert_eq!(found.len(), 1, "{found:?}");
                assert_eq!(fs::read_to_string(&file).unwrap(), text);
                // Nothing is left beside it either.
                assert_eq!(fs::read_dir(root.path()).unwrap().count(), 1);
                write(Destination::new(&target).overwriting(true)).unwrap();
                assert!(!file.exists());
                write(&target).unwrap();
            }
        }
    }

    #[cfg(unix)]
    #[test]
    fn a_linked_folder_is_written_where_the_link_leads() {
        let root = tempfile::tempdir().unwrap();
        let (there, link) = (root.path().join("there"), root.path().join("link"));
        fs::create_dir(&there).unwrap();
        std::os::unix::fs::symlink(&there, &link).unwrap();
        write(&link).unwrap();
        assert!(link.is_symlink());
        assert!(there.join("tower/b").is_file());
    }

    #[cfg(unix)]
    #[test]
    fn modes_are_those_of_ordinary_files_and_folders() {
        use std::os::unix::fs::PermissionsExt;
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode();
        let root = tempfile::tempdir().unwrap();
        let [file, folder] = ["file", "folder"].map(|name| root.path().join(name));
        fs::write(&file, "").unwrap();
        fs::create_dir(&folder).unwrap();
        let target = root.path().join("out");
        write(&target).unwrap();
        write_file(&root.path().join("whole"), b"").unwrap();
        assert_eq!(mode(&root.path().join("whole")), mode(&file));
        assert_eq!(mode(&target.join(marker::MARKER)), mode(&file));
        assert_eq!(mode(&target), mode(&folder));
    }

    #[test]
    fn a_folder_that_has_to_stay_gets_its_files_one_by_one() {
        let root = tempfile::tempdir().unwrap();
        let target = root.path().join("out");
        write(&target).unwrap();
        fs::write(target.join("tower/b"), "older").unwrap();
        let folder = AtomicFolder {
            partial: tempfile::Builder::new()
                .prefix(PARTIAL)
                .tempdir_in(&target)
                .unwrap(),
            target: target.clone(),
        };
        fs::write(folder.file("c"), "new").unwrap();
        folder.commit().unwrap();
        let left = marker::files(&target).unwrap();
        assert_eq!(left.into_iter().collect::<Vec<_>>(), ["c", marker::MARKER]);
        // Known as ours from its list.
        write(&target).unwrap();
    }
}
