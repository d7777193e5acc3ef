//! Cross-entropy over the supervised tokens, with its gradient in closed form.

use burn::tensor::{IndexingUpdateOp, Int, Tensor, activation::softmax};

/// Cross-entropy of logits without a graph.
///
/// The gradient of `-log softmax(logits)[target]` is `softmax(logits) - onehot(target)`: computing it here costs one softmax,
/// where a graph of elementary operations would keep several tensors of the logits' size.
#[derive(Debug)]
pub struct CrossEntropy {
    /// Sum over the rows, `[1]`.
    pub loss: Tensor<1>,
    /// Gradient of the sum, `[tokens, vocab]`.
    pub gradient: Tensor<2>,
}

impl CrossEntropy {
    /// # Shapes
    /// - `logits`: `[tokens, vocab]`, f32, without a graph
    /// - `targets`: `[tokens]`
    #[must_use]
    pub fn new(logits: Tensor<2>, targets: Tensor<1, Int>) -> Self {
        let tokens = targets.dims()[0];
        let targets = targets.reshape([tokens, 1]);
        let probabilities = softmax(logits.clone(), 1);
        // The highest probability is at least 1 / vocab, so its logarithm is finite where a target's may not be.
        let log_sum_exp = logits.clone().max_dim(1) - probabilities.clone().max_dim(1).log();
        let loss = (log_sum_exp - logits.gather(1, targets.clone())).sum();
        let minus_one = Tensor::ones([tokens, 1], &probabilities.device()).neg();
        Self {
            loss,
            gradient: probabilities.scatter(1, targets, minus_one, IndexingUpdateOp::Add),
        }
    }
}

#[cfg(test)]
mod tests {
    use burn::tensor::{Device, TensorData, activation::log_softmax};

    use super::*;

    #[test]
    fn it_equals_autodiff_even_where_probabilities_vanish() {
        let device = Device::flex().autodiff();
        let values = vec![0.5_f32, -1.0, 2.0, 300.0, -300.0, 0.0];
        let logits =
            Tensor::<2>::from_data(TensorData::new(values, [2, 3]), &device).require_grad();
        let targets = Tensor::<1, Int>::from_data([1_i64, 1], &device);
        let loss = log_softmax(logits.clone(), 1)
            .gather(1, targets.clone().reshape([2, 1]))
            .sum()
            .neg();
        let gradient = logits.grad(&loss.backward()).unwrap();
        let ours = CrossEntropy::new(logits.inner(), targets.inner());
        assert!((ours.loss.into_scalar::<f32>() - loss.into_scalar::<f32>()).abs() < 1e-4);
        let difference = (ours.gradient - gradient).abs().max().into_scalar::<f32>();
        assert!(difference < 1e-6);
    }
}
