//! The vision tower's config, with the field names of Hugging Face's `CLIPVisionConfig`.

use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::VisionConfigError;

/// Activation of the MLP.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum HiddenAct {
    /// `x * sigmoid(1.702 x)`, which CLIP was trained with.
    #[default]
    QuickGelu,
    /// `x * Phi(x)`, exact.
    Gelu,
}

impl FromStr for HiddenAct {
    type Err = VisionConfigError;

    fn from_str(name: &str) -> Result<Self, Self::Err> {
        match name {
            "quick_gelu" => Ok(Self::QuickGelu),
            "gelu" => Ok(Self::Gelu),
            other => Err(VisionConfigError::Unknown {
                field: "hidden_act",
                found: other.to_owned(),
                expected: "quick_gelu or gelu",
            }),
        }
    }
}

/// Sizes of a CLIP vision tower.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct VisionConfig {
    /// Width of the hidden states.
    pub hidden_size: usize,
    /// Width inside the MLP.
    pub intermediate_size: usize,
    /// Number of blocks.
    pub num_hidden_layers: usize,
    /// Number of attention heads; divides `hidden_size`.
    pub num_attention_heads: usize,
    /// Side of the picture in pixels.
    pub image_size: usize,
    /// Side of a patch in pixels; divides `image_size`.
    pub patch_size: usize,
    /// Colour channels.
    #[serde(default = "three")]
    pub num_channels: usize,
    /// Epsilon of every layer norm.
    #[serde(default = "layer_norm_eps")]
    pub layer_norm_eps: f64,
    /// Activation of the MLP.
    #[serde(default)]
    pub hidden_act: HiddenAct,
}

fn three() -> usize {
    3
}

fn layer_norm_eps() -> f64 {
    1e-5
}

impl VisionConfig {
    /// CLIP ViT-L/14 at 336 pixels: 576 patches of width 1024.
    #[must_use]
    pub fn clip_vit_large_patch14_336() -> Self {
        Self {
            hidden_size: 1024,
            intermediate_size: 4096,
            num_hidden_layers: 24,
            num_attention_heads: 16,
            image_size: 336,
            patch_size: 14,
            num_channels: 3,
            layer_norm_eps: 1e-5,
            hidden_act: HiddenAct::QuickGelu,
        }
    }

    /// Patches along one side.
    #[must_use]
    pub fn grid_size(&self) -> usize {
        self.image_size / self.patch_size
    }

    /// Number of patches of a picture.
    #[must_use]
    pub fn num_patches(&self) -> usize {
        self.grid_size() * self.grid_size()
    }

    /// Number of parameters.
    #[must_use]
    pub fn num_parameters(&self) -> usize {
        let (h, m) = (self.hidden_size, self.intermediate_size);
        let embeddings = h * self.num_channels * self.patch_size * self.patch_size
            + h
            + (self.num_patches() + 1) * h;
        let norm = 2 * h;
        let block = 4 * (h * h + h) + 2 * h * m + m + h + 2 * norm;
        embeddings + self.num_hidden_layers * block + 2 * norm
    }

    /// Checks values from a file or a user.
    ///
    /// # Errors
    /// A size is 0, or does not divide another.
    pub fn validate(&self) -> Result<(), VisionConfigError> {
        for (field, value) in [
            ("hidden_size", self.hidden_size),
            ("intermediate_size", self.intermediate_size),
            ("num_hidden_layers", self.num_hidden_layers),
            ("num_attention_heads", self.num_attention_heads),
            ("image_size", self.image_size),
            ("patch_size", self.patch_size),
            ("num_channels", self.num_channels),
        ] {
            if value == 0 {
                return Err(VisionConfigError::Size {
                    field,
                    found: 0,
                    expected: "at least 1".to_owned(),
                });
            }
        }
        for (field, value, by, of) in [
            (
                "num_attention_heads",
                self.num_attention_heads,
                self.hidden_size,
                "hidden_size",
            ),
            ("patch_size", self.patch_size, self.image_size, "image_size"),
        ] {
            if by % value != 0 {
                return Err(VisionConfigError::Size {
                    field,
                    found: value,
                    expected: format!("a divisor of {of} ({by})"),
                });
            }
        }
        Ok(())
    }
}
