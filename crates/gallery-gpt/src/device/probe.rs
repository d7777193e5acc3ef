//! Checks of a device: small computations compared with plain implementations.

use std::{fmt, time::Instant};

use burn::tensor::{DType, Device, Distribution, Tensor, activation::softmax};
use gallery_gpt_llama::causal_attention;

/// The result of a check.
#[derive(Clone, Debug, PartialEq)]
pub struct Check {
    /// The computation.
    pub what: String,
    /// Largest difference from the plain implementation in f32, relative to its largest value.
    pub error: f64,
    /// Seconds of the first run, with compilation and autotuning.
    pub first: f64,
    /// Seconds of the second run.
    pub again: f64,
    /// Growth of the device's memory in bytes, if the device tells.
    pub grown: Option<u64>,
}

impl fmt::Display for Check {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{:<44} error {:.1e}, {:.3} s, then {:.4} s",
            self.what, self.error, self.first, self.again
        )?;
        match self.grown {
            Some(bytes) => write!(f, ", {:.1} MB", bytes as f64 / 1e6),
            None => Ok(()),
        }
    }
}

/// Checks matmul and attention, forward and backward, in f32 and bf16, on `device`.
///
/// # Panics
/// If the device fails; [`DeviceReport::usable`](super::DeviceReport::usable) finds most causes
/// before.
#[must_use]
pub fn check_device(device: &Device) -> Vec<Check> {
    let mut checks = Vec::new();
    for dtype in [DType::F32, DType::BF16] {
        checks.push(products(device, dtype));
        // The heads of the decoder and of the tower, at a length that no tile size divides.
        checks.push(attention(device, dtype, [2, 4, 577, 128]));
        checks.push(attention(device, dtype, [2, 4, 577, 64]));
    }
    checks
}

fn random<const D: usize>(shape: [usize; D], device: &Device) -> Tensor<D> {
    Tensor::random(shape, Distribution::Normal(0.0, 1.0), (device, DType::F32))
}

fn error<const D: usize>(found: Tensor<D>, expected: &Tensor<D>) -> f64 {
    let size = expected.clone().abs().max().into_scalar::<f32>();
    let difference = (found.cast(DType::F32) - expected.clone()).abs().max();
    f64::from(difference.into_scalar::<f32>() / size)
}

fn check(what: String, device: &Device, mut run: impl FnMut() -> f64) -> Check {
    let reserved = || device.memory_pool_usage().map(|usage| usage.bytes_reserved);
    let before = reserved();
    let mut timed = || {
        let began = Instant::now();
        let error = run();
        (error, began.elapsed().as_secs_f64())
    };
    let (error, first) = timed();
    let (_, again) = timed();
    let grown = before
        .zip(reserved())
        .map(|(before, after)| after.saturating_sub(before));
    Check {
        what,
        error,
        first,
        again,
        grown,
    }
}

fn products(device: &Device, dtype: DType) -> Check {
    let (a, b) = (random([512, 1024], device), random([1024, 768], device));
    let (a, b) = (a.cast(dtype), b.cast(dtype));
    // Products of the rounded inputs in f32, with no matmul that could round to fewer bits.
    let wide = |x: &Tensor<2>| x.clone().cast(DType::F32);
    let plain = (wide(&a).slice_dim(0, 0..8).unsqueeze_dim::<3>(2) * wide(&b).unsqueeze::<3>())
        .sum_dim(1)
        .squeeze_dim::<2>(1);
    check(
        format!("product [512, 1024] [1024, 768] {dtype:?}"),
        device,
        || error(a.clone().matmul(b.clone()).slice_dim(0, 0..8), &plain),
    )
}

/// Output and gradients of causal attention, compared with the softmax of the scores.
fn attention(device: &Device, dtype: DType, shape: [usize; 4]) -> Check {
    let [_, _, seq, dim] = shape;
    let inputs = [0; 3].map(|_| random(shape, device).cast(dtype));
    let weights = random(shape, device).cast(dtype);
    let leaves = |dtype: DType| {
        inputs
            .clone()
            .map(|x| x.cast(dtype).autodiff().require_grad())
    };
    let backward = |output: Tensor<4>, leaves: [Tensor<4>; 3]| {
        let weights = weights.clone().cast(output.dtype()).autodiff();
        let grads = (output.clone() * weights).sum().backward();
        let mut all = vec![output.inner()];
        all.extend(leaves.iter().filter_map(|leaf| leaf.grad(&grads)));
        all
    };
    let plain = {
        let [q, k, v] = leaves(DType::F32);
        let scores = q.clone().matmul(k.clone().swap_dims(2, 3)) / (dim as f64).sqrt();
        let future = Tensor::<2>::ones([seq, seq], (device, DType::F32))
            .triu(1)
            .autodiff();
        let scores = scores + future.unsqueeze::<4>() * -1e9;
        backward(softmax(scores, 3).matmul(v.clone()), [q, k, v])
    };
    check(
        format!("attention {shape:?} {dtype:?}, with gradients"),
        device,
        || {
            let [q, k, v] = leaves(dtype);
            let output = causal_attention(q.clone(), k.clone(), v.clone(), None);
            let found = backward(output, [q, k, v]);
            let errors = found
                .into_iter()
                .zip(&plain)
                .map(|(found, plain)| error(found, plain));
            errors.fold(0.0, f64::max)
        },
    )
}

#[cfg(all(test, feature = "flex"))]
mod tests {
    use super::*;

    #[test]
    fn a_sound_device_errs_by_rounding() {
        let checks = check_device(&Device::flex());
        assert_eq!(checks.len(), 6);
        for check in checks {
            let bound = if check.what.contains("BF16") {
                3e-2
            } else {
                1e-5
            };
            assert!(check.error <= bound && check.error > 0.0, "{check}");
        }
    }
}
