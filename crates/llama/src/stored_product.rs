//! Products with 16-bit weights on the CPU, which are read as they are stored.
//!
//! Burn's CPU backend widens a whole 16-bit matrix to f32 for each product. A decoded token needs each weight once, so that is most of
//! its time, and for a large model most of its memory. Here a product of few rows reads the stored values once, and one of many rows
//! widens a tile of the matrix at a time. Sums are in f32, as in Burn, and rounded once to the dtype of the input.

use burn::{
    backend::Flex,
    tensor::{DType, Tensor, TensorData, bf16, f16},
};
use pulp::{Arch, NullaryFnOnce};
use rayon::prelude::*;

/// Rows of a product up to which the stored values are read directly. Beyond, widening a tile once costs less.
const FEW_ROWS: usize = 8;

/// Outputs per task of a product of few rows.
const OUTPUTS: usize = 64;

/// Outputs per tile of a product of many rows: 16 MB of f32 for 4096 inputs.
const TILE: usize = 1024;

/// Sums that are independent of each other, so that their additions need not wait for one another.
const LANES: usize = 64;

/// `xW` with the weight as it is stored.
///
/// `None` where the backend's own product is to be taken: on other devices, in other dtypes, with a weight that is not stored output by
/// output (as PyTorch does), and where gradients are tracked.
///
/// # Shapes
/// - `x`: `[..., input]`
/// - `weight`: `[input, output]`, in memory `[output, input]`
/// - output: `[..., output]`
pub(crate) fn stored_product<const D: usize>(
    x: &Tensor<D>,
    weight: &Tensor<2>,
) -> Option<Tensor<D>> {
    let dtype = weight.dtype();
    if !matches!(dtype, DType::BF16 | DType::F16) {
        return None;
    }
    let [input, output] = weight.dims();
    let stored = weight.clone().try_into_primitive::<Flex>().ok()?;
    let layout = stored.layout();
    let rows = x.shape().num_elements() / input;
    if layout.strides() != [1, input as isize] || rows == 0 {
        return None;
    }
    let values = layout.start_offset()..layout.start_offset() + input * output;
    let given = x.clone().cast(DType::F32).reshape([rows, input]);
    // Fails if gradients are tracked.
    given.clone().try_into_primitive::<Flex>().ok()?;
    let product = match dtype {
        DType::BF16 => product(given, &stored.storage::<bf16>()[values], output),
        _ => product(given, &stored.storage::<f16>()[values], output),
    };
    let mut shape = x.dims();
    shape[D - 1] = output;
    Some(product.reshape(shape).cast(x.dtype()))
}

/// The product of rows in f32 with stored values.
///
/// # Shapes
/// - `x`: `[rows, input]`
/// - `weight`: `output` times `input` values
/// - output: `[rows, output]`
fn product<T: Stored>(x: Tensor<2>, weight: &[T], output: usize) -> Tensor<2> {
    let device = x.device();
    let [rows, input] = x.dims();
    if rows > FEW_ROWS {
        let tiles = weight.chunks(TILE * input).map(|tile| {
            let mut wide = vec![0.0; tile.len()];
            wide.par_chunks_mut(input)
                .zip(tile.par_chunks(input))
                .for_each(|(to, from)| Arch::new().dispatch(Widen { from, to }));
            let shape = [tile.len() / input, input];
            let tile = Tensor::<2>::from_data(TensorData::new(wide, shape), &device);
            x.clone().matmul(tile.transpose())
        });
        return Tensor::cat(tiles.collect(), 1);
    }
    let x = x.into_data();
    let x = x.as_slice::<f32>().expect("was cast to f32");
    let of_row = |x: &[f32]| {
        let mut sums = vec![0.0; output];
        sums.par_chunks_mut(OUTPUTS)
            .zip(weight.par_chunks(OUTPUTS * input))
            .for_each(|(sums, weight)| Arch::new().dispatch(Dots { x, weight, sums }));
        sums
    };
    let products: Vec<f32> = x.chunks_exact(input).flat_map(of_row).collect();
    Tensor::from_data(TensorData::new(products, [rows, output]), &device)
}

/// A 16-bit float.
trait Stored: Copy + Sync {
    /// Its value. Infinities and NaN do not occur: weights are checked when they are loaded.
    fn wide(self) -> f32;
}

impl Stored for bf16 {
    #[inline(always)]
    fn wide(self) -> f32 {
        f32::from_bits(u32::from(self.to_bits()) << 16)
    }
}

impl Stored for f16 {
    /// Without the processor's own conversion, which not all have: the exponent is moved to where f32 has it, and corrected by a product with 2^112, which is exact for numbers that are not normal too.
    #[inline(always)]
    fn wide(self) -> f32 {
        let bits = u32::from(self.to_bits());
        let magnitude = f32::from_bits((bits & 0x7fff) << 13) * f32::from_bits(0x7780_0000);
        f32::from_bits(magnitude.to_bits() | (bits & 0x8000) << 16)
    }
}

