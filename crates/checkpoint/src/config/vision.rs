//! The vision tower's config: a part of a model's `config.json`, or a file of its own.

use std::path::Path;

use gallery_gpt_model::ModelConfigError;
use gallery_gpt_vision::{HiddenAct, VisionConfig};
use serde_json::{Value, json};

use super::{
    fields::{Fields, invalid},
    limit,
};
use crate::{CheckpointError, file::json::read_json};

/// The tower's part. Defaults are those of transformers' `LlavaConfig` if `large`, else those of `CLIPVisionConfig`.
pub(super) fn vision_config(
    path: &Path,
    fields: &mut Fields,
    large: bool,
) -> Result<VisionConfig, CheckpointError> {
    fields.refuse_quantized()?;
    if let Some(kind) = fields.text("model_type")?
        && !["clip_vision_model", "clip"].contains(&kind.as_str())
    {
        let what = format!("is `{kind}`, which is not supported; expected clip_vision_model");
        return Err(fields.wrong("model_type", &what));
    }
    fields.only("vision_use_head", &[json!(false)])?;
    let hidden_act: HiddenAct = match fields.text("hidden_act")? {
        None => HiddenAct::QuickGelu,
        Some(name) => name
            .parse()
            .map_err(|error| invalid(path, ModelConfigError::Vision(error)))?,
    };
    let size = |fields: &mut Fields, name, limit, [base, big]: [usize; 2]| {
        let default = if large { big } else { base };
        Ok::<_, CheckpointError>(fields.size(name, limit)?.unwrap_or(default))
    };
    let config = VisionConfig {
        hidden_size: size(fields, "hidden_size", limit::WIDTH, [768, 1024])?,
        intermediate_size: size(fields, "intermediate_size", limit::WIDTH, [3072, 4096])?,
        num_hidden_layers: size(fields, "num_hidden_layers", limit::LAYERS, [12, 24])?,
        num_attention_heads: size(fields, "num_attention_heads", limit::HEADS, [12, 16])?,
        image_size: size(fields, "image_size", limit::PIXELS, [224, 336])?,
        patch_size: size(fields, "patch_size", limit::PIXELS, [32, 14])?,
        num_channels: size(fields, "num_channels", 16, [3, 3])?,
        layer_norm_eps: fields.positive("layer_norm_eps")?.unwrap_or(1e-5),
        hidden_act,
        class_token: true,
        fused_qkv: false,
        position_grid: None,
    };
    if config.num_channels != 3 {
        let what = format!("is {}, expected 3: pictures are RGB", config.num_channels);
        return Err(fields.wrong("num_channels", &what));
    }
    Ok(config)
}

/// Reads the `config.json` of a vision tower's folder: a `CLIPVisionModel`'s, or a whole `CLIPModel`'s.
pub(crate) fn read_vision_config(
    folder: &Path,
    notes: &mut Vec<String>,
) -> Result<VisionConfig, CheckpointError> {
    let path = folder.join("config.json");
    vision_config_of(&path, read_json(&path)?, notes)
}

pub(super) fn vision_config_of(
    path: &Path,
    json: Value,
    notes: &mut Vec<String>,
) -> Result<VisionConfig, CheckpointError> {
    let mut fields = Fields::new(path, "", json)?;
    fields.refuse_quantized()?;
    if let Some(vision) = fields.take("vision_config") {
        // The other fields are of the text model.
        fields = Fields::new(path, "vision_config.", vision)?;
    }
    if !fields.has("patch_size") {
        return Err(CheckpointError::Config {
            path: path.to_owned(),
            reason: "not the config.json of a CLIP vision tower: no patch_size".to_owned(),
        });
    }
    let config = vision_config(path, &mut fields, false)?;
    config
        .validate()
        .map_err(|error| invalid(path, ModelConfigError::Vision(error)))?;
    fields.note_dropout(notes);
    fields.ignore(&["vocab_size"]);
    fields.note_rest(notes);
    Ok(config)
}
