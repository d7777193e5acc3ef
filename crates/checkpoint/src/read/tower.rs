//! The vision tower of a checkpoint: in its own files, or in a folder that its config names.

use std::path::{Path, PathBuf};

use gallery_gpt_vision::{HiddenAct, VisionConfig};

use super::{fingerprint::short, model_folder::snapshots};
use crate::{CheckpointError, StoredTensor};

/// Where a model's vision tower was loaded from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TowerSource {
    /// The folder its weights are in.
    pub folder: PathBuf,
    /// Its name in the model's config, if there is one.
    pub named: Option<String>,
    /// Whether the caller chose the folder, whatever the config names.
    pub chosen: bool,
    /// Fingerprint of its weights alone, made as [`crate::LoadReport::fingerprint`].
    pub fingerprint: Option<String>,
}

impl std::fmt::Display for TowerSource {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "vision tower {} from {}",
            short(self.fingerprint.as_deref()),
            self.folder.display()
        )?;
        match (&self.named, self.chosen) {
            (Some(name), true) => write!(f, " (chosen; the config names {name})"),
            (Some(name), false) => write!(f, " (the config names {name})"),
            (None, true) => write!(f, " (chosen)"),
            (None, false) => Ok(()),
        }
    }
}

/// Finds the folder of the tower that a config names: a path, a folder beside the model or in it, or another model in the same hub
/// cache. A tower of another name is never used.
pub(crate) fn find(folder: &Path, name: &str) -> Result<PathBuf, CheckpointError> {
    let last = Path::new(name).file_name().unwrap_or_default();
    let beside = folder.join("..");
    let mut places = vec![
        folder.join(name),
        beside.join(name),
        PathBuf::from(name),
        folder.join(last),
        beside.join(last),
    ];
    places.extend(snapshots(&folder.join("../../.."), name));
    places
        .iter()
        .find(|place| place.join("config.json").is_file() && *place != folder)
        .cloned()
        .ok_or_else(|| CheckpointError::NoTower {
            folder: folder.to_owned(),
            name: name.to_owned(),
            places,
        })
}

/// The hub name of a tensor in a tower's own folder: a `CLIPVisionModel`'s, with or without its outer level, or the vision part of a
/// whole `CLIPModel`.
pub(crate) fn hub_key(key: &str) -> Option<String> {
    let other_parts = [
        "text_model.",
        "visual_projection.",
        "text_projection.",
        "logit_scale",
    ];
    if crate::Layout::is_ignored(key) || other_parts.iter().any(|part| key.starts_with(part)) {
        return None;
    }
    let rest = key.strip_prefix("vision_model.").unwrap_or(key);
    Some(format!("vision_tower.vision_model.{rest}"))
}

/// The config of a tower without a `config.json`, from the shapes of its tensors. A head dimension of 64 and CLIP's activation are
/// assumed, as in every CLIP tower that LLaVA uses; a note says so.
pub(crate) fn config_of_shapes<'a>(
    get: impl Fn(&str) -> Option<&'a StoredTensor>,
    notes: &mut Vec<String>,
) -> Option<VisionConfig> {
    let shape = |key: &str| get(&format!("vision_tower.vision_model.{key}")).map(|t| &t.shape[..]);
    let &[hidden_size, num_channels, patch_size, _] = shape("embeddings.patch_embedding.weight")?
    else {
        return None;
    };
    let &[tokens, _] = shape("embeddings.position_embedding.weight")? else {
        return None;
    };
    let &[intermediate_size, _] = shape("encoder.layers.0.mlp.fc1.weight")? else {
        return None;
    };
    let num_hidden_layers = (0..)
        .take_while(|n| shape(&format!("encoder.layers.{n}.mlp.fc1.weight")).is_some())
        .count();
    let config = VisionConfig {
        hidden_size,
        intermediate_size,
        num_hidden_layers,
        num_attention_heads: (hidden_size / 64).max(1),
        image_size: tokens.saturating_sub(1).isqrt().checked_mul(patch_size)?,
        patch_size,
        num_channels,
        layer_norm_eps: 1e-5,
        hidden_act: HiddenAct::QuickGelu,
        class_token: true,
        fused_qkv: false,
        position_grid: None,
    };
    config.validate().ok()?;
    notes.push(
        "the vision tower has no config.json: a head dimension of 64, quick_gelu and layer_norm_eps 1e-5 are assumed, as in OpenAI's CLIP"
            .to_owned(),
    );
    Some(config)
}
