//! Counts of n-grams.

use rustc_hash::FxHashMap;

/// The n-grams of order `n`, sorted, with their counts.
pub(crate) fn count<T: Ord + Copy>(things: &[T], n: usize) -> Vec<(&[T], usize)> {
    let mut runs: Vec<&[T]> = things.windows(n).collect();
    runs.sort_unstable();
    tally(runs)
}

fn tally<R: PartialEq>(sorted: Vec<R>) -> Vec<(R, usize)> {
    let mut counts: Vec<(R, usize)> = Vec::with_capacity(sorted.len());
    for run in sorted {
        match counts.last_mut() {
            Some((last, count)) if *last == run => *count += 1,
            _ => counts.push((run, 1)),
        }
    }
    counts
}

/// The number of n-grams in both lists, each counted as often as in the list that has fewer.
pub(crate) fn shared<R: Ord>(a: &[(R, usize)], b: &[(R, usize)]) -> usize {
    let (mut i, mut j, mut sum) = (0, 0, 0);
    while i < a.len() && j < b.len() {
        match a[i].0.cmp(&b[j].0) {
            std::cmp::Ordering::Less => i += 1,
            std::cmp::Ordering::Greater => j += 1,
            std::cmp::Ordering::Equal => {
                sum += a[i].1.min(b[j].1);
                i += 1;
                j += 1;
            }
        }
    }
    sum
}

/// The maximum count of each n-gram over all lists.
fn most<R: Ord>(lists: Vec<Vec<(R, usize)>>) -> Vec<(R, usize)> {
    let mut lists = lists.into_iter();
    let first = lists.next().unwrap_or_default();
    let Some(second) = lists.next() else {
        return first;
    };
    let mut all: Vec<(R, usize)> = first
        .into_iter()
        .chain(second)
        .chain(lists.flatten())
        .collect();
    all.sort_unstable();
    // Of equal n-grams the last has the highest count.
    all.reverse();
    all.dedup_by(|later, earlier| later.0 == earlier.0);
    all.reverse();
    all
}

/// N-grams of up to four numbers below 65,536, each packed into one integer, which compares faster.
fn packed(things: &[u32], n: usize) -> Vec<u64> {
    let pack = |run: &[u32]| run.iter().fold(0, |key, id| key << 16 | u64::from(*id));
    let mut runs: Vec<u64> = things.windows(n).map(pack).collect();
    runs.sort_unstable();
    runs
}

/// Maps words to numbers, which compare and hash faster.
#[derive(Default)]
pub(crate) struct Interner<'a> {
    ids: FxHashMap<&'a str, u32>,
}

impl<'a> Interner<'a> {
    pub(crate) fn get(&self, word: &str) -> Option<u32> {
        self.ids.get(word).copied()
    }

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

/// A hypothesis and its references, as word numbers.
pub(crate) struct Numbered {
    pub(crate) hypothesis: Vec<u32>,
    pub(crate) references: Vec<Vec<u32>>,
    /// Whether four numbers fit into one integer.
    small: bool,
}

impl Numbered {
    pub(crate) fn new<S: AsRef<str>>(hypothesis: &[S], references: &[Vec<S>]) -> Self {
        let mut interner = Interner::default();
        let hypothesis = interner.ids(hypothesis);
        let references = references.iter().map(|words| interner.ids(words)).collect();
        Self {
            hypothesis,
            references,
            small: interner.ids.len() <= 1 << 16,
        }
    }

    /// The clipped matches of order `n`, each n-gram counted at most as often as in the reference
    /// that has most of it; and all n-grams of the hypothesis.
    pub(crate) fn matches(&self, n: usize) -> (usize, usize) {
        let matched = if self.small && n <= 4 {
            let of = |words: &Vec<u32>| tally(packed(words, n));
            let references = most(self.references.iter().map(of).collect());
            shared(&of(&self.hypothesis), &references)
        } else {
            let references = self.references.iter().map(|words| count(words, n));
            shared(&count(&self.hypothesis, n), &most(references.collect()))
        };
        (matched, (self.hypothesis.len() + 1).saturating_sub(n))
    }

    /// The n-grams of the given orders that the hypothesis shares with each reference.
    pub(crate) fn shared(&self, lengths: std::ops::RangeInclusive<usize>) -> Vec<usize> {
        let mut sums = vec![0; self.references.len()];
        for n in lengths {
            if self.small && n <= 4 {
                let of = |words: &[u32]| tally(packed(words, n));
                let own = of(&self.hypothesis);
                for (sum, reference) in sums.iter_mut().zip(&self.references) {
                    *sum += shared(&own, &of(reference));
                }
            } else {
                let own = count(&self.hypothesis, n);
                for (sum, reference) in sums.iter_mut().zip(&self.references) {
                    *sum += shared(&own, &count(reference, n));
                }
            }
        }
        sums
    }

    /// Length of the reference that is closest in length, the shorter one on ties.
    pub(crate) fn closest_length(&self) -> usize {
        let lengths = self.references.iter().map(Vec::len);
        let own = self.hypothesis.len();
        lengths
            .min_by_key(|&length| (length.abs_diff(own), length))
            .unwrap_or(0)
    }
}
