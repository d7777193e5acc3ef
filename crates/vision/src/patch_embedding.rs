//! Patch embedding: from pixels to tokens.

use burn::{
    module::{Module, Param},
    nn::Initializer,
    tensor::{Device, Tensor},
};

use crate::{VisionConfig, resize_positions};

/// Patch embedding, class token and learned position embeddings.
#[derive(Module, Debug)]
pub struct VisionEmbeddings {
    /// The class token, `[hidden]`, if the tower has one.
    pub class_embedding: Option<Param<Tensor<1>>>,
    /// The patch filters, `[hidden, channels, patch, patch]`; no bias.
    pub patch_embedding: Param<Tensor<4>>,
    /// One vector per token, class token first: `[1 + patches, hidden]`; or a grid of them that is
    /// resized to the patches, `[grid * grid, hidden]`.
    pub position_embedding: Param<Tensor<2>>,
    patch_size: usize,
    position_grid: Option<usize>,
}

impl VisionEmbeddings {
    pub(crate) fn new(config: &VisionConfig, device: &Device) -> Self {
        let width = config.hidden_size;
        let normal = |std| Initializer::Normal { mean: 0.0, std };
        let patch = config.patch_size;
        Self {
            class_embedding: config
                .class_token
                .then(|| normal((width as f64).powf(-0.5)).init([width], device)),
            patch_embedding: normal(0.02).init([width, config.num_channels, patch, patch], device),
            position_embedding: normal(0.02).init([config.num_positions(), width], device),
            patch_size: patch,
            position_grid: config.position_grid,
        }
    }

    /// The patch convolution, whose stride is its kernel size, is computed as one matmul over
    /// patches.
    ///
    /// # Shapes
    /// - `pixel_values`: `[batch, channels, image, image]`
    /// - output: `[batch, tokens, hidden]`, class token first
    #[must_use]
    pub fn forward(&self, pixel_values: Tensor<4>) -> Tensor<3> {
        let [batch, channels, height, width] = pixel_values.dims();
        let patch = self.patch_size;
        let (rows, columns) = (height / patch, width / patch);
        let [hidden, ..] = self.patch_embedding.dims();
        let patches = pixel_values
            .reshape([batch, channels, rows, patch, columns, patch])
            .permute([0, 2, 4, 1, 3, 5])
            .reshape([batch, rows * columns, channels * patch * patch]);
        let filters = self
            .patch_embedding
            .val()
            .reshape([hidden, channels * patch * patch])
            .transpose();
        let tokens = burn::tensor::module::linear(patches, filters, None);
        let tokens = match &self.class_embedding {
            None => tokens,
            Some(class) => {
                let class = class.val().reshape([1, 1, hidden]);
                Tensor::cat(vec![class.expand([batch, 1, hidden]), tokens], 1)
            }
        };
        let mut positions = self.position_embedding.val();
        if self.position_grid.is_some() {
            positions = resize_positions(positions, rows);
        }
        tokens + positions.unsqueeze::<3>()
    }
}
