//! The model's config, and its presets.

use gallery_gpt_llama::{LlamaConfig, LongContext};
use gallery_gpt_projector::{ProjectorConfig, ProjectorKind};
use gallery_gpt_vision::{AspectRatio, FeatureSelect, HiddenAct, SelectLayer, VisionConfig};

use crate::ModelConfigError;

/// Id of `</s>` in every LLaMA vocabulary.
pub const END_OF_TEXT: u32 = 2;

/// A family of models: which files and names a model has, how its prompts are written, and what its
/// adapters are by default. The parts themselves are told by their own configs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum ModelFamily {
    /// LLaVA-1.5, ShareGPT4V and GalleryGPT.
    #[default]
    Llava,
    /// Qwen-VL-Chat of 2023.
    QwenVl,
}

impl std::fmt::Display for ModelFamily {
    /// As it stands in messages.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Llava => "LLaVA",
            Self::QwenVl => "Qwen-VL",
        })
    }
}

/// The config of a model: its parts and how they are joined.
#[derive(Clone, Debug, PartialEq)]
pub struct GalleryModelConfig {
    /// The family.
    pub family: ModelFamily,
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
    /// Vocabulary rows of the image and padding tokens, where the model keeps them: in LLaVA if tokens
    /// of texts follow them, in Qwen-VL always.
    pub reserved: Option<ReservedRows>,
}

/// Vocabulary rows that no text uses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReservedRows {
    /// Row of the image token; in Qwen-VL of the tag before a picture (`image_start_id`).
    pub image: usize,
    /// Row of the padding token, if there is one.
    pub pad: Option<usize>,
}

impl GalleryModelConfig {
    /// GalleryGPT-7B: CLIP ViT-L/14 at 336 pixels, `mlp2x_gelu`, Vicuna-7B.
    #[must_use]
    pub fn gallery_gpt_7b() -> Self {
        Self {
            family: ModelFamily::Llava,
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

    /// Qwen-VL-Chat: a tower of 48 blocks at 448 pixels, a resampler of 256 queries, Qwen-7B;
    /// 9,656,935,168 parameters. The ids that end an answer are those of its own tokenizer.
    #[must_use]
    pub fn qwen_vl_chat() -> Self {
        Self {
            family: ModelFamily::QwenVl,
            vision: VisionConfig::qwen_vl(),
            projector: ProjectorKind::Resampler { queries: 256 },
            llama: LlamaConfig::qwen_7b(),
            select_layer: SelectLayer(-1),
            select_feature: FeatureSelect::Patch,
            aspect_ratio: AspectRatio::Squash,
            end_ids: vec![151_643, 151_644, 151_645],
            reserved: Some(ReservedRows {
                image: 151_857,
                pad: None,
            }),
        }
    }

    /// The architecture of [`GalleryModelConfig::qwen_vl_chat`], small enough for tests.
    #[must_use]
    pub fn tiny_qwen_vl() -> Self {
        Self {
            vision: VisionConfig {
                hidden_size: 24,
                intermediate_size: 40,
                num_hidden_layers: 2,
                num_attention_heads: 2,
                image_size: 28,
                patch_size: 7,
                position_grid: Some(2),
                ..VisionConfig::qwen_vl()
            },
            projector: ProjectorKind::Resampler { queries: 9 },
            llama: LlamaConfig {
                hidden_size: 128,
                intermediate_size: 96,
                num_hidden_layers: 2,
                num_attention_heads: 4,
                num_key_value_heads: 4,
                vocab_size: 320,
                max_position_embeddings: 512,
                long_context: Some(LongContext {
                    seq_length: 24,
                    dynamic_ntk: true,
                    log_n: true,
                }),
                ..LlamaConfig::qwen_7b()
            },
            end_ids: vec![END_OF_TEXT],
            reserved: Some(ReservedRows {
                image: 317,
                pad: None,
            }),
            ..Self::qwen_vl_chat()
        }
    }

    /// GalleryGPT's architecture, small enough for tests and doc examples.
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
                class_token: true,
                fused_qkv: false,
                position_grid: None,
            },
            llama: LlamaConfig::tiny(),
            ..Self::gallery_gpt_7b()
        }
    }

    /// Number of tokens of a picture in the decoder: 576 of GalleryGPT-7B, 256 of Qwen-VL-Chat.
    #[must_use]
    pub fn tokens_per_picture(&self) -> usize {
        match self.projector {
            ProjectorKind::Resampler { queries } => queries,
            _ if self.vision.class_token => self.select_feature.tokens(self.vision.num_patches()),
            _ => self.vision.num_patches(),
        }
    }

    /// Number of parameters, without adapters.
    #[must_use]
    pub fn num_parameters(&self) -> usize {
        let projector = self.projector_config().num_parameters();
        self.vision.num_parameters() + projector + self.llama.num_parameters()
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
        assert!(GalleryModelConfig::tiny_qwen_vl().validate().is_ok());
        let qwen = GalleryModelConfig::qwen_vl_chat();
        assert!(qwen.validate().is_ok());
        assert_eq!(qwen.tokens_per_picture(), 256);
        assert_eq!(qwen.num_parameters(), 9_656_935_168);
    }
}
