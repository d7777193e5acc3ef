//! Picture files, read row by row as Pillow reads them.
//!
//! One module a format. Each looks at the [`ImageLimits`] once it knows the size, and before it allocates anything that
//! grows with it. Whatever a decoder does, panics included, comes out as an [`ImageError`] that names the file.

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
pub use format::PictureFormat;
pub use orientation::Orientation;

pub(crate) use file::read_file;
pub(crate) use rows::Rows;

use crate::{ImageError, ImageLimits};

/// What a picture file says of itself, before its pixels are decoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PictureInfo {
    /// Its format, told from its contents.
    pub format: PictureFormat,
    /// Width in pixels, before it is turned.
    pub width: u32,
    /// Height in pixels, before it is turned.
    pub height: u32,
    /// How it wants to be turned (EXIF). Not applied unless asked for, see
    /// [`ImageProcessorConfig::with_apply_orientation`](crate::ImageProcessorConfig::with_apply_orientation). A TIFF is
    /// upright here: it is turned whenever it is read, as Pillow does.
    pub orientation: Orientation,
}

/// Why a picture cannot be used, without its name.
#[derive(Debug)]
pub(crate) enum Fault {
    /// The data end before the last pixel.
    Truncated,
    /// The decoder's words.
    Broken(String),
    /// A kind of this format that is not read.
    Unsupported(String),
    Empty {
        width: u32,
        height: u32,
    },
    TooLarge {
        width: u32,
        height: u32,
        limit: u64,
    },
    TooLong {
        width: u32,
        height: u32,
        limit: u32,
    },
    Memory {
        needed: u64,
        limit: u64,
    },
}

impl Fault {
    /// What a decoder says.
    pub(crate) fn broken(error: impl std::fmt::Display) -> Self {
        Self::Broken(error.to_string())
    }

    fn named(self, name: &str, format: PictureFormat, bytes: usize) -> ImageError {
        let name = name.to_owned();
        match self {
            Self::Truncated => ImageError::Truncated { name, bytes },
            Self::Broken(reason) => ImageError::Decode {
                name,
                format,
                reason,
            },
            Self::Unsupported(found) => ImageError::Unsupported { name, found },
            Self::Empty { width, height } => ImageError::Empty {
                name,
                width,
                height,
            },
            Self::TooLarge {
                width,
                height,
                limit,
            } => ImageError::TooLarge {
                name,
                width,
                height,
                limit,
            },
            Self::TooLong {
                width,
                height,
                limit,
            } => ImageError::TooLong {
                name,
                width,
                height,
                limit,
            },
            Self::Memory { needed, limit } => ImageError::Memory {
                name,
                needed,
                limit,
            },
        }
    }
}

/// A file whose format is known.
pub(crate) struct Picture<'a> {
    name: &'a str,
    bytes: &'a [u8],
    format: PictureFormat,
    limits: ImageLimits,
}

impl<'a> Picture<'a> {
    /// Tells the format from the contents.
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

    /// What the file says of itself.
    pub(crate) fn info(&self) -> Result<PictureInfo, ImageError> {
        let mut orientation = self.orientation();
        self.read(|rows| {
            let (mut width, mut height) = rows.size();
            // Applied when it is read.
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

    /// How the file wants to be turned. Turned TIFFs are turned when they are read, as Pillow does.
    pub(crate) fn orientation(&self) -> Orientation {
        orientation::of(self.bytes, self.format)
    }

    /// Has the picture's rows read: everything that a decoder does happens in here.
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
