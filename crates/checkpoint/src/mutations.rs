//! Mutated copies of valid files, for tests of their readers: the same copy for the same number.

/// Inputs that a test tries: a thousand, or as many as the environment variable says.
#[allow(
    clippy::disallowed_methods,
    reason = "a test is asked by the environment"
)]
pub(crate) fn count() -> u64 {
    let asked = std::env::var("GALLERY_GPT_MUTATIONS").ok();
    asked.and_then(|count| count.parse().ok()).unwrap_or(1000)
}

/// Pseudo-random numbers (`SplitMix64`).
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// A number below `bound`.
    pub(crate) fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) % bound.max(1) as u64) as usize
    }
}

/// One of the files with one to four changes: flipped bits, other bytes, extreme values, truncation, and parts that are removed,
/// doubled or taken from another file.
pub(crate) fn mutated(files: &[Vec<u8>], number: u64) -> Vec<u8> {
    let mut random = Random::new(number);
    let mut bytes = files[random.below(files.len())].clone();
    for _ in 0..=random.below(4) {
        let length = bytes.len();
        let at = random.below(length);
        let end = (at + 1 + random.below(16)).min(length);
        match random.below(8) {
            _ if length == 0 => {}
            0 => bytes[at] ^= 1 << random.below(8),
            1 => bytes[at] = random.below(256) as u8,
            2 => bytes[at..end].fill([0, 1, 0x7f, 0x80, 0xff][random.below(5)]),
            3 => bytes.truncate(at),
            4 => drop(bytes.drain(at..end)),
            5 => {
                let part = bytes[at..end].to_vec();
                bytes.splice(at..at, part);
            }
            6 => bytes.swap(at, end - 1),
            _ => {
                let other = &files[random.below(files.len())];
                let from = random.below(other.len());
                let to = (from + 1 + random.below(64)).min(other.len());
                bytes.splice(at..at, other[from..to].iter().copied());
            }
        }
    }
    bytes
}
