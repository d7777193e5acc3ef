//! From a parameter of the model to its tensor in a checkpoint.

use burn::{module::Param, tensor::Tensor};
use gallery_gpt_model::{GalleryModel, ParamVisitor, visit_params};

/// Whether a file has a tensor as the parameter is or transposed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Placement {
    /// As the parameter is.
    Same,
    /// Transposed: PyTorch's linears are `[output, input]`, Burn's `[input, output]`.
    Transposed,
}

/// Name and placement of a tensor.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CheckpointKey {
    /// Name in the `llava-hf` hub layout; for parameters that no LLaVA has, a name like those.
    pub key: String,
    /// Whether it is transposed there.
    pub placement: Placement,
}

/// The tensor of a parameter, by its path in [`GalleryModel`]; `None` for adapters, which have files of their own.
#[must_use]
pub fn checkpoint_key(path: &str) -> Option<CheckpointKey> {
    use Placement::{Same, Transposed};
    if path.contains(".lora.") {
        return None;
    }
    let (part, rest) = path.split_once('.')?;
    let (module, leaf) = rest.rsplit_once('.').unwrap_or(("", rest));
    let (key, placement) = match (part, leaf) {
        ("projector", leaf) if !module.starts_with("layers.") => {
            let (leaf, placement) = match (module, leaf) {
                (_, "gamma") => ("weight", Same),
                (_, "beta") => ("bias", Same),
                ("", leaf) | (_, leaf @ "bias") => (leaf, Same),
                (_, leaf) => (leaf, Transposed),
            };
            let dot = if module.is_empty() { "" } else { "." };
            (
                format!("multi_modal_projector.{module}{dot}{leaf}"),
                placement,
            )
        }
        ("projector", leaf) => {
            let index: usize = module.strip_prefix("layers.")?.parse().ok()?;
            let key = format!("multi_modal_projector.linear_{}.{leaf}", index + 1);
            (key, if leaf == "weight" { Transposed } else { Same })
        }
        ("vision_tower", _) => {
            let module = match module.strip_prefix("layers.") {
                Some(rest) => format!("encoder.layers.{rest}"),
                None => module.to_owned(),
            };
            let (name, placement) = match leaf {
                "gamma" => ("weight", Same),
                "class_embedding" => ("class_embedding", Same),
                "patch_embedding" => ("patch_embedding.weight", Same),
                "position_embedding" => ("position_embedding.weight", Same),
                "weight" => ("weight", Transposed),
                "beta" | "bias" => ("bias", Same),
                _ => return None,
            };
            (
                format!("vision_tower.vision_model.{module}.{name}"),
                placement,
            )
        }
        ("language_model", _) => {
            let module = module.strip_suffix(".base").unwrap_or(module);
            let placement = match (leaf, module) {
                ("gamma", _) | ("weight", "embed_tokens") => Same,
                ("weight", _) => Transposed,
                // Other biases were added by an adapter.
                ("bias", module) if module.ends_with(".c_attn") => Same,
                _ => return None,
            };
            let leaf = if leaf == "bias" { "bias" } else { "weight" };
            let key = match module {
                "lm_head" => "language_model.lm_head.weight".to_owned(),
                module => format!("language_model.model.{module}.{leaf}"),
            };
            (key, placement)
        }
        _ => return None,
    };
    Some(CheckpointKey { key, placement })
}

/// Path and tensor name of every parameter in a checkpoint, in the model's order.
#[must_use]
pub fn checkpoint_keys(model: &GalleryModel) -> Vec<(String, CheckpointKey)> {
    let mut paths = ParameterPaths::default();
    visit_params(model, &mut paths);
    paths
        .paths
        .into_iter()
        .filter_map(|path| checkpoint_key(&path).map(|key| (path, key)))
        .collect()
}

#[derive(Default)]
struct ParameterPaths {
    paths: Vec<String>,
}

impl ParamVisitor for ParameterPaths {
    fn visit<const D: usize>(&mut self, path: &str, _param: &Param<Tensor<D>>) {
        self.paths.push(path.to_owned());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Layout;

    #[test]
    fn paths_lead_to_hub_names() {
        let key = |path| checkpoint_key(path).map(|key| (key.key, key.placement));
        assert_eq!(
            key("language_model.layers.3.self_attn.q_proj.base.weight"),
            Some((
                "language_model.model.layers.3.self_attn.q_proj.weight".to_owned(),
                Placement::Transposed
            ))
        );
        assert_eq!(
            key("language_model.norm.gamma"),
            Some((
                "language_model.model.norm.weight".to_owned(),
                Placement::Same
            ))
        );
        assert_eq!(
            key("vision_tower.layers.0.layer_norm1.beta"),
            Some((
                "vision_tower.vision_model.encoder.layers.0.layer_norm1.bias".to_owned(),
                Placement::Same
            ))
        );
        assert_eq!(
            key("vision_tower.embeddings.class_embedding"),
            Some((
                "vision_tower.vision_model.embeddings.class_embedding".to_owned(),
                Placement::Same
            ))
        );
        assert_eq!(
            key("projector.layers.1.bias"),
            Some((
                "multi_modal_projector.linear_2.bias".to_owned(),
                Placement::Same
            ))
        );
        assert_eq!(key("language_model.layers.3.mlp.up_proj.lora.lora_a"), None);
        assert_eq!(
            key("language_model.layers.3.mlp.up_proj.base.bias"),
            None,
            "a bias that an adapter added"
        );
    }

    #[test]
    fn paths_of_qwen_lead_to_its_own_names() {
        use Placement::{Same, Transposed};
        for (path, expected, placement) in [
            (
                "language_model.layers.3.self_attn.c_attn.base.bias",
                "transformer.h.3.attn.c_attn.bias",
                Same,
            ),
            (
                "language_model.layers.3.self_attn.c_attn.base.weight",
                "transformer.h.3.attn.c_attn.weight",
                Transposed,
            ),
            (
                "projector.query",
                "transformer.visual.attn_pool.query",
                Same,
            ),
            ("projector.proj", "transformer.visual.proj", Same),
            (
                "projector.in_proj_weight",
                "transformer.visual.attn_pool.attn.in_proj_weight",
                Same,
            ),
            (
                "projector.kv_proj.weight",
                "transformer.visual.attn_pool.kv_proj.weight",
                Transposed,
            ),
            (
                "projector.ln_post.beta",
                "transformer.visual.ln_post.bias",
                Same,
            ),
            (
                "vision_tower.layers.7.self_attn.in_proj.weight",
                "transformer.visual.transformer.resblocks.7.attn.in_proj.weight",
                Transposed,
            ),
            (
                "vision_tower.embeddings.position_embedding",
                "transformer.visual.positional_embedding",
                Same,
            ),
        ] {
            let found = checkpoint_key(path).unwrap();
            assert_eq!(found.placement, placement, "{path}");
            assert_eq!(Layout::QwenVl.key_of(&found.key), expected, "{path}");
        }
    }
}
