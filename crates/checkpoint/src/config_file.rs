//! `config.json`, of either family: transformers' LLaVA, with a config for each part, and the original's, which is a LLaMA config
//! with a few `mm_` fields and the name of a vision tower.

use std::path::{Path, PathBuf};

use gallery_gpt_llama::LlamaConfig;
use gallery_gpt_model::{GalleryModelConfig, ModelConfigError};
use gallery_gpt_projector::ProjectorKind;
use gallery_gpt_vision::{AspectRatio, FeatureSelect, HiddenAct, SelectLayer, VisionConfig};
use serde::{Deserialize, de::DeserializeOwned};
use serde_json::{Value, json};

use crate::CheckpointError;

/// What a `config.json` says.
#[derive(Clone, Debug)]
pub(crate) enum ConfigFile {
    /// Transformers' LLaVA.
    LlavaHf {
        /// All parts; the vocabulary counts all stored rows.
        model: GalleryModelConfig,
        /// Id of the picture token, which is also the number of rows that are words; rows from here on are the picture token,
        /// the padding token and filling.
        image_token_index: usize,
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

/// Defaults are the ones of the library's config classes: a hub config leaves them out.
#[derive(Deserialize)]
struct LlavaHfFile {
    #[serde(alias = "image_token_id")]
    image_token_index: usize,
    text_config: TextFile,
    vision_config: VisionFile,
    #[serde(default = "gelu")]
    projector_hidden_act: String,
    #[serde(default = "minus_two")]
    vision_feature_layer: i64,
    #[serde(default = "default_strategy")]
    vision_feature_select_strategy: String,
    /// Ours, not the library's: how pictures become square.
    image_aspect_ratio: Option<String>,
}

/// What the original adds to a LLaMA config, with the defaults its code falls back to.
#[derive(Deserialize)]
struct LlavaFile {
    #[serde(flatten)]
    text: TextFile,
    #[serde(alias = "vision_tower")]
    mm_vision_tower: Option<String>,
    #[serde(default = "linear")]
    mm_projector_type: String,
    #[serde(default = "minus_two")]
    mm_vision_select_layer: i64,
    #[serde(default = "patch")]
    mm_vision_select_feature: String,
    mm_hidden_size: Option<usize>,
    image_aspect_ratio: Option<String>,
    #[serde(default)]
    mm_use_im_start_end: bool,
}

#[derive(Deserialize)]
struct TextFile {
    #[serde(default = "n4096")]
    hidden_size: usize,
    #[serde(default = "n11008")]
    intermediate_size: usize,
    #[serde(default = "n32")]
    num_hidden_layers: usize,
    #[serde(default = "n32")]
    num_attention_heads: usize,
    num_key_value_heads: Option<usize>,
    head_dim: Option<usize>,
    #[serde(default = "n32000")]
    vocab_size: usize,
    #[serde(default = "n2048")]
    max_position_embeddings: usize,
    #[serde(default = "eps6")]
    rms_norm_eps: f64,
    rope_theta: Option<f64>,
    rope_scaling: Option<Value>,
    rope_parameters: Option<RopeFile>,
    hidden_act: Option<String>,
    #[serde(default)]
    attention_bias: bool,
    #[serde(default)]
    mlp_bias: bool,
    #[serde(default)]
    tie_word_embeddings: bool,
}

#[derive(Deserialize)]
struct RopeFile {
    rope_theta: Option<f64>,
    rope_type: Option<String>,
}

#[derive(Deserialize)]
struct VisionFile {
    #[serde(default = "n768")]
    hidden_size: usize,
    #[serde(default = "n3072")]
    intermediate_size: usize,
    #[serde(default = "n12")]
    num_hidden_layers: usize,
    #[serde(default = "n12")]
    num_attention_heads: usize,
    #[serde(default = "n224")]
    image_size: usize,
    #[serde(default = "n32")]
    patch_size: usize,
    #[serde(default = "n3")]
    num_channels: usize,
    #[serde(default = "eps5")]
    layer_norm_eps: f64,
    #[serde(default = "quick_gelu")]
    hidden_act: String,
}

macro_rules! defaults {
    ($($name:ident: $type:ty = $value:expr;)*) => { $(fn $name() -> $type { $value })* };
}
defaults! {
    n3: usize = 3; n12: usize = 12; n32: usize = 32; n224: usize = 224; n768: usize = 768;
    n2048: usize = 2048; n3072: usize = 3072; n4096: usize = 4096; n11008: usize = 11008;
    n32000: usize = 32000; eps5: f64 = 1e-5; eps6: f64 = 1e-6; minus_two: i64 = -2;
    gelu: String = "gelu".to_owned(); quick_gelu: String = "quick_gelu".to_owned();
    default_strategy: String = "default".to_owned(); linear: String = "linear".to_owned();
    patch: String = "patch".to_owned();
}

fn wrong(path: &Path, reason: impl Into<String>) -> CheckpointError {
    CheckpointError::Config {
        path: path.to_owned(),
        reason: reason.into(),
    }
}

fn invalid(path: &Path, source: impl Into<ModelConfigError>) -> CheckpointError {
    CheckpointError::ModelConfig {
        path: path.to_owned(),
        source: source.into(),
    }
}

fn read_json(path: &Path) -> Result<Value, CheckpointError> {
    let bytes = std::fs::read(path).map_err(|source| CheckpointError::Read {
        path: path.to_owned(),
        source,
    })?;
    serde_json::from_slice(&bytes).map_err(|error| wrong(path, format!("not JSON: {error}")))
}

fn parse<T: DeserializeOwned>(path: &Path, json: Value, what: &str) -> Result<T, CheckpointError> {
    serde_json::from_value(json)
        .map_err(|error| wrong(path, format!("not the config.json of {what}: {error}")))
}

/// Reads the `config.json` of a folder. `model_type` llava, `llava_llama` and share4v are accepted as they are.
pub(crate) fn read_config(folder: &Path) -> Result<ConfigFile, CheckpointError> {
    let path = folder.join("config.json");
    let json = read_json(&path)?;
    if let Some(kind) = json.get("model_type").and_then(Value::as_str)
        && !["llava", "llava_llama", "share4v"].contains(&kind)
    {
        return Err(wrong(
            &path,
            format!("model_type is `{kind}`, expected llava, llava_llama or share4v"),
        ));
    }
    if json.get("text_config").is_some() {
        parse_llava_hf(&path, json)
    } else {
        parse_llava(&path, json).map(ConfigFile::Llava)
    }
}

/// The decoder's part, refused where it asks for what there is not.
fn llama_config(path: &Path, text: &TextFile) -> Result<LlamaConfig, CheckpointError> {
    let unsupported = [
        (text.attention_bias, "attention_bias"),
        (text.mlp_bias, "mlp_bias"),
        (text.tie_word_embeddings, "tie_word_embeddings"),
    ];
    if let Some((_, field)) = unsupported.iter().find(|(set, _)| *set) {
        return Err(wrong(
            path,
            format!("{field} is true, which is not supported"),
        ));
    }
    if text.hidden_act.as_deref().is_some_and(|act| act != "silu") {
        return Err(wrong(
            path,
            "hidden_act is not silu, which is not supported",
        ));
    }
    let scaled = text
        .rope_scaling
        .as_ref()
        .is_some_and(|scaling| !scaling.is_null());
    let rope = text.rope_parameters.as_ref();
    let kind = rope.and_then(|rope| rope.rope_type.as_deref());
    if scaled || kind.is_some_and(|kind| kind != "default") {
        return Err(wrong(path, "scaled rotary embeddings are not supported"));
    }
    if text
        .head_dim
        .is_some_and(|dim| dim * text.num_attention_heads != text.hidden_size)
    {
        return Err(wrong(
            path,
            "head_dim times num_attention_heads is not hidden_size, which is not supported",
        ));
    }
    Ok(LlamaConfig {
        hidden_size: text.hidden_size,
        intermediate_size: text.intermediate_size,
        num_hidden_layers: text.num_hidden_layers,
        num_attention_heads: text.num_attention_heads,
        num_key_value_heads: text.num_key_value_heads.unwrap_or(text.num_attention_heads),
        vocab_size: text.vocab_size,
        max_position_embeddings: text.max_position_embeddings,
        rms_norm_eps: text.rms_norm_eps,
        rope_theta: text
            .rope_theta
            .or(rope.and_then(|rope| rope.rope_theta))
            .unwrap_or(10000.0),
    })
}

fn vision_config(path: &Path, vision: &VisionFile) -> Result<VisionConfig, CheckpointError> {
    let hidden_act: HiddenAct = vision
        .hidden_act
        .parse()
        .map_err(|error| invalid(path, ModelConfigError::Vision(error)))?;
    Ok(VisionConfig {
        hidden_size: vision.hidden_size,
        intermediate_size: vision.intermediate_size,
        num_hidden_layers: vision.num_hidden_layers,
        num_attention_heads: vision.num_attention_heads,
        image_size: vision.image_size,
        patch_size: vision.patch_size,
        num_channels: vision.num_channels,
        layer_norm_eps: vision.layer_norm_eps,
        hidden_act,
    })
}

fn parse_llava_hf(path: &Path, json: Value) -> Result<ConfigFile, CheckpointError> {
    let file: LlavaHfFile = parse(path, json, "a llava-hf checkpoint")?;
    if file.projector_hidden_act != "gelu" {
        return Err(wrong(
            path,
            format!(
                "projector_hidden_act is `{}`, expected gelu",
                file.projector_hidden_act
            ),
        ));
    }
    let bad_name = |error| invalid(path, ModelConfigError::Vision(error));
    let model = GalleryModelConfig {
        vision: vision_config(path, &file.vision_config)?,
        projector: ProjectorKind::MlpGelu { depth: 2 },
        llama: llama_config(path, &file.text_config)?,
        select_layer: SelectLayer(file.vision_feature_layer),
        select_feature: file
            .vision_feature_select_strategy
            .parse()
            .map_err(bad_name)?,
        aspect_ratio: match file.image_aspect_ratio.as_deref() {
            None => AspectRatio::Pad,
            Some(name) => name.parse().map_err(bad_name)?,
        },
    };
    model.validate().map_err(|error| invalid(path, error))?;
    if file.image_token_index == 0 || file.image_token_index > model.llama.vocab_size {
        return Err(wrong(
            path,
            format!(
                "image_token_index is {}, expected from 1 to vocab_size ({})",
                file.image_token_index, model.llama.vocab_size
            ),
        ));
    }
    Ok(ConfigFile::LlavaHf {
        model,
        image_token_index: file.image_token_index,
    })
}

fn parse_llava(path: &Path, json: Value) -> Result<LlavaConfig, CheckpointError> {
    let file: LlavaFile = parse(path, json, "a LLaVA checkpoint")?;
    if file.mm_use_im_start_end {
        return Err(wrong(
            path,
            "mm_use_im_start_end is true, which is not supported",
        ));
    }
    let bad_name = |error| invalid(path, ModelConfigError::Vision(error));
    Ok(LlavaConfig {
        path: path.to_owned(),
        llama: llama_config(path, &file.text)?,
        projector: file
            .mm_projector_type
            .parse()
            .map_err(|error| invalid(path, ModelConfigError::Projector(error)))?,
        select_layer: SelectLayer(file.mm_vision_select_layer),
        select_feature: file.mm_vision_select_feature.parse().map_err(bad_name)?,
        aspect_ratio: match file.image_aspect_ratio.as_deref() {
            None => AspectRatio::CenterCrop,
            Some(name) => name.parse().map_err(bad_name)?,
        },
        mm_hidden_size: file.mm_hidden_size,
        mm_vision_tower: file.mm_vision_tower,
    })
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
            return Err(wrong(
                &self.path,
                format!(
                    "mm_hidden_size is {width}, but the vision tower is {} wide; it is not the tower this model was trained with",
                    vision.hidden_size
                ),
            ));
        }
        let model = GalleryModelConfig {
            vision,
            projector: self.projector,
            llama: self.llama,
            select_layer: self.select_layer,
            select_feature: self.select_feature,
            aspect_ratio: self.aspect_ratio,
        };
        model
            .validate()
            .map_err(|error| invalid(&self.path, error))?;
        Ok(model)
    }
}

