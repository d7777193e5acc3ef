//! `config.json`, of either family: transformers' LLaVA, with a config for each part, and the original's, which is a LLaMA config
//! with a few `mm_` fields and the name of a vision tower.
//!
//! Every field is read, refused by name where it asks for what there is not, or noted; defaults are those of the library's
//! config classes, since the configs on the hub leave them out.

use std::path::{Path, PathBuf};

use gallery_gpt_llama::LlamaConfig;
use gallery_gpt_model::{GalleryModelConfig, ModelConfigError};
use gallery_gpt_projector::ProjectorKind;
use gallery_gpt_vision::{AspectRatio, FeatureSelect, HiddenAct, SelectLayer, VisionConfig};
use serde_json::{Value, json};

use crate::{
    CheckpointError,
    config::config_fields::{Fields, shown},
    read::json_file::read_json,
};

/// Bounds of a config's sizes: far above every model, and such that no product of them overflows.
mod limit {
    pub(super) const WIDTH: u64 = 1 << 20;
    pub(super) const HEADS: u64 = 1 << 16;
    pub(super) const LAYERS: u64 = 1 << 16;
    pub(super) const ROWS: u64 = 1 << 26;
    pub(super) const CONTEXT: u64 = 1 << 30;
    pub(super) const PIXELS: u64 = 1 << 16;
}

/// What a `config.json` says.
#[derive(Debug)]
pub(crate) struct ConfigFile {
    /// Whose it is, and what only that one says.
    pub(crate) family: Family,
    /// What a user should know, a sentence each.
    pub(crate) notes: Vec<String>,
}

/// Whose config it is.
#[derive(Debug)]
pub(crate) enum Family {
    /// Transformers' LLaVA.
    LlavaHf {
        /// All parts; the vocabulary counts all stored rows.
        model: GalleryModelConfig,
        /// Id of the picture token, which is also the number of rows that are words; rows from here on are the picture token,
        /// the padding token and filling.
        image_token_index: usize,
        /// Whether it says how pictures become square.
        names_aspect_ratio: bool,
        /// Tokens of a picture, where it says them.
        image_seq_length: Option<usize>,
    },
    /// The original's.
    Llava(LlavaConfig),
}

/// The original's `config.json`: all but the tower.
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

fn invalid(path: &Path, source: impl Into<ModelConfigError>) -> CheckpointError {
    CheckpointError::ModelConfig {
        path: path.to_owned(),
        source: source.into(),
    }
}

/// Reads the `config.json` of a folder. `model_type` llava, `llava_llama` and share4v are accepted as they are.
pub(crate) fn read_config(folder: &Path) -> Result<ConfigFile, CheckpointError> {
    let path = folder.join("config.json");
    config_of(&path, read_json(&path)?)
}

fn config_of(path: &Path, json: Value) -> Result<ConfigFile, CheckpointError> {
    let mut fields = Fields::new(path, "", json)?;
    match fields.text("model_type")?.as_deref() {
        None | Some("llava" | "llava_llama" | "share4v") => {}
        Some(kind) => {
            return Err(fields.wrong(
                "model_type",
                &format!("is `{kind}`, expected llava, llava_llama or share4v"),
            ));
        }
    }
    fields.refuse_quantized()?;
    let mut notes = Vec::new();
    let family = if fields.has("text_config") || fields.has("vision_config") {
        llava_hf(path, fields, &mut notes)?
    } else {
        Family::Llava(llava(path, fields, &mut notes)?)
    };
    Ok(ConfigFile { family, notes })
}

/// The decoder's part, refused where it asks for what there is not.
fn llama_config(fields: &mut Fields) -> Result<LlamaConfig, CheckpointError> {
    fields.refuse_quantized()?;
    for name in ["attention_bias", "mlp_bias", "tie_word_embeddings"] {
        fields.only(name, &[json!(false)])?;
    }
    fields.only("hidden_act", &[json!("silu"), json!("swish")])?;
    fields.only("sliding_window", &[])?;
    let size = |fields: &mut Fields, name, limit, default| -> Result<usize, CheckpointError> {
        Ok(fields.size(name, limit)?.unwrap_or(default))
    };
    let rope_theta = rope_theta(fields)?;
    let num_attention_heads = size(fields, "num_attention_heads", limit::HEADS, 32)?;
    let config = LlamaConfig {
        hidden_size: size(fields, "hidden_size", limit::WIDTH, 4096)?,
        intermediate_size: size(fields, "intermediate_size", limit::WIDTH, 11008)?,
        num_hidden_layers: size(fields, "num_hidden_layers", limit::LAYERS, 32)?,
        num_attention_heads,
        num_key_value_heads: size(
            fields,
            "num_key_value_heads",
            limit::HEADS,
            num_attention_heads,
        )?,
        vocab_size: size(fields, "vocab_size", limit::ROWS, 32000)?,
        max_position_embeddings: size(fields, "max_position_embeddings", limit::CONTEXT, 2048)?,
        rms_norm_eps: fields.positive("rms_norm_eps")?.unwrap_or(1e-6),
        rope_theta,
    };
    if let Some(head_dim) = fields.size("head_dim", limit::WIDTH)?
        && head_dim * num_attention_heads != config.hidden_size
    {
        let what = format!(
            "is {head_dim}, which times num_attention_heads ({num_attention_heads}) is not hidden_size ({}); that is not supported",
            config.hidden_size
        );
        return Err(fields.wrong("head_dim", &what));
    }
    Ok(config)
}

