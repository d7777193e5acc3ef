//! `config.json` of Qwen-VL-Chat: Qwen's fields, and the tower's under `visual`.

use std::path::Path;

use gallery_gpt_llama::{LlamaConfig, LongContext};
use gallery_gpt_model::{GalleryModelConfig, ReservedRows};
use gallery_gpt_projector::ProjectorKind;
use gallery_gpt_vision::VisionConfig;
use serde_json::{Value, json};

use super::{
    fields::{Fields, invalid, shown},
    limit,
};
use crate::CheckpointError;

/// Side of the grid of the tower's learned positions, which its code fixes.
pub(crate) const POSITION_GRID: usize = 16;
/// Queries of the resampler, which the tokenizer fixes too: the ids between the tags of a picture.
pub(crate) const QUERIES: usize = 256;

/// Width of the tower's MLP in Qwen-VL-Chat, as a multiple of the tower's: 8192 of 1664.
const MLP_RATIO: f64 = 4.9231;

/// Reads a config with `model_type` qwen. Defaults are those of the config class of Qwen's code.
pub(super) fn qwen_vl(
    path: &Path,
    mut fields: Fields,
    notes: &mut Vec<String>,
) -> Result<GalleryModelConfig, CheckpointError> {
    let Some(visual) = fields.take("visual") else {
        let what =
            "is `qwen` without `visual`: this is a Qwen model of texts; expected Qwen-VL-Chat";
        return Err(fields.wrong("model_type", what));
    };
    let mut visual = Fields::new(path, "visual.", visual)?;
    let llama = decoder(&mut fields)?;
    let (vision, image_start_id) = tower(&mut visual, &llama)?;
    if image_start_id >= llama.vocab_size {
        let what = format!(
            "is {image_start_id}, expected an id below vocab_size ({})",
            llama.vocab_size
        );
        return Err(visual.wrong("image_start_id", &what));
    }
    visual.note_rest(notes);
    fields.note_dropout(notes);
    fields.ignore(&[
        "attn_dropout_prob",
        "bf16",
        "emb_dropout_prob",
        "fp16",
        "fp32",
        "onnx_safe",
        "tokenizer_type",
        "use_flash_attn",
    ]);
    fields.note_rest(notes);
    let model = GalleryModelConfig {
        vision,
        projector: ProjectorKind::Resampler { queries: QUERIES },
        llama,
        end_ids: Vec::new(),
        reserved: Some(ReservedRows {
            image: image_start_id,
            pad: None,
        }),
        ..GalleryModelConfig::qwen_vl_chat()
    };
    model.validate().map_err(|error| invalid(path, error))?;
    Ok(model)
}

fn decoder(fields: &mut Fields) -> Result<LlamaConfig, CheckpointError> {
    for (name, only) in [
        ("no_bias", true),
        ("scale_attn_weights", true),
        ("tie_word_embeddings", false),
    ] {
        fields.only(name, &[json!(only)])?;
    }
    fields.only("rotary_pct", &[json!(1.0), json!(1)])?;
    let size = |fields: &mut Fields, name, limit, default| -> Result<usize, CheckpointError> {
        Ok(fields.size(name, limit)?.unwrap_or(default))
    };
    let usual = LlamaConfig::qwen_7b();
    let hidden_size = size(fields, "hidden_size", limit::WIDTH, usual.hidden_size)?;
    let heads = size(
        fields,
        "num_attention_heads",
        limit::HEADS,
        usual.num_attention_heads,
    )?;
    let head_dim = size(fields, "kv_channels", limit::WIDTH, usual.head_dim())?;
    if heads.checked_mul(head_dim) != Some(hidden_size) {
        let what = format!(
            "is {head_dim} with num_attention_heads {heads}, expected a product of hidden_size ({hidden_size})"
        );
        return Err(fields.wrong("kv_channels", &what));
    }
    // Twice the width of the MLP.
    let twice = size(
        fields,
        "intermediate_size",
        limit::WIDTH,
        2 * usual.intermediate_size,
    )?;
    if !twice.is_multiple_of(2) {
        let what = format!("is {twice}, expected an even number: twice the width of the MLP");
        return Err(fields.wrong("intermediate_size", &what));
    }
    let Some(seq_length) = fields.size("seq_length", limit::CONTEXT)? else {
        let what = "is missing; expected the length of training in tokens, 2048 in Qwen-VL-Chat";
        return Err(fields.wrong("seq_length", what));
    };
    let switch = |fields: &mut Fields, name| match fields.take(name) {
        None => Ok(true),
        Some(Value::Bool(value)) => Ok(value),
        Some(other) => {
            let what = format!("is {}, expected true or false", shown(&other));
            Err(fields.wrong(name, &what))
        }
    };
    Ok(LlamaConfig {
        hidden_size,
        intermediate_size: twice / 2,
        num_hidden_layers: size(
            fields,
            "num_hidden_layers",
            limit::LAYERS,
            usual.num_hidden_layers,
        )?,
        num_attention_heads: heads,
        num_key_value_heads: heads,
        vocab_size: size(fields, "vocab_size", limit::ROWS, usual.vocab_size)?,
        max_position_embeddings: size(
            fields,
            "max_position_embeddings",
            limit::CONTEXT,
            usual.max_position_embeddings,
        )?,
        rms_norm_eps: fields
            .positive("layer_norm_epsilon")?
            .unwrap_or(usual.rms_norm_eps),
        rope_theta: fields
            .positive("rotary_emb_base")?
            .unwrap_or(usual.rope_theta),
        fused_qkv: true,
        long_context: Some(LongContext {
            seq_length,
            dynamic_ntk: switch(fields, "use_dynamic_ntk")?,
            log_n: switch(fields, "use_logn_attn")?,
        }),
    })
}

