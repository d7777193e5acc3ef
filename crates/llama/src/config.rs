//! The decoder's config, with the field names of Hugging Face's `LlamaConfig`.

use serde::{Deserialize, Serialize};

use crate::LoraTarget;

/// Sizes of a LLaMA decoder.
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
        }
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
        let block = attention + mlp + 2 * self.hidden_size;
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
