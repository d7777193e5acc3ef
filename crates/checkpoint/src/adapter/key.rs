//! The names of tensors in adapter folders, whoever wrote them.

use gallery_gpt_model::ModelFamily;

use crate::{Layout, Placement, checkpoint_key, layout::projector_hub_key};

/// A layout of adapter folders.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum AdapterLayout {
    /// PEFT's, on transformers' LLaVA or on Qwen-VL-Chat's own code.
    #[default]
    Peft,
    /// LLaVA's and GalleryGPT's.
    LlavaLora,
}

impl std::fmt::Display for AdapterLayout {
    /// As it stands in messages.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Peft => "PEFT's layout",
            Self::LlavaLora => "LLaVA's layout of LoRA folders",
        })
    }
}

impl From<Layout> for AdapterLayout {
    /// The layout of adapters for a base of a layout: whoever reads the one reads the other.
    fn from(base: Layout) -> Self {
        match base {
            Layout::Llava => Self::LlavaLora,
            Layout::LlavaHf | Layout::LlavaHfNested | Layout::QwenVl => Self::Peft,
        }
    }
}

impl AdapterLayout {
    /// The layout of its module names, for a base of a family.
    pub(super) fn modules(self, family: ModelFamily) -> Layout {
        match (family, self) {
            (ModelFamily::QwenVl, _) => Layout::QwenVl,
            (_, Self::Peft) => Layout::LlavaHfNested,
            (_, Self::LlavaLora) => Layout::Llava,
        }
    }
}

/// The role of an adapter's tensor in its module.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Part {
    /// `[rank, input]`.
    LoraA,
    /// `[output, rank]`.
    LoraB,
    /// `[output]`.
    LoraBBias,
    /// `[rank, rows]`, of an embedding.
    EmbeddingA,
    /// `[hidden, rank]`, of an embedding.
    EmbeddingB,
    /// DoRA's magnitudes, `[output]`.
    Magnitude,
    /// Trained rows of an embedding, `[ids, hidden]`.
    Rows,
    /// A whole parameter of the base, with its own name.
    Whole(String),
}

/// A tensor of an adapter, independent of its name in files.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct AdapterKey {
    /// The module's name in the `llava-hf` hub layout.
    pub(super) module: String,
    /// Its role there.
    pub(super) part: Part,
}

impl AdapterKey {
    pub(super) fn new(module: impl Into<String>, part: Part) -> Self {
        Self {
            module: module.into(),
            part,
        }
    }

    /// A whole parameter of the base, by its hub name.
    pub(super) fn whole(hub_key: &str) -> Self {
        let (module, leaf) = hub_key.rsplit_once('.').unwrap_or(("", hub_key));
        Self::new(module, Part::Whole(leaf.to_owned()))
    }

    /// Parses names of PEFT on llava-hf models (old and new nesting) and on LLaVA's own, with or without `.default`, and names of the
    /// original's projector. Also returns the module's name as the trainer has it.
    pub(super) fn parse(key: &str) -> Option<(Self, String)> {
        let key = key.strip_prefix("base_model.model.").unwrap_or(key);
        let wrappers = ["default", "modules_to_save", "base_layer", "token_adapter"];
        let mut names: Vec<&str> = key.split('.').collect();
        names.retain(|name| !wrappers.contains(name));
        let (part, length) = match names[..] {
            [.., "lora_A", "weight"] => (Part::LoraA, 2),
            [.., "lora_B", "weight"] => (Part::LoraB, 2),
            [.., "lora_B", "bias"] => (Part::LoraBBias, 2),
            [.., "lora_embedding_A"] => (Part::EmbeddingA, 1),
            [.., "lora_embedding_B"] => (Part::EmbeddingB, 1),
            [.., "lora_magnitude_vector", "weight"] => (Part::Magnitude, 2),
            [.., "lora_magnitude_vector"] => (Part::Magnitude, 1),
            [.., "trainable_tokens_delta"] => (Part::Rows, 1),
            [.., leaf] if !key.contains("lora_") => (Part::Whole(leaf.to_owned()), 1),
            _ => return None,
        };
        let module = names[..names.len() - length].join(".");
        let hub = hub_module(&module)?;
        Some((Self::new(hub, part), module))
    }

