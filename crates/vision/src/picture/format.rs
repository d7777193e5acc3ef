//! Recognises formats by the first bytes of a file.

use crate::{ImageError, PictureFormat};

/// What an unsupported file is.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Unread {
    /// A picture of another format.
    Other(&'static str),
    /// Not a picture; what it is and what to do.
    NotAPicture(&'static str),
}

impl std::fmt::Display for Unread {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Other(found) => write!(f, "{found}, which is not read"),
            Self::NotAPicture(found) => write!(f, "not a picture, but {found}"),
        }
    }
}

impl Unread {
    pub(crate) fn named(self, name: &str) -> ImageError {
        let name = name.to_owned();
        match self {
            Self::Other(found) => ImageError::Unsupported {
                name,
                found: found.to_owned(),
            },
            Self::NotAPicture(found) => ImageError::NotAPicture { name, found },
        }
    }
}

/// The format of a file with these contents.
pub(crate) fn of(bytes: &[u8]) -> Result<PictureFormat, Unread> {
    let at = |offset: usize| bytes.get(offset..).unwrap_or_default();
    if bytes.starts_with(b"\xff\xd8\xff") {
        Ok(PictureFormat::Jpeg)
    } else if bytes.starts_with(b"\x89PNG\r\n\x1a\n") {
        Ok(PictureFormat::Png)
    } else if bytes.starts_with(b"GIF87a") || bytes.starts_with(b"GIF89a") {
        Ok(PictureFormat::Gif)
    } else if bytes.starts_with(b"RIFF") && at(8).starts_with(b"WEBP") {
        Ok(PictureFormat::WebP)
    } else if super::tiff::PREFIXES
        .iter()
        .any(|mark| bytes.starts_with(mark))
    {
        Ok(PictureFormat::Tiff)
    } else if bytes.starts_with(b"BM") {
        Ok(PictureFormat::Bmp)
    } else {
        Err(unread(bytes))
    }
}

/// What a file without a supported format is.
fn unread(bytes: &[u8]) -> Unread {
    use Unread::{NotAPicture, Other};
    const OTHER: [(usize, &[u8], &str); 20] = [
        (4, b"ftypavif", "AVIF"),
        (4, b"ftypavis", "AVIF"),
        (4, b"ftyphei", "HEIC"),
        (4, b"ftyphev", "HEIC"),
        (4, b"ftypmif1", "HEIC"),
        (0, b"\0\0\0\x0cjP  ", "JPEG 2000"),
        (0, b"\xff\x4f\xff\x51", "JPEG 2000"),
        (0, b"\0\0\0\x0cJXL ", "JPEG XL"),
        (0, b"\xff\x0a", "JPEG XL"),
        (0, b"8BPS", "a Photoshop document"),
        (0, b"gimp xcf", "a GIMP document"),
        (0, b"\0\0\x01\0", "an icon (ICO)"),
        (0, b"qoif", "QOI"),
        (0, b"DDS ", "DDS"),
        (0, b"v/1\x01", "OpenEXR"),
        (0, b"#?RADIANCE", "Radiance HDR"),
        (0, b"II\xbc", "JPEG XR"),
        (0, b"AT&TFORM", "DjVu"),
        (0, b"<svg", "SVG"),
        (0, b"%!PS", "PostScript"),
    ];
    const NOT_PICTURES: [(&[u8], &str); 6] = [
        (
            b"version https://git-lfs",
            "a Git LFS pointer; the file itself was not downloaded: run `git lfs pull` in its repository, or download it again",
        ),
        (b"%PDF-", "a PDF document; save its page as a picture"),
        (b"PK\x03\x04", "a ZIP archive; unpack it"),
        (b"\x1f\x8b", "gzip data; unpack it"),
        (
            b"\xff\xd8",
            "the beginning of a JPEG and no more; copy the file again",
        ),
        (
            b"\x89PNG",
            "a PNG whose first bytes were changed, as copying it as text does; copy the file again",
        ),
    ];
    if bytes.is_empty() {
        return NotAPicture("an empty file; copy it again");
    }
    for (offset, mark, name) in OTHER {
        if bytes
            .get(offset..)
            .is_some_and(|rest| rest.starts_with(mark))
        {
            return Other(name);
        }
    }
    for (mark, name) in NOT_PICTURES {
        if bytes.starts_with(mark) {
            return NotAPicture(name);
        }
    }
    let head = &bytes[..bytes.len().min(1024)];
    let text = String::from_utf8_lossy(head).to_lowercase();
    let text = text.trim_start_matches('\u{feff}').trim_start();
    if ["<!doctype html", "<html", "<head", "<body"]
        .iter()
        .any(|tag| text.starts_with(tag))
        || (text.starts_with('<') && text.contains("<html"))
    {
        NotAPicture("a web page: what was to be downloaded was not; download it again")
    } else if text.starts_with('<') && text.contains("<svg") {
        Other("SVG")
    } else if head.iter().all(|&byte| byte == 0) {
        NotAPicture("nothing but zero bytes; copy the file again")
    } else if !text.contains('\0') && !text.contains('\u{fffd}') {
        NotAPicture("text")
    } else {
        NotAPicture("of no format that is known here")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_that_are_not_pictures_are_named() {
        let found = |bytes: &[u8]| of(bytes).unwrap_err().named("x.jpg").to_string();
        assert!(found(b"version https://git-lfs.github.com/spec/v1\n").contains("git lfs pull"));
        for page in [
            &b"\n <!DOCTYPE html><p>"[..],
            b"<?xml version='1.0'?><html>",
        ] {
            assert!(found(page).contains("web page"));
        }
        assert!(found(b"").contains("empty file"));
        assert!(found(b"\0\0\0\x20ftypavif").contains("AVIF"));
        assert!(found(b"<?xml version='1.0'?><svg>").contains("SVG"));
        assert!(found(b"{\"error\": 404}").contains("text"));
        assert!(found(&[0; 40]).contains("zero bytes"));
    }
}
