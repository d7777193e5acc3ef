//! Layouts: how the tensors of a checkpoint are named.
//!
//! All names are mapped to those of the `llava-hf` checkpoints on the hub, the hub names. A new layout is a new variant here.

mod key_map;
mod qwen_vl;

use gallery_gpt_llama::LoraTarget;
use gallery_gpt_model::ModelFamily;
use gallery_gpt_text::UnknownName;

pub use key_map::{CheckpointKey, Placement, checkpoint_key, checkpoint_keys};

/// A way to name the tensors of a model.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Layout {
    /// `llava-hf` on the hub, and what transformers save: `language_model.model.layers...`.
    LlavaHf,
    /// What transformers keep in memory since 4.52: `model.language_model.layers...`.
    LlavaHfNested,
    /// The original LLaVA's, ShareGPT4V's and GalleryGPT's: `model.layers...`, `model.mm_projector...`, and the tower in a
    /// folder of its own or under `model.vision_tower.vision_tower...`.
    Llava,
    /// Qwen-VL-Chat's: `transformer.h...`, `transformer.visual...`.
    QwenVl,
}

impl std::fmt::Display for Layout {
    /// As it stands in messages.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::LlavaHf => "llava-hf's",
            Self::LlavaHfNested => "llava-hf's nested",
            Self::Llava => "LLaVA's own",
            Self::QwenVl => "Qwen-VL's",
        })
    }
}

impl std::str::FromStr for Layout {
    type Err = UnknownName;

    /// `llava_hf`, `llava_hf_nested`, `llava` or `qwen_vl`.
    fn from_str(name: &str) -> Result<Self, Self::Err> {
        match name {
            "llava_hf" => Ok(Self::LlavaHf),
            "llava_hf_nested" => Ok(Self::LlavaHfNested),
            "llava" => Ok(Self::Llava),
            "qwen_vl" => Ok(Self::QwenVl),
            _ => Err(UnknownName::new(
                "layout",
                name,
                "llava_hf, llava_hf_nested, llava or qwen_vl",
            )),
        }
    }
}

impl Layout {
    /// The family whose models have this layout.
    #[must_use]
    pub fn family(self) -> ModelFamily {
        match self {
            Self::LlavaHf | Self::LlavaHfNested | Self::Llava => ModelFamily::Llava,
            Self::QwenVl => ModelFamily::QwenVl,
        }
    }

    /// The layout that a model of a family is saved in, unless another is chosen.
    #[must_use]
    pub fn default_of(family: ModelFamily) -> Self {
        match family {
            ModelFamily::QwenVl => Self::QwenVl,
            _ => Self::LlavaHf,
        }
    }

    /// The name of a linear of the decoder's blocks in adapters of this layout.
    #[must_use]
    pub fn target_name(self, target: LoraTarget) -> &'static str {
        match self {
            Self::QwenVl => qwen_vl::target_name(target),
            Self::LlavaHf | Self::LlavaHfNested | Self::Llava => target.name(),
        }
    }

    /// The layout that a tensor's name belongs to, if that is certain.
    pub(crate) fn of(key: &str) -> Option<Self> {
        let prefixes = [
            ("language_model.", Self::LlavaHf),
            ("multi_modal_projector.", Self::LlavaHf),
            ("model.language_model.", Self::LlavaHfNested),
            ("model.multi_modal_projector.", Self::LlavaHfNested),
            ("model.layers.", Self::Llava),
            ("model.embed_tokens.", Self::Llava),
            ("model.norm.", Self::Llava),
            ("model.mm_projector.", Self::Llava),
            ("model.vision_tower.vision_tower.", Self::Llava),
            ("transformer.", Self::QwenVl),
        ];
        let mut prefixes = prefixes.into_iter();
        prefixes.find_map(|(prefix, layout)| key.starts_with(prefix).then_some(layout))
    }

    /// Whether a name is that of a buffer that old libraries saved and every reader recomputes.
    #[must_use]
    pub fn is_ignored(key: &str) -> bool {
        let buffers = [
            "rotary_emb.inv_freq",
            "embeddings.position_ids",
            "attn.masked_bias",
        ];
        buffers.iter().any(|buffer| key.ends_with(buffer))
    }

    /// The hub name of a tensor; `None` for a buffer that every reader ignores.
    #[must_use]
    pub fn hub_key(self, key: &str) -> Option<String> {
        if Self::is_ignored(key) {
            return None;
        }
        Some(match self {
            // Transformers 5 saves the tower without the `vision_model` level.
            Self::LlavaHf => match key.strip_prefix("vision_tower.") {
                Some(rest) if !rest.starts_with("vision_model.") => {
                    format!("vision_tower.vision_model.{rest}")
                }
                _ => key.to_owned(),
            },
            Self::LlavaHfNested => {
                if let Some(rest) = key.strip_prefix("model.language_model.") {
                    format!("language_model.model.{rest}")
                } else if key.starts_with("lm_head.") {
                    format!("language_model.{key}")
                } else if let Some(rest) = key.strip_prefix("model.vision_tower.") {
                    let rest = rest.strip_prefix("vision_model.").unwrap_or(rest);
                    format!("vision_tower.vision_model.{rest}")
                } else {
                    key.strip_prefix("model.").unwrap_or(key).to_owned()
                }
            }
            Self::Llava => {
                if let Some(rest) = key.strip_prefix("model.vision_tower.vision_tower.") {
                    let rest = rest.strip_prefix("vision_model.").unwrap_or(rest);
                    format!("vision_tower.vision_model.{rest}")
                } else if let Some(key) = projector_hub_key(key) {
                    key
                } else {
                    format!("language_model.{key}")
                }
            }
            Self::QwenVl => qwen_vl::hub_key(key).unwrap_or_else(|| key.to_owned()),
        })
    }

    /// The name of a tensor in this layout, by its hub name: the inverse of [`Layout::hub_key`].
    #[must_use]
    pub fn key_of(self, hub_key: &str) -> String {
        let language = hub_key.strip_prefix("language_model.");
        match self {
            Self::LlavaHf => hub_key.to_owned(),
            Self::LlavaHfNested => match language {
                Some(rest) => match rest.strip_prefix("model.") {
                    Some(rest) => format!("model.language_model.{rest}"),
                    None => rest.to_owned(),
                },
                None => format!("model.{hub_key}"),
            },
            Self::Llava => match language {
                Some(rest) => rest.to_owned(),
                None => match hub_key.strip_prefix("multi_modal_projector.linear_") {
                    // Odd indices of the original's `nn.Sequential` are the activations between the linears.
                    Some(rest) => match rest.split_once('.') {
                        Some((nth, leaf)) => {
                            let at = 2 * nth.parse::<usize>().unwrap_or(1).saturating_sub(1);
                            format!("model.mm_projector.{at}.{leaf}")
                        }
                        None => hub_key.to_owned(),
                    },
                    None => format!("model.vision_tower.{hub_key}"),
                },
            },
            Self::QwenVl => qwen_vl::own_key(hub_key).unwrap_or_else(|| hub_key.to_owned()),
        }
    }
}