/// Reads the `config.json` of a vision tower's folder: a `CLIPVisionModel`'s, or a whole `CLIPModel`'s.
pub(crate) fn read_vision_config(folder: &Path) -> Result<VisionConfig, CheckpointError> {
    let path = &folder.join("config.json");
    let mut json = read_json(path)?;
    if let Some(vision) = json.get_mut("vision_config") {
        json = vision.take();
    }
    if json.get("patch_size").is_none() {
        return Err(wrong(
            path,
            "not the config.json of a CLIP vision tower: no patch_size",
        ));
    }
    let file: VisionFile = parse(path, json, "a CLIP vision tower")?;
    let config = vision_config(path, &file)?;
    config
        .validate()
        .map_err(|error| invalid(path, ModelConfigError::Vision(error)))?;
    Ok(config)
}

/// The `config.json` of a `CLIPVisionModel`.
pub(crate) fn vision_json(vision: &VisionConfig, dtype: &str) -> Value {
    let hidden_act = match vision.hidden_act {
        HiddenAct::QuickGelu => "quick_gelu",
        HiddenAct::Gelu => "gelu",
    };
    json!({
        "architectures": ["CLIPVisionModel"],
        "hidden_act": hidden_act,
        "hidden_size": vision.hidden_size,
        "image_size": vision.image_size,
        "intermediate_size": vision.intermediate_size,
        "layer_norm_eps": vision.layer_norm_eps,
        "model_type": "clip_vision_model",
        "num_attention_heads": vision.num_attention_heads,
        "num_channels": vision.num_channels,
        "num_hidden_layers": vision.num_hidden_layers,
        "patch_size": vision.patch_size,
        "projection_dim": vision.hidden_size,
        "torch_dtype": dtype,
    })
}

