//! Cross-entropy over the supervised tokens.

use burn::tensor::{Int, Tensor, activation::log_softmax};

/// Sum over rows of `-log softmax(logits)[target]`, in f32.
///
/// # Shapes
/// - `logits`: `[tokens, vocab]`
/// - `targets`: `[tokens]`
/// - output: `[1]`
#[must_use]
pub fn token_loss(logits: Tensor<2>, targets: Tensor<1, Int>) -> Tensor<1> {
    let tokens = targets.dims()[0];
    log_softmax(logits, 1)
        .gather(1, targets.reshape([tokens, 1]))
        .sum()
        .neg()
}
