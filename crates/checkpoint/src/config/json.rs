//! The `config.json` files that are written: llava-hf's, the original's, and a vision tower's.

use gallery_gpt_model::{GalleryModelConfig, ReservedRows};
use gallery_gpt_vision::{FeatureSelect, HiddenAct, VisionConfig};
use serde_json::{Value, json};

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

fn llama_json(config: &GalleryModelConfig, rows: usize, dtype: &str) -> Value {
    let llama = &config.llama;
    let ends = match &config.end_ids[..] {
        [only] => json!(only),
        several => json!(several),
    };
    json!({
        "attention_bias": false,
        "bos_token_id": 1,
        "eos_token_id": ends,
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

/// The `config.json` of llava-hf, for a model whose vocabulary was extended to `stored_rows`. The image and padding tokens are the first
/// of the new rows, unless the model has them already.
pub(crate) fn llava_hf_json(config: &GalleryModelConfig, stored_rows: usize, dtype: &str) -> Value {
    let rows = config.llama.vocab_size;
    let ReservedRows { image, pad } = config.reserved.unwrap_or(ReservedRows {
        image: rows,
        pad: Some(rows + 1),
    });
    let text = json!({ "architectures": ["LlamaForCausalLM"], "model_type": "llama" });
    json!({
        "architectures": ["LlavaForConditionalGeneration"],
        "ignore_index": -100,
        "image_aspect_ratio": config.aspect_ratio.to_string(),
        "image_seq_length": config.tokens_per_picture(),
        "image_token_index": image,
        "model_type": "llava",
        "pad_token_id": pad,
        "projector_hidden_act": "gelu",
        "text_config": merged(text, llama_json(config, stored_rows, dtype)),
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

/// The original's `config.json`, with the path of the tower.
pub(crate) fn llava_json(config: &GalleryModelConfig, tower: &str, dtype: &str) -> Value {
    let llama = llama_json(config, config.llama.vocab_size, dtype);
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
