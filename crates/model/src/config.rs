//! What a model is made of, and the presets.

use burn::tensor::Device;
use gallery_gpt_llama::LlamaConfig;
use gallery_gpt_projector::{ProjectorConfig, ProjectorKind};
use gallery_gpt_vision::{AspectRatio, FeatureSelect, HiddenAct, SelectLayer, VisionConfig};

use crate::{GalleryModel, ModelConfigError};

/// Id of `</s>` in every LLaMA vocabulary.
pub const END_OF_TEXT: u32 = 2;

/// The parts of a model and how they are joined.
#[derive(Clone, Debug, PartialEq)]
pub struct GalleryModelConfig {
    /// The tower.
    pub vision: VisionConfig,
    /// The projector.
    pub projector: ProjectorKind,
    /// The decoder.
    pub llama: LlamaConfig,
    /// Which hidden state of the tower.
    pub select_layer: SelectLayer,
    /// Which tokens of it.
    pub select_feature: FeatureSelect,
    /// How pictures become square before the tower.
    pub aspect_ratio: AspectRatio,
    /// Ids that end an answer; `</s>` alone unless a checkpoint lists others.
    pub end_ids: Vec<u32>,
    /// Rows of the vocabulary that are no words, where words stand behind them.
    pub reserved: Option<ReservedRows>,
}

/// Rows of a vocabulary in the layout of llava-hf that stand for no word. They are in the model only if words were added behind them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReservedRows {
    /// The picture token's.
    pub image: usize,
    /// The padding token's, if there is one.
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

    /// The same shape, small enough for tests and doc examples.
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

    /// Tokens a picture takes in the decoder: 576 at 7B.
    #[must_use]
    pub fn tokens_per_picture(&self) -> usize {
        self.select_feature.tokens(self.vision.num_patches())
    }

    /// The projector between the two widths.
    #[must_use]
    pub fn projector_config(&self) -> ProjectorConfig {
        ProjectorConfig::new(
            self.projector,
            self.vision.hidden_size,
            self.llama.hidden_size,
        )
    }

    /// Checks numbers that came from a file or a user.
    ///
    /// # Errors
    /// A part that is not valid in itself, or a layer that the tower does not have.
    pub fn validate(&self) -> Result<(), ModelConfigError> {
        self.vision.validate()?;
        self.llama.validate()?;
        self.projector_config().validate()?;
        self.select_layer.blocks(self.vision.num_hidden_layers)?;
        Ok(())
    }

    /// A model with random weights, made when first used.
    ///
    /// # Panics
    /// On a config that [`GalleryModelConfig::validate`] refuses.
    #[must_use]
    pub fn init(&self, device: &Device) -> GalleryModel {
        GalleryModel::new(self, device)
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
