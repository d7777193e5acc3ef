//! The factors that OLoRA initialises with, recomputed from the base.

use burn::tensor::{DType, Tensor, TensorData};

/// The first `rank` rows of R and columns of Q in the QR decomposition of a weight, as A and B. Q is an orthonormal basis of the
/// weight's first columns, and R the weight's coordinates in it: their product does not depend on the signs that a library chooses.
///
/// `None` if the columns are not linearly independent.
///
/// # Shapes
/// - `weight`: `[output, input]`
/// - output: `[rank, input]` and `[output, rank]` in f32
pub(super) fn first_factors(weight: &Tensor<2>, rank: usize) -> Option<[Tensor<2>; 2]> {
    let [output, input] = weight.dims();
    if rank > output.min(input) {
        return None;
    }
    let device = weight.device();
    let weight = weight.clone().detach().cast(DType::F32);
    let columns = weight.clone().slice([0..output, 0..rank]).transpose();
    let columns: Vec<f32> = columns.into_data().try_into_vec().ok()?;
    let mut basis: Vec<Vec<f64>> = Vec::with_capacity(rank);
    for column in columns.chunks_exact(output) {
        let mut rest: Vec<f64> = column.iter().map(|&x| f64::from(x)).collect();
        let length = norm(&rest);
        // Gram-Schmidt, twice: the second pass removes the rounding error of the first.
        for _ in 0..2 {
            for earlier in &basis {
                let share: f64 = earlier.iter().zip(&rest).map(|(a, b)| a * b).sum();
                let pairs = rest.iter_mut().zip(earlier);
                pairs.for_each(|(x, a)| *x -= share * a);
            }
        }
        let left = norm(&rest);
        if left <= length * 1e-9 {
            return None;
        }
        rest.iter_mut().for_each(|x| *x /= left);
        basis.push(rest);
    }
    let values: Vec<f32> = basis.concat().into_iter().map(|x| x as f32).collect();
    let basis = Tensor::<2>::from_data(
        TensorData::new(values, [rank, output]),
        (&device, DType::F32),
    );
    Some([basis.clone().matmul(weight), basis.transpose()])
}

fn norm(vector: &[f64]) -> f64 {
    vector.iter().map(|x| x * x).sum::<f64>().sqrt()
}

#[cfg(test)]
mod tests {
    use burn::tensor::{Device, Distribution};

    use super::*;

    #[test]
    fn a_weight_without_its_first_factors_has_no_first_columns() {
        let device = Device::flex();
        let weight = Tensor::<2>::random([12, 9], Distribution::Default, &device);
        let [a, b] = first_factors(&weight, 4).unwrap();
        assert_eq!((a.dims(), b.dims()), ([4, 9], [12, 4]));
        let rest = weight.clone() - b.clone().matmul(a);
        let first = rest.slice([0..12, 0..4]).abs().max().into_scalar::<f32>();
        assert!(first < 1e-6, "{first}");
        let square = b.clone().transpose().matmul(b);
        let off = (square - Tensor::eye(4, &device)).abs().max();
        assert!(off.into_scalar::<f32>() < 1e-6);
    }

    #[test]
    fn dependent_columns_have_none() {
        let device = Device::flex();
        assert!(first_factors(&Tensor::<2>::ones([5, 5], &device), 2).is_none());
        assert!(first_factors(&Tensor::<2>::ones([5, 5], &device), 6).is_none());
    }
}