/// Writes stored values in f32. A type and not a closure, because only what is inlined is compiled for the processor's vectors.
struct Widen<'a, T> {
    from: &'a [T],
    to: &'a mut [f32],
}

impl<T: Stored> NullaryFnOnce for Widen<'_, T> {
    type Output = ();

    #[inline(always)]
    fn call(self) {
        for (to, from) in self.to.iter_mut().zip(self.from) {
            *to = from.wide();
        }
    }
}

/// The products of one row with some outputs' weights.
struct Dots<'a, T> {
    x: &'a [f32],
    weight: &'a [T],
    sums: &'a mut [f32],
}

impl<T: Stored> NullaryFnOnce for Dots<'_, T> {
    type Output = ();

    #[inline(always)]
    fn call(self) {
        let weights = self.weight.chunks_exact(self.x.len());
        for (sum, weight) in self.sums.iter_mut().zip(weights) {
            *sum = dot(self.x, weight);
        }
    }
}

#[inline(always)]
fn dot<T: Stored>(x: &[f32], weight: &[T]) -> f32 {
    let mut sums = [0.0f32; LANES];
    let (x, weight) = (x.chunks_exact(LANES), weight.chunks_exact(LANES));
    let rest: f32 = x
        .remainder()
        .iter()
        .zip(weight.remainder())
        .map(|(x, weight)| x * weight.wide())
        .sum();
    for (x, weight) in x.zip(weight) {
        for lane in 0..LANES {
            sums[lane] += x[lane] * weight[lane].wide();
        }
    }
    rest + sums.iter().sum::<f32>()
}

#[cfg(test)]
mod tests {
    use burn::tensor::{Device, Distribution};

    use super::*;

    /// A weight as PyTorch stores it, `[output, input]`, seen as `[input, output]`.
    fn weight(input: usize, output: usize, dtype: DType, device: &Device) -> Tensor<2> {
        let shape = [output, input];
        let values = Tensor::<2>::random(shape, Distribution::Normal(0.0, 1.0), device);
        values.cast(dtype).swap_dims(0, 1)
    }

    #[test]
    fn products_are_those_of_the_widened_weight() {
        let device = Device::flex();
        for dtype in [DType::BF16, DType::F16] {
            // Few rows and many; inputs and outputs that fill the lanes, tasks and tiles or do not.
            for (rows, input, output) in [(1, 128, 64), (3, 200, 70), (9, 67, 1030), (40, 64, 3)] {
                let weight = weight(input, output, dtype, &device);
                let shape = [1, rows, input];
                let x = Tensor::<3>::random(shape, Distribution::Normal(0.0, 1.0), &device);
                let wide = weight.clone().cast(DType::F32);
                let expected = x.clone().matmul(wide.unsqueeze());
                let found = stored_product(&x, &weight).unwrap();
                assert_eq!(
                    (found.dims(), found.dtype()),
                    ([1, rows, output], DType::F32)
                );
                let difference = (found - expected.clone()).abs().max().into_scalar::<f32>();
                assert!(difference < 1e-4, "{rows} {input} {output}: {difference}");

                // In 16 bits the input is rounded before, and the sum once.
                let x = x.cast(dtype);
                let expected = x
                    .clone()
                    .cast(DType::F32)
                    .matmul(weight.clone().cast(DType::F32).unsqueeze());
                let found = stored_product(&x, &weight).unwrap();
                assert_eq!(found.dtype(), dtype);
                let size = expected.clone().abs().max().into_scalar::<f32>();
                let difference = (found.cast(DType::F32) - expected)
                    .abs()
                    .max()
                    .into_scalar::<f32>();
                assert!(difference <= size / 250.0, "{difference} of {size}");
            }
        }
    }

    #[test]
    fn every_finite_value_is_widened_exactly() {
        for bits in 0..=u16::MAX {
            let (short, half) = (bf16::from_bits(bits), f16::from_bits(bits));
            if short.is_finite() {
                assert_eq!(short.wide().to_bits(), short.to_f32().to_bits());
            }
            if half.is_finite() {
                assert_eq!(half.wide().to_bits(), half.to_f32().to_bits(), "{half}");
            }
        }
    }

    #[test]
    fn what_cannot_be_read_as_stored_is_left_to_the_backend() {
        let device = Device::flex();
        let x = Tensor::<2>::ones([1, 8], &device);
        let stored = weight(8, 4, DType::BF16, &device);
        assert!(stored_product(&x, &stored).is_some());
        assert!(stored_product(&x, &stored.clone().cast(DType::F32)).is_none());
        let as_it_is = Tensor::<2>::ones([8, 4], &device).cast(DType::BF16);
        assert!(stored_product(&x, &as_it_is).is_none());
        // Gradients go through Burn's product.
        let tracked = Device::flex().autodiff();
        let x = Tensor::<2>::ones([1, 8], &tracked).require_grad();
        assert!(stored_product(&x, &weight(8, 4, DType::BF16, &tracked)).is_none());
    }
}
