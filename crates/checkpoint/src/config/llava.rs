//! `config.json` of the original LLaVA: a LLaMA config with a few `mm_` fields and the name of a vision tower.

use std::path::{Path, PathBuf};

use gallery_gpt_llama::LlamaConfig;
use gallery_gpt_model::{GalleryModelConfig, ModelConfigError};
use gallery_gpt_projector::ProjectorKind;
use gallery_gpt_vision::{AspectRatio, FeatureSelect, SelectLayer, VisionConfig};
use serde_json::json;

use super::{
    fields::{Fields, invalid, shown},
    limit,
    llama::llama_config,
};
use crate::CheckpointError;

/// The original's `config.json`, without the tower's settings.
#[derive(Clone, Debug)]
pub(crate) struct LlavaConfig {
    path: PathBuf,
    llama: LlamaConfig,
    projector: ProjectorKind,
    select_layer: SelectLayer,
    select_feature: FeatureSelect,
    aspect_ratio: AspectRatio,
    mm_hidden_size: Option<usize>,
    /// The name of the tower.
    pub(crate) mm_vision_tower: Option<String>,
}

/// Reads the fields that the original adds to a LLaMA config, with the defaults of its code.
pub(super) fn llava(
    path: &Path,
    mut fields: Fields,
    notes: &mut Vec<String>,
) -> Result<LlavaConfig, CheckpointError> {
    let llama = llama_config(&mut fields)?;
    fields.note_dropout(notes);
    fields.only("mm_use_im_start_end", &[json!(false)])?;
    fields.only("mm_patch_merge_type", &[json!("flat")])?;
    fields.only("mm_resampler_type", &[])?;
    fields.only("use_mm_proj", &[json!(true)])?;
    fields.only("s2", &[json!(false)])?;
    // The first is for `anyres` alone; the second adds a token that no prompt has.
    fields.ignore(&["image_grid_pinpoints", "mm_use_im_patch_token"]);
    // Settings of the training that made it.
    fields.ignore(&[
        "mm_projector_lr",
        "mm_vision_tower_lr",
        "mm_tunable_parts",
        "tokenizer_model_max_length",
        "tokenizer_padding_side",
    ]);
    fields.ignore_prefixed(&["tune_", "freeze_", "unfreeze_"]);
    let bad_name = |error| invalid(path, ModelConfigError::Vision(error));
    let select_layer = match fields.take("mm_vision_select_layer") {
        None => SelectLayer(-2),
        Some(value) => SelectLayer(value.as_i64().ok_or_else(|| {
            let what = format!("is {}, expected an integer", shown(&value));
            fields.wrong("mm_vision_select_layer", &what)
        })?),
    };
    let tower = fields.text("vision_tower")?;
    let config = LlavaConfig {
        path: path.to_owned(),
        llama,
        projector: match fields.text("mm_projector_type")? {
            None => ProjectorKind::Linear,
            Some(name) => name
                .parse()
                .map_err(|error| invalid(path, ModelConfigError::Projector(error)))?,
        },
        select_layer,
        select_feature: match fields.text("mm_vision_select_feature")? {
            None => FeatureSelect::Patch,
            Some(name) => name.parse().map_err(bad_name)?,
        },
        aspect_ratio: match fields.text("image_aspect_ratio")? {
            None => AspectRatio::CenterCrop,
            Some(name) => name.parse().map_err(bad_name)?,
        },
        mm_hidden_size: fields.size("mm_hidden_size", limit::WIDTH)?,
        mm_vision_tower: fields.text("mm_vision_tower")?.or(tower),
    };
    fields.note_rest(notes);
    Ok(config)
}

impl LlavaConfig {
    /// The whole model's config.
    pub(crate) fn with_vision(
        self,
        vision: VisionConfig,
    ) -> Result<GalleryModelConfig, CheckpointError> {
        if let Some(width) = self.mm_hidden_size
            && width != vision.hidden_size
        {
            return Err(CheckpointError::Config {
                path: self.path,
                reason: format!(
                    "mm_hidden_size is {width}, but the vision tower is {} wide; it is not the tower this model was trained with",
                    vision.hidden_size
                ),
            });
        }
        let model = GalleryModelConfig {
            vision,
            projector: self.projector,
            llama: self.llama,
            select_layer: self.select_layer,
            select_feature: self.select_feature,
            aspect_ratio: self.aspect_ratio,
            ..GalleryModelConfig::gallery_gpt_7b()
        };
        model
            .validate()
            .map_err(|error| invalid(&self.path, error))?;
        Ok(model)
    }
}