/// The tower's config, and the id of the tag before a picture.
fn tower(
    fields: &mut Fields,
    llama: &LlamaConfig,
) -> Result<(VisionConfig, usize), CheckpointError> {
    let size = |fields: &mut Fields, name, limit| -> Result<usize, CheckpointError> {
        fields
            .size(name, limit)?
            .ok_or_else(|| fields.wrong(name, "is missing, expected a number"))
    };
    let width = size(fields, "width", limit::WIDTH)?;
    let output = size(fields, "output_dim", limit::WIDTH)?;
    if output != llama.hidden_size {
        let what = format!("is {output}, expected hidden_size ({})", llama.hidden_size);
        return Err(fields.wrong("output_dim", &what));
    }
    fields.only("n_queries", &[json!(QUERIES)])?;
    let ratio = fields.positive("mlp_ratio")?.unwrap_or(4.0);
    let intermediate = width as f64 * ratio;
    if intermediate < 1.0 || intermediate > limit::WIDTH as f64 {
        let what = format!(
            "is {ratio}, expected an MLP width from 1 to {}",
            limit::WIDTH
        );
        return Err(fields.wrong("mlp_ratio", &what));
    }
    let vision = VisionConfig {
        hidden_size: width,
        // Rounded down, as Python's `int`.
        intermediate_size: intermediate as usize,
        num_hidden_layers: size(fields, "layers", limit::LAYERS)?,
        num_attention_heads: size(fields, "heads", limit::HEADS)?,
        image_size: size(fields, "image_size", limit::PIXELS)?,
        patch_size: size(fields, "patch_size", limit::PIXELS)?,
        position_grid: Some(POSITION_GRID),
        ..VisionConfig::qwen_vl()
    };
    let side = vision.image_size / vision.patch_size;
    if side > limit::GRID {
        let what = format!(
            "is {} with patch_size {}, expected at most {} patches a side",
            vision.image_size,
            vision.patch_size,
            limit::GRID
        );
        return Err(fields.wrong("image_size", &what));
    }
    let image_start_id = size(fields, "image_start_id", limit::ROWS)?;
    Ok((vision, image_start_id))
}

/// The `config.json` of a model, which its own code reads.
pub(crate) fn qwen_vl_json(config: &GalleryModelConfig, dtype: &str) -> Value {
    let (llama, vision) = (&config.llama, &config.vision);
    let long = llama.long_context;
    json!({
        "architectures": ["QWenLMHeadModel"],
        "attn_dropout_prob": 0.0,
        "auto_map": {
            "AutoConfig": "configuration_qwen.QWenConfig",
            "AutoModelForCausalLM": "modeling_qwen.QWenLMHeadModel",
        },
        "bf16": false,
        "emb_dropout_prob": 0.0,
        "fp16": false,
        "fp32": false,
        "hidden_size": llama.hidden_size,
        "initializer_range": 0.02,
        "intermediate_size": 2 * llama.intermediate_size,
        "kv_channels": llama.head_dim(),
        "layer_norm_epsilon": llama.rms_norm_eps,
        "max_position_embeddings": llama.max_position_embeddings,
        "model_type": "qwen",
        "no_bias": true,
        "num_attention_heads": llama.num_attention_heads,
        "num_hidden_layers": llama.num_hidden_layers,
        "onnx_safe": null,
        "rotary_emb_base": llama.rope_theta,
        "rotary_pct": 1.0,
        "scale_attn_weights": true,
        "seq_length": long.map_or(llama.max_position_embeddings, |long| long.seq_length),
        "tie_word_embeddings": false,
        "tokenizer_type": "QWenTokenizer",
        "torch_dtype": dtype,
        "use_cache": true,
        "use_dynamic_ntk": long.is_some_and(|long| long.dynamic_ntk),
        "use_flash_attn": false,
        "use_logn_attn": long.is_some_and(|long| long.log_n),
        "visual": {
            "heads": vision.num_attention_heads,
            "image_size": vision.image_size,
            "image_start_id": config.reserved.map(|rows| rows.image),
            "layers": vision.num_hidden_layers,
            "mlp_ratio": mlp_ratio(vision),
            "output_dim": llama.hidden_size,
            "patch_size": vision.patch_size,
            "width": vision.hidden_size,
        },
        "vocab_size": llama.vocab_size,
    })
}

/// A ratio whose product with the width, rounded down, is the width of the MLP: the model's own if it is one.
fn mlp_ratio(vision: &VisionConfig) -> f64 {
    let width = vision.hidden_size as f64;
    let quotient = vision.intermediate_size as f64 / width;
    // The division may have rounded the quotient down.
    let ratios = [MLP_RATIO, quotient, quotient.next_up()];
    let mut ratios = ratios.into_iter();
    let exact = ratios.find(|ratio| (width * ratio) as usize == vision.intermediate_size);
    exact.unwrap_or(quotient)
}
