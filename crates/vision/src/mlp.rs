//! The MLP of a block of the vision tower.

use burn::{
    module::Module,
    nn::{Linear, LinearConfig},
    tensor::{
        Device, Tensor,
        activation::{gelu, sigmoid},
    },
};

use crate::{HiddenAct, VisionConfig};

/// Two linear layers with an activation between them.
#[derive(Module, Debug)]
pub struct VisionMlp {
    /// Up projection.
    pub fc1: Linear,
    /// Down projection.
    pub fc2: Linear,
    #[module(skip)]
    activation: HiddenAct,
}

impl VisionMlp {
    pub(crate) fn new(config: &VisionConfig, device: &Device) -> Self {
        Self {
            fc1: LinearConfig::new(config.hidden_size, config.intermediate_size).init(device),
            fc2: LinearConfig::new(config.intermediate_size, config.hidden_size).init(device),
            activation: config.hidden_act,
        }
    }

    /// # Shapes
    /// - `hidden_states`: `[batch, tokens, hidden]`
    /// - output: `[batch, tokens, hidden]`
    #[must_use]
    pub fn forward(&self, hidden_states: Tensor<3>) -> Tensor<3> {
        let x = self.fc1.forward(hidden_states);
        let x = match self.activation {
            HiddenAct::QuickGelu => x.clone() * sigmoid(x * 1.702),
            HiddenAct::Gelu => gelu(x),
        };
        self.fc2.forward(x)
    }
}
