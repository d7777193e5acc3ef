//! Where a folder is to be written: files of others are never replaced, and an input is never an output.

use std::path::{Component, Path, PathBuf};

use same_file::is_same_file;

use super::marker::foreign;
use crate::{CheckpointError, error::read_error};

/// Where a folder is to be written, and what may be replaced there. Every path converts to one.
///
/// A folder that is missing or empty is written. One that this library wrote, by the list in its `gallery_gpt.json`, is replaced as
/// long as it holds nothing else. Any other folder is refused.
///
/// ```
/// use gallery_gpt_checkpoint::{AtomicFolder, CheckpointError, Destination};
///
/// # let root = tempfile::tempdir()?;
/// let folder = root.path().join("precious");
/// std::fs::create_dir(&folder)?;
/// std::fs::write(folder.join("thesis.txt"), "mine")?;
/// assert!(matches!(
///     AtomicFolder::new(&folder),
///     Err(CheckpointError::Foreign { .. })
/// ));
/// AtomicFolder::new(Destination::new(&folder).overwriting(true))?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Destination {
    path: PathBuf,
    overwriting: bool,
    inputs: Vec<PathBuf>,
}

impl<P: AsRef<Path>> From<P> for Destination {
    fn from(path: P) -> Self {
        Self::new(path)
    }
}

impl Destination {
    /// A destination that is free, or holds only what this library wrote there.
    pub fn new(path: impl AsRef<Path>) -> Self {
        Self {
            path: path.as_ref().to_owned(),
            overwriting: false,
            inputs: Vec::new(),
        }
    }

    /// Whether a folder is replaced with everything in it, whoever wrote it.
    #[must_use]
    pub fn overwriting(mut self, overwriting: bool) -> Self {
        self.overwriting = overwriting;
        self
    }

    /// Adds inputs. The destination is refused if it is one of them, contains one or is inside one, by whatever path or link, even if
    /// it may be overwritten.
    #[must_use]
    pub fn apart_from<P: AsRef<Path>>(mut self, inputs: impl IntoIterator<Item = P>) -> Self {
        let inputs = inputs.into_iter();
        self.inputs
            .extend(inputs.map(|input| input.as_ref().to_owned()));
        self
    }

    /// The path, as it was given.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    pub(crate) fn is_overwriting(&self) -> bool {
        self.overwriting
    }

    /// Checks that it can be written, and returns its path without links. Nothing is changed; call it before a long computation.
    ///
    /// # Errors
    /// It is an input or overlaps one, a file is in its place, or a folder with files that this library did not write.
    pub fn check(&self) -> Result<PathBuf, CheckpointError> {
        let real = self.real()?;
        if real.is_dir() && !self.overwriting {
            let found = foreign(&real)?;
            if !found.is_empty() {
                return Err(CheckpointError::Foreign {
                    path: self.path.clone(),
                    found,
                });
            }
        }
        Ok(real)
    }

    /// Checks that a single file can be written here: an existing file may be replaced, but not an input.
    ///
    /// # Errors
    /// It is an input, by whatever path or link, or a folder.
    pub fn check_file(&self) -> Result<(), CheckpointError> {
        let real = |path: &Path| real_path(path).map_err(read_error(path));
        let output = real(&self.path)?;
        for input in &self.inputs {
            if is_same(&output, &real(input)?) {
                return Err(CheckpointError::InputIsOutput {
                    output: self.path.clone(),
                    input: input.clone(),
                });
            }
        }
        if output.is_dir() {
            return Err(CheckpointError::Write {
                path: self.path.clone(),
                source: std::io::ErrorKind::IsADirectory.into(),
            });
        }
        Ok(())
    }

    /// The path without links. It is a folder or does not exist yet, and overlaps no input.
    pub(crate) fn real(&self) -> Result<PathBuf, CheckpointError> {
        let real = real_path(&self.path).map_err(read_error(&self.path))?;
        for input in &self.inputs {
            let there = real_path(input).map_err(read_error(input))?;
            if overlap(&real, &there) {
                return Err(CheckpointError::InputIsOutput {
                    output: self.path.clone(),
                    input: input.clone(),
                });
            }
        }
        if real.symlink_metadata().is_ok() && !real.is_dir() {
            return Err(CheckpointError::Occupied {
                path: self.path.clone(),
            });
        }
        Ok(real)
    }
}

