//! From a picture file to the numbers the tower reads.

use std::{io::Cursor, path::Path, str::FromStr};

use burn::tensor::{Device, Tensor, TensorData};
use image::{DynamicImage, ImageDecoder, ImageReader, Rgb, RgbImage};
use serde::{Deserialize, Serialize};

use crate::{
    ImageError, PreprocessorConfig, VisionConfigError,
    jpeg::has_end_of_image,
    resize::{Canvas, Window, resize},
};

/// Mean of CLIP's training pixels per channel, in 0..1.
pub const CLIP_MEAN: [f64; 3] = [0.481_454_66, 0.457_827_5, 0.408_210_73];
/// Standard deviation of CLIP's training pixels per channel, in 0..1.
pub const CLIP_STD: [f64; 3] = [0.268_629_54, 0.261_302_58, 0.275_777_11];

/// How a picture that is not square becomes square (`image_aspect_ratio`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AspectRatio {
    /// Pad the short side with the mean colour, then scale: nothing is lost. LLaVA-1.5 and GalleryGPT.
    #[default]
    Pad,
    /// Scale the short side, then cut out the middle. CLIP, and the processor of llava-hf.
    CenterCrop,
}

impl std::fmt::Display for AspectRatio {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Pad => "pad",
            Self::CenterCrop => "center_crop",
        })
    }
}

impl FromStr for AspectRatio {
    type Err = VisionConfigError;

    fn from_str(name: &str) -> Result<Self, Self::Err> {
        match name {
            "pad" => Ok(Self::Pad),
            "center_crop" | "crop" | "square" => Ok(Self::CenterCrop),
            other => Err(VisionConfigError::Unknown {
                field: "image_aspect_ratio",
                found: other.to_owned(),
                expected: "pad or center_crop",
            }),
        }
    }
}

/// What a picture file may cost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ImageLimits {
    /// Most pixels. The default is where Pillow raises its `DecompressionBombError`.
    pub max_pixels: u64,
    /// Most bytes a decoder may allocate.
    pub max_alloc: u64,
}

impl Default for ImageLimits {
    fn default() -> Self {
        Self {
            max_pixels: 178_956_970,
            max_alloc: 2 << 30,
        }
    }
}

/// Settings of [`ImageProcessor`].
#[derive(Clone, Debug, PartialEq)]
pub struct ImageProcessorConfig {
    /// Side of the output in pixels.
    pub image_size: usize,
    /// How it becomes square.
    pub aspect_ratio: AspectRatio,
    /// Subtracted per channel, in 0..1; also the padding colour.
    pub image_mean: [f64; 3],
    /// Divided by per channel.
    pub image_std: [f64; 3],
    /// What a file may cost.
    pub limits: ImageLimits,
}

impl ImageProcessorConfig {
    /// CLIP's means, padding to square, default limits.
    #[must_use]
    pub fn new(image_size: usize) -> Self {
        Self {
            image_size,
            aspect_ratio: AspectRatio::Pad,
            image_mean: CLIP_MEAN,
            image_std: CLIP_STD,
            limits: ImageLimits::default(),
        }
    }

    /// Sets how a picture becomes square.
    #[must_use]
    pub fn with_aspect_ratio(mut self, aspect_ratio: AspectRatio) -> Self {
        self.aspect_ratio = aspect_ratio;
        self
    }

    /// Reads a `preprocessor_config.json`, for pictures that are padded: how they become square belongs to the model's config.
    ///
    /// # Errors
    /// The file cannot be read, or as [`PreprocessorConfig::new`].
    pub fn from_file(path: impl AsRef<Path>) -> Result<Self, ImageError> {
        let path = path.as_ref();
        let bytes = std::fs::read(path).map_err(|source| ImageError::Read {
            path: path.to_owned(),
            source,
        })?;
        let json = serde_json::from_slice(&bytes).map_err(|error| ImageError::Config {
            path: path.to_owned(),
            reason: error.to_string(),
        })?;
        PreprocessorConfig::new(path, json)?.with_aspect_ratio(path, AspectRatio::Pad)
    }

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

/// A square in the plane of a picture, in its pixels.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct FieldOfView {
    /// Left edge, negative where the picture is padded.
    pub left: f64,
    /// Top edge, negative where the picture is padded.
    pub top: f64,
    /// Side.
    pub side: f64,
}

/// One picture for the tower: `[3, size, size]`, normalised, channel by channel.
#[derive(Clone, Debug, PartialEq)]
pub struct PixelValues {
    values: Vec<f32>,
    size: usize,
}

