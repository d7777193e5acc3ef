//! The decoder's config, with the field names of Hugging Face's `LlamaConfig`.

use serde::{Deserialize, Serialize};

use crate::LoraTarget;

/// Sizes of a decoder, LLaMA's or Qwen's.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LlamaConfig {
    /// Width of the hidden states.
    pub hidden_size: usize,
    /// Width inside the MLP.
    pub intermediate_size: usize,
    /// Number of blocks.
    pub num_hidden_layers: usize,
    /// Number of query heads.
    pub num_attention_heads: usize,
    /// Number of key and value heads; divides `num_attention_heads`.
    pub num_key_value_heads: usize,
    /// Rows of the embedding and of the output head.
    pub vocab_size: usize,
    /// Context length in tokens, with pictures expanded.
    pub max_position_embeddings: usize,
    /// Epsilon of every norm.
    pub rms_norm_eps: f64,
    /// Base of the rotary embedding's frequencies.
    pub rope_theta: f64,
    /// Whether queries, keys and values are one linear layer with a bias (Qwen's `c_attn`). It takes
    /// as many key as query heads.
    #[serde(default)]
    pub fused_qkv: bool,
    /// How inference goes beyond the length of training, if it does.
    #[serde(default)]
    pub long_context: Option<LongContext>,
}

/// Qwen's two ways beyond the length it was trained with. Neither acts in training.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LongContext {
    /// Length of training in tokens (`seq_length`).
    pub seq_length: usize,
    /// Whether the rotary base grows with the length of the prompt, in steps (`use_dynamic_ntk`).
    pub dynamic_ntk: bool,
    /// Whether queries behind `seq_length` are scaled by `log(position) / log(seq_length)`
    /// (`use_logn_attn`).
    pub log_n: bool,
}

impl LongContext {
    /// The factor of the rotary base for a prompt of so many tokens:
    /// `max(2^ceil(log2(tokens / seq_length) + 1) - 1, 1)`. It stays that of the prompt while an
    /// answer is decoded.
    #[must_use]
    pub fn ntk_alpha(&self, tokens: usize) -> f64 {
        if !self.dynamic_ntk || tokens == 0 {
            return 1.0;
        }
        let doublings = (tokens as f64 / self.seq_length as f64).log2() + 1.0;
        (doublings.ceil().exp2() - 1.0).max(1.0)
    }

    /// The scale of the query at a position, counted from 0.
    #[must_use]
    pub fn query_scale(&self, position: usize) -> f64 {
        let count = position + 1;
        if !self.log_n || count <= self.seq_length {
            return 1.0;
        }
        (count as f64).ln() / (self.seq_length as f64).ln()
    }
}

/// A decoder config with an invalid value.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[error("llama config: {field} is {found}, expected {expected}")]
pub struct LlamaConfigError {
    /// The field.
    pub field: &'static str,
    /// Its value.
    pub found: f64,
    /// The requirement.
    pub expected: String,
}

impl LlamaConfig {
    /// Vicuna-7B-v1.5, the shape of Llama-2-7B: 6,738,415,616 parameters.
    #[must_use]
    pub fn vicuna_7b() -> Self {
        Self {
            hidden_size: 4096,
            intermediate_size: 11008,
            num_hidden_layers: 32,
            num_attention_heads: 32,
            num_key_value_heads: 32,
            vocab_size: 32000,
            max_position_embeddings: 4096,
            rms_norm_eps: 1e-5,
            rope_theta: 10000.0,
            fused_qkv: false,
            long_context: None,
        }
    }

    /// Qwen-7B, as in Qwen-VL-Chat: 7,721,324,544 parameters.
    #[must_use]
    pub fn qwen_7b() -> Self {
        Self {
            vocab_size: 151_936,
            max_position_embeddings: 8192,
            rms_norm_eps: 1e-6,
            fused_qkv: true,
            long_context: Some(LongContext {
                seq_length: 2048,
                dynamic_ntk: true,
                log_n: true,
            }),
            ..Self::vicuna_7b()
        }
    }

    /// A decoder small enough for tests and examples.
    #[must_use]
    pub fn tiny() -> Self {
        Self {
            hidden_size: 48,
            intermediate_size: 96,
            num_hidden_layers: 2,
            num_attention_heads: 4,
            num_key_value_heads: 2,
            vocab_size: 320,
            max_position_embeddings: 512,
            rms_norm_eps: 1e-5,
            rope_theta: 10000.0,
            fused_qkv: false,
            long_context: None,
        }
    }

    /// The config of the forward pass in training, where the context is never stretched.
    #[must_use]
    pub fn in_training(&self) -> Self {
        Self {
            long_context: None,
            ..self.clone()
        }
    }

    /// The linear layers of a block, in the order of its forward pass.
    pub fn linears(&self) -> impl Iterator<Item = LoraTarget> + use<> {
        let fused = self.fused_qkv;
        LoraTarget::ALL
            .into_iter()
            .filter(move |target| match target {
                LoraTarget::CAttn => fused,
                LoraTarget::QProj | LoraTarget::KProj | LoraTarget::VProj => !fused,
                _ => true,
            })
    }

    /// Width of one head.
    #[must_use]
    pub fn head_dim(&self) -> usize {
        self.hidden_size / self.num_attention_heads
    }

