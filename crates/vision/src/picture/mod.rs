//! Picture files, decoded row by row as by Pillow.
//!
//! One module per format. Each checks the [`ImageLimits`] as soon as it knows the size, before it
//! allocates memory in proportion to it. Failures of decoders, panics included, become an
//! [`ImageError`] that names the file.

mod bmp;
mod file;
mod folder;
mod format;
mod gif;
mod jpeg;
mod orientation;
mod png;
mod rows;
mod tiff;
mod webp;

use std::panic::{AssertUnwindSafe, catch_unwind};

pub use folder::{LeftOut, PictureListing, list_pictures};
pub use orientation::Orientation;

pub(crate) use file::read_file;
pub(crate) use rows::Rows;

use crate::{ImageError, ImageLimits, PictureFormat, fault::Fault};

/// Properties of a picture file, known before its pixels are decoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PictureInfo {
    /// Its format, recognised by the contents.
    pub format: PictureFormat,
    /// Width in pixels, as stored.
    pub width: u32,
    /// Height in pixels, as stored.
    pub height: u32,
    /// Its EXIF orientation, which is applied only by
    /// [`ImageProcessorConfig::with_apply_orientation`](crate::ImageProcessorConfig::with_apply_orientation).
    /// Upright for a TIFF, because decoding always applies a TIFF's orientation, as in Pillow.
    pub orientation: Orientation,
}

/// A picture file of a known format.
pub(crate) struct Picture<'a> {
    name: &'a str,
    bytes: &'a [u8],
    format: PictureFormat,
    limits: ImageLimits,
}

impl<'a> Picture<'a> {
    /// Recognises the format by the contents.
    pub(crate) fn new(
        name: &'a str,
        bytes: &'a [u8],
        limits: ImageLimits,
    ) -> Result<Self, ImageError> {
        Ok(Self {
            name,
            bytes,
            format: format::of(bytes).map_err(|found| found.named(name))?,
            limits,
        })
    }

    pub(crate) fn format(&self) -> PictureFormat {
        self.format
    }

    /// The properties of the file.
    pub(crate) fn info(&self) -> Result<PictureInfo, ImageError> {
        let mut orientation = self.orientation();
        self.read(|rows| {
            let (mut width, mut height) = rows.size();
            // Applied by decoding.
            if self.format == PictureFormat::Tiff {
                if orientation.swaps_sides() {
                    (width, height) = (height, width);
                }
                orientation = Orientation::UPRIGHT;
            }
            Ok(PictureInfo {
                format: self.format,
                width,
                height,
                orientation,
            })
        })
    }

    /// The EXIF orientation. That of a TIFF is applied by decoding, as in Pillow.
    pub(crate) fn orientation(&self) -> Orientation {
        orientation::of(self.bytes, self.format)
    }

    /// Decodes the picture: calls `read` with its rows, and catches the decoder's failures.
    pub(crate) fn read<T>(
        &self,
        read: impl FnOnce(&mut dyn Rows) -> Result<T, Fault>,
    ) -> Result<T, ImageError> {
        let guarded = catch_unwind(AssertUnwindSafe(|| {
            self.limits.afford(self.bytes.len() as u64)?;
            read(&mut *self.rows()?)
        }));
        let read = guarded.unwrap_or_else(|panic| {
            let said = panic.downcast_ref::<String>().map(String::as_str);
            let said = said.or_else(|| panic.downcast_ref::<&str>().copied());
            Err(Fault::Broken(format!(
                "the decoder failed: {}",
                said.unwrap_or("no word why")
            )))
        });
        read.map_err(|fault| fault.named(self.name, self.format, self.bytes.len()))
    }

    fn rows(&self) -> Result<Box<dyn Rows + 'a>, Fault> {
        let (bytes, limits) = (self.bytes, &self.limits);
        Ok(match self.format {
            PictureFormat::Bmp => Box::new(bmp::Bmp::open(bytes, limits)?),
            PictureFormat::Gif => Box::new(gif::Gif::open(bytes, limits)?),
            PictureFormat::Jpeg => Box::new(jpeg::Jpeg::open(bytes, limits)?),
            PictureFormat::Png => Box::new(png::Png::open(bytes, limits)?),
            PictureFormat::Tiff => Box::new(tiff::Tiff::open(bytes, limits)?),
            PictureFormat::WebP => Box::new(webp::WebP::open(bytes, limits)?),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_of_a_decoder_is_an_error_that_names_the_file() {
        let file = include_bytes!("../../tests/pictures/corpus/p_17x16_L.png");
        let picture = Picture::new("a.png", file, ImageLimits::default()).unwrap();
        let error = picture
            .read::<()>(|rows| panic!("no row {}", rows.size().0))
            .unwrap_err();
        assert_eq!(
            error.to_string(),
            "cannot decode picture a.png as PNG: the decoder failed: no row 17; copy or convert the file again"
        );
    }
}
