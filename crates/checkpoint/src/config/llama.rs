//! The decoder's part of a `config.json`.

use gallery_gpt_llama::LlamaConfig;
use serde_json::{Value, json};

use super::{
    fields::{Fields, shown},
    limit,
};
use crate::CheckpointError;

/// The decoder's part. What it asks for and is not supported here is refused.
pub(super) fn llama_config(fields: &mut Fields) -> Result<LlamaConfig, CheckpointError> {
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
        fused_qkv: false,
        long_context: None,
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

/// The base of the rotary frequencies: a field of its own, or since transformers 5 a field of `rope_parameters`.
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
