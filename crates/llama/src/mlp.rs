//! SwiGLU (Shazeer 2020, <https://arxiv.org/abs/2002.05202>).

use burn::{
    module::Module,
    tensor::{Device, Tensor, activation::silu},
};

use crate::{AdapterDropout, LlamaConfig, LoraLinear};

/// `down(silu(gate(x)) * up(x))`.
#[derive(Module, Debug)]
pub struct LlamaMlp {
    /// Gate projection.
    pub gate_proj: LoraLinear,
    /// Up projection.
    pub up_proj: LoraLinear,
    /// Down projection.
    pub down_proj: LoraLinear,
}

impl LlamaMlp {
    pub(crate) fn new(config: &LlamaConfig, device: &Device) -> Self {
        let (narrow, wide) = (config.hidden_size, config.intermediate_size);
        Self {
            gate_proj: LoraLinear::new(narrow, wide, device),
            up_proj: LoraLinear::new(narrow, wide, device),
            down_proj: LoraLinear::new(wide, narrow, device),
        }
    }

    /// # Shapes
    /// - `hidden_states`: `[batch, seq, hidden]`
    /// - output: `[batch, seq, hidden]`
    #[must_use]
    pub fn forward(&self, hidden_states: Tensor<3>, dropout: AdapterDropout) -> Tensor<3> {
        let gate = silu(
            self.gate_proj
                .forward(hidden_states.clone(), dropout.stream(4)),
        );
        let up = self.up_proj.forward(hidden_states, dropout.stream(5));
        self.down_proj.forward(gate * up, dropout.stream(6))
    }
}
