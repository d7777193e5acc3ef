//! Infinities and NaN among stored values.

use super::TensorDtype;

/// Index of the first value that is infinite or NaN. Overflow while saving in f16 leaves such values, and so do broken disks.
pub(super) fn first_not_finite(bytes: &[u8], dtype: TensorDtype) -> Option<usize> {
    /// Values tested together, so that the loop can be vectorised.
    const BLOCK: usize = 4096;
    let size = dtype.size();
    // In every dtype infinities and NaN have all bits of the exponent set.
    let is_bad = |number: &[u8]| match dtype {
        TensorDtype::F32 => number[3] & 0x7f == 0x7f && number[2] & 0x80 != 0,
        TensorDtype::BF16 => number[1] & 0x7f == 0x7f && number[0] & 0x80 != 0,
        TensorDtype::F16 => number[1] & 0x7c == 0x7c,
    };
    let has_bad = |block: &[u8]| match dtype {
        TensorDtype::F32 => block.chunks_exact(4).fold(false, |bad, n| {
            bad | (u32::from_le_bytes([n[0], n[1], n[2], n[3]]) & 0x7f80_0000 == 0x7f80_0000)
        }),
        TensorDtype::BF16 => block.chunks_exact(2).fold(false, |bad, n| {
            bad | (u16::from_le_bytes([n[0], n[1]]) & 0x7f80 == 0x7f80)
        }),
        TensorDtype::F16 => block.chunks_exact(2).fold(false, |bad, n| {
            bad | (u16::from_le_bytes([n[0], n[1]]) & 0x7c00 == 0x7c00)
        }),
    };
    let (nth, block) = bytes
        .chunks(BLOCK * size)
        .enumerate()
        .find(|(_, block)| has_bad(block))?;
    let within = block.chunks_exact(size).position(is_bad)?;
    Some(nth * BLOCK + within)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_bad_value_is_found() {
        for (dtype, one, bad) in [
            (
                TensorDtype::F32,
                &1.0_f32.to_le_bytes()[..],
                &f32::NAN.to_le_bytes()[..],
            ),
            (
                TensorDtype::F32,
                &f32::MAX.to_le_bytes(),
                &f32::NEG_INFINITY.to_le_bytes(),
            ),
            (TensorDtype::BF16, &[0x80, 0x3f], &[0xc0, 0x7f]),
            (TensorDtype::BF16, &[0x7f, 0x7f], &[0x80, 0xff]),
            (TensorDtype::F16, &[0x00, 0x3c], &[0x01, 0x7e]),
            (TensorDtype::F16, &[0xff, 0x7b], &[0x00, 0xfc]),
        ] {
            let mut values = vec![one; 10_000];
            assert_eq!(first_not_finite(&values.concat(), dtype), None);
            values[9_000] = bad;
            values[9_500] = bad;
            assert_eq!(first_not_finite(&values.concat(), dtype), Some(9_000));
        }
    }
}
