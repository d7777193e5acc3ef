//! Weights in the block formats of GGUF, for the CPU.

use std::sync::Arc;

use burn::tensor::{DType, Device, Tensor, TensorData};
use candle_core::{
    Device as CandleDevice, Module, Tensor as CandleTensor,
    quantized::{GgmlDType, QMatMul, QStorage, QTensor},
};
use rayon::prelude::*;

/// A block format of GGUF (<https://github.com/ggml-org/ggml/blob/master/docs/gguf.md>): some values of an output share a scale.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum BlockFormat {
    /// 8 bits in blocks of 32: 8.5 bits a value.
    Q8_0,
    /// 6 bits in blocks of 256: 6.56 bits a value.
    Q6K,
    /// 4 bits in blocks of 256, with scales and minima of 6 bits: 4.5 bits a value.
    Q4K,
    /// 4 bits in blocks of 32: 4.5 bits a value.
    Q4_0,
}

impl BlockFormat {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Q8_0, Self::Q6K, Self::Q4K, Self::Q4_0];

    /// Its name, as GGUF has it in lower case.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Q8_0 => "q8_0",
            Self::Q6K => "q6_k",
            Self::Q4K => "q4_k",
            Self::Q4_0 => "q4_0",
        }
    }

    /// The format of a [`BlockFormat::name`].
    #[must_use]
    pub fn by_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|format| format.name() == name)
    }

    /// Bits that a value takes, its share of the scales included.
    #[must_use]
    pub fn bits(self) -> f64 {
        let ggml = self.ggml();
        8.0 * ggml.type_size() as f64 / ggml.block_size() as f64
    }

    /// The format for outputs of `input` values each: this one, or where its blocks are too long [`BlockFormat::Q8_0`]; `None` if no block
    /// fits, and the weight stays as it is.
    #[must_use]
    pub fn for_input(self, input: usize) -> Option<Self> {
        [self, Self::Q8_0]
            .into_iter()
            .find(|format| input.is_multiple_of(format.ggml().block_size()))
    }

    fn ggml(self) -> GgmlDType {
        match self {
            Self::Q8_0 => GgmlDType::Q8_0,
            Self::Q6K => GgmlDType::Q6K,
            Self::Q4K => GgmlDType::Q4K,
            Self::Q4_0 => GgmlDType::Q4_0,
        }
    }
}

impl std::fmt::Display for BlockFormat {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}

/// Outputs that are quantized at a time.
const ROWS: usize = 64;

/// A weight in blocks, output by output. Its products are computed from the blocks: the input is rounded to 8 bits in blocks as well,
/// and the sums are in f32, as in llama.cpp.
#[derive(Clone, Debug)]
pub(crate) struct BlockWeight {
    format: BlockFormat,
    blocks: Arc<QTensor>,
}

impl BlockWeight {
    /// Quantizes a weight.
    ///
    /// # Shapes
    /// - `weight`: `[input, output]`
    ///
    /// # Panics
    /// If the blocks do not fit the inputs ([`BlockFormat::for_input`]).
    pub(crate) fn new(weight: &Tensor<2>, format: BlockFormat) -> Self {
        let [input, output] = weight.dims();
        let starts: Vec<usize> = (0..output).step_by(ROWS).collect();
        let of_rows = |&start: &usize| {
            let end = output.min(start + ROWS);
            let rows = weight.clone().slice_dim(1, start..end).swap_dims(0, 1);
            let rows = rows.cast(DType::F32).into_data().try_into_vec::<f32>();
            let rows = rows.expect("was cast to f32");
            let rows = CandleTensor::from_vec(rows, (end - start, input), &CandleDevice::Cpu)?;
            let blocks = QTensor::quantize(&rows, format.ggml())?;
            Ok(blocks.data()?.into_owned())
        };
        let blocks = || {
            let parts: candle_core::Result<Vec<Vec<u8>>> = starts.par_iter().map(of_rows).collect();
            let bytes = parts?.concat();
            let storage = QStorage::from_data(bytes.into(), &CandleDevice::Cpu, format.ggml())?;
            QTensor::new(storage, (output, input))
        };
        Self {
            format,
            blocks: Arc::new(blocks().expect("the blocks fit the inputs")),
        }
    }

    /// Its format.
    pub(crate) fn format(&self) -> BlockFormat {
        self.format
    }

    /// `xW`, in the dtype of `x`.
    ///
    /// # Shapes
    /// - `x`: `[..., input]`
    /// - output: `[..., output]`
    ///
    /// # Panics
    /// If gradients are tracked: none would reach `x`.
    pub(crate) fn product<const D: usize>(&self, x: Tensor<D>) -> Tensor<D> {
        let (device, dtype, mut shape) = (x.device(), x.dtype(), x.dims());
        assert_eq!(
            device,
            Device::flex(),
            "weights in blocks are for inference on the CPU"
        );
        let input = shape[D - 1];
        let rows = x.shape().num_elements() / input;
        let data = x.cast(DType::F32).into_data();
        let values = data.try_into_vec::<f32>().expect("was cast to f32");
        let product = || {
            let x = CandleTensor::from_vec(values, (rows, input), &CandleDevice::Cpu)?;
            let product = QMatMul::QTensor(Arc::clone(&self.blocks)).forward(&x)?;
            product.flatten_all()?.to_vec1::<f32>()
        };
        let product = product().expect("the input has the weight's width");
        shape[D - 1] = product.len() / rows.max(1);
        Tensor::<D>::from_data(TensorData::new(product, shape), &device).cast(dtype)
    }
}

#[cfg(test)]
mod tests {
    use burn::tensor::Distribution;

    use super::*;

    #[test]
    fn products_are_off_by_the_steps_of_the_format() {
        let device = Device::flex();
        let normal = Distribution::Normal(0.0, 1.0);
        let weight = Tensor::<2>::random([70, 512], normal, &device).swap_dims(0, 1);
        for (format, bound) in [
            (BlockFormat::Q8_0, 0.02),
            (BlockFormat::Q6K, 0.04),
            (BlockFormat::Q4K, 0.15),
            (BlockFormat::Q4_0, 0.15),
        ] {
            let blocks = BlockWeight::new(&weight, format);
            for rows in [1, 5, 40] {
                let x = Tensor::<3>::random([1, rows, 512], normal, &device);
                let expected = x.clone().matmul(weight.clone().unsqueeze());
                let found = blocks.product(x);
                assert_eq!(found.dims(), [1, rows, 70]);
                // The sums have a standard deviation of the square root of 512.
                let error = (found - expected)
                    .powf_scalar(2.0)
                    .mean()
                    .into_scalar::<f32>();
                let error = (error / 512.0).sqrt();
                assert!(error > 0.0 && error < bound, "{format}, {rows}: {error}");
            }
        }
    }

    #[test]
    fn an_input_that_no_block_fits_has_no_format() {
        assert_eq!(BlockFormat::Q4K.for_input(4096), Some(BlockFormat::Q4K));
        assert_eq!(BlockFormat::Q4K.for_input(96), Some(BlockFormat::Q8_0));
        assert_eq!(BlockFormat::Q4_0.for_input(96), Some(BlockFormat::Q4_0));
        assert_eq!(BlockFormat::Q8_0.for_input(40), None);
    }
}