    /// The tensor of a parameter of the model, by its path: of adapters, and of parameters that are saved whole beside them.
    pub(super) fn of_path(path: &str) -> Option<(Self, Placement)> {
        for (end, part) in [(".lora.lora_a", Part::LoraA), (".lora.lora_b", Part::LoraB)] {
            if let Some(module) = path.strip_suffix(end) {
                let module = module.strip_prefix("language_model.")?;
                let key = Self::new(format!("language_model.model.{module}"), part);
                return Some((key, Placement::Transposed));
            }
        }
        let key = checkpoint_key(path)?;
        Some((Self::whole(&key.key), key.placement))
    }

    /// Whether it is a whole parameter of the base.
    pub(super) fn is_whole(&self) -> bool {
        matches!(self.part, Part::Whole(_))
    }

    /// Whether it is a whole parameter of the projector.
    pub(super) fn is_projector(&self) -> bool {
        self.module.starts_with("multi_modal_projector") && self.is_whole()
    }

    /// The name in a folder that is written.
    pub(super) fn name(&self, modules: Layout) -> String {
        let module = module_name(modules, &self.module);
        let part = match &self.part {
            Part::LoraA => "lora_A.weight",
            Part::LoraB => "lora_B.weight",
            Part::LoraBBias => "lora_B.bias",
            Part::EmbeddingA => "lora_embedding_A",
            Part::EmbeddingB => "lora_embedding_B",
            Part::Magnitude => "lora_magnitude_vector",
            Part::Rows => "token_adapter.trainable_tokens_delta",
            Part::Whole(leaf) => leaf,
        };
        format!("base_model.model.{module}.{part}")
    }
}

/// A module's name in a layout, by its hub name.
pub(super) fn module_name(layout: Layout, hub_module: &str) -> String {
    let key = layout.key_of(&format!("{hub_module}.weight"));
    key.strip_suffix(".weight").unwrap_or(&key).to_owned()
}

