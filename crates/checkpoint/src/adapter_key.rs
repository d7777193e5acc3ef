//! What the tensors of adapter folders are called, whoever wrote them.

use gallery_gpt_llama::LoraTarget;

use crate::{Layout, Placement, checkpoint_key, layout::projector_hub_key};

/// Transformers' name of the projector.
pub(crate) const PROJECTOR: &str = "multi_modal_projector";

/// A way to lay out an adapter's folder.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum AdapterLayout {
    /// PEFT's, on transformers' LLaVA.
    #[default]
    Peft,
    /// LLaVA's and GalleryGPT's.
    LlavaLora,
}

impl std::fmt::Display for AdapterLayout {
    /// Whose it is, in words.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Peft => "PEFT's layout",
            Self::LlavaLora => "LLaVA's layout of LoRA folders",
        })
    }
}

/// A parameter that an adapter brings, whatever its tensor is called.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum AdapterKey {
    Lora {
        layer: usize,
        target: LoraTarget,
        is_a: bool,
    },
    Projector {
        hub_key: String,
    },
}

impl AdapterKey {
    /// Understands the names of PEFT on llava-hf models (old and new nesting) and on LLaVA's own, with or without `.default`,
    /// and the names of the original's projector.
    pub(crate) fn parse(key: &str) -> Option<Self> {
        let key = key.replace(".default.", ".");
        if let Some(hub_key) = projector_hub_key(&key) {
            return Some(Self::Projector { hub_key });
        }
        if let Some(at) = key.find(PROJECTOR) {
            let hub_key = key[at..].replace("modules_to_save.", "");
            return Some(Self::Projector { hub_key });
        }
        let rest = &key[key.find("layers.")? + "layers.".len()..];
        let mut parts = rest.split('.');
        let layer = parts.next()?.parse().ok()?;
        let _block = parts
            .next()
            .filter(|part| ["self_attn", "mlp"].contains(part))?;
        let target = parts.next()?.parse().ok()?;
        let is_a = match parts.next()? {
            "lora_A" => true,
            "lora_B" => false,
            _ => return None,
        };
        let is_weight = parts.next()? == "weight" && parts.next().is_none();
        (is_weight && !key.contains("vision")).then_some(Self::Lora {
            layer,
            target,
            is_a,
        })
    }

    /// The parameter at a path of the model.
    pub(crate) fn of_path(path: &str) -> Option<(Self, Placement)> {
        if let Some(rest) = path.strip_prefix("language_model.layers.") {
            let mut parts = rest.split('.');
            let layer = parts.next()?.parse().ok()?;
            let target = parts.nth(1)?.parse().ok()?;
            let is_a = match (parts.next()?, parts.next()?) {
                ("lora", "lora_a") => true,
                ("lora", "lora_b") => false,
                _ => return None,
            };
            let key = Self::Lora {
                layer,
                target,
                is_a,
            };
            return Some((key, Placement::Transposed));
        }
        if path.starts_with("projector.") {
            let key = checkpoint_key(path)?;
            return Some((Self::Projector { hub_key: key.key }, key.placement));
        }
        None
    }

    /// The name in a folder we write.
    pub(crate) fn name(&self, layout: AdapterLayout) -> String {
        match self {
            Self::Lora {
                layer,
                target,
                is_a,
            } => {
                let block = match target {
                    LoraTarget::GateProj | LoraTarget::UpProj | LoraTarget::DownProj => "mlp",
                    _ => "self_attn",
                };
                let nesting = match layout {
                    AdapterLayout::Peft => "language_model.layers",
                    AdapterLayout::LlavaLora => "layers",
                };
                let matrix = if *is_a { "lora_A" } else { "lora_B" };
                format!(
                    "base_model.model.model.{nesting}.{layer}.{block}.{}.{matrix}.weight",
                    target.name()
                )
            }
            Self::Projector { hub_key } => match layout {
                AdapterLayout::Peft => format!("base_model.model.model.{hub_key}"),
                AdapterLayout::LlavaLora => {
                    format!("base_model.model.{}", Layout::Llava.key_of(hub_key))
                }
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_of_an_adapter_is_understood() {
        let lora = AdapterKey::Lora {
            layer: 3,
            target: LoraTarget::UpProj,
            is_a: true,
        };
        for key in [
            "base_model.model.model.layers.3.mlp.up_proj.lora_A.weight",
            "base_model.model.model.layers.3.mlp.up_proj.lora_A.default.weight",
            "base_model.model.model.language_model.layers.3.mlp.up_proj.lora_A.weight",
            "base_model.model.language_model.model.layers.3.mlp.up_proj.lora_A.weight",
            "model.layers.3.mlp.up_proj.lora_A.weight",
        ] {
            assert_eq!(AdapterKey::parse(key).as_ref(), Some(&lora), "{key}");
        }
        let projector = AdapterKey::Projector {
            hub_key: "multi_modal_projector.linear_2.bias".to_owned(),
        };
        for key in [
            "base_model.model.model.mm_projector.2.bias",
            "base_model.model.mm_projector.2.bias",
            "model.mm_projector.2.bias",
            "mm_projector.2.bias",
            "base_model.model.model.multi_modal_projector.linear_2.bias",
            "base_model.model.model.multi_modal_projector.modules_to_save.default.linear_2.bias",
        ] {
            assert_eq!(AdapterKey::parse(key).as_ref(), Some(&projector), "{key}");
        }
        for key in [
            "base_model.model.lm_head.lora_A.weight",
            "base_model.model.model.layers.3.mlp.up_proj.lora_C.weight",
            "base_model.model.model.layers.3.mlp.up_proj.lora_A.weight.more",
            "base_model.model.model.vision_tower.encoder.layers.3.self_attn.q_proj.lora_A.weight",
            "base_model.model.model.mm_projector.1.weight",
        ] {
            assert_eq!(AdapterKey::parse(key), None, "{key}");
        }
        for layout in [AdapterLayout::Peft, AdapterLayout::LlavaLora] {
            for key in [&lora, &projector] {
                assert_eq!(AdapterKey::parse(&key.name(layout)).as_ref(), Some(key));
            }
        }
    }
}
