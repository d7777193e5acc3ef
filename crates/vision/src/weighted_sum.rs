//! The inner loop of resampling: weighted sums of sixteen levels at once, in fixed point, rounded
//! and clamped to u8.

/// Fraction bits of a weight: 32 bits minus 8 for the level and 2 of headroom, as in Pillow.
pub(crate) const PRECISION_BITS: u32 = 32 - 8 - 2;

/// One half in fixed point: sums start with it, so that truncation rounds.
pub(crate) const HALF: i32 = 1 << (PRECISION_BITS - 1);

/// Rounds and clamps a sum that started with [`HALF`].
#[inline(always)]
pub(crate) fn levels(sum: i32) -> u8 {
    (sum >> PRECISION_BITS).clamp(0, 255) as u8
}

/// A weighted sum of sixteen levels with a processor's instructions. All implementations give the
/// same integers.
pub(crate) trait Weigh: Copy {
    /// Per lane: `from` plus the sum of level times weight, rounded and clamped.
    fn weigh<'a>(
        self,
        from: &[i32; 16],
        inputs: impl Iterator<Item = (&'a [u8; 16], i32)>,
    ) -> [u8; 16];
}

/// Plain Rust.
#[derive(Clone, Copy)]
pub(crate) struct Portable;

impl Weigh for Portable {
    #[inline(always)]
    fn weigh<'a>(
        self,
        from: &[i32; 16],
        inputs: impl Iterator<Item = (&'a [u8; 16], i32)>,
    ) -> [u8; 16] {
        let mut sums = *from;
        for (levels, weight) in inputs {
            for (sum, &level) in sums.iter_mut().zip(levels) {
                *sum += i32::from(level) * weight;
            }
        }
        sums.map(levels)
    }
}

/// AVX2: two vectors of eight sums. The compiler's own vectorisation needs many shuffles.
#[cfg(target_arch = "x86_64")]
impl Weigh for pulp::x86::V3 {
    #[inline(always)]
    fn weigh<'a>(
        self,
        from: &[i32; 16],
        inputs: impl Iterator<Item = (&'a [u8; 16], i32)>,
    ) -> [u8; 16] {
        let [mut low, mut high] = pulp::cast(*from);
        for (levels, weight) in inputs {
            let weight = self.avx._mm256_set1_epi32(weight);
            let levels = pulp::cast(*levels);
            let upper = self.sse2._mm_srli_si128::<8>(levels);
            let add = |sum, levels| {
                let levels = self.avx2._mm256_cvtepu8_epi32(levels);
                let weighted = self.avx2._mm256_mullo_epi32(levels, weight);
                self.avx2._mm256_add_epi32(sum, weighted)
            };
            low = add(low, levels);
            high = add(high, upper);
        }
        let whole = |sum| {
            self.avx2
                ._mm256_srai_epi32::<{ PRECISION_BITS as i32 }>(sum)
        };
        // Packing interleaves halves of 128 bits; the permutation restores their order.
        let words = self.avx2._mm256_packs_epi32(whole(low), whole(high));
        let words = self.avx2._mm256_permute4x64_epi64::<0b11_01_10_00>(words);
        let first = self.avx._mm256_castsi256_si128(words);
        let second = self.avx2._mm256_extracti128_si256::<1>(words);
        pulp::cast(self.sse2._mm_packus_epi16(first, second))
    }
}

#[cfg(all(test, target_arch = "x86_64"))]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn vectors_give_the_portable_sums(
            levels in prop::collection::vec(any::<[u8; 16]>(), 1..20),
            weights in prop::collection::vec(-(1_i32 << 19)..1 << 20, 20),
        ) {
            let Some(simd) = pulp::x86::V3::try_new() else { return Ok(()) };
            let inputs = || levels.iter().zip(weights.iter().copied());
            let from = std::array::from_fn(|at| HALF + at as i32 * 1000);
            prop_assert_eq!(simd.weigh(&from, inputs()), Portable.weigh(&from, inputs()));
        }
    }
}