fn llama_json(llama: &LlamaConfig, rows: usize, dtype: &str) -> Value {
    json!({
        "attention_bias": false,
        "bos_token_id": 1,
        "eos_token_id": 2,
        "hidden_act": "silu",
        "hidden_size": llama.hidden_size,
        "intermediate_size": llama.intermediate_size,
        "max_position_embeddings": llama.max_position_embeddings,
        "num_attention_heads": llama.num_attention_heads,
        "num_hidden_layers": llama.num_hidden_layers,
        "num_key_value_heads": llama.num_key_value_heads,
        "rms_norm_eps": llama.rms_norm_eps,
        "rope_theta": llama.rope_theta,
        "torch_dtype": dtype,
        "vocab_size": rows,
    })
}

fn merged(mut into: Value, more: Value) -> Value {
    if let (Some(into), Value::Object(more)) = (into.as_object_mut(), more) {
        into.extend(more);
    }
    into
}

/// The `config.json` of llava-hf, for a model whose vocabulary was widened to `stored_rows`.
pub(crate) fn llava_hf_json(config: &GalleryModelConfig, stored_rows: usize, dtype: &str) -> Value {
    let words = config.llama.vocab_size;
    let text = json!({ "architectures": ["LlamaForCausalLM"], "model_type": "llama" });
    json!({
        "architectures": ["LlavaForConditionalGeneration"],
        "ignore_index": -100,
        "image_aspect_ratio": config.aspect_ratio.to_string(),
        "image_seq_length": config.tokens_per_picture(),
        "image_token_index": words,
        "model_type": "llava",
        "pad_token_id": words + 1,
        "projector_hidden_act": "gelu",
        "text_config": merged(text, llama_json(&config.llama, stored_rows, dtype)),
        "tie_word_embeddings": false,
        "torch_dtype": dtype,
        "vision_config": vision_json(&config.vision, dtype),
        "vision_feature_layer": config.select_layer.0,
        "vision_feature_select_strategy": match config.select_feature {
            FeatureSelect::Patch => "default",
            FeatureSelect::ClsPatch => "full",
        },
        "vocab_size": stored_rows,
    })
}

/// The original's `config.json`, with the place of the tower.
pub(crate) fn llava_json(config: &GalleryModelConfig, tower: &str, dtype: &str) -> Value {
    let llama = llama_json(&config.llama, config.llama.vocab_size, dtype);
    let llava = json!({
        "architectures": ["LlavaLlamaForCausalLM"],
        "freeze_mm_mlp_adapter": false,
        "image_aspect_ratio": config.aspect_ratio.to_string(),
        "image_grid_pinpoints": null,
        "mm_hidden_size": config.vision.hidden_size,
        "mm_patch_merge_type": "flat",
        "mm_projector_type": config.projector.to_string(),
        "mm_use_im_patch_token": false,
        "mm_use_im_start_end": false,
        "mm_vision_select_feature": match config.select_feature {
            FeatureSelect::Patch => "patch",
            FeatureSelect::ClsPatch => "cls_patch",
        },
        "mm_vision_select_layer": config.select_layer.0,
        "mm_vision_tower": tower,
        "model_type": "llava_llama",
        "pad_token_id": 0,
        "rope_scaling": null,
        "tie_word_embeddings": false,
        "tune_mm_mlp_adapter": false,
        "use_cache": true,
        "use_mm_proj": true,
    });
    merged(llama, llava)
}
