//! A block of the vision tower.

use burn::{
    module::Module,
    nn::{LayerNorm, LayerNormConfig},
    tensor::{Device, Tensor},
};

use crate::{VisionAttention, VisionConfig, VisionMlp, layer_norm};

/// Pre-norm transformer block.
#[derive(Module, Debug)]
pub struct EncoderBlock {
    /// Norm before attention.
    pub layer_norm1: LayerNorm,
    /// Attention.
    pub self_attn: VisionAttention,
    /// Norm before the MLP.
    pub layer_norm2: LayerNorm,
    /// MLP.
    pub mlp: VisionMlp,
}

impl EncoderBlock {
    pub(crate) fn new(config: &VisionConfig, device: &Device) -> Self {
        let norm = || {
            LayerNormConfig::new(config.hidden_size)
                .with_epsilon(config.layer_norm_eps)
                .init(device)
        };
        Self {
            layer_norm1: norm(),
            self_attn: VisionAttention::new(config, device),
            layer_norm2: norm(),
            mlp: VisionMlp::new(config, device),
        }
    }

    /// # Shapes
    /// - `hidden_states`: `[batch, tokens, hidden]`
    /// - output: `[batch, tokens, hidden]`
    #[must_use]
    pub fn forward(&self, hidden_states: Tensor<3>) -> Tensor<3> {
        let normed = layer_norm(&self.layer_norm1, hidden_states.clone());
        let hidden_states = hidden_states + self.self_attn.forward(normed);
        let normed = layer_norm(&self.layer_norm2, hidden_states.clone());
        let widened = self.mlp.forward(normed);
        hidden_states + widened
    }
}