/// Checks that a folder is free for a run: it does not exist or is empty.
///
/// # Errors
/// The folder is not empty, or is a file.
pub fn ensure_free(folder: impl AsRef<Path>) -> Result<(), CheckpointError> {
    let folder = Destination::new(folder);
    let real = folder.real()?;
    let Ok(entries) = std::fs::read_dir(&real) else {
        return Ok(());
    };
    let found: Vec<String> = entries
        .filter_map(Result::ok)
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .collect();
    if found.is_empty() {
        return Ok(());
    }
    Err(CheckpointError::Foreign {
        path: folder.path,
        found,
    })
}

/// The absolute path without links or `..`; components that do not exist yet are kept as they are.
fn real_path(path: &Path) -> std::io::Result<PathBuf> {
    let mut real = PathBuf::new();
    for component in std::path::absolute(path)?.components() {
        if component == Component::ParentDir {
            real.pop();
        } else {
            real.push(component);
            real = real.canonicalize().unwrap_or(real);
        }
    }
    Ok(real)
}

/// Whether two paths are the same, or one is inside the other.
fn overlap(a: &Path, b: &Path) -> bool {
    a.ancestors().any(|above| is_same(above, b)) || b.ancestors().any(|above| is_same(above, a))
}

/// Whether two paths are the same. Existing ones are compared by the file they refer to, not by their spelling: a file system may ignore
/// case, and a folder may be mounted twice.
fn is_same(a: &Path, b: &Path) -> bool {
    a == b || is_same_file(a, b).unwrap_or(false)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn is_refused(output: impl AsRef<Path>, input: impl AsRef<Path>) -> bool {
        let destination = Destination::new(output)
            .overwriting(true)
            .apart_from([input]);
        matches!(
            destination.check(),
            Err(CheckpointError::InputIsOutput { .. })
        )
    }

    #[test]
    fn an_input_is_never_an_output() {
        let root = tempfile::tempdir().unwrap();
        let base = root.path().join("base");
        fs::create_dir_all(base.join("inner")).unwrap();
        fs::create_dir(root.path().join("other")).unwrap();
        for output in [
            "base",
            "base/",
            "./base/.",
            "other/../base",
            "missing/../base",
            "base/inner",
            "base/new/deeper",
            ".",
            "base/inner/..",
        ] {
            assert!(is_refused(root.path().join(output), &base), "{output}");
        }
        for output in ["other", "base-2", "base/../merged", "missing"] {
            assert!(!is_refused(root.path().join(output), &base), "{output}");
        }
    }

    #[cfg(unix)]
    #[test]
    fn a_link_to_an_input_is_the_input() {
        use std::os::unix::fs::symlink;
        let root = tempfile::tempdir().unwrap();
        let path = |name: &str| root.path().join(name);
        fs::create_dir_all(path("models/base/inner")).unwrap();
        symlink(path("models/base"), path("linked")).unwrap();
        symlink(path("models"), path("above")).unwrap();
        assert!(is_refused(path("linked"), path("models/base")));
        assert!(is_refused(path("models/base"), path("linked")));
        assert!(is_refused(path("linked/inner"), path("models/base")));
        assert!(is_refused(path("above/base"), path("models/base")));
        assert!(is_refused(path("above"), path("linked")));
        // `..` after a link is the parent of the link's target.
        assert!(is_refused(path("linked/../base"), path("models/base")));
        assert!(!is_refused(path("linked/../merged"), path("models/base")));
    }

    #[test]
    fn a_run_begins_in_a_free_folder() {
        let root = tempfile::tempdir().unwrap();
        ensure_free(root.path()).unwrap();
        ensure_free(root.path().join("missing")).unwrap();
        fs::write(root.path().join("notes"), "x").unwrap();
        assert!(ensure_free(root.path()).is_err());
        assert!(ensure_free(root.path().join("notes")).is_err());
    }
}