/// Name of the file that a projector trained alone is saved as.
pub(crate) const PROJECTOR_FILE: &str = "mm_projector.bin";

/// The hub name of a tensor of the original's projector, with any prefix before `mm_projector`: an `nn.Sequential` with linears at its
/// even indices, or a single linear.
pub(crate) fn projector_hub_key(key: &str) -> Option<String> {
    let rest = &key[key.find("mm_projector.")? + "mm_projector.".len()..];
    let (at, leaf) = rest.split_once('.').unwrap_or(("0", rest));
    let at: usize = at.parse().ok()?;
    (at.is_multiple_of(2) && ["weight", "bias"].contains(&leaf))
        .then(|| format!("multi_modal_projector.linear_{}.{leaf}", at / 2 + 1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_go_to_the_hub_and_back() {
        let hub = [
            "language_model.model.layers.3.mlp.up_proj.weight",
            "language_model.model.norm.weight",
            "language_model.lm_head.weight",
            "multi_modal_projector.linear_2.bias",
            "vision_tower.vision_model.encoder.layers.0.self_attn.q_proj.weight",
        ];
        for layout in [Layout::LlavaHf, Layout::LlavaHfNested, Layout::Llava] {
            let keys = hub.map(|key| layout.key_of(key));
            for (key, hub) in keys.iter().zip(hub) {
                assert_eq!(
                    layout.hub_key(key).as_deref(),
                    Some(hub),
                    "{layout:?} {key}"
                );
            }
        }
    }

    #[test]
    fn names_of_qwen_go_to_the_hub_and_back() {
        for key in [
            "transformer.wte.weight",
            "transformer.h.31.ln_2.weight",
            "transformer.h.0.attn.c_proj.weight",
            "transformer.h.0.mlp.w2.weight",
            "transformer.ln_f.weight",
            "lm_head.weight",
            "transformer.visual.conv1.weight",
            "transformer.visual.ln_pre.bias",
            "transformer.visual.transformer.resblocks.47.mlp.c_proj.bias",
            "transformer.visual.attn_pool.pos_embed",
            "transformer.visual.attn_pool.attn.in_proj_bias",
            "transformer.visual.attn_pool.attn.out_proj.bias",
            "transformer.visual.proj",
        ] {
            let hub = Layout::QwenVl.hub_key(key).unwrap();
            assert_ne!(hub, key);
            assert_eq!(Layout::QwenVl.key_of(&hub), key);
        }
        // A name that the model has not stays as it is, and nothing uses it.
        for key in ["transformer.h.x.ln_1.weight", "transformer.drop.weight"] {
            assert_eq!(Layout::QwenVl.hub_key(key).as_deref(), Some(key));
        }
        assert_eq!(
            Layout::QwenVl.hub_key("transformer.h.3.attn.masked_bias"),
            None
        );
    }
}