/// The base of the rotary frequencies: a field of its own, or since transformers 5 one of `rope_parameters`.
fn rope_theta(fields: &mut Fields) -> Result<f64, CheckpointError> {
    let mut theta = fields.positive("rope_theta")?;
    for name in ["rope_scaling", "rope_parameters"] {
        let Some(rope) = fields.take(name) else {
            continue;
        };
        let kind = rope.get("rope_type").or(rope.get("type"));
        if !rope.is_object() || kind.is_some_and(|kind| *kind != json!("default")) {
            let what = format!(
                "is {}: scaled rotary embeddings are not supported, only the type default",
                shown(&rope)
            );
            return Err(fields.wrong(name, &what));
        }
        let part = rope.get("partial_rotary_factor");
        if part.is_some_and(|part| part.as_f64() != Some(1.0)) {
            return Err(fields.wrong(name, "has a partial_rotary_factor, which is not supported"));
        }
        match (theta, rope.get("rope_theta").map(Value::as_f64)) {
            (_, None) => {}
            (None, Some(Some(inner))) if inner > 0.0 && inner.is_finite() => theta = Some(inner),
            (Some(outer), Some(Some(inner))) if outer == inner => {}
            (_, Some(inner)) => {
                let what = format!(
                    "has a rope_theta of {inner:?}, expected a positive number, the same as elsewhere in the file ({theta:?})"
                );
                return Err(fields.wrong(name, &what));
            }
        }
    }
    fields.only("partial_rotary_factor", &[json!(1.0), json!(1)])?;
    Ok(theta.unwrap_or(10000.0))
}

/// The tower's part; `large` gives the sizes of the tower that transformers' LLaVA has without a word, else `CLIPVisionConfig`'s.
fn vision_config(
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
    };
    if config.num_channels != 3 {
        let what = format!("is {}, expected 3: pictures are RGB", config.num_channels);
        return Err(fields.wrong("num_channels", &what));
    }
    Ok(config)
}

/// Which hidden state of the tower: a number, or a list of one, as transformers takes.
fn select_layer(fields: &mut Fields) -> Result<SelectLayer, CheckpointError> {
    const NAME: &str = "vision_feature_layer";
    let value = fields.take(NAME);
    let layer = match &value {
        None => Some(-2),
        Some(Value::Array(layers)) => match &layers[..] {
            [layer] => layer.as_i64(),
            _ => {
                let what = format!(
                    "is {}: features of several layers, one after the other, are not supported; expected one layer",
                    shown(&json!(layers))
                );
                return Err(fields.wrong(NAME, &what));
            }
        },
        Some(layer) => layer.as_i64(),
    };
    layer.map(SelectLayer).ok_or_else(|| {
        let found = shown(&value.unwrap_or_default());
        fields.wrong(NAME, &format!("is {found}, expected a whole number"))
    })
}

fn llava_hf(
    path: &Path,
    mut fields: Fields,
    notes: &mut Vec<String>,
) -> Result<Family, CheckpointError> {
    let part = |fields: &mut Fields, name, part| -> Result<Option<Fields>, CheckpointError> {
        let json = fields.take(name);
        json.map(|json| Fields::new(path, part, json)).transpose()
    };
    let text = part(&mut fields, "text_config", "text_config.")?;
    let vision = part(&mut fields, "vision_config", "vision_config.")?;
    let nothing = |part| Fields::new(path, part, json!({}));
    let large = vision.is_none();
    let mut text = text.map_or_else(|| nothing("text_config."), Ok)?;
    let mut vision = vision.map_or_else(|| nothing("vision_config."), Ok)?;

    if let Some(kind) = text.text("model_type")?.filter(|kind| kind != "llama") {
        let what = format!("is `{kind}`, which is not supported; expected llama");
        return Err(text.wrong("model_type", &what));
    }
    let llama = llama_config(&mut text)?;
    text.note_dropout(notes);
    text.note_rest(notes);
    let tower = vision_config(path, &mut vision, large)?;
    vision.note_dropout(notes);
    vision.ignore(&["vocab_size"]);
    vision.note_rest(notes);

    fields.only("projector_hidden_act", &[json!("gelu")])?;
    for name in ["multimodal_projector_bias", "projector_bias"] {
        fields.only(name, &[json!(true)])?;
    }
    fields.only("tie_word_embeddings", &[json!(false)])?;
    let bad_name = |error| invalid(path, ModelConfigError::Vision(error));
    // Ours, not the library's: how pictures become square.
    let aspect_ratio = fields.text("image_aspect_ratio")?;
    let strategy = fields.text("vision_feature_select_strategy")?;
    let model = GalleryModelConfig {
        vision: tower,
        projector: ProjectorKind::MlpGelu { depth: 2 },
        llama,
        select_layer: select_layer(&mut fields)?,
        select_feature: strategy.map_or(Ok(FeatureSelect::Patch), |name| {
            name.parse().map_err(bad_name)
        })?,
        aspect_ratio: match &aspect_ratio {
            None => AspectRatio::Pad,
            Some(name) => name.parse().map_err(bad_name)?,
        },
        ..GalleryModelConfig::gallery_gpt_7b()
    };
    model.validate().map_err(|error| invalid(path, error))?;
    let image_token_index = match fields.size("image_token_index", limit::ROWS)? {
        Some(index) => Some(index),
        None => fields.size("image_token_id", limit::ROWS)?,
    };
    let image_token_index = image_token_index.unwrap_or(32000);
    if image_token_index > model.llama.vocab_size {
        let what = format!(
            "is {image_token_index}, expected from 1 to text_config.vocab_size ({})",
            model.llama.vocab_size
        );
        return Err(fields.wrong("image_token_index", &what));
    }
    let image_seq_length = fields.size("image_seq_length", limit::ROWS)?;
    // The same id once more, and the number of rows as the decoder's part says it.
    fields.ignore(&["image_token_id", "vocab_size"]);
    fields.note_rest(notes);
    Ok(Family::LlavaHf {
        model,
        image_token_index,
        names_aspect_ratio: aspect_ratio.is_some(),
        image_seq_length,
    })
}

