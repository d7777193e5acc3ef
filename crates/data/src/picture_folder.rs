//! The picture folder: finds the file for a picture's name in a record, and rejects names outside.

use std::{
    collections::{HashMap, hash_map::Entry},
    ffi::OsString,
    io,
    path::{Component, Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
};

use gallery_gpt_vision::ImageError;
use unicode_normalization::UnicodeNormalization;

use crate::RecordError;

/// A folder of pictures. Names that lead out of it are rejected.
///
/// A name is a path relative to the folder, or an absolute path inside it. If there is no such file,
/// `\` is read as `/`, for records written on Windows, and non-ASCII names are compared by their
/// Unicode normal form NFC, since macOS writes `é` as two characters. Symbolic links are followed, even
/// out of the folder: whoever can write to the folder is trusted.
///
/// ```
/// use gallery_gpt_data::PictureFolder;
///
/// let folder = tempfile::tempdir()?;
/// std::fs::create_dir(folder.path().join("images"))?;
/// std::fs::write(folder.path().join("images/0.png"), "")?;
/// let pictures = PictureFolder::new(folder.path());
/// assert_eq!(pictures.find(r"images\0.png")?, folder.path().join("images/0.png"));
/// assert!(pictures.find("../0.png").is_err());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
pub struct PictureFolder {
    path: PathBuf,
    absolute: PathBuf,
    canonical: Option<PathBuf>,
    /// The non-ASCII names in the folders searched so far.
    listings: Arc<Mutex<HashMap<PathBuf, Arc<Listing>>>>,
}

/// Names by their normal form NFC; `None` if two names have the same one.
type Listing = HashMap<String, Option<OsString>>;

impl PictureFolder {
    /// The folder at a path. It need not exist as long as no name is searched for.
    #[must_use]
    pub fn new(path: impl Into<PathBuf>) -> Self {
        let path = path.into();
        Self {
            absolute: lexical(&std::path::absolute(&path).unwrap_or_else(|_| path.clone())),
            canonical: path.canonicalize().ok(),
            path,
            listings: Arc::default(),
        }
    }

    /// Its path.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The path of the file that a name stands for.
    ///
    /// # Errors
    /// The name leads out of the folder or is a URL, or there is no such file.
    pub fn find(&self, name: &str) -> Result<PathBuf, RecordError> {
        if [
            "http://", "https://", "data:", "file://", "s3://", "gs://", "hf://",
        ]
        .iter()
        .any(|scheme| {
            name.get(..scheme.len())
                .is_some_and(|start| start.eq_ignore_ascii_case(scheme))
        }) {
            return Err(RecordError::Url {
                // A `data:` URL may contain a whole picture.
                url: name.chars().take(60).collect(),
            });
        }
        let wanted = self.inside(name)?;
        let missing = match regular_file(&wanted) {
            Ok(()) => return Ok(wanted),
            Err(error) => error,
        };
        let slashed = name.replace('\\', "/");
        let other = if cfg!(windows) || slashed == name {
            wanted.clone()
        } else {
            self.inside(&slashed)?
        };
        if let Some(found) = self.in_normal_form(&other)
            && regular_file(&found).is_ok()
        {
            return Ok(found);
        }
        Err(RecordError::Image(ImageError::Read {
            path: wanted,
            source: missing,
        }))
    }

    /// The path for a name, if it does not lead out of the folder.
    fn inside(&self, name: &str) -> Result<PathBuf, RecordError> {
        let whole = lexical(&self.absolute.join(name));
        let roots = [Some(&self.absolute), self.canonical.as_ref()];
        if let Some(relative) = roots
            .into_iter()
            .flatten()
            .find_map(|root| whole.strip_prefix(root).ok())
        {
            return Ok(self.path.join(relative));
        }
        // An absolute path may lead to the folder through a symbolic link.
        let parent = whole.parent().and_then(|parent| parent.canonicalize().ok());
        match (parent, &self.canonical) {
            (Some(parent), Some(root))
                if Path::new(name).is_absolute() && parent.starts_with(root) =>
            {
                Ok(whole)
            }
            _ => Err(RecordError::Path {
                path: name.to_owned(),
            }),
        }
    }

    /// The path with each component in the spelling that exists; `None` if one has none.
    fn in_normal_form(&self, path: &Path) -> Option<PathBuf> {
        let mut found = self.path.clone();
        for part in path.strip_prefix(&self.path).ok()? {
            let next = found.join(part);
            found = if next.symlink_metadata().is_ok() {
                next
            } else {
                let name = part.to_str().filter(|name| !name.is_ascii())?;
                let name: String = name.nfc().collect();
                found.join(self.listing(&found).get(&name)?.as_ref()?)
            };
        }
        Some(found)
    }

    /// The non-ASCII names in a folder, from the cache.
    fn listing(&self, folder: &Path) -> Arc<Listing> {
        let mut listings = self.listings.lock().unwrap_or_else(PoisonError::into_inner);
        let listing = listings.entry(folder.to_owned()).or_insert_with(|| {
            let mut listing = Listing::new();
            let names = std::fs::read_dir(folder).into_iter().flatten().flatten();
            for name in names.map(|entry| entry.file_name()) {
                let Some(text) = name.to_str().filter(|text| !text.is_ascii()) else {
                    continue;
                };
                match listing.entry(text.nfc().collect()) {
                    Entry::Vacant(entry) => {
                        entry.insert(Some(name));
                    }
                    Entry::Occupied(mut entry) => {
                        entry.insert(None);
                    }
                }
            }
            Arc::new(listing)
        });
        Arc::clone(listing)
    }
}

/// Checks that a path is a regular file.
///
/// # Errors
/// It is not, or does not exist.
fn regular_file(path: &Path) -> io::Result<()> {
    let kind = std::fs::metadata(path)?.file_type();
    if kind.is_file() {
        Ok(())
    } else if kind.is_dir() {
        Err(io::Error::new(
            io::ErrorKind::IsADirectory,
            "it is a folder",
        ))
    } else {
        let what = "it is a device or a pipe, not a file";
        Err(io::Error::new(io::ErrorKind::InvalidInput, what))
    }
}

/// A path without `.` and `..`, resolved without the file system.
fn lexical(path: &Path) -> PathBuf {
    let mut whole = PathBuf::new();
    for part in path.components() {
        match part {
            Component::CurDir => {}
            Component::ParentDir => {
                whole.pop();
            }
            part => whole.push(part),
        }
    }
    whole
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folder() -> (tempfile::TempDir, PictureFolder) {
        let outside = tempfile::tempdir().unwrap();
        let root = outside.path().join("pictures");
        std::fs::create_dir_all(root.join("images")).unwrap();
        for name in ["images/0.jpg", "images/cafe\u{301}.jpg", "../secret.jpg"] {
            std::fs::write(root.join(name), name).unwrap();
        }
        let folder = PictureFolder::new(root);
        (outside, folder)
    }

    #[test]
    fn names_inside_are_found_in_every_spelling() {
        let (outside, pictures) = folder();
        let root = pictures.path().to_owned();
        let absolute = root.join("images/0.jpg");
        let back = format!("../pictures/{}", "images/0.jpg");
        for name in [
            "images/0.jpg",
            "./images//0.jpg",
            "images/../images/0.jpg",
            r"images\0.jpg",
            r".\images\0.jpg",
            absolute.to_str().unwrap(),
            &back,
        ] {
            assert_eq!(pictures.find(name).unwrap(), absolute, "{name}");
        }
        let composed = pictures.find("images/caf\u{e9}.jpg").unwrap();
        assert_eq!(
            std::fs::read_to_string(composed).unwrap(),
            "images/cafe\u{301}.jpg"
        );
        assert!(pictures.find("images\\caf\u{e9}.jpg").is_ok());
        drop(outside);
    }

    #[test]
    fn names_outside_are_refused() {
        let (outside, pictures) = folder();
        let secret = outside.path().join("secret.jpg");
        let sibling = outside.path().join("pictures2/0.jpg");
        for name in [
            "../secret.jpg",
            r"..\secret.jpg",
            "images/../../secret.jpg",
            secret.to_str().unwrap(),
            sibling.to_str().unwrap(),
            "/etc/passwd",
        ] {
            let error = pictures.find(name).unwrap_err();
            assert!(matches!(error, RecordError::Path { .. }), "{name}: {error}");
        }
        let error = pictures.find("HTTPS://example.com/0.jpg").unwrap_err();
        assert!(matches!(error, RecordError::Url { .. }), "{error}");
    }

    #[test]
    fn missing_and_irregular_files_are_named() {
        let (_outside, pictures) = folder();
        let said = |name| pictures.find(name).unwrap_err().to_string();
        let missing = std::fs::metadata("/no/such/file").unwrap_err().to_string();
        assert!(said("images/1.jpg").contains(&missing));
        assert!(said("images").contains("a folder"));
        assert!(said("").contains("a folder"));
        assert!(said("a\0b").contains("NUL") || said("a\0b").contains("nul"));
    }

    #[cfg(unix)]
    #[test]
    fn links_are_followed_and_devices_refused() {
        use std::os::unix::fs::symlink;
        let (outside, pictures) = folder();
        symlink(
            outside.path().join("secret.jpg"),
            pictures.path().join("link.jpg"),
        )
        .unwrap();
        assert!(pictures.find("link.jpg").is_ok());
        symlink("/dev/zero", pictures.path().join("zero.jpg")).unwrap();
        let error = pictures.find("zero.jpg").unwrap_err().to_string();
        assert!(error.contains("device"), "{error}");
        // Absolute names through a link to the folder are inside too.
        let link = outside.path().join("other");
        symlink(pictures.path(), &link).unwrap();
        let by_link = PictureFolder::new(&link);
        for root in [pictures.path(), &link] {
            let name = root.join("images/0.jpg");
            assert!(
                by_link.find(name.to_str().unwrap()).is_ok(),
                "{}",
                name.display()
            );
            assert!(
                pictures.find(name.to_str().unwrap()).is_ok(),
                "{}",
                name.display()
            );
        }
    }
}
