//! Greedy choice and sampling of a token.

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::logits::softmax;

/// Chooses the tokens of one row. Its random numbers depend on the seed and the row's stream, not
/// on the batch.
#[derive(Clone, Debug)]
pub struct Sampler {
    random: Option<ChaCha8Rng>,
}

impl Sampler {
    /// Always chooses the likeliest token, the lowest id among equals.
    #[must_use]
    pub fn greedy() -> Self {
        Self { random: None }
    }

    /// Samples tokens by their probabilities.
    #[must_use]
    pub fn seeded(seed: u64, stream: u64) -> Self {
        let mut random = ChaCha8Rng::seed_from_u64(seed);
        random.set_stream(stream);
        Self {
            random: Some(random),
        }
    }

    /// Chooses the next id, given processed logits.
    pub fn choose(&mut self, logits: &[f32]) -> u32 {
        let Some(random) = &mut self.random else {
            return argmax(logits);
        };
        let mut left: f64 = random.random();
        let probabilities = softmax(logits);
        for (id, probability) in probabilities.iter().enumerate() {
            left -= probability;
            if left < 0.0 {
                return id as u32;
            }
        }
        argmax(logits)
    }
}

fn argmax(logits: &[f32]) -> u32 {
    let mut best = 0;
    for (id, &logit) in logits.iter().enumerate() {
        if logit > logits[best] {
            best = id;
        }
    }
    best as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn samples_follow_the_probabilities() {
        let logits = [0.0, (3.0_f32).ln(), f32::NEG_INFINITY];
        let mut sampler = Sampler::seeded(7, 0);
        let mut counts = [0; 3];
        for _ in 0..4000 {
            counts[sampler.choose(&logits) as usize] += 1;
        }
        assert_eq!(counts[2], 0);
        assert!((2850..3150).contains(&counts[1]), "{counts:?}");
        assert_eq!(Sampler::greedy().choose(&[1.0, 1.0]), 0);
    }
}
