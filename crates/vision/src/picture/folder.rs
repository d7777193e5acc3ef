//! Lists the pictures of a folder.

use std::{
    fs::File,
    io::Read,
    path::{Path, PathBuf},
};

use super::{file::irregular, format};
use crate::ImageError;

/// The contents of a folder.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PictureListing {
    /// Files that begin like a picture of a supported format, sorted by name.
    pub pictures: Vec<PathBuf>,
    /// Everything else, sorted by name.
    pub left_out: Vec<LeftOut>,
}

/// An entry of a folder that is not a readable picture.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeftOut {
    /// Its path.
    pub path: PathBuf,
    /// Why it is left out.
    pub reason: String,
}

impl std::fmt::Display for LeftOut {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {}", self.path.display(), self.reason)
    }
}

/// Lists the pictures of a folder. Formats are recognised by the contents, not by the extension;
/// subfolders are not entered.
///
/// # Errors
/// The folder cannot be listed.
pub fn list_pictures(folder: impl AsRef<Path>) -> Result<PictureListing, ImageError> {
    let folder = folder.as_ref();
    let unreadable = |source| ImageError::ReadFolder {
        path: folder.to_owned(),
        source,
    };
    let entries = folder.read_dir().map_err(unreadable)?;
    let paths = entries.map(|entry| Ok(entry?.path()));
    let mut paths = paths.collect::<Result<Vec<_>, _>>().map_err(unreadable)?;
    paths.sort();
    let mut listing = PictureListing::default();
    for path in paths {
        match reason_against(&path) {
            None => listing.pictures.push(path),
            Some(reason) => listing.left_out.push(LeftOut { path, reason }),
        }
    }
    Ok(listing)
}

/// Why a file is left out, if so.
fn reason_against(path: &Path) -> Option<String> {
    let head = || -> std::io::Result<Result<Vec<u8>, String>> {
        let metadata = path.metadata()?;
        if let Some(found) = irregular(&metadata) {
            return Ok(Err(match metadata.is_dir() {
                true => "a folder, not entered".to_owned(),
                false => found.to_owned(),
            }));
        }
        let mut head = Vec::new();
        File::open(path)?.take(1024).read_to_end(&mut head)?;
        Ok(Ok(head))
    };
    match head() {
        Err(error) => Some(format!("cannot be read: {error}")),
        Ok(Err(reason)) => Some(reason),
        Ok(Ok(head)) => format::of(&head).err().map(|unread| unread.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn contents_decide_not_extensions() {
        let folder = tempfile::tempdir().unwrap();
        let put =
            |name: &str, bytes: &[u8]| std::fs::write(folder.path().join(name), bytes).unwrap();
        put("b_scan", b"\x89PNG\r\n\x1a\n");
        put("a.tif", b"II\x2a\0");
        put("notes.txt", b"not a picture");
        put("page.jpg", b"<!DOCTYPE html>");
        put("new.avif", b"\0\0\0\x1cftypavif");
        std::fs::create_dir(folder.path().join("more")).unwrap();
        let listing = list_pictures(folder.path()).unwrap();
        let names = |paths: Vec<&PathBuf>| -> Vec<String> {
            let names = paths.iter().map(|path| path.file_name().unwrap());
            names
                .map(|name| name.to_string_lossy().into_owned())
                .collect()
        };
        assert_eq!(
            names(listing.pictures.iter().collect()),
            ["a.tif", "b_scan"]
        );
        let left_out = listing.left_out.iter();
        assert_eq!(
            names(left_out.clone().map(|left| &left.path).collect()),
            ["more", "new.avif", "notes.txt", "page.jpg"]
        );
        let reasons: Vec<_> = left_out.map(|left| left.reason.as_str()).collect();
        for (reason, word) in reasons.iter().zip(["folder", "AVIF", "text", "web page"]) {
            assert!(reason.contains(word), "{reason}");
        }
        let error = list_pictures(folder.path().join("none")).unwrap_err();
        assert!(error.to_string().contains("none"), "{error}");
    }
}
