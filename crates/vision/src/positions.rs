//! Position embeddings of a grid, resized to another grid.

use std::{
    collections::HashMap,
    sync::{Arc, LazyLock, Mutex, PoisonError},
};

use burn::tensor::{DType, Tensor, TensorData};

/// Resizes the position embeddings of a square grid to another square grid: bicubic without
/// antialiasing, as PyTorch's `interpolate(mode="bicubic", align_corners=False)`, computed in f32.
/// A table that has the size already is returned as it is.
///
/// The weights depend on the two sizes alone and are kept for each pair of them. Applying them takes
/// two small products, some thousandths of what the tower computes for one picture, so the result
/// is not kept: it can never be that of another table.
///
/// # Shapes
/// - `table`: `[from * from, width]`, row by row
/// - output: `[to * to, width]`
///
/// # Panics
/// If the table is not square.
#[must_use]
pub fn resize_positions(table: Tensor<2>, to: usize) -> Tensor<2> {
    let [positions, width] = table.dims();
    let from = positions.isqrt();
    assert_eq!(
        from * from,
        positions,
        "positions are those of a square grid"
    );
    if from == to {
        return table;
    }
    let dtype = table.dtype();
    let weights = TensorData::new(kept_weights(from, to).to_vec(), [to, from]);
    let weights = Tensor::<2>::from_data(weights, &table.device());
    let table = table.cast(DType::F32);
    // Along the columns of each row, then along the rows.
    let columns = weights.clone().unsqueeze::<3>().expand([from, to, from]);
    let wide = columns.matmul(table.reshape([from, from, width]));
    let tall = weights.matmul(wide.reshape([from, to * width]));
    tall.reshape([to * to, width]).cast(dtype)
}

/// [`bicubic_weights`], computed once for each pair of sizes. A model has one pair.
fn kept_weights(from: usize, to: usize) -> Arc<[f32]> {
    type Kept = HashMap<(usize, usize), Arc<[f32]>>;
    static KEPT: LazyLock<Mutex<Kept>> = LazyLock::new(Mutex::default);
    let mut kept = KEPT.lock().unwrap_or_else(PoisonError::into_inner);
    let weights = kept.entry((from, to));
    weights
        .or_insert_with(|| bicubic_weights(from, to).into())
        .clone()
}

/// The weight of each input in each output along one axis, `[to, from]`.
fn bicubic_weights(from: usize, to: usize) -> Vec<f32> {
    const A: f32 = -0.75;
    let near = |d: f32| ((A + 2.0) * d - (A + 3.0)) * d * d + 1.0;
    let far = |d: f32| ((A * d - 5.0 * A) * d + 8.0 * A) * d - 4.0 * A;
    let mut weights = vec![0.0; to * from];
    let scale = from as f32 / to as f32;
    for (out, row) in weights.chunks_exact_mut(from).enumerate() {
        let x = scale * (out as f32 + 0.5) - 0.5;
        let (floor, t) = (x.floor(), x - x.floor());
        let taps = [far(t + 1.0), near(t), near(1.0 - t), far(2.0 - t)];
        for (offset, tap) in (-1..).zip(taps) {
            // Beyond the border its last value is repeated.
            let input = (floor as i64 + offset).clamp(0, from as i64 - 1);
            row[input as usize] += tap;
        }
    }
    weights
}

#[cfg(test)]
mod tests {
    use burn::tensor::{Device, Distribution};

    use super::*;

    #[test]
    fn weights_sum_to_one_and_repeat_the_border() {
        for (from, to) in [(16, 32), (16, 8), (16, 21), (1, 4), (2, 3)] {
            for row in bicubic_weights(from, to).chunks_exact(from) {
                assert!(
                    (row.iter().sum::<f32>() - 1.0).abs() < 1e-6,
                    "{from} to {to}"
                );
            }
        }
        // Twice the size: the first output lies a quarter before the first input.
        let first = &bicubic_weights(4, 8)[..4];
        let expected = [1.105_468_8, -0.105_468_75, 0.0, 0.0];
        for (found, expected) in first.iter().zip(expected) {
            assert!((found - expected).abs() < 1e-6, "{first:?}");
        }
    }

    #[test]
    fn rows_and_columns_are_resized_alike() {
        let device = Device::flex();
        let table = Tensor::<2>::random([9, 5], Distribution::Default, &device);
        let transpose = |x: Tensor<2>, side: usize| {
            x.reshape([side, side, 5])
                .swap_dims(0, 1)
                .reshape([side * side, 5])
        };
        let one = resize_positions(transpose(table.clone(), 3), 6);
        let other = transpose(resize_positions(table.clone(), 6), 6);
        assert!((one - other).abs().max().into_scalar::<f32>() < 1e-6);
        let same = resize_positions(table.clone(), 3);
        assert_eq!(same.into_data(), table.into_data());
    }
}
