//! Dropout of adapters' inputs, with masks computed from a seed and the position in the input.
//!
//! A device has one random generator per process: threads that share it, or a block that is
//! recomputed, would get other masks, and seeding it must wait for the device. Here every element
//! of a mask is computed from its token, its column and the seed by a small Feistel network, as in
//! counter-based generators (Salmon et al. 2011, <https://doi.org/10.1145/2063384.2063405>). So it
//! is the same whenever and wherever it is computed.

use std::sync::Arc;

use burn::tensor::{DType, Device, Int, Tensor, TensorData};

/// Whether, and with which masks, adapters apply dropout.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum AdapterDropout {
    /// Inference, or training without dropout.
    #[default]
    Off,
    /// Training, with masks drawn from a seed.
    Seeded {
        /// The seed.
        seed: u64,
        /// For each token of the input, row by row, the counter of its mask
        /// ([`AdapterDropout::token`]).
        tokens: Arc<[i32]>,
    },
}

impl AdapterDropout {
    /// An independent stream of masks: each linear layer of a block has its own.
    #[must_use]
    pub fn stream(&self, number: u64) -> Self {
        match self {
            Self::Off => Self::Off,
            Self::Seeded { seed, tokens } => Self::Seeded {
                seed: split_mix(seed ^ number.rotate_left(32)),
                tokens: tokens.clone(),
            },
        }
    }

    /// The counter of a token: the index of its conversation in the step, and its position there.
    /// It does not depend on packing, micro-batches or devices, and so neither does the mask.
    /// Beyond 32768 conversations or 65536 positions, counters and masks repeat.
    #[must_use]
    pub fn token(conversation: usize, position: usize) -> i32 {
        ((conversation & 0x7FFF) << 16 | position & 0xFFFF) as i32
    }
}

