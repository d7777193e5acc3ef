//! Settings of the image processor.

use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::{ImageLimits, VisionConfigError};

/// Mean of CLIP's training pixels per channel, in 0..1.
pub const CLIP_MEAN: [f64; 3] = [0.481_454_66, 0.457_827_5, 0.408_210_73];
/// Standard deviation of CLIP's training pixels per channel, in 0..1.
pub const CLIP_STD: [f64; 3] = [0.268_629_54, 0.261_302_58, 0.275_777_11];

/// How pictures are made square (`image_aspect_ratio`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AspectRatio {
    /// Pad the short side with the mean colour, then scale; nothing is cut off. LLaVA-1.5 and
    /// GalleryGPT.
    #[default]
    Pad,
    /// Scale the short side, then crop the centre. CLIP, and the processor of llava-hf.
    CenterCrop,
    /// Scale both sides to the output's, whatever the proportions. Qwen-VL.
    Squash,
}

impl std::fmt::Display for AspectRatio {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Pad => "pad",
            Self::CenterCrop => "center_crop",
            Self::Squash => "squash",
        })
    }
}

impl FromStr for AspectRatio {
    type Err = VisionConfigError;

    fn from_str(name: &str) -> Result<Self, Self::Err> {
        match name {
            "pad" => Ok(Self::Pad),
            "center_crop" | "crop" | "square" => Ok(Self::CenterCrop),
            "squash" => Ok(Self::Squash),
            other => Err(VisionConfigError::Unknown {
                field: "image_aspect_ratio",
                found: other.to_owned(),
                expected: "pad, center_crop or squash",
            }),
        }
    }
}

/// Settings of [`ImageProcessor`](crate::ImageProcessor).
#[derive(Clone, Debug, PartialEq)]
pub struct ImageProcessorConfig {
    /// Side of the output in pixels.
    pub image_size: usize,
    /// How pictures are made square.
    pub aspect_ratio: AspectRatio,
    /// Mean per channel, in 0..1; also the padding colour.
    pub image_mean: [f64; 3],
    /// Standard deviation per channel, in 0..1.
    pub image_std: [f64; 3],
    /// Limits of file size and memory.
    pub limits: ImageLimits,
    /// Whether the EXIF orientation is applied. Off by default, because the models were trained on
    /// pixels as they are stored.
    pub apply_orientation: bool,
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
            apply_orientation: false,
        }
    }

    /// Sets how pictures are made square.
    #[must_use]
    pub fn with_aspect_ratio(mut self, aspect_ratio: AspectRatio) -> Self {
        self.aspect_ratio = aspect_ratio;
        self
    }

    /// Sets the limits.
    #[must_use]
    pub fn with_limits(mut self, limits: ImageLimits) -> Self {
        self.limits = limits;
        self
    }

    /// Sets whether the EXIF orientation is applied.
    #[must_use]
    pub fn with_apply_orientation(mut self, apply: bool) -> Self {
        self.apply_orientation = apply;
        self
    }
}
