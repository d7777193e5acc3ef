//! The projector module.

use burn::{
    module::Module,
    nn::{Linear, LinearConfig},
    tensor::{Device, Tensor, activation::gelu},
};

use crate::{ProjectorConfig, ProjectorKind};

/// Linear layers with exact (erf) GELUs between them; no layer for [`ProjectorKind::Identity`].
#[derive(Module, Debug)]
pub struct Projector {
    /// The linear layers in order. LLaVA numbers them 0, 2, 4, ... because it counts the
    /// activations too.
    pub layers: Vec<Linear>,
}

impl Projector {
    pub(crate) fn new(config: &ProjectorConfig, device: &Device) -> Self {
        let depth = match config.kind {
            ProjectorKind::Identity => 0,
            ProjectorKind::Linear => 1,
            ProjectorKind::MlpGelu { depth } => depth,
        };
        let layers = (0..depth)
            .map(|nth| {
                let input = if nth == 0 {
                    config.mm_hidden_size
                } else {
                    config.hidden_size
                };
                LinearConfig::new(input, config.hidden_size).init(device)
            })
            .collect();
        Self { layers }
    }

    /// # Shapes
    /// - `features`: `[pictures, patches, mm_hidden]`
    /// - output: `[pictures, patches, hidden]`
    #[must_use]
    pub fn forward(&self, features: Tensor<3>) -> Tensor<3> {
        let mut x = features;
        for (nth, layer) in self.layers.iter().enumerate() {
            if nth > 0 {
                x = gelu(x);
            }
            x = layer.forward(x);
        }
        x
    }
}

impl ProjectorConfig {
    /// A projector with random weights, initialised on first use.
    #[must_use]
    pub fn init(&self, device: &Device) -> Projector {
        Projector::new(self, device)
    }
}
