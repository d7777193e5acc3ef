//! Rotary position embedding (Su et al. 2021, <https://arxiv.org/abs/2104.09864>), in Hugging
//! Face's half-split layout: dimension `i` of the first half is rotated with dimension `i` of the
//! second.

use burn::tensor::{Device, Tensor, TensorData};

use crate::LlamaConfig;

/// Where a row of tokens is in its sequence.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RowPositions {
    /// Position of the row's first token.
    pub start: usize,
    /// Tokens of the prompt that the sequence began with. Where the context is stretched
    /// ([`LongContext`](crate::LongContext)), it decides by how much.
    pub prompt: usize,
}

/// Cosines and sines of the positions of a batch, and the scales of its queries.
#[derive(Clone, Debug)]
pub struct Rotary {
    /// `[batch or 1, 1, seq, head_dim / 2]`.
    cos: Tensor<4>,
    /// As `cos`.
    sin: Tensor<4>,
    /// `[batch or 1, 1, seq, 1]`, where a position is behind the length of training.
    query_scale: Option<Tensor<4>>,
}

impl Rotary {
    /// Positions `start .. start + count`, the same for every row. Where the context is stretched,
    /// they count as one prompt.
    #[must_use]
    pub fn range(config: &LlamaConfig, start: usize, count: usize, device: &Device) -> Self {
        let prompt = start + count;
        Self::rows(config, &[RowPositions { start, prompt }], count, device)
    }

    /// `seq` positions of each row.
    #[must_use]
    pub fn rows(config: &LlamaConfig, rows: &[RowPositions], seq: usize, device: &Device) -> Self {
        let alpha = |row: &RowPositions| {
            let long = config.long_context;
            long.map_or(1.0, |long| long.ntk_alpha(row.prompt))
        };
        // One table serves all rows that have the same positions.
        let same = |row: &RowPositions| row.start == rows[0].start && alpha(row) == alpha(&rows[0]);
        let rows = if rows.iter().all(same) {
            &rows[..1]
        } else {
            rows
        };

        let half = config.head_dim() / 2;
        let mut angles: Vec<f32> = Vec::with_capacity(rows.len() * seq * half);
        for row in rows {
            let frequencies = frequencies(config, alpha(row));
            for position in row.start..row.start + seq {
                angles.extend(
                    frequencies
                        .iter()
                        .map(|frequency| position as f32 * frequency),
                );
            }
        }
        let tensor = |values: Vec<f32>, width| {
            let shape = [rows.len(), 1, seq, width];
            Tensor::from_data(TensorData::new(values, shape), device)
        };
        let scales = config.long_context.and_then(|long| {
            let positions = rows.iter().flat_map(|row| row.start..row.start + seq);
            let scales: Vec<f32> = positions.map(|at| long.query_scale(at) as f32).collect();
            scales.iter().any(|&scale| scale != 1.0).then_some(scales)
        });
        Self {
            cos: tensor(angles.iter().copied().map(f32::cos).collect(), half),
            sin: tensor(angles.into_iter().map(f32::sin).collect(), half),
            query_scale: scales.map(|scales| tensor(scales, 1)),
        }
    }

    /// Rotates keys.
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

    /// Rotates queries, and scales those behind the length of training.
    ///
    /// # Shapes
    /// - `x`: `[batch, heads, seq, head_dim]`
    /// - output: as `x`
    #[must_use]
    pub fn apply_to_queries(&self, x: Tensor<4>) -> Tensor<4> {
        let x = self.apply(x);
        match &self.query_scale {
            None => x,
            Some(scale) => {
                let scale = scale.clone().cast(x.dtype());
                x * scale
            }
        }
    }
}

/// Frequencies of the pairs of dimensions. In f32, as in the reference.
fn frequencies(config: &LlamaConfig, alpha: f64) -> Vec<f32> {
    let width = config.head_dim();
    let base = if alpha == 1.0 {
        config.rope_theta
    } else {
        config.rope_theta * alpha.powf(width as f64 / (width as f64 - 2.0))
    };
    (0..width / 2)
        .map(|i| {
            let exponent = (2 * i) as f32 / width as f32;
            1.0 / (base as f32).powf(exponent)
        })
        .collect()
}
