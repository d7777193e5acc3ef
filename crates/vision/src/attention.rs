//! Multi-head attention of the vision tower.

use burn::{
    module::Module,
    nn::{Linear, LinearConfig},
    tensor::{Device, Tensor, module::attention, ops::AttentionModuleOptions},
};

use crate::VisionConfig;

/// The projections of queries, keys and values; all have a bias.
#[allow(
    clippy::large_enum_variant,
    reason = "a block has one, and its weights are far larger"
)]
#[derive(Module, Debug)]
pub enum VisionQkv {
    /// A linear layer each (CLIP).
    Separate(SeparateVisionQkv),
    /// One linear layer (Qwen-VL).
    Fused(FusedVisionQkv),
}

/// A linear layer each for queries, keys and values.
#[derive(Module, Debug)]
pub struct SeparateVisionQkv {
    /// Query projection.
    pub q_proj: Linear,
    /// Key projection.
    pub k_proj: Linear,
    /// Value projection.
    pub v_proj: Linear,
}

/// One linear layer for queries, keys and values. Its outputs are the queries, keys and values of
/// the first head, then those of the second, and so on.
#[derive(Module, Debug)]
pub struct FusedVisionQkv {
    /// `[hidden, 3 * hidden]`.
    pub in_proj: Linear,
}

/// Every token attends to every token.
#[derive(Module, Debug)]
pub struct VisionAttention {
    /// Projections of queries, keys and values.
    pub qkv: VisionQkv,
    /// Output projection.
    pub out_proj: Linear,
    heads: usize,
}

impl VisionAttention {
    pub(crate) fn new(config: &VisionConfig, device: &Device) -> Self {
        let width = config.hidden_size;
        let linear = || LinearConfig::new(width, width).init(device);
        let qkv = if config.fused_qkv {
            VisionQkv::Fused(FusedVisionQkv {
                in_proj: LinearConfig::new(width, 3 * width).init(device),
            })
        } else {
            VisionQkv::Separate(SeparateVisionQkv {
                q_proj: linear(),
                k_proj: linear(),
                v_proj: linear(),
            })
        };
        Self {
            qkv,
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
        let heads = self.heads;
        let head_dim = hidden / heads;
        let split = |x: Tensor<3>| x.reshape([batch, tokens, heads, head_dim]).swap_dims(1, 2);
        let [q, k, v] = match &self.qkv {
            VisionQkv::Separate(qkv) => {
                let q = split(qkv.q_proj.forward(hidden_states.clone()));
                let k = split(qkv.k_proj.forward(hidden_states.clone()));
                [q, k, split(qkv.v_proj.forward(hidden_states))]
            }
            VisionQkv::Fused(qkv) => {
                let all = qkv.in_proj.forward(hidden_states);
                let all = all.reshape([batch, tokens, heads, 3, head_dim]);
                [0, 1, 2].map(|nth| {
                    let one = all.clone().slice_dim(3, nth..nth + 1);
                    split(one.reshape([batch, tokens, hidden]))
                })
            }
        };
        let mixed = attention(q, k, v, None, None, AttentionModuleOptions::default());
        self.out_proj
            .forward(mixed.swap_dims(1, 2).reshape([batch, tokens, hidden]))
    }
}
