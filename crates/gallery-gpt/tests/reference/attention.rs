//! Attention on the device: against its plain form, and how its memory grows with the length.

use burn::tensor::{DType, Device, Distribution, Tensor};
use gallery_gpt::{check_device, llama::causal_attention};

use crate::fixtures::{device, say};

/// Largest difference from the plain form in f32, over its largest value.
const F32: f64 = 1e-4;
const BF16: f64 = 3e-2;

pub(crate) fn check() {
    let device = device();
    for check in check_device(&device) {
        say(&check.to_string());
        let bound = if check.what.contains("BF16") {
            BF16
        } else {
            F32
        };
        assert!(check.error <= bound, "{check}, allowed is {bound:e}");
    }
    let [short, long] = [1024, 4096].map(|seq| grown(&device, seq));
    match (short, long) {
        (Some(short), Some(long)) => {
            // As many tokens at both lengths: only scores would grow, four times. One row of them alone is this large:
            let scores = HEADS as u64 * 4096 * 4096 * 2;
            say(&format!(
                "forward and backward take {short} bytes at 1024 tokens, {long} at 4096; scores would be {scores}"
            ));
            assert!(long < short + scores / 2, "{short} bytes, then {long}");
        }
        _ => say("absent: the memory of attention, which the device does not tell"),
    }
}

const HEADS: usize = 8;

/// Bytes that the device's memory grows by in attention with gradients, over 4096 tokens in rows of some length.
fn grown(device: &Device, seq: usize) -> Option<u64> {
    let reserved = || device.memory_pool_usage().map(|usage| usage.bytes_reserved);
    reserved()?;
    let shape = [4096 / seq, HEADS, seq, 128];
    let random = || {
        let x = Tensor::<4>::random(shape, Distribution::Default, (device, DType::F32));
        x.cast(DType::BF16)
    };
    let leaves = [0; 3].map(|_| random().autodiff().require_grad());
    let weights = random().autodiff();
    device.sync().unwrap();
    device.memory_cleanup();
    let before = reserved()?;
    let [q, k, v] = leaves.clone();
    let grads = (causal_attention(q, k, v, None) * weights).sum().backward();
    drop(leaves.map(|leaf| leaf.grad(&grads)));
    device.sync().unwrap();
    reserved().map(|after| after.saturating_sub(before))
}
