//! Rotary position embedding (Su et al. 2021, <https://arxiv.org/abs/2104.09864>), in Hugging
//! Face's half-split layout: dimension `i` of the first half is rotated with dimension `i` of the
//! second.

use burn::tensor::{Device, Tensor, TensorData};

use crate::LlamaConfig;

/// Cosines and sines of a range of positions.
#[derive(Clone, Debug)]
pub struct Rotary {
    /// `[batch or 1, 1, seq, head_dim / 2]`.
    cos: Tensor<4>,
    /// As `cos`.
    sin: Tensor<4>,
}

impl Rotary {
    /// Positions `start .. start + count`, the same for every row.
    #[must_use]
    pub fn range(config: &LlamaConfig, start: usize, count: usize, device: &Device) -> Self {
        let positions: Vec<usize> = (start..start + count).collect();
        Self::table(config, &positions, [1, 1, count], device)
    }

    /// One position per row, for decoding rows of different lengths.
    #[must_use]
    pub fn per_row(config: &LlamaConfig, positions: &[usize], device: &Device) -> Self {
        Self::table(config, positions, [positions.len(), 1, 1], device)
    }

    fn table(
        config: &LlamaConfig,
        positions: &[usize],
        [batch, one, seq]: [usize; 3],
        device: &Device,
    ) -> Self {
        let half = config.head_dim() / 2;
        // In f32, as in the reference.
        let frequencies: Vec<f32> = (0..half)
            .map(|i| {
                let exponent = (2 * i) as f32 / config.head_dim() as f32;
                1.0 / (config.rope_theta as f32).powf(exponent)
            })
            .collect();
        let angles = || {
            positions
                .iter()
                .flat_map(|&position| frequencies.iter().map(move |f| position as f32 * f))
        };
        let tensor = |values: Vec<f32>| {
            Tensor::from_data(TensorData::new(values, [batch, one, seq, half]), device)
        };
        Self {
            cos: tensor(angles().map(f32::cos).collect()),
            sin: tensor(angles().map(f32::sin).collect()),
        }
    }

    /// Rotates queries or keys.
    ///
    /// # Shapes
    /// - `x`: `[batch, heads, seq, head_dim]`
    /// - output: as `x`
    #[must_use]
    pub fn apply(&self, x: Tensor<4>) -> Tensor<4> {
        let [.., head_dim] = x.dims();
        let half = head_dim / 2;
        let first = x.clone().slice_dim(3, 0..half);
        let second = x.slice_dim(3, half..head_dim);
        let cos = self.cos.clone().cast(first.dtype());
        let sin = self.sin.clone().cast(first.dtype());
        Tensor::cat(
            vec![
                first.clone() * cos.clone() - second.clone() * sin.clone(),
                second * cos + first * sin,
            ],
            3,
        )
    }
}
