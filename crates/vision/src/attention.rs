//! Multi-head attention of the vision tower.

use burn::{
    module::Module,
    nn::{Linear, LinearConfig},
    tensor::{Device, Tensor, module::attention, ops::AttentionModuleOptions},
};

use crate::VisionConfig;

/// Every token attends to every token; all four projections have a bias.
#[derive(Module, Debug)]
pub struct VisionAttention {
    /// Query projection.
    pub q_proj: Linear,
    /// Key projection.
    pub k_proj: Linear,
    /// Value projection.
    pub v_proj: Linear,
    /// Output projection.
    pub out_proj: Linear,
    heads: usize,
}

impl VisionAttention {
    pub(crate) fn new(config: &VisionConfig, device: &Device) -> Self {
        let linear = || LinearConfig::new(config.hidden_size, config.hidden_size).init(device);
        Self {
            q_proj: linear(),
            k_proj: linear(),
            v_proj: linear(),
            out_proj: linear(),
            heads: config.num_attention_heads,
        }
    }

    /// `softmax(q k^T / sqrt(head_dim)) v`.
    ///
    /// # Shapes
    /// - `hidden_states`: `[batch, tokens, hidden]`
    /// - output: `[batch, tokens, hidden]`
    #[must_use]
    pub fn forward(&self, hidden_states: Tensor<3>) -> Tensor<3> {
        let [batch, tokens, hidden] = hidden_states.dims();
        let split = |x: Tensor<3>| {
            x.reshape([batch, tokens, self.heads, hidden / self.heads])
                .swap_dims(1, 2)
        };
        let q = split(self.q_proj.forward(hidden_states.clone()));
        let k = split(self.k_proj.forward(hidden_states.clone()));
        let v = split(self.v_proj.forward(hidden_states));
        let mixed = attention(q, k, v, None, None, AttentionModuleOptions::default());
        self.out_proj
            .forward(mixed.swap_dims(1, 2).reshape([batch, tokens, hidden]))
    }
}
