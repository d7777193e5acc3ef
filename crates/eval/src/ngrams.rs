//! Counting runs of words.

use std::hash::Hash;

use rustc_hash::FxHashMap;

/// How often every run of `n` things occurs.
pub(crate) fn count<T: Eq + Hash>(things: &[T], n: usize) -> FxHashMap<&[T], usize> {
    let mut counts = FxHashMap::default();
    for run in things.windows(n) {
        *counts.entry(run).or_insert(0) += 1;
    }
    counts
}

/// Numbers in place of words, the same number for the same word; comparing and hashing them is cheap.
#[derive(Default)]
pub(crate) struct Interner<'a> {
    ids: FxHashMap<&'a str, u32>,
}

impl<'a> Interner<'a> {
    pub(crate) fn ids<S: AsRef<str>>(&mut self, words: &'a [S]) -> Vec<u32> {
        words
            .iter()
            .map(|word| {
                let next = self.ids.len() as u32;
                *self.ids.entry(word.as_ref()).or_insert(next)
            })
            .collect()
    }
}

/// A hypothesis and its references, as numbers.
pub(crate) struct Numbered {
    pub(crate) hypothesis: Vec<u32>,
    pub(crate) references: Vec<Vec<u32>>,
}

impl Numbered {
    pub(crate) fn new<S: AsRef<str>>(hypothesis: &[S], references: &[Vec<S>]) -> Self {
        let mut interner = Interner::default();
        Self {
            hypothesis: interner.ids(hypothesis),
            references: references.iter().map(|words| interner.ids(words)).collect(),
        }
    }

    /// Runs of `n` words of the hypothesis that a reference has too, each counted at most as often as in the reference that has
    /// it most often; and all runs of the hypothesis.
    pub(crate) fn matches(&self, n: usize) -> (usize, usize) {
        let counts = count(&self.hypothesis, n);
        let references: Vec<_> = self
            .references
            .iter()
            .map(|words| count(words, n))
            .collect();
        let matched = counts
            .iter()
            .map(|(run, &count)| {
                let most = references.iter().filter_map(|counts| counts.get(run)).max();
                count.min(most.copied().unwrap_or(0))
            })
            .sum();
        (matched, (self.hypothesis.len() + 1).saturating_sub(n))
    }

    /// Length of the reference that is nearest in length, the shorter one of two.
    pub(crate) fn closest_length(&self) -> usize {
        let lengths = self.references.iter().map(Vec::len);
        let own = self.hypothesis.len();
        lengths
            .min_by_key(|&length| (length.abs_diff(own), length))
            .unwrap_or(0)
    }
}
