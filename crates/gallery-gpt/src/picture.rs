//! A picture to ask about: a file, bytes or pixels.

use std::path::{Path, PathBuf};

use gallery_gpt_report::thumbnail;
use image::RgbImage;

use crate::{
    GalleryError,
    vision::{ImageProcessor, PixelValues},
};

/// A picture to ask about: a file, the bytes of a file, or pixels.
/// [`GalleryGpt`](crate::GalleryGpt) takes `impl Into<Picture>`: a path, a `&str`, `&[u8]` or
/// `&RgbImage` of the `image` crate ([`crate::image`]).
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub enum Picture<'a> {
    /// A file.
    File(&'a Path),
    /// The bytes of a file of any supported format.
    Bytes(&'a [u8]),
    /// Pixels.
    Pixels(&'a RgbImage),
}

impl Picture<'_> {
    /// Preprocesses the picture.
    pub(crate) fn process(self, processor: &ImageProcessor) -> Result<PixelValues, GalleryError> {
        Ok(match self {
            Self::File(path) => processor.process_file(path)?,
            Self::Bytes(bytes) => processor.process(&processor.decode(IN_MEMORY, bytes)?),
            Self::Pixels(pixels) => processor.process(pixels),
        })
    }

    /// A small JPEG of the picture, as a `data:` URI for a page that stands alone.
    ///
    /// # Errors
    /// The picture cannot be read.
    pub fn thumbnail(self, processor: &ImageProcessor) -> Result<String, GalleryError> {
        Ok(match self {
            Self::File(path) => thumbnail(&processor.open(path)?),
            Self::Bytes(bytes) => thumbnail(&processor.decode(IN_MEMORY, bytes)?),
            Self::Pixels(pixels) => thumbnail(pixels),
        })
    }
}

/// The name of bytes in messages.
const IN_MEMORY: &str = "a picture in memory";

impl<'a> From<&'a Path> for Picture<'a> {
    fn from(path: &'a Path) -> Self {
        Self::File(path)
    }
}

impl<'a> From<&'a PathBuf> for Picture<'a> {
    fn from(path: &'a PathBuf) -> Self {
        Self::File(path)
    }
}

impl<'a> From<&'a str> for Picture<'a> {
    fn from(path: &'a str) -> Self {
        Self::File(Path::new(path))
    }
}

impl<'a> From<&'a String> for Picture<'a> {
    fn from(path: &'a String) -> Self {
        Self::File(Path::new(path))
    }
}

impl<'a> From<&'a [u8]> for Picture<'a> {
    fn from(bytes: &'a [u8]) -> Self {
        Self::Bytes(bytes)
    }
}

impl<'a> From<&'a RgbImage> for Picture<'a> {
    fn from(pixels: &'a RgbImage) -> Self {
        Self::Pixels(pixels)
    }
}
