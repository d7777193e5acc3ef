//! `config.json` of a llava-hf checkpoint.

use std::path::Path;

use gallery_gpt_llama::LlamaConfig;
use gallery_gpt_model::GalleryModelConfig;
use gallery_gpt_projector::ProjectorKind;
use gallery_gpt_vision::{AspectRatio, FeatureSelect, HiddenAct, SelectLayer, VisionConfig};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::CheckpointError;

/// A model config with what only its checkpoint knows.
#[derive(Clone, Debug, PartialEq)]
pub struct ConfigFile {
    /// The parts of the model; `llama.vocab_size` counts all stored rows.
    pub model: GalleryModelConfig,
    /// Id of the picture token, which is also the number of rows that are words; rows from here on are the picture token,
    /// the padding token and filling.
    pub image_token_index: usize,
}

/// Defaults are the ones of the library's config classes: a hub config leaves them out.
#[derive(Deserialize)]
struct LlavaFile {
    model_type: Option<String>,
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
    default_strategy: String = "default".to_owned();
}

/// Reads the `config.json` of a folder. `model_type` llava, `llava_llama` and share4v are accepted as they are.
///
/// # Errors
/// The file cannot be read, or describes a model with a part that is not supported.
pub fn read_config(folder: impl AsRef<Path>) -> Result<ConfigFile, CheckpointError> {
    let path = folder.as_ref().join("config.json");
    let bytes = std::fs::read(&path).map_err(|source| CheckpointError::Read {
        path: path.clone(),
        source,
    })?;
    parse_config(&path, &bytes)
}

pub(crate) fn parse_config(path: &Path, bytes: &[u8]) -> Result<ConfigFile, CheckpointError> {
    let wrong = |reason: String| CheckpointError::Config {
        path: path.to_owned(),
        reason,
    };
    let file: LlavaFile = serde_json::from_slice(bytes).map_err(|error| {
        wrong(format!(
            "not the config.json of a llava-hf checkpoint: {error}"
        ))
    })?;
    if let Some(kind) = &file.model_type
        && !["llava", "llava_llama", "share4v"].contains(&kind.as_str())
    {
        return Err(wrong(format!(
            "model_type is `{kind}`, expected llava, llava_llama or share4v"
        )));
    }
    let text = &file.text_config;
    let unsupported = [
        (text.attention_bias, "text_config.attention_bias"),
        (text.mlp_bias, "text_config.mlp_bias"),
        (text.tie_word_embeddings, "text_config.tie_word_embeddings"),
    ];
    if let Some((_, field)) = unsupported.iter().find(|(set, _)| *set) {
        return Err(wrong(format!("{field} is true, which is not supported")));
    }
    if text.hidden_act.as_deref().is_some_and(|act| act != "silu") {
        return Err(wrong(
            "text_config.hidden_act is not silu, which is not supported".to_owned(),
        ));
    }
    if text
        .rope_scaling
        .as_ref()
        .is_some_and(|scaling| !scaling.is_null())
        || text
            .rope_parameters
            .as_ref()
            .and_then(|rope| rope.rope_type.as_deref())
            .is_some_and(|kind| kind != "default")
    {
        return Err(wrong(
            "scaled rotary embeddings are not supported".to_owned(),
        ));
    }
    if text
        .head_dim
        .is_some_and(|dim| dim * text.num_attention_heads != text.hidden_size)
    {
        return Err(wrong(
            "text_config.head_dim times num_attention_heads is not hidden_size, which is not supported"
                .to_owned(),
        ));
    }
    if file.projector_hidden_act != "gelu" {
        return Err(wrong(format!(
            "projector_hidden_act is `{}`, expected gelu",
            file.projector_hidden_act
        )));
    }
    let invalid = |source: gallery_gpt_model::ModelConfigError| CheckpointError::ModelConfig {
        path: path.to_owned(),
        source,
    };
    let vision = &file.vision_config;
    let hidden_act: HiddenAct = vision
        .hidden_act
        .parse()
        .map_err(|error| invalid(gallery_gpt_model::ModelConfigError::Vision(error)))?;
    let select_feature: FeatureSelect = file
        .vision_feature_select_strategy
        .parse()
        .map_err(|error| invalid(gallery_gpt_model::ModelConfigError::Vision(error)))?;
    let aspect_ratio: AspectRatio = match file.image_aspect_ratio.as_deref() {
        None => AspectRatio::Pad,
        Some(name) => name
            .parse()
            .map_err(|error| invalid(gallery_gpt_model::ModelConfigError::Vision(error)))?,
    };
    let model = GalleryModelConfig {
        vision: VisionConfig {
            hidden_size: vision.hidden_size,
            intermediate_size: vision.intermediate_size,
            num_hidden_layers: vision.num_hidden_layers,
            num_attention_heads: vision.num_attention_heads,
            image_size: vision.image_size,
            patch_size: vision.patch_size,
            num_channels: vision.num_channels,
            layer_norm_eps: vision.layer_norm_eps,
            hidden_act,
        },
        projector: ProjectorKind::MlpGelu { depth: 2 },
        llama: LlamaConfig {
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
                .or(text
                    .rope_parameters
                    .as_ref()
                    .and_then(|rope| rope.rope_theta))
                .unwrap_or(10000.0),
        },
        select_layer: SelectLayer(file.vision_feature_layer),
        select_feature,
        aspect_ratio,
    };
    model.validate().map_err(invalid)?;
    if file.image_token_index == 0 || file.image_token_index > model.llama.vocab_size {
        return Err(wrong(format!(
            "image_token_index is {}, expected from 1 to vocab_size ({})",
            file.image_token_index, model.llama.vocab_size
        )));
    }
    Ok(ConfigFile {
        model,
        image_token_index: file.image_token_index,
    })
}

