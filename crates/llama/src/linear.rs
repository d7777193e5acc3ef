//! The product of a linear layer, by the fastest way that its weight allows.

use burn::{nn::Linear, tensor::Tensor};

#[cfg(feature = "flex")]
use crate::stored_product::stored_product;

/// `xW + b`. On the CPU, 16-bit weights are read as they are stored, except where gradients are tracked.
///
/// # Shapes
/// - `x`: `[..., input]`
/// - output: `[..., output]`
pub(crate) fn linear<const D: usize>(layer: &Linear, x: Tensor<D>) -> Tensor<D> {
    #[cfg(feature = "flex")]
    if let Some(product) = stored_product(&x, &layer.weight.val()) {
        return match &layer.bias {
            Some(bias) => product + bias.val().unsqueeze(),
            None => product,
        };
    }
    layer.forward(x)
}