impl PixelValues {
    /// Wraps values that are already normalised, channel by channel.
    ///
    /// # Panics
    /// If there are not `3 * size * size` of them.
    #[must_use]
    pub fn from_values(values: Vec<f32>, size: usize) -> Self {
        assert_eq!(
            values.len(),
            3 * size * size,
            "values of a [3, {size}, {size}] picture"
        );
        Self { values, size }
    }

    /// `[3, size, size]`.
    #[must_use]
    pub fn shape(&self) -> [usize; 3] {
        [3, self.size, self.size]
    }

    /// The numbers, channel by channel, row by row.
    #[must_use]
    pub fn values(&self) -> &[f32] {
        &self.values
    }

    /// Several pictures as one tensor, `[pictures, 3, size, size]`.
    ///
    /// # Panics
    /// If there is no picture, or two sizes.
    #[must_use]
    pub fn stack(pictures: &[&Self], device: &Device) -> Tensor<4> {
        let size = pictures.first().expect("at least one picture").size;
        let mut values = Vec::with_capacity(pictures.len() * 3 * size * size);
        for picture in pictures {
            assert_eq!(picture.size, size, "pictures of one batch have one size");
            values.extend_from_slice(&picture.values);
        }
        Tensor::from_data(
            TensorData::new(values, [pictures.len(), 3, size, size]),
            device,
        )
    }
}

/// Decodes, squares, scales and normalises pictures.
#[derive(Clone, Debug)]
pub struct ImageProcessor {
    config: ImageProcessorConfig,
    /// What each of the 256 levels of a channel becomes.
    levels: Box<[[f32; 256]; 3]>,
}

impl ImageProcessor {
    /// The settings.
    #[must_use]
    pub fn config(&self) -> &ImageProcessorConfig {
        &self.config
    }

    /// The colour of the padding: `int(255 * mean)`, (122, 116, 104) with CLIP's means.
    #[must_use]
    pub fn pad_color(&self) -> [u8; 3] {
        self.config.image_mean.map(|mean| (mean * 255.0) as u8)
    }

    /// Opens a picture file as `Image.open(path).convert("RGB")` does: alpha dropped, EXIF orientation ignored, 16-bit
    /// grey clamped to 255, 16-bit colour cut to its high byte.
    ///
    /// # Errors
    /// The file cannot be read or decoded, or is over the limits.
    pub fn open(&self, path: impl AsRef<Path>) -> Result<RgbImage, ImageError> {
        let path = path.as_ref();
        let bytes = std::fs::read(path).map_err(|source| ImageError::Read {
            path: path.to_owned(),
            source,
        })?;
        self.decode(&path.display().to_string(), &bytes)
    }

    /// As [`ImageProcessor::open`], from bytes; `name` is for the messages. The format is told from the contents.
    ///
    /// # Errors
    /// As [`ImageProcessor::open`].
    pub fn decode(&self, name: &str, bytes: &[u8]) -> Result<RgbImage, ImageError> {
        let undecodable = |source| ImageError::Decode {
            name: name.to_owned(),
            source,
        };
        let reader = ImageReader::new(Cursor::new(bytes))
            .with_guessed_format()
            .map_err(|error| undecodable(image::ImageError::IoError(error)))?;
        // The JPEG decoder paints what is missing grey; Pillow refuses such a file, and so do we.
        if reader.format() == Some(image::ImageFormat::Jpeg) && !has_end_of_image(bytes) {
            return Err(ImageError::Truncated {
                name: name.to_owned(),
                bytes: bytes.len(),
            });
        }
        let mut decoder = reader.into_decoder().map_err(undecodable)?;
        let (width, height) = decoder.dimensions();
        if width == 0 || height == 0 {
            return Err(ImageError::Empty {
                name: name.to_owned(),
                width,
                height,
            });
        }
        if u64::from(width) * u64::from(height) > self.config.limits.max_pixels {
            return Err(ImageError::TooLarge {
                name: name.to_owned(),
                width,
                height,
                limit: self.config.limits.max_pixels,
            });
        }
        let mut limits = image::Limits::default();
        limits.max_alloc = Some(self.config.limits.max_alloc);
        decoder.set_limits(limits).map_err(undecodable)?;
        let picture = DynamicImage::from_decoder(decoder).map_err(undecodable)?;
        Ok(to_rgb(picture))
    }

