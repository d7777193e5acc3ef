//! A picture to ask about: a file, bytes or pixels.

use std::{
    io::Cursor,
    path::{Path, PathBuf},
};

use base64::{Engine, engine::general_purpose::STANDARD};
use image::{RgbImage, codecs::jpeg::JpegEncoder, imageops::FilterType};

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
    ///
    /// # Panics
    /// Never: a picture so small has a JPEG.
    pub fn thumbnail(self, processor: &ImageProcessor) -> Result<String, GalleryError> {
        let small = |picture: &RgbImage| {
            let picture = image::DynamicImage::ImageRgb8(picture.clone());
            picture.resize(THUMBNAIL, THUMBNAIL, FilterType::CatmullRom)
        };
        let small = match self {
            Self::File(path) => small(&processor.open(path)?),
            Self::Bytes(bytes) => small(&processor.decode(IN_MEMORY, bytes)?),
            Self::Pixels(pixels) => small(pixels),
        };
        let mut jpeg = Cursor::new(Vec::new());
        let encoder = JpegEncoder::new_with_quality(&mut jpeg, 82);
        small
            .to_rgb8()
            .write_with_encoder(encoder)
            .expect("pixels of at most 416 x 416 fit a JPEG in memory");
        let jpeg = STANDARD.encode(jpeg.into_inner());
        Ok(format!("data:image/jpeg;base64,{jpeg}"))
    }
}

/// Longest side of a thumbnail in pixels.
const THUMBNAIL: u32 = 416;

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
