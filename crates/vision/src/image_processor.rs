//! The image processor: from a picture file to the vision tower's input.

use std::path::Path;

use image::RgbImage;

use crate::{
    AspectRatio, ImageError, ImageLimits, ImageProcessorConfig, Orientation, PictureFormat,
    PictureInfo, PixelValues,
    fault::Fault,
    picture::{Picture, Rows, read_file},
    resize::{Canvas, Scaler, Window},
};

/// A rectangle in a picture's pixel coordinates.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct FieldOfView {
    /// Left edge; negative if the picture is padded.
    pub left: f64,
    /// Top edge; negative if the picture is padded.
    pub top: f64,
    /// Width.
    pub width: f64,
    /// Height.
    pub height: f64,
}

/// Decodes pictures, makes them square, scales and normalises them.
#[derive(Clone, Debug)]
pub struct ImageProcessor {
    config: ImageProcessorConfig,
    /// The normalised value of each of the 256 levels of a channel.
    levels: Box<[[f32; 256]; 3]>,
}

impl ImageProcessorConfig {
    /// The processor.
    ///
    /// # Panics
    /// If `image_size` is 0.
    #[must_use]
    pub fn init(&self) -> ImageProcessor {
        assert!(self.image_size > 0, "image_size is 0, expected at least 1");
        let levels = std::array::from_fn(|channel| {
            let (mean, std) = (self.image_mean[channel], self.image_std[channel]);
            std::array::from_fn(|level| ((level as f64 / 255.0 - mean) / std) as f32)
        });
        ImageProcessor {
            config: self.clone(),
            levels: Box::new(levels),
        }
    }
}

impl ImageProcessor {
    /// The settings.
    #[must_use]
    pub fn config(&self) -> &ImageProcessorConfig {
        &self.config
    }

    /// The padding colour: `int(255 * mean)`, (122, 116, 104) with CLIP's means.
    #[must_use]
    pub fn pad_color(&self) -> [u8; 3] {
        self.config.image_mean.map(|mean| (mean * 255.0) as u8)
    }

    /// Sets the limits.
    #[must_use]
    pub fn with_limits(mut self, limits: ImageLimits) -> Self {
        self.config.limits = limits;
        self
    }

    /// Sets whether the EXIF orientation is applied.
    #[must_use]
    pub fn with_apply_orientation(mut self, apply: bool) -> Self {
        self.config.apply_orientation = apply;
        self
    }

    /// Reads a picture file's format, size and orientation, without decoding its pixels.
    ///
    /// # Errors
    /// As [`ImageProcessor::open`], except for damaged pixels.
    pub fn info(&self, path: impl AsRef<Path>) -> Result<PictureInfo, ImageError> {
        let path = path.as_ref();
        let bytes = read_file(path, &self.config.limits)?;
        self.info_of(&path.display().to_string(), &bytes)
    }

    /// As [`ImageProcessor::info`], from bytes; `name` is used in messages.
    ///
    /// # Errors
    /// As [`ImageProcessor::info`].
    pub fn info_of(&self, name: &str, bytes: &[u8]) -> Result<PictureInfo, ImageError> {
        Picture::new(name, bytes, self.config.limits)?.info()
    }

    /// Opens a picture file as Pillow's `Image.open(path).convert("RGB")`, bit for bit: alpha is
    /// dropped, the EXIF orientation is ignored unless [`ImageProcessorConfig::apply_orientation`]
    /// is set (except that of a TIFF, which Pillow applies), 16-bit grey is clamped to 255, and
    /// 16-bit colour is truncated to its high byte.
    ///
    /// # Errors
    /// The file cannot be read, is not a regular file, cannot be decoded, or exceeds the limits.
    pub fn open(&self, path: impl AsRef<Path>) -> Result<RgbImage, ImageError> {
        let path = path.as_ref();
        let bytes = read_file(path, &self.config.limits)?;
        self.decode(&path.display().to_string(), &bytes)
    }

    /// As [`ImageProcessor::open`], from bytes; `name` is used in messages. The format is
    /// recognised by the contents.
    ///
    /// # Errors
    /// As [`ImageProcessor::open`].
    pub fn decode(&self, name: &str, bytes: &[u8]) -> Result<RgbImage, ImageError> {
        let picture = Picture::new(name, bytes, self.config.limits)?;
        let orientation = self.orientation(&picture);
        // Applying an orientation makes a copy.
        let copies = if orientation.is_upright() { 1 } else { 2 };
        let limits = &self.config.limits;
        let file = bytes.len() as u64;
        let whole = picture.read(|rows| {
            let (width, height) = rows.size();
            let length = u64::from(width) * u64::from(height) * 3;
            limits.afford(file + rows.memory() + copies * length)?;
            let mut pixels = vec![0; length as usize];
            read_rows(rows, &mut pixels, |_| {})?;
            RgbImage::from_raw(width, height, pixels).ok_or(Fault::Truncated)
        })?;
        Ok(orientation.apply(whole))
    }

    /// The orientation to apply. Decoding a TIFF applies its own, as in Pillow.
    fn orientation(&self, picture: &Picture<'_>) -> Orientation {
        match self.config.apply_orientation || picture.format() == PictureFormat::Tiff {
            true => picture.orientation(),
            false => Orientation::UPRIGHT,
        }
    }

    /// Makes a picture square and scales it, without normalisation.
    ///
    /// # Panics
    /// If the picture has no pixels.
    #[must_use]
    pub fn resize(&self, picture: &RgbImage) -> RgbImage {
        let size = self.config.image_size;
        let pixels = self.resized(picture);
        RgbImage::from_raw(size as u32, size as u32, pixels).expect("size x size x 3 bytes")
    }