    /// The squared and scaled picture, before normalisation.
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
        let size = self.config.image_size;
        let (width, height) = (picture.width() as usize, picture.height() as usize);
        assert!(
            width > 0 && height > 0,
            "the picture is {width}x{height} pixels"
        );
        let (canvas, window) = match self.config.aspect_ratio {
            AspectRatio::Pad => {
                let side = width.max(height);
                let canvas = Canvas {
                    image: picture,
                    width: side,
                    height: side,
                    left: (side - width) / 2,
                    top: (side - height) / 2,
                    fill: self.pad_color(),
                };
                let window = Window {
                    scaled_width: size,
                    scaled_height: size,
                    left: 0,
                    top: 0,
                    size,
                };
                (canvas, window)
            }
            AspectRatio::CenterCrop => {
                let short = width.min(height);
                let long = width.max(height);
                // `int(size * long / short)`: a float division in Python, exact far beyond any picture.
                let scaled_long = size * long / short;
                let (scaled_width, scaled_height) = if width <= height {
                    (size, scaled_long)
                } else {
                    (scaled_long, size)
                };
                let canvas = Canvas {
                    image: picture,
                    width,
                    height,
                    left: 0,
                    top: 0,
                    fill: [0; 3],
                };
                let window = Window {
                    scaled_width,
                    scaled_height,
                    left: (scaled_width - size) / 2,
                    top: (scaled_height - size) / 2,
                    size,
                };
                (canvas, window)
            }
        };
        resize(&canvas, &window)
    }

    /// A picture as the tower reads it.
    ///
    /// # Panics
    /// If the picture has no pixels.
    #[must_use]
    pub fn process(&self, picture: &RgbImage) -> PixelValues {
        let size = self.config.image_size;
        let pixels = self.resized(picture);
        let mut values = vec![0.0; 3 * size * size];
        let (red, rest) = values.split_at_mut(size * size);
        let (green, blue) = rest.split_at_mut(size * size);
        let channels = red.iter_mut().zip(green).zip(blue);
        for (((red, green), blue), pixel) in channels.zip(pixels.chunks_exact(3)) {
            *red = self.levels[0][usize::from(pixel[0])];
            *green = self.levels[1][usize::from(pixel[1])];
            *blue = self.levels[2][usize::from(pixel[2])];
        }
        PixelValues { values, size }
    }

    /// The square of a picture's plane that the tower sees, in the picture's pixels: larger than the picture where it is padded,
    /// smaller where it is cropped.
    #[must_use]
    pub fn field_of_view(&self, width: u32, height: u32) -> FieldOfView {
        let (width, height) = (f64::from(width), f64::from(height));
        let side = match self.config.aspect_ratio {
            AspectRatio::Pad => width.max(height),
            AspectRatio::CenterCrop => width.min(height),
        };
        FieldOfView {
            left: (width - side) / 2.0,
            top: (height - side) / 2.0,
            side,
        }
    }

    /// [`ImageProcessor::open`], then [`ImageProcessor::process`].
    ///
    /// # Errors
    /// As [`ImageProcessor::open`].
    pub fn process_file(&self, path: impl AsRef<Path>) -> Result<PixelValues, ImageError> {
        Ok(self.process(&self.open(path)?))
    }
}

/// Pillow's `convert("RGB")` of what Pillow would have opened.
fn to_rgb(picture: DynamicImage) -> RgbImage {
    match picture {
        DynamicImage::ImageRgb8(picture) => picture,
        // Mode `I;16`: values over 255 are clamped, not scaled.
        DynamicImage::ImageLuma16(picture) => {
            let (width, height) = picture.dimensions();
            RgbImage::from_fn(width, height, |x, y| {
                let level = picture.get_pixel(x, y).0[0].min(255) as u8;
                Rgb([level; 3])
            })
        }
        // Pillow opens deeper colour by its high byte.
        DynamicImage::ImageRgb16(picture) => {
            let (width, height) = picture.dimensions();
            RgbImage::from_fn(width, height, |x, y| {
                Rgb(picture.get_pixel(x, y).0.map(|level| (level >> 8) as u8))
            })
        }
        DynamicImage::ImageRgba16(picture) => {
            let (width, height) = picture.dimensions();
            RgbImage::from_fn(width, height, |x, y| {
                let [r, g, b, _] = picture.get_pixel(x, y).0;
                Rgb([r, g, b].map(|level| (level >> 8) as u8))
            })
        }
        DynamicImage::ImageLumaA16(picture) => {
            let (width, height) = picture.dimensions();
            RgbImage::from_fn(width, height, |x, y| {
                Rgb([(picture.get_pixel(x, y).0[0] >> 8) as u8; 3])
            })
        }
        DynamicImage::ImageLumaA8(picture) => {
            let (width, height) = picture.dimensions();
            RgbImage::from_fn(width, height, |x, y| Rgb([picture.get_pixel(x, y).0[0]; 3]))
        }
        DynamicImage::ImageRgba8(picture) => {
            let (width, height) = picture.dimensions();
            RgbImage::from_fn(width, height, |x, y| {
                let [r, g, b, _] = picture.get_pixel(x, y).0;
                Rgb([r, g, b])
            })
        }
        other => other.to_rgb8(),
    }
}
