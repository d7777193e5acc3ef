//! Samplers: the order of the records in an epoch.
//!
//! It depends on the seed and the epoch only, so that training can resume at any step.

use std::str::FromStr;

use gallery_gpt_text::UnknownName;
use rand::{SeedableRng, seq::SliceRandom};
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};

/// The order of records in an epoch.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Order {
    /// As in the file, every epoch.
    Sequential,
    /// Shuffled, differently in every epoch.
    #[default]
    Shuffled,
    /// Shuffled, then batched by similar length, which needs less padding. Records with and without
    /// pictures are in separate batches, except the last ones.
    GroupByLength,
    /// As GalleryGPT trains: batches in the order of the file, the longest record first in each, the
    /// same in every epoch, because its `group_by_modality_length` does not shuffle. If only some
    /// records have pictures, the records with and those without are in separate batches, which are
    /// shuffled (by this seed, not by PyTorch's generator), followed by the rest of both, in the order
    /// of the file.
    GalleryGpt,
}

/// The length that records are grouped by.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RecordLength {
    /// White-space separated words.
    pub words: usize,
    /// Whether there is a picture: LLaVA's `modality`.
    pub has_picture: bool,
}

impl FromStr for Order {
    type Err = UnknownName;

    fn from_str(name: &str) -> Result<Self, Self::Err> {
        match name {
            "sequential" => Ok(Self::Sequential),
            "shuffled" => Ok(Self::Shuffled),
            "group_by_length" => Ok(Self::GroupByLength),
            "gallery_gpt" => Ok(Self::GalleryGpt),
            _ => Err(UnknownName::new(
                "order",
                name,
                "sequential, shuffled, group_by_length or gallery_gpt",
            )),
        }
    }
}

/// Distributes the records of an epoch over batches.
#[derive(Clone, Debug)]
pub struct Sampler {
    lengths: Vec<RecordLength>,
    order: Order,
    batch_size: usize,
    seed: u64,
}

/// Batches whose records are sorted by length together with [`Order::GroupByLength`].
const BATCHES_PER_GROUP: usize = 8;

impl Sampler {
    /// A sampler for records of these lengths, in batches of `batch_size`.
    ///
    /// # Panics
    /// If `batch_size` is 0.
    #[must_use]
    pub fn new(lengths: Vec<RecordLength>, order: Order, batch_size: usize, seed: u64) -> Self {
        assert!(batch_size > 0, "batch_size is 0, expected at least 1");
        Self {
            lengths,
            order,
            batch_size,
            seed,
        }
    }

    /// Number of batches in an epoch; the last one may be smaller.
    #[must_use]
    pub fn batches_per_epoch(&self) -> usize {
        self.lengths.len().div_ceil(self.batch_size)
    }

    /// The batches of an epoch, as indices into the list of lengths. Every record occurs exactly once.
    #[must_use]
    pub fn epoch(&self, epoch: usize) -> Vec<Vec<usize>> {
        let mut indices: Vec<usize> = (0..self.lengths.len()).collect();
        let mut random = ChaCha8Rng::seed_from_u64(self.seed);
        random.set_stream(epoch as u64);
        if matches!(self.order, Order::Shuffled | Order::GroupByLength) {
            indices.shuffle(&mut random);
        }
        let group = match self.order {
            Order::Sequential | Order::Shuffled => return self.batches(&indices),
            Order::GalleryGpt => self.batch_size,
            Order::GroupByLength => self.batch_size * BATCHES_PER_GROUP,
        };
        let (mut with_picture, mut text_only): (Vec<usize>, Vec<usize>) = indices
            .into_iter()
            .partition(|&index| self.lengths[index].has_picture);
        let mixed = !with_picture.is_empty() && !text_only.is_empty();
        let mut batches = Vec::with_capacity(self.batches_per_epoch());
        let mut rest = Vec::new();
        for indices in [&mut with_picture, &mut text_only] {
            for group in indices.chunks_mut(group) {
                group.sort_by_key(|&index| std::cmp::Reverse(self.lengths[index].words));
            }
            batches.extend(self.batches(indices));
            if mixed {
                rest.extend(batches.pop().unwrap_or_default());
            }
        }
        if mixed || self.order == Order::GroupByLength {
            batches.shuffle(&mut random);
        }
        rest.sort_unstable();
        batches.extend(self.batches(&rest));
        batches
    }

    fn batches(&self, indices: &[usize]) -> Vec<Vec<usize>> {
        indices.chunks(self.batch_size).map(<[_]>::to_vec).collect()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn every_record_occurs_once(
            lengths in prop::collection::vec((1_usize..50, any::<bool>()), 1..80),
            batch_size in 1_usize..9,
            epoch in 0_usize..4,
        ) {
            let lengths: Vec<RecordLength> = lengths
                .into_iter()
                .map(|(words, has_picture)| RecordLength { words, has_picture })
                .collect();
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
        let sampler = |order| Sampler::new(lengths(0..40), order, 4, 1);
        assert_ne!(
            sampler(Order::Shuffled).epoch(0),
            sampler(Order::Shuffled).epoch(1)
        );
        let original = sampler(Order::GalleryGpt);
        assert_eq!(original.epoch(0), original.epoch(1));
        assert_eq!(original.epoch(0)[0], [3, 2, 1, 0]);
    }

    fn lengths(words: impl IntoIterator<Item = usize>) -> Vec<RecordLength> {
        let with_picture = |words| RecordLength {
            words,
            has_picture: true,
        };
        words.into_iter().map(with_picture).collect()
    }

    #[test]
    fn only_the_last_batches_mix_records_with_and_without_pictures() {
        let mut lengths = lengths((0..23).map(|nth| 1 + nth * 7 % 23));
        for text_only in [0, 3, 4, 9, 10, 17, 20] {
            lengths[text_only].has_picture = false;
        }
        for order in [Order::GalleryGpt, Order::GroupByLength] {
            let sampler = Sampler::new(lengths.clone(), order, 4, 1);
            let batches = sampler.epoch(0);
            let (last, whole) = batches.split_last().unwrap();
            // 16 with a picture are three batches and a rest of four, 7 without one batch and a rest of three.
            assert_eq!((whole.len(), last.len()), (5, 3));
            for batch in &whole[..4] {
                let kind = |&index: &usize| lengths[index].has_picture;
                assert!(
                    batch.iter().all(|index| kind(index) == kind(&batch[0])),
                    "{batch:?}"
                );
                let words: Vec<_> = batch.iter().map(|&index| lengths[index].words).collect();
                assert!(words.is_sorted_by(|a, b| a >= b), "{words:?}");
            }
            let rest = [&whole[4][..], last].concat();
            assert!(rest.is_sorted(), "{rest:?}");
            assert_ne!(batches, sampler.epoch(1));
        }
    }
}
