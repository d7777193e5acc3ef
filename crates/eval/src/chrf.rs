//! chrF2 as sacreBLEU defines it (Popović 2015): the F2-score of character n-grams of order 1 to 6.

use crate::{
    Signature,
    ngrams::{count, shared},
};

const ORDER: usize = 6;
const BETA: f64 = 2.0;

/// chrF2.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ChrF;

/// The statistics of one text: for each order the n-grams of the hypothesis, of the reference, and
/// of both.
pub type ChrFCounts = [[usize; 3]; ORDER];

impl ChrF {
    /// The statistics with the reference that gives the best score, the first on ties.
    #[must_use]
    pub fn counts<S: AsRef<str>>(self, hypothesis: &str, references: &[S]) -> ChrFCounts {
        let characters = |text: &str| -> Vec<char> {
            let words = crate::WordTokenizer::Whitespace.tokenize(text);
            words.iter().flat_map(|word| word.chars()).collect()
        };
        let hypothesis = characters(hypothesis);
        let mut best: Option<(f64, ChrFCounts)> = None;
        for reference in references {
            let reference = characters(reference.as_ref());
            let mut counts = ChrFCounts::default();
            for (n, counts) in counts.iter_mut().enumerate() {
                let (own, theirs) = (count(&hypothesis, n + 1), count(&reference, n + 1));
                let matched = shared(&own, &theirs);
                // N-grams of the hypothesis count only if the reference has any of that order.
                let runs = |length: usize| length.saturating_sub(n);
                let theirs = runs(reference.len());
                *counts = [
                    if theirs > 0 {
                        runs(hypothesis.len())
                    } else {
                        0
                    },
                    theirs,
                    matched,
                ];
            }
            let score = self.score(&counts);
            if best.is_none_or(|(most, _)| score > most) {
                best = Some((score, counts));
            }
        }
        best.map_or_else(ChrFCounts::default, |(_, counts)| counts)
    }

    /// The score of summed statistics, from 0 to 100.
    #[must_use]
    pub fn score(self, counts: &ChrFCounts) -> f64 {
        let (mut precision, mut recall, mut orders) = (0.0, 0.0, 0.0);
        for &[own, theirs, matched] in counts {
            if own > 0 && theirs > 0 {
                precision += matched as f64 / own as f64;
                recall += matched as f64 / theirs as f64;
                orders += 1.0;
            }
        }
        if precision + recall == 0.0 {
            return 0.0;
        }
        let (precision, recall) = (precision / orders, recall / orders);
        let factor = BETA * BETA;
        100.0 * (1.0 + factor) * precision * recall / (factor * precision + recall)
    }

    /// The score of a corpus.
    #[must_use]
    pub fn corpus<S: AsRef<str>>(self, pairs: &[(S, Vec<S>)]) -> f64 {
        let mut sums = ChrFCounts::default();
        for (hypothesis, references) in pairs {
            let counts = self.counts(hypothesis.as_ref(), references);
            for (sums, counts) in sums.iter_mut().flatten().zip(counts.iter().flatten()) {
                *sums += counts;
            }
        }
        self.score(&sums)
    }

    /// sacreBLEU's signature for a number of references per text; `None` if the number varies.
    #[must_use]
    pub fn signature(self, references: Option<usize>) -> Signature {
        Signature::new(
            "chrF2",
            [
                (
                    "nrefs",
                    references.map_or("var".to_owned(), |n| n.to_string()),
                ),
                ("case", "mixed".to_owned()),
                ("eff", "yes".to_owned()),
                ("nc", ORDER.to_string()),
                ("nw", "0".to_owned()),
                ("space", "no".to_owned()),
                ("version", "2.6.0".to_owned()),
            ],
        )
    }
}