/// The `config.json` of a model whose vocabulary was widened to `stored_rows`.
pub(crate) fn config_json(config: &GalleryModelConfig, stored_rows: usize, dtype: &str) -> Value {
    let (vision, llama) = (&config.vision, &config.llama);
    let aspect_ratio = match config.aspect_ratio {
        AspectRatio::Pad => "pad",
        AspectRatio::CenterCrop => "center_crop",
    };
    let strategy = match config.select_feature {
        FeatureSelect::Patch => "default",
        FeatureSelect::ClsPatch => "full",
    };
    let hidden_act = match vision.hidden_act {
        HiddenAct::QuickGelu => "quick_gelu",
        HiddenAct::Gelu => "gelu",
    };
    json!({
        "architectures": ["LlavaForConditionalGeneration"],
        "ignore_index": -100,
        "image_aspect_ratio": aspect_ratio,
        "image_seq_length": config.tokens_per_picture(),
        "image_token_index": llama.vocab_size,
        "model_type": "llava",
        "pad_token_id": llama.vocab_size + 1,
        "projector_hidden_act": "gelu",
        "text_config": {
            "architectures": ["LlamaForCausalLM"],
            "bos_token_id": 1,
            "eos_token_id": 2,
            "hidden_act": "silu",
            "hidden_size": llama.hidden_size,
            "intermediate_size": llama.intermediate_size,
            "max_position_embeddings": llama.max_position_embeddings,
            "model_type": "llama",
            "num_attention_heads": llama.num_attention_heads,
            "num_hidden_layers": llama.num_hidden_layers,
            "num_key_value_heads": llama.num_key_value_heads,
            "rms_norm_eps": llama.rms_norm_eps,
            "rope_theta": llama.rope_theta,
            "torch_dtype": dtype,
            "vocab_size": stored_rows,
        },
        "tie_word_embeddings": false,
        "torch_dtype": dtype,
        "vision_config": {
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
        },
        "vision_feature_layer": config.select_layer.0,
        "vision_feature_select_strategy": strategy,
        "vocab_size": stored_rows,
    })
}
