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

/// Sizes of a vision tower, CLIP's or Qwen-VL's.
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
    /// Whether a class token comes before the patches. CLIP has one, Qwen-VL has none.
    #[serde(default = "yes")]
    pub class_token: bool,
    /// Whether queries, keys and values are one linear layer, which gives them head by head
    /// (Qwen-VL's `in_proj`).
    #[serde(default)]
    pub fused_qkv: bool,
    /// Side of the grid of learned position embeddings, if they are resized to the grid of patches
    /// ([`resize_positions`](crate::resize_positions)); otherwise there is one per patch.
    #[serde(default)]
    pub position_grid: Option<usize>,
}

fn three() -> usize {
    3
}

fn yes() -> bool {
    true
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
            class_token: true,
            fused_qkv: false,
            position_grid: None,
        }
    }

    /// Qwen-VL's tower at 448 pixels: 1024 patches of width 1664.
    #[must_use]
    pub fn qwen_vl() -> Self {
        Self {
            hidden_size: 1664,
            intermediate_size: 8192,
            num_hidden_layers: 48,
            num_attention_heads: 16,
            image_size: 448,
            patch_size: 14,
            num_channels: 3,
            layer_norm_eps: 1e-6,
            hidden_act: HiddenAct::Gelu,
            class_token: false,
            fused_qkv: true,
            position_grid: Some(16),
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

    /// Number of learned position embeddings.
    #[must_use]
    pub fn num_positions(&self) -> usize {
        let patches = self
            .position_grid
            .map_or(self.num_patches(), |side| side * side);
        usize::from(self.class_token) + patches
    }

    /// Number of tokens in the blocks: the patches, and the class token if there is one.
    #[must_use]
    pub fn num_tokens(&self) -> usize {
        usize::from(self.class_token) + self.num_patches()
    }

    /// Number of parameters.
    #[must_use]
    pub fn num_parameters(&self) -> usize {
        let (h, m) = (self.hidden_size, self.intermediate_size);
        let filters = h * self.num_channels * self.patch_size * self.patch_size;
        let norm = 2 * h;
        let block = 4 * (h * h + h) + 2 * h * m + m + h + 2 * norm;
        // The class token comes with the norm of its last hidden state.
        let class = usize::from(self.class_token) * (h + norm);
        filters + class + self.num_positions() * h + self.num_hidden_layers * block + norm
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
        match self.position_grid {
            Some(0) => Err(VisionConfigError::Size {
                field: "position_grid",
                found: 0,
                expected: "at least 1".to_owned(),
            }),
            // The class token's position is not part of the grid.
            Some(side) if self.class_token => Err(VisionConfigError::Size {
                field: "position_grid",
                found: side,
                expected: "none in a tower with a class token".to_owned(),
            }),
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn towers_have_the_published_number_of_parameters() {
        let clip = VisionConfig::clip_vit_large_patch14_336();
        assert_eq!(clip.num_parameters(), 303_507_456);
        // 48 blocks of 38,361,728 and 1,407,744 before them.
        assert_eq!(VisionConfig::qwen_vl().num_parameters(), 1_842_770_688);
        assert!(VisionConfig::qwen_vl().validate().is_ok());
    }

    #[test]
    fn resized_positions_and_a_class_token_exclude_each_other() {
        let mut config = VisionConfig::qwen_vl();
        config.class_token = true;
        let error = config.validate().unwrap_err().to_string();
        assert!(error.contains("position_grid is 16"), "{error}");
    }
}
