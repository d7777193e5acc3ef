//! The EXIF orientation of a picture.

use image::{DynamicImage, RgbImage, metadata};

use super::tiff::Directory;
use crate::PictureFormat;

/// The EXIF orientation of a picture.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Orientation(metadata::Orientation);

impl Orientation {
    /// No transformation.
    pub const UPRIGHT: Self = Self(metadata::Orientation::NoTransforms);

    /// Whether there is nothing to apply.
    #[must_use]
    pub fn is_upright(self) -> bool {
        self == Self::UPRIGHT
    }

    /// The transformation as text, as in "it carries a rotation by 90 degrees clockwise".
    #[must_use]
    pub fn description(self) -> &'static str {
        use metadata::Orientation as Exif;
        match self.0 {
            Exif::NoTransforms => "no rotation",
            Exif::Rotate90 => "a rotation by 90 degrees clockwise",
            Exif::Rotate180 => "a rotation by 180 degrees",
            Exif::Rotate270 => "a rotation by 90 degrees counterclockwise",
            Exif::FlipHorizontal => "a mirroring from left to right",
            Exif::FlipVertical => "a mirroring from top to bottom",
            Exif::Rotate90FlipH => {
                "a rotation by 90 degrees clockwise and a mirroring from left to right"
            }
            Exif::Rotate270FlipH => {
                "a rotation by 90 degrees counterclockwise and a mirroring from left to right"
            }
        }
    }

    /// Whether width and height are swapped.
    pub(crate) fn swaps_sides(self) -> bool {
        use metadata::Orientation as Exif;
        matches!(
            self.0,
            Exif::Rotate90 | Exif::Rotate270 | Exif::Rotate90FlipH | Exif::Rotate270FlipH
        )
    }

    /// Applies the orientation.
    pub(crate) fn apply(self, picture: RgbImage) -> RgbImage {
        let mut picture = DynamicImage::ImageRgb8(picture);
        picture.apply_orientation(self.0);
        picture.into_rgb8()
    }

    fn from_exif(value: u64) -> Option<Self> {
        let value = u8::try_from(value).ok()?;
        metadata::Orientation::from_exif(value).map(Self)
    }
}

/// The orientation of a file of this format.
pub(super) fn of(bytes: &[u8], format: PictureFormat) -> Orientation {
    let exif = match format {
        PictureFormat::Jpeg => jpeg(bytes),
        PictureFormat::Png => png(bytes),
        PictureFormat::WebP => webp(bytes),
        PictureFormat::Tiff => Some(bytes),
        PictureFormat::Bmp | PictureFormat::Gif => None,
    };
    let exif = exif.map(|exif| exif.strip_prefix(b"Exif\0\0").unwrap_or(exif));
    let directory = exif.and_then(|exif| Directory::read(exif).ok());
    let value = directory.and_then(|directory| Orientation::from_exif(directory.orientation()));
    value.unwrap_or(Orientation::UPRIGHT)
}

/// The EXIF segment, which precedes the first scan.
fn jpeg(bytes: &[u8]) -> Option<&[u8]> {
    let mut rest = bytes.get(2..)?;
    loop {
        let &[0xFF, marker, high, low, ref data @ ..] = rest else {
            return None;
        };
        if marker == 0xFF {
            rest = &rest[1..];
            continue;
        }
        let length = usize::from(u16::from_be_bytes([high, low])).checked_sub(2)?;
        let segment = data.get(..length)?;
        match marker {
            0xE1 if segment.starts_with(b"Exif\0\0") => return Some(segment),
            0xDA | 0xD9 => return None,
            _ => rest = &data[length..],
        }
    }
}

fn png(bytes: &[u8]) -> Option<&[u8]> {
    let mut rest = bytes.get(8..)?;
    loop {
        let (head, data) = rest.split_at_checked(8)?;
        let length = u32::from_be_bytes(*head.first_chunk()?) as usize;
        let chunk = data.get(..length)?;
        match &head[4..] {
            b"eXIf" => return Some(chunk),
            b"IEND" => return None,
            _ => rest = data.get(length.checked_add(4)?..)?,
        }
    }
}

fn webp(bytes: &[u8]) -> Option<&[u8]> {
    let mut rest = bytes.get(12..)?;
    loop {
        let (head, data) = rest.split_at_checked(8)?;
        let length = u32::from_le_bytes(*head[4..].first_chunk()?) as usize;
        let chunk = data.get(..length)?;
        match &head[..4] {
            b"EXIF" => return Some(chunk),
            _ => rest = data.get(length.checked_next_multiple_of(2)?..)?,
        }
    }
}
