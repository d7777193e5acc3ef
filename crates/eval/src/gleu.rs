//! GLEU as nltk defines it (`nltk.translate.gleu_score`, also Hugging Face's `google_bleu`), after
//! Wu et al. 2016.

use std::ops::RangeInclusive;

use crate::{Signature, ngrams::Numbered};

/// GLEU over n-grams of a range of orders.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Gleu {
    /// Orders of the n-grams.
    pub lengths: RangeInclusive<usize>,
}

impl Default for Gleu {
    /// Orders 1 to 4.
    fn default() -> Self {
        Self { lengths: 1..=4 }
    }
}

/// The statistics of one text.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct GleuCounts {
    /// N-grams of both hypothesis and reference.
    pub matched: usize,
    /// N-grams of the one that has more.
    pub all: usize,
}

impl std::ops::AddAssign for GleuCounts {
    fn add_assign(&mut self, other: Self) {
        self.matched += other.matched;
        self.all += other.all;
    }
}

impl GleuCounts {
    /// The score, from 0 to 1.
    #[must_use]
    pub fn score(&self) -> f64 {
        if self.all == 0 {
            0.0
        } else {
            self.matched as f64 / self.all as f64
        }
    }
}

impl Gleu {
    /// The statistics of a hypothesis with the reference that gives the best ratio, the first on
    /// ties.
    #[must_use]
    pub fn counts<S: AsRef<str>>(&self, hypothesis: &[S], references: &[Vec<S>]) -> GleuCounts {
        let pair = Numbered::new(hypothesis, references);
        let runs = |length: usize| -> usize {
            let lengths = self.lengths.clone();
            lengths.map(|n| (length + 1).saturating_sub(n)).sum()
        };
        let mut best = GleuCounts::default();
        let shared = pair.shared(self.lengths.clone());
        for (reference, matched) in pair.references.iter().zip(shared) {
            let all = runs(pair.hypothesis.len()).max(runs(reference.len()));
            let counts = GleuCounts { matched, all };
            if all > 0 && (best.all == 0 || counts.score() > best.score()) {
                best = counts;
            }
        }
        best
    }

    /// The score of a corpus: the ratio of the summed statistics.
    #[must_use]
    pub fn corpus<S: AsRef<str>>(&self, pairs: &[(Vec<S>, Vec<Vec<S>>)]) -> f64 {
        let mut sums = GleuCounts::default();
        for (hypothesis, references) in pairs {
            sums += self.counts(hypothesis, references);
        }
        sums.score()
    }

    /// The signature, with the tokenizer's name.
    #[must_use]
    pub fn signature(&self, tokenizer: &str) -> Signature {
        Signature::new(
            "GLEU",
            [
                ("def", "nltk".to_owned()),
                ("min", self.lengths.start().to_string()),
                ("max", self.lengths.end().to_string()),
                ("tok", tokenizer.to_owned()),
                ("version", "3.10.4".to_owned()),
            ],
        )
    }
}