/// What the original adds to a LLaMA config, with the defaults its code falls back to.
fn llava(
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
    // Only `anyres` uses the one; the other adds a token that no prompt has.
    fields.ignore(&["image_grid_pinpoints", "mm_use_im_patch_token"]);
    // Settings of the training it came from.
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
            let what = format!("is {}, expected a whole number", shown(&value));
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
    /// The model's config, with the tower's.
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

/// Reads the `config.json` of a vision tower's folder: a `CLIPVisionModel`'s, or a whole `CLIPModel`'s.
pub(crate) fn read_vision_config(
    folder: &Path,
    notes: &mut Vec<String>,
) -> Result<VisionConfig, CheckpointError> {
    let path = folder.join("config.json");
    vision_config_of(&path, read_json(&path)?, notes)
}

fn vision_config_of(
    path: &Path,
    json: Value,
    notes: &mut Vec<String>,
) -> Result<VisionConfig, CheckpointError> {
    let mut fields = Fields::new(path, "", json)?;
    fields.refuse_quantized()?;
    if let Some(vision) = fields.take("vision_config") {
        // The rest is the text part's.
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mutations::{self, Random, mutated};

    /// A value in the place of one of a config's.
    fn absurd(random: &mut Random) -> Value {
        let values = [
            json!(null),
            json!(true),
            json!(0),
            json!(-1),
            json!(u64::MAX),
            json!(i64::MIN),
            json!(1_u64 << 40),
            json!(65536),
            json!(1e300),
            json!(0.5),
            json!(""),
            json!("clip"),
            json!([]),
            json!([-2]),
            json!({}),
            json!({ "rope_type": "default" }),
        ];
        values[random.below(values.len())].clone()
    }

    fn replace_some(json: &mut Value, random: &mut Random) {
        let Value::Object(fields) = json else { return };
        for value in fields.values_mut() {
            match random.below(12) {
                0 => *value = absurd(random),
                _ => replace_some(value, random),
            }
        }
    }

    #[test]
    fn mutated_configs_are_read_or_refused() {
        let crates = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
        let files = [
            "../datasets/tiny-base/config.json",
            "gallery-gpt/tests/goldens/gqa/model/hf_v5/config.json",
            "gallery-gpt/tests/goldens/gqa/model/llava_bin/config.json",
            "gallery-gpt/tests/goldens/gqa/model/vision_tower/config.json",
            "gallery-gpt/tests/goldens/gqa/model/vision_tower_clipmodel/config.json",
        ];
        let files = files.map(|file| std::fs::read(crates.join(file)).unwrap());
        let path = Path::new("config.json");
        let mut taken = 0;
        let mut read = |json: &Value| {
            match config_of(path, json.clone()) {
                // Nothing that is taken overflows when its sizes are multiplied.
                Ok(ConfigFile {
                    family: Family::LlavaHf { model, .. },
                    ..
                }) => {
                    taken += 1;
                    assert!(model.llama.num_parameters() > 0 && model.vision.num_parameters() > 0);
                }
                Ok(_) => taken += 1,
                Err(error) => assert!(error.to_string().contains("config.json"), "{error}"),
            }
            let _ = vision_config_of(path, json.clone(), &mut Vec::new());
        };
        for number in 0..mutations::count() {
            if let Ok(json) = serde_json::from_slice(&mutated(&files, number)) {
                read(&json);
            }
            let mut random = Random::new(number);
            let mut json = serde_json::from_slice(&files[random.below(files.len())]).unwrap();
            replace_some(&mut json, &mut random);
            read(&json);
        }
        assert!(taken > 0, "no change was harmless");
    }
}
