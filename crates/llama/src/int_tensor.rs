//! Ids, indices and labels from the host as a tensor.

use burn::tensor::{Device, Int, Tensor, TensorData};

/// Integers as a tensor on a device.
///
/// # Shapes
/// - output: `[values.len()]`
#[must_use]
pub fn int_tensor(values: &[i64], device: &Device) -> Tensor<1, Int> {
    Tensor::from_data(TensorData::new(values.to_vec(), [values.len()]), device)
}