    fn resized(&self, picture: &RgbImage) -> Vec<u8> {
        let (width, height) = picture.dimensions();
        assert!(
            width > 0 && height > 0,
            "the picture is {width}x{height} pixels"
        );
        let mut scaler = self.scaler(width, height);
        for row in picture.as_raw().chunks_exact(width as usize * 3) {
            scaler.push(row);
        }
        scaler.finish()
    }

    /// The scaler for pictures of this size.
    fn scaler(&self, width: u32, height: u32) -> Scaler {
        let size = self.config.image_size;
        let (width, height) = (width as usize, height as usize);
        let whole = Canvas {
            picture: [width, height],
            width,
            height,
            left: 0,
            top: 0,
            fill: [0; 3],
        };
        let all = Window {
            scaled_width: size,
            scaled_height: size,
            left: 0,
            top: 0,
            size,
        };
        match self.config.aspect_ratio {
            AspectRatio::Pad => {
                let side = width.max(height);
                let canvas = Canvas {
                    picture: [width, height],
                    width: side,
                    height: side,
                    left: (side - width) / 2,
                    top: (side - height) / 2,
                    fill: self.pad_color(),
                };
                Scaler::new(&canvas, &all)
            }
            AspectRatio::CenterCrop => {
                let short = width.min(height);
                let long = width.max(height);
                // `int(size * long / short)`: a float division in Python, which is exact for all
                // picture sizes.
                let scaled_long = size * long / short;
                let (scaled_width, scaled_height) = if width <= height {
                    (size, scaled_long)
                } else {
                    (scaled_long, size)
                };
                let window = Window {
                    scaled_width,
                    scaled_height,
                    left: (scaled_width - size) / 2,
                    top: (scaled_height - size) / 2,
                    size,
                };
                Scaler::new(&whole, &window)
            }
            AspectRatio::Squash => Scaler::new(&whole, &all),
        }
    }

    /// Preprocesses a picture.
    ///
    /// # Panics
    /// If the picture has no pixels.
    #[must_use]
    pub fn process(&self, picture: &RgbImage) -> PixelValues {
        self.normalised(&self.resized(picture))
    }

    fn normalised(&self, pixels: &[u8]) -> PixelValues {
        let size = self.config.image_size;
        let mut values = vec![0.0; 3 * size * size];
        let (red, rest) = values.split_at_mut(size * size);
        let (green, blue) = rest.split_at_mut(size * size);
        let channels = red.iter_mut().zip(green).zip(blue);
        for (((red, green), blue), pixel) in channels.zip(pixels.chunks_exact(3)) {
            *red = self.levels[0][usize::from(pixel[0])];
            *green = self.levels[1][usize::from(pixel[1])];
            *blue = self.levels[2][usize::from(pixel[2])];
        }
        PixelValues::from_values(values, size)
    }

    /// The part of a picture that the vision tower gets, in the picture's pixel coordinates: a square
    /// that is larger than the picture if it is padded, smaller if it is cropped; the picture itself
    /// if it is squashed.
    #[must_use]
    pub fn field_of_view(&self, width: u32, height: u32) -> FieldOfView {
        let (picture_width, picture_height) = (f64::from(width), f64::from(height));
        let [width, height] = match self.config.aspect_ratio {
            AspectRatio::Pad => [picture_width.max(picture_height); 2],
            AspectRatio::CenterCrop => [picture_width.min(picture_height); 2],
            AspectRatio::Squash => [picture_width, picture_height],
        };
        FieldOfView {
            left: (picture_width - width) / 2.0,
            top: (picture_height - height) / 2.0,
            width,
            height,
        }
    }

    /// [`ImageProcessor::open`] and [`ImageProcessor::process`] in one, row by row: the whole
    /// picture is in memory only if its format or its orientation requires it.
    ///
    /// # Errors
    /// As [`ImageProcessor::open`].
    pub fn process_file(&self, path: impl AsRef<Path>) -> Result<PixelValues, ImageError> {
        let path = path.as_ref();
        let bytes = read_file(path, &self.config.limits)?;
        self.process_bytes(&path.display().to_string(), &bytes)
    }

    /// As [`ImageProcessor::process_file`], from bytes; `name` is used in messages.
    ///
    /// # Errors
    /// As [`ImageProcessor::open`].
    pub fn process_bytes(&self, name: &str, bytes: &[u8]) -> Result<PixelValues, ImageError> {
        let picture = Picture::new(name, bytes, self.config.limits)?;
        if !self.orientation(&picture).is_upright() {
            return Ok(self.process(&self.decode(name, bytes)?));
        }
        picture.read(|rows| {
            let (width, height) = rows.size();
            let mut scaler = self.scaler(width, height);
            read_rows(rows, &mut vec![0; width as usize * 3], |row| {
                scaler.push(row);
            })?;
            Ok(self.normalised(&scaler.finish()))
        })
    }
}

/// Reads a whole picture through a buffer of one or more rows.
fn read_rows(
    rows: &mut dyn Rows,
    buffer: &mut [u8],
    mut each: impl FnMut(&[u8]),
) -> Result<(), Fault> {
    let (width, height) = rows.size();
    let line = width as usize * 3;
    let lines = buffer.len() / line;
    for y in 0..height as usize {
        let row = &mut buffer[y % lines * line..][..line];
        rows.next(row)?;
        each(row);
    }
    rows.finish()
}