    /// Number of parameters, with the embedding and the head, without adapters.
    #[must_use]
    pub fn num_parameters(&self) -> usize {
        let kv = self.num_key_value_heads * self.head_dim();
        let attention = 2 * self.hidden_size * (self.hidden_size + kv);
        let mlp = 3 * self.hidden_size * self.intermediate_size;
        let bias = if self.fused_qkv {
            3 * self.hidden_size
        } else {
            0
        };
        let block = attention + bias + mlp + 2 * self.hidden_size;
        2 * self.vocab_size * self.hidden_size + self.num_hidden_layers * block + self.hidden_size
    }

    /// Input and output width of one of a block's linear layers.
    #[must_use]
    pub fn linear_widths(&self, target: LoraTarget) -> [usize; 2] {
        let (hidden, mlp) = (self.hidden_size, self.intermediate_size);
        match target {
            LoraTarget::QProj | LoraTarget::OProj => [hidden, hidden],
            LoraTarget::KProj | LoraTarget::VProj => {
                [hidden, self.num_key_value_heads * self.head_dim()]
            }
            LoraTarget::CAttn => [hidden, 3 * hidden],
            LoraTarget::GateProj | LoraTarget::UpProj => [hidden, mlp],
            LoraTarget::DownProj => [mlp, hidden],
        }
    }

    /// Checks values from a file or a user.
    ///
    /// # Errors
    /// A size is 0, a size does not divide another, or the width of a head is odd.
    pub fn validate(&self) -> Result<(), LlamaConfigError> {
        let wrong = |field, found: f64, expected: String| {
            Err(LlamaConfigError {
                field,
                found,
                expected,
            })
        };
        for (field, value) in [
            ("hidden_size", self.hidden_size),
            ("intermediate_size", self.intermediate_size),
            ("num_hidden_layers", self.num_hidden_layers),
            ("num_attention_heads", self.num_attention_heads),
            ("num_key_value_heads", self.num_key_value_heads),
            ("vocab_size", self.vocab_size),
            ("max_position_embeddings", self.max_position_embeddings),
        ] {
            if value == 0 {
                return wrong(field, 0.0, "at least 1".to_owned());
            }
        }
        for (field, value, of, whole) in [
            (
                "num_attention_heads",
                self.num_attention_heads,
                "hidden_size",
                self.hidden_size,
            ),
            (
                "num_key_value_heads",
                self.num_key_value_heads,
                "num_attention_heads",
                self.num_attention_heads,
            ),
        ] {
            if whole % value != 0 {
                return wrong(field, value as f64, format!("a divisor of {of} ({whole})"));
            }
        }
        if self.fused_qkv && self.num_key_value_heads != self.num_attention_heads {
            let expected = format!("num_attention_heads ({})", self.num_attention_heads);
            return wrong(
                "num_key_value_heads",
                self.num_key_value_heads as f64,
                expected,
            );
        }
        if let Some(long) = self.long_context
            && long.seq_length < 2
        {
            return wrong(
                "seq_length",
                long.seq_length as f64,
                "at least 2".to_owned(),
            );
        }
        // The stretched base is raised to d / (d - 2).
        let least = if self.long_context.is_some() { 4 } else { 2 };
        if self.head_dim() < least {
            return wrong(
                "head_dim",
                self.head_dim() as f64,
                format!("at least {least}"),
            );
        }
        if !self.head_dim().is_multiple_of(2) {
            return wrong(
                "head_dim",
                self.head_dim() as f64,
                "an even number (rotary pairs)".to_owned(),
            );
        }
        for (field, value) in [
            ("rms_norm_eps", self.rms_norm_eps),
            ("rope_theta", self.rope_theta),
        ] {
            if !(value > 0.0 && value.is_finite()) {
                return wrong(field, value, "a positive number".to_owned());
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn vicuna_has_the_published_number_of_parameters() {
        assert_eq!(LlamaConfig::vicuna_7b().num_parameters(), 6_738_415_616);
        assert_eq!(LlamaConfig::qwen_7b().num_parameters(), 7_721_324_544);
        assert!(LlamaConfig::qwen_7b().validate().is_ok());
    }

    #[test]
    fn the_rotary_base_grows_in_steps() {
        let long = LlamaConfig::qwen_7b().long_context.unwrap();
        for (tokens, alpha) in [
            (1, 1.0),
            (2048, 1.0),
            (2049, 3.0),
            (4096, 3.0),
            (4097, 7.0),
            (8193, 15.0),
        ] {
            assert_eq!(long.ntk_alpha(tokens), alpha, "{tokens}");
        }
        assert_eq!(long.query_scale(2047), 1.0);
        assert!((long.query_scale(4095) - 12.0 / 11.0).abs() < 1e-12);
    }

    #[test]
    fn sizes_that_do_not_fit_are_refused() {
        let mut config = LlamaConfig::tiny();
        config.num_key_value_heads = 3;
        assert_eq!(config.validate().unwrap_err().field, "num_key_value_heads");
        config = LlamaConfig::tiny();
        config.num_attention_heads = 16;
        config.num_key_value_heads = 16;
        assert_eq!(config.validate().unwrap_err().field, "head_dim");
        assert!(LlamaConfig::vicuna_7b().validate().is_ok());
    }
}
