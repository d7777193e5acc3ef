//! The model's config, and its presets.

use gallery_gpt_llama::LlamaConfig;
use gallery_gpt_projector::{ProjectorConfig, ProjectorKind};
use gallery_gpt_vision::{AspectRatio, FeatureSelect, HiddenAct, SelectLayer, VisionConfig};

use crate::ModelConfigError;

/// Id of `</s>` in every LLaMA vocabulary.
pub const END_OF_TEXT: u32 = 2;

/// The config of a model: its parts and how they are joined.
#[derive(Clone, Debug, PartialEq)]
pub struct GalleryModelConfig {
    /// The vision tower.
    pub vision: VisionConfig,
    /// The projector.
    pub projector: ProjectorKind,
    /// The decoder.
    pub llama: LlamaConfig,
    /// Which hidden state of the tower is used (`mm_vision_select_layer`).
    pub select_layer: SelectLayer,
    /// Which tokens of that hidden state are used (`mm_vision_select_feature`).
    pub select_feature: FeatureSelect,
    /// How pictures are made square (`image_aspect_ratio`).
    pub aspect_ratio: AspectRatio,
    /// Ids that end an answer; `</s>` unless a checkpoint lists others.
    pub end_ids: Vec<u32>,
    /// Vocabulary rows of the image and padding tokens, if tokens of texts follow them.
    pub reserved: Option<ReservedRows>,
}

/// Vocabulary rows that no text uses, as llava-hf has them. A model keeps them only if other added
/// tokens follow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReservedRows {
    /// Row of the image token.
    pub image: usize,
    /// Row of the padding token, if there is one.
    pub pad: Option<usize>,
}

impl GalleryModelConfig {
    /// GalleryGPT-7B: CLIP ViT-L/14 at 336 pixels, `mlp2x_gelu`, Vicuna-7B.
    #[must_use]
    pub fn gallery_gpt_7b() -> Self {
        Self {
            vision: VisionConfig::clip_vit_large_patch14_336(),
            projector: ProjectorKind::MlpGelu { depth: 2 },
            llama: LlamaConfig::vicuna_7b(),
            select_layer: SelectLayer(-2),
            select_feature: FeatureSelect::Patch,
            aspect_ratio: AspectRatio::Pad,
            end_ids: vec![END_OF_TEXT],
            reserved: None,
        }
    }

    /// The same architecture, small enough for tests and doc examples.
    #[must_use]
    pub fn tiny() -> Self {
        Self {
            vision: VisionConfig {
                hidden_size: 32,
                intermediate_size: 64,
                num_hidden_layers: 3,
                num_attention_heads: 4,
                image_size: 28,
                patch_size: 7,
                num_channels: 3,
                layer_norm_eps: 1e-5,
                hidden_act: HiddenAct::QuickGelu,
            },
            llama: LlamaConfig::tiny(),
            ..Self::gallery_gpt_7b()
        }
    }

    /// Number of tokens of a picture in the decoder: 576 at 7B.
    #[must_use]
    pub fn tokens_per_picture(&self) -> usize {
        self.select_feature.tokens(self.vision.num_patches())
    }

    /// The config of the projector.
    #[must_use]
    pub fn projector_config(&self) -> ProjectorConfig {
        ProjectorConfig::new(
            self.projector,
            self.vision.hidden_size,
            self.llama.hidden_size,
        )
    }

    /// Checks values from a file or a user.
    ///
    /// # Errors
    /// A part's config is invalid, or the tower does not have the selected layer.
    pub fn validate(&self) -> Result<(), ModelConfigError> {
        self.vision.validate()?;
        self.llama.validate()?;
        self.projector_config().validate()?;
        self.select_layer.blocks(self.vision.num_hidden_layers)?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn presets_are_valid() {
        assert!(GalleryModelConfig::tiny().validate().is_ok());
        let full = GalleryModelConfig::gallery_gpt_7b();
        assert!(full.validate().is_ok());
        assert_eq!(full.tokens_per_picture(), 576);
    }
}
