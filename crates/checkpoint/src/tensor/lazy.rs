//! A tensor to be written, whose values are copied from their device only then.

use std::borrow::Cow;

use burn::tensor::Tensor;
use safetensors::{Dtype, View};

use super::TensorDtype;
use crate::Placement;

/// A tensor to be written. Its values are copied from their device when it is written, so that a file of any size takes the memory of
/// one tensor.
pub struct LazyTensor {
    shape: Vec<usize>,
    dtype: Dtype,
    bytes: Box<dyn Fn() -> Vec<u8>>,
}

impl std::fmt::Debug for LazyTensor {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let name = format!("LazyTensor {:?}", self.dtype);
        formatter.debug_tuple(&name).field(&self.shape).finish()
    }
}

impl LazyTensor {
    /// A float tensor, stored as it is or transposed, in the given dtype, or in its own (f32 if files have no such dtype).
    #[must_use]
    pub fn new<const D: usize>(
        value: Tensor<D>,
        placement: Placement,
        dtype: Option<TensorDtype>,
    ) -> Self {
        let value = value.detach();
        let stored = TensorDtype::from_burn(value.dtype()).unwrap_or(TensorDtype::F32);
        let dtype = dtype.unwrap_or(stored);
        let value = match placement {
            Placement::Same => value,
            Placement::Transposed => value.swap_dims(0, D - 1),
        };
        Self {
            shape: value.dims().to_vec(),
            dtype: dtype.file(),
            bytes: Box::new(move || {
                let data = value.clone().cast(dtype.burn()).into_data();
                data.as_bytes().to_vec()
            }),
        }
    }

    /// A vector of integers, stored as `I64`.
    #[must_use]
    pub fn integers(values: Vec<i64>) -> Self {
        Self {
            shape: vec![values.len()],
            dtype: Dtype::I64,
            bytes: Box::new(move || {
                values
                    .iter()
                    .flat_map(|value| value.to_le_bytes())
                    .collect()
            }),
        }
    }

    /// Bytes it takes in a file.
    pub(crate) fn size(&self) -> u64 {
        (self.shape.iter().product::<usize>() * self.dtype.bitsize() / 8) as u64
    }
}

impl View for LazyTensor {
    fn dtype(&self) -> Dtype {
        self.dtype
    }

    fn shape(&self) -> &[usize] {
        &self.shape
    }

    fn data(&self) -> Cow<'_, [u8]> {
        Cow::Owned((self.bytes)())
    }

    fn data_len(&self) -> usize {
        self.size() as usize
    }
}