/// A module's hub name, by the trainer's name of it.
fn hub_module(module: &str) -> Option<String> {
    if module.starts_with("transformer.") {
        let key = Layout::QwenVl.hub_key(&format!("{module}.weight"))?;
        let module = key.strip_suffix(".weight")?;
        return (!module.starts_with("transformer.")).then(|| module.to_owned());
    }
    if module.contains("mm_projector") {
        let key = projector_hub_key(&format!("{module}.weight"))?;
        return key.strip_suffix(".weight").map(str::to_owned);
    }
    if let Some(at) = module.find("multi_modal_projector.") {
        return Some(module[at..].to_owned());
    }
    if let Some((_, rest)) = module.rsplit_once("vision_tower.") {
        let rest = rest.strip_prefix("vision_model.").unwrap_or(rest);
        return Some(format!("vision_tower.vision_model.{rest}"));
    }
    let outer = [
        "model.language_model.",
        "language_model.model.",
        "language_model.",
        "model.",
        "",
    ];
    let rest = outer
        .iter()
        .find_map(|prefix| module.strip_prefix(prefix))
        .unwrap_or(module);
    if rest == "lm_head" {
        return Some("language_model.lm_head".to_owned());
    }
    let is_decoder = rest.starts_with("layers.") || ["embed_tokens", "norm"].contains(&rest);
    is_decoder.then(|| format!("language_model.model.{rest}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(key: &str) -> Option<AdapterKey> {
        AdapterKey::parse(key).map(|(key, _)| key)
    }

    #[test]
    fn every_name_of_an_adapter_is_understood() {
        let lora = AdapterKey::new("language_model.model.layers.3.mlp.up_proj", Part::LoraA);
        let projector = AdapterKey::whole("multi_modal_projector.linear_2.bias");
        let q_proj = "vision_tower.vision_model.encoder.layers.3.self_attn.q_proj";
        let tower = AdapterKey::new(q_proj, Part::LoraB);
        let head = AdapterKey::new("language_model.lm_head", Part::LoraA);
        let embeddings = "language_model.model.embed_tokens";
        for (wanted, keys) in [
            (
                &lora,
                &[
                    "base_model.model.model.layers.3.mlp.up_proj.lora_A.weight",
                    "base_model.model.model.layers.3.mlp.up_proj.lora_A.default.weight",
                    "base_model.model.model.language_model.layers.3.mlp.up_proj.lora_A.weight",
                    "base_model.model.language_model.model.layers.3.mlp.up_proj.lora_A.weight",
                    "model.layers.3.mlp.up_proj.lora_A.weight",
                ][..],
            ),
            (
                &AdapterKey::new(
                    "language_model.model.layers.3.self_attn.c_attn",
                    Part::LoraA,
                ),
                &["base_model.model.transformer.h.3.attn.c_attn.lora_A.weight"],
            ),
            (
                &projector,
                &[
                    "base_model.model.model.mm_projector.2.bias",
                    "base_model.model.mm_projector.2.bias",
                    "model.mm_projector.2.bias",
                    "mm_projector.2.bias",
                    "base_model.model.model.multi_modal_projector.linear_2.bias",
                    "base_model.model.model.multi_modal_projector.modules_to_save.default.linear_2.bias",
                ],
            ),
            (
                &tower,
                &[
                    "base_model.model.model.vision_tower.encoder.layers.3.self_attn.q_proj.lora_B.weight",
                    "base_model.model.vision_tower.vision_model.encoder.layers.3.self_attn.q_proj.lora_B.weight",
                    "base_model.model.model.vision_tower.vision_tower.vision_model.encoder.layers.3.self_attn.q_proj.lora_B.weight",
                ],
            ),
            (
                &head,
                &[
                    "base_model.model.lm_head.lora_A.weight",
                    "base_model.model.language_model.lm_head.lora_A.weight",
                ],
            ),
            (
                &AdapterKey::new(embeddings, Part::Rows),
                &[
                    "base_model.model.model.language_model.embed_tokens.token_adapter.trainable_tokens_delta",
                ],
            ),
            (
                &AdapterKey::whole("language_model.model.embed_tokens.weight"),
                &[
                    "base_model.model.model.embed_tokens.base_layer.weight",
                    "base_model.model.model.language_model.embed_tokens.modules_to_save.weight",
                ],
            ),
            (
                &AdapterKey::new(q_proj, Part::Magnitude),
                &[
                    "base_model.model.model.vision_tower.encoder.layers.3.self_attn.q_proj.lora_magnitude_vector",
                    "base_model.model.model.vision_tower.encoder.layers.3.self_attn.q_proj.lora_magnitude_vector.default.weight",
                ],
            ),
        ] {
            for key in keys {
                assert_eq!(parsed(key).as_ref(), Some(wanted), "{key}");
            }
            for layout in [Layout::LlavaHfNested, Layout::Llava] {
                assert_eq!(parsed(&wanted.name(layout)).as_ref(), Some(wanted));
            }
        }
        for key in [
            "base_model.model.model.layers.3.mlp.up_proj.lora_C.weight",
            "base_model.model.model.layers.3.mlp.up_proj.lora_A.weight.more",
            "base_model.model.model.audio_tower.layers.3.self_attn.q_proj.lora_A.weight",
            "base_model.model.transformer.h.3.attn.lora_A.weight",
            "base_model.model.model.mm_projector.1.weight",
        ] {
            assert_eq!(parsed(key), None, "{key}");
        }
    }

    #[test]
    fn modules_keep_the_name_of_their_trainer() {
        let module = |key| AdapterKey::parse(key).map(|(_, module)| module);
        assert_eq!(
            module("base_model.model.model.language_model.layers.0.mlp.up_proj.lora_A.weight"),
            Some("model.language_model.layers.0.mlp.up_proj".to_owned())
        );
        assert_eq!(
            module("base_model.model.model.vision_tower.encoder.layers.0.mlp.fc1.lora_B.weight"),
            Some("model.vision_tower.encoder.layers.0.mlp.fc1".to_owned())
        );
    }
}
