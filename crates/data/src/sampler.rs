//! The order of the records in an epoch.
//!
//! An order is a function of the seed and the epoch alone, so that training can start again anywhere.

use std::str::FromStr;

use rand::{SeedableRng, seq::SliceRandom};
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};

/// How records are ordered.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Order {
    /// As in the file, every epoch.
    Sequential,
    /// Shuffled anew in every epoch.
    #[default]
    Shuffled,
    /// Shuffled, then each batch filled with records of like length; less padding.
    GroupByLength,
    /// What GalleryGPT runs: batches of the file's order, longest record first in each, every epoch the same. Its
    /// `group_by_modality_length` lost the shuffling.
    GalleryGpt,
}

impl FromStr for Order {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, Self::Err> {
        match name {
            "sequential" => Ok(Self::Sequential),
            "shuffled" => Ok(Self::Shuffled),
            "group_by_length" => Ok(Self::GroupByLength),
            "gallery_gpt" => Ok(Self::GalleryGpt),
            other => Err(format!(
                "unknown order `{other}`, expected sequential, shuffled, group_by_length or gallery_gpt"
            )),
        }
    }
}

/// Orders records by seed and epoch.
#[derive(Clone, Debug)]
pub struct Sampler {
    lengths: Vec<usize>,
    order: Order,
    batch_size: usize,
    seed: u64,
}

/// Batches that are sorted together by [`Order::GroupByLength`].
const BATCHES_PER_GROUP: usize = 8;

impl Sampler {
    /// A sampler over records of some lengths, in batches of `batch_size`.
    ///
    /// # Panics
    /// If `batch_size` is 0.
    #[must_use]
    pub fn new(lengths: Vec<usize>, order: Order, batch_size: usize, seed: u64) -> Self {
        assert!(batch_size > 0, "batch_size is 0, expected at least 1");
        Self {
            lengths,
            order,
            batch_size,
            seed,
        }
    }

    /// Batches of an epoch; the last may be smaller.
    #[must_use]
    pub fn batches_per_epoch(&self) -> usize {
        self.lengths.len().div_ceil(self.batch_size)
    }

    /// The batches of an epoch, as positions in the list of lengths. Every record occurs exactly once.
    #[must_use]
    pub fn epoch(&self, epoch: usize) -> Vec<Vec<usize>> {
        let mut indices: Vec<usize> = (0..self.lengths.len()).collect();
        let longest_first = |chunk: &mut [usize]| {
            chunk.sort_by_key(|&index| std::cmp::Reverse(self.lengths[index]));
        };
        let chunks = |indices: &[usize]| -> Vec<Vec<usize>> {
            indices.chunks(self.batch_size).map(<[_]>::to_vec).collect()
        };
        let mut random = ChaCha8Rng::seed_from_u64(self.seed);
        random.set_stream(epoch as u64);
        match self.order {
            Order::Sequential => chunks(&indices),
            Order::GalleryGpt => {
                indices.chunks_mut(self.batch_size).for_each(longest_first);
                chunks(&indices)
            }
            Order::Shuffled => {
                indices.shuffle(&mut random);
                chunks(&indices)
            }
            Order::GroupByLength => {
                indices.shuffle(&mut random);
                indices
                    .chunks_mut(self.batch_size * BATCHES_PER_GROUP)
                    .for_each(longest_first);
                let mut batches = chunks(&indices);
                batches.shuffle(&mut random);
                batches
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn every_record_occurs_once(
            lengths in prop::collection::vec(1_usize..50, 1..80),
            batch_size in 1_usize..9,
            epoch in 0_usize..4,
        ) {
            for order in [Order::Sequential, Order::Shuffled, Order::GroupByLength, Order::GalleryGpt] {
                let sampler = Sampler::new(lengths.clone(), order, batch_size, 3);
                let batches = sampler.epoch(epoch);
                prop_assert_eq!(batches.len(), sampler.batches_per_epoch());
                prop_assert_eq!(&batches, &sampler.epoch(epoch));
                let mut seen: Vec<usize> = batches.concat();
                seen.sort_unstable();
                prop_assert_eq!(seen, (0..lengths.len()).collect::<Vec<_>>());
            }
        }
    }

    #[test]
    fn epochs_differ_only_when_shuffled() {
        let lengths: Vec<usize> = (0..40).collect();
        let sampler = |order| Sampler::new(lengths.clone(), order, 4, 1);
        assert_ne!(
            sampler(Order::Shuffled).epoch(0),
            sampler(Order::Shuffled).epoch(1)
        );
        let original = sampler(Order::GalleryGpt);
        assert_eq!(original.epoch(0), original.epoch(1));
        assert_eq!(original.epoch(0)[0], [3, 2, 1, 0]);
    }
}
