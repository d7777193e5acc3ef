//! Qwen-VL's resampler (Bai et al. 2023, <https://arxiv.org/abs/2308.12966>).

use burn::{
    module::{Module, Param},
    nn::{Initializer, LayerNorm, LayerNormConfig, Linear, LinearConfig},
    tensor::{
        Device, Tensor,
        module::{attention, linear},
        ops::AttentionModuleOptions,
    },
};
use gallery_gpt_vision::{layer_norm, resize_positions};

use crate::{ProjectorConfig, RESAMPLER_HEAD_DIM};

/// Epsilon of the resampler's layer norms.
const EPSILON: f64 = 1e-6;

/// One layer of cross-attention from learned queries to the features of a picture, then a norm and
/// a projection.
///
/// ```text
/// queries  ln_q(query) + pos_embed                     [queries, hidden]
/// keys     ln_kv(features kv_proj) + pos_embed resized [patches, hidden]
/// values   ln_kv(features kv_proj)                     [patches, hidden]
/// output   ln_post(attention) proj                     [queries, hidden]
/// ```
#[derive(Module, Debug)]
pub struct Resampler {
    /// The queries, `[queries, hidden]`.
    pub query: Param<Tensor<2>>,
    /// Positions of the queries on a square grid, row by row, `[queries, hidden]`: sines and cosines
    /// that the checkpoint has in its dtype. They are never trained.
    pub pos_embed: Param<Tensor<2>>,
    /// Projection of the features, `[mm_hidden, hidden]`, without bias.
    pub kv_proj: Linear,
    /// Norm of the queries.
    pub ln_q: LayerNorm,
    /// Norm of the projected features.
    pub ln_kv: LayerNorm,
    /// Projections of queries, keys and values, one above the other, as PyTorch stores them:
    /// `[3 * hidden, hidden]`.
    pub in_proj_weight: Param<Tensor<2>>,
    /// Their biases, `[3 * hidden]`.
    pub in_proj_bias: Param<Tensor<1>>,
    /// Output projection of attention.
    pub out_proj: Linear,
    /// Norm of attention's output.
    pub ln_post: LayerNorm,
    /// The last projection, `[hidden, hidden]`, input first; no bias.
    pub proj: Param<Tensor<2>>,
}

impl Resampler {
    pub(crate) fn new(queries: usize, config: &ProjectorConfig, device: &Device) -> Self {
        let width = config.hidden_size;
        let norm = || {
            LayerNormConfig::new(width)
                .with_epsilon(EPSILON)
                .init(device)
        };
        let normal = |std| Initializer::Normal { mean: 0.0, std };
        Self {
            query: normal(0.02).init([queries, width], device),
            pos_embed: normal(0.02).init([queries, width], device),
            kv_proj: LinearConfig::new(config.mm_hidden_size, width)
                .with_bias(false)
                .init(device),
            ln_q: norm(),
            ln_kv: norm(),
            in_proj_weight: normal(0.02).init([3 * width, width], device),
            in_proj_bias: Initializer::Zeros.init([3 * width], device),
            out_proj: LinearConfig::new(width, width).init(device),
            ln_post: norm(),
            proj: normal((width as f64).powf(-0.5)).init([width, width], device),
        }
    }

    /// # Shapes
    /// - `features`: `[pictures, patches, mm_hidden]`, of a square grid of patches
    /// - output: `[pictures, queries, hidden]`
    #[must_use]
    pub fn forward(&self, features: Tensor<3>) -> Tensor<3> {
        let output = layer_norm(&self.ln_post, self.attend(features));
        linear(output, self.proj.val(), None)
    }

    /// The cross-attention alone, before the last norm.
    ///
    /// # Shapes
    /// As [`Resampler::forward`].
    #[must_use]
    pub fn attend(&self, features: Tensor<3>) -> Tensor<3> {
        let [pictures, patches, _] = features.dims();
        let [queries, width] = self.query.dims();
        let heads = width / RESAMPLER_HEAD_DIM;
        let values = layer_norm(&self.ln_kv, self.kv_proj.forward(features));
        let of_patches = resize_positions(self.pos_embed.val(), patches.isqrt());
        let keys = values.clone() + of_patches.unsqueeze::<3>();
        let positions = self.pos_embed.val().unsqueeze::<3>();
        let query = layer_norm(&self.ln_q, self.query.val().unsqueeze::<3>()) + positions;
        let split = |x: Tensor<3>, rows, length| {
            x.reshape([rows, length, heads, RESAMPLER_HEAD_DIM])
                .swap_dims(1, 2)
        };
        let q = split(self.in_proj(0, query), 1, queries).expand([
            pictures,
            heads,
            queries,
            RESAMPLER_HEAD_DIM,
        ]);
        let k = split(self.in_proj(1, keys), pictures, patches);
        let v = split(self.in_proj(2, values), pictures, patches);
        let mixed = attention(q, k, v, None, None, AttentionModuleOptions::default());
        let mixed = mixed.swap_dims(1, 2).reshape([pictures, queries, width]);
        self.out_proj.forward(mixed)
    }

    /// One of the three projections of attention: 0 of queries, 1 of keys, 2 of values.
    fn in_proj(&self, nth: usize, x: Tensor<3>) -> Tensor<3> {
        let width = x.dims()[2];
        let rows = nth * width..(nth + 1) * width;
        let weight = self.in_proj_weight.val().slice_dim(0, rows.clone());
        let bias = self.in_proj_bias.val().slice_dim(0, rows);
        linear(x, weight.transpose(), Some(bias))
    }
}

#[cfg(test)]
mod tests {
    use burn::tensor::Distribution;

    use super::*;
    use crate::ProjectorKind;

    #[test]
    fn a_picture_alone_gives_what_it_gives_in_a_batch() {
        let device = Device::flex();
        let config = ProjectorConfig::new(ProjectorKind::Resampler { queries: 4 }, 24, 256);
        let resampler = Resampler::new(4, &config, &device);
        let features = Tensor::<3>::random([2, 9, 24], Distribution::Default, &device);
        let both = resampler.forward(features.clone());
        assert_eq!(both.dims(), [2, 4, 256]);
        let second = resampler.forward(features.clone().slice_dim(0, 1..2));
        let difference = (both.clone().slice_dim(0, 1..2) - second).abs().max();
        assert!(difference.into_scalar::<f32>() < 1e-5);
        // The places of the patches matter.
        let turned = resampler.forward(features.flip([1]));
        assert!((both - turned).abs().max().into_scalar::<f32>() > 1e-4);
    }
}