/// A seed from a counter (`SplitMix64`; Steele et al. 2014,
/// <https://doi.org/10.1145/2660193.2660195>).
fn split_mix(counter: u64) -> u64 {
    let mut x = counter.wrapping_add(0x9E37_79B9_7F4A_7C15);
    x = (x ^ (x >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    x ^ (x >> 31)
}

/// One multiplier per round. They are odd and below 2^15, so that products with 16-bit values stay
/// below 2^31 and no signed product overflows. With four rounds neighbouring rows are still
/// correlated; from five on the tests below find no correlation.
const MULTIPLIERS: [i32; 6] = [0x6A0D, 0x75A3, 0x5EB9, 0x7C5B, 0x6F35, 0x7B29];
const HALF: i32 = 0xFFFF;
/// Shift of the xor-shift that mixes a product's high bits into its low bits.
const XOR_SHIFT: u32 = 11;

/// The factors of the inputs: `1 / keep` with probability `keep`, else 0.
///
/// # Shapes
/// - output: `[tokens, width]`
pub(crate) fn mask(
    tokens: &[i32],
    width: usize,
    keep: f64,
    seed: u64,
    device: &Device,
    dtype: DType,
) -> Tensor<2> {
    let network = Network::new(keep, seed);
    if device.memory_capacity().is_none() {
        let scale = (1.0 / keep) as f32;
        let mut values = Vec::with_capacity(tokens.len() * width);
        for &token in tokens {
            values.extend((0..width as i32).map(|column| {
                let kept = network.number(token, column) < network.threshold;
                if kept { scale } else { 0.0 }
            }));
        }
        Tensor::from_data(
            TensorData::new(values, [tokens.len(), width]),
            (device, dtype),
        )
    } else {
        network.kept(tokens, width, device).cast(dtype) * (1.0 / keep)
    }
}

struct Network {
    keys: [i32; 6],
    /// Inputs whose 31-bit random number is below it are kept.
    threshold: i32,
}

impl Network {
    fn new(keep: f64, seed: u64) -> Self {
        let words = [split_mix(seed), split_mix(!seed)];
        Self {
            keys: std::array::from_fn(|round| {
                (words[round % 2] >> (16 * (round / 2))) as i32 & HALF
            }),
            threshold: (keep * f64::from(1u32 << 31)).min(f64::from(i32::MAX)) as i32,
        }
    }

    /// A 31-bit random number.
    fn number(&self, token: i32, column: i32) -> i32 {
        let (mut left, mut right) = (token & HALF, column & HALF);
        // The conversation, and the column's bits beyond 16, modify the first round's key.
        let high_bits = (token >> 16) ^ ((column >> 16) << 8);
        for (round, (key, multiplier)) in self.keys.iter().zip(MULTIPLIERS).enumerate() {
            let key = if round == 0 { key ^ high_bits } else { *key };
            let product = ((right ^ key) & HALF) * multiplier;
            (left, right) = (right, left ^ ((product ^ (product >> XOR_SHIFT)) & HALF));
        }
        (left << 15) | (right >> 1)
    }

    /// The keep mask computed on a device, as 1 and 0.
    fn kept(&self, tokens: &[i32], width: usize, device: &Device) -> Tensor<2> {
        let ints = |values: Vec<i32>, shape: [usize; 2]| {
            Tensor::<2, Int>::from_data(TensorData::new(values, shape), (device, DType::I32))
        };
        let (rows, width_i32) = (tokens.len(), width as i32);
        let mut left = ints(tokens.iter().map(|token| token & HALF).collect(), [rows, 1]);
        let mut right = ints((0..width_i32).map(|at| at & HALF).collect(), [1, width]);
        let high_rows = ints(tokens.iter().map(|token| token >> 16).collect(), [rows, 1]);
        let high_columns = (0..width_i32).map(|at| (at >> 16) << 8).collect();
        let high_bits = high_rows.bitwise_xor(ints(high_columns, [1, width]));
        for (round, (key, multiplier)) in self.keys.iter().zip(MULTIPLIERS).enumerate() {
            let keyed = right.clone().bitwise_xor_scalar(*key);
            let keyed = if round == 0 {
                keyed.bitwise_xor(high_bits.clone())
            } else {
                keyed
            };
            let product = keyed.bitwise_and_scalar(HALF) * multiplier;
            let folded = product.clone().bitwise_right_shift_scalar(XOR_SHIFT as i32);
            let mixed = product.bitwise_xor(folded).bitwise_and_scalar(HALF);
            (left, right) = (right, left.bitwise_xor(mixed));
        }
        let number = left
            .bitwise_left_shift_scalar(15)
            .bitwise_or(right.bitwise_right_shift_scalar(1));
        number.lower_elem(self.threshold).float()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tokens(conversation: usize, count: usize) -> Vec<i32> {
        let tokens = 0..count;
        let number = |at| AdapterDropout::token(conversation + (at >> 16), at);
        tokens.map(number).collect()
    }

    fn kept(tokens: &[i32], width: usize, keep: f64, seed: u64) -> Vec<bool> {
        let data = mask(tokens, width, keep, seed, &Device::flex(), DType::F32).into_data();
        let values: Vec<f32> = data.try_into_vec().expect("f32");
        let scale = (1.0 / keep) as f32;
        assert!(values.iter().all(|&value| value == 0.0 || value == scale));
        values.into_iter().map(|value| value > 0.0).collect()
    }

    #[test]
    fn a_device_computes_the_masks_of_the_host() {
        let device = Device::flex();
        for (rows, width, keep, seed) in [
            (70_000, 3, 0.95, 1),
            (5, 70_000, 0.5, 2),
            (300, 257, 0.1, 3),
        ] {
            let network = Network::new(keep, seed);
            let tokens = tokens(5, rows);
            let data = network.kept(&tokens, width, &device).into_data();
            let found: Vec<f32> = data.convert::<f32>().try_into_vec().expect("f32");
            let expected = kept(&tokens, width, keep, seed);
            assert!(
                found
                    .iter()
                    .zip(expected)
                    .all(|(&found, expected)| (found == 1.0) == expected),
                "{rows} x {width}"
            );
        }
    }

    /// Rates and correlations are within five standard deviations of independent draws.
    #[test]
    fn masks_look_like_independent_draws() {
        let (rows, width) = (1000, 1000);
        for (keep, seed) in [(0.95, 7), (0.5, 8), (0.3, 9)] {
            let deviation = f64::sqrt(keep * (1.0 - keep));
            let first = tokens(0, rows);
            let mask = kept(&first, width, keep, seed);
            let share = |kept: &mut dyn Iterator<Item = bool>| {
                let (count, sum) =
                    kept.fold((0, 0), |(n, sum), kept| (n + 1, sum + i32::from(kept)));
                (f64::from(sum) / f64::from(count) - keep) * f64::from(count).sqrt() / deviation
            };
            let z = share(&mut mask.iter().copied());
            assert!(z.abs() < 5.0, "keep {keep}: {z} deviations");
            for line in 0..rows {
                let row = share(&mut mask[line * width..(line + 1) * width].iter().copied());
                let column = share(&mut mask.iter().copied().skip(line).step_by(width));
                assert!(
                    row.abs() < 5.0 && column.abs() < 5.0,
                    "keep {keep}, line {line}: {row}, {column}"
                );
            }
            let correlation = |other: &[bool], shift: usize| {
                let centred = |kept: bool| (f64::from(u8::from(kept)) - keep) / deviation;
                let pairs = mask.iter().zip(&other[shift..]);
                let sum: f64 = pairs.map(|(&a, &b)| centred(a) * centred(b)).sum();
                sum / ((other.len() - shift) as f64).sqrt()
            };
            for shift in [
                1,
                2,
                16,
                256,
                width - 1,
                width,
                width + 1,
                4 * width,
                256 * width,
            ] {
                let z = correlation(&mask, shift);
                assert!(z.abs() < 5.0, "keep {keep}, shift {shift}: {z}");
            }
            for other in [seed + 1, seed + 256, seed << 16, !seed] {
                let z = correlation(&kept(&first, width, keep, other), 0);
                assert!(z.abs() < 5.0, "keep {keep}, seed {other}: {z}");
            }
            for conversation in [1, 2, 3, 4, 15, 16, 255, 256, 0x7FFF] {
                let other = kept(&tokens(conversation, rows), width, keep, seed);
                for shift in [0, 1, 2, 3, 4, 16, width] {
                    let z = correlation(&other, shift);
                    assert!(
                        z.abs() < 5.0,
                        "keep {keep}, conversation {conversation}, shift {shift}: {z}"
                    );
                }
            }
        }
        let seeded = AdapterDropout::Seeded {
            seed: 5,
            tokens: Arc::new([]),
        };
        let streams = [0, 1, 2].map(|number| seeded.stream(number));
        assert!(streams[0] != streams[1] && streams[1] != streams[2]);
    }
}
