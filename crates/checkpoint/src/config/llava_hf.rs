//! `config.json` of transformers' LLaVA, with a config for each part.

use std::path::Path;

use gallery_gpt_model::{GalleryModelConfig, ModelConfigError};
use gallery_gpt_projector::ProjectorKind;
use gallery_gpt_vision::{AspectRatio, FeatureSelect, SelectLayer};
use serde_json::{Value, json};

use super::{
    fields::{Fields, invalid, shown},
    limit,
    llama::llama_config,
    vision::vision_config,
};
use crate::CheckpointError;

/// The `config.json` of transformers' LLaVA.
#[derive(Debug)]
pub(crate) struct LlavaHfConfig {
    /// All parts, with all stored rows as the vocabulary.
    pub(crate) model: GalleryModelConfig,
    /// Id of the image token, which is also the number of rows before it; from there on rows are the image token, the padding token
    /// and padding to a multiple of 64.
    pub(crate) image_token_index: usize,
    /// Whether the file says how pictures are made square.
    pub(crate) names_aspect_ratio: bool,
    /// Tokens of a picture, if the file says so.
    pub(crate) image_seq_length: Option<usize>,
}

/// Which hidden state of the tower is used: an integer or a list of one, as in transformers.
fn select_layer(fields: &mut Fields) -> Result<SelectLayer, CheckpointError> {
    const NAME: &str = "vision_feature_layer";
    let value = fields.take(NAME);
    let layer = match &value {
        None => Some(-2),
        Some(Value::Array(layers)) => match &layers[..] {
            [layer] => layer.as_i64(),
            _ => {
                let what = format!(
                    "is {}: concatenated features of several layers are not supported; expected one layer",
                    shown(&json!(layers))
                );
                return Err(fields.wrong(NAME, &what));
            }
        },
        Some(layer) => layer.as_i64(),
    };
    layer.map(SelectLayer).ok_or_else(|| {
        let found = shown(&value.unwrap_or_default());
        fields.wrong(NAME, &format!("is {found}, expected an integer"))
    })
}

pub(super) fn llava_hf(
    path: &Path,
    mut fields: Fields,
    notes: &mut Vec<String>,
) -> Result<LlavaHfConfig, CheckpointError> {
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
    // A field of this library, not of transformers: how pictures are made square.
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
    // The same id again, and the number of rows as in text_config.
    fields.ignore(&["image_token_id", "vocab_size"]);
    fields.note_rest(notes);
    Ok(LlavaHfConfig {
        model,
        image_token_index,
        names_aspect_ratio: aspect_ratio.is_some(),
        image_seq_length,
    })
}
