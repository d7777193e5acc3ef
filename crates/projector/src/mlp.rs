//! Linear layers with GELUs between them.

use burn::{
    module::Module,
    nn::{Linear, LinearConfig},
    tensor::{Device, Tensor, activation::gelu},
};

/// Linear layers with exact (erf) GELUs between them; no layer for
/// [`ProjectorKind::Identity`](crate::ProjectorKind::Identity).
#[derive(Module, Debug)]
pub struct MlpProjector {
    /// The linear layers in order. LLaVA numbers them 0, 2, 4, ... because it counts the
    /// activations too.
    pub layers: Vec<Linear>,
}

impl MlpProjector {
    pub(crate) fn new(
        depth: usize,
        mm_hidden_size: usize,
        hidden_size: usize,
        device: &Device,
    ) -> Self {
        let layers = (0..depth)
            .map(|nth| {
                let input = if nth == 0 {
                    mm_hidden_size
                } else {
                    hidden_size
                };
                LinearConfig::new(input, hidden_size).init(device)
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
