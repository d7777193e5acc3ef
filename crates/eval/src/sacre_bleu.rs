//! BLEU as sacreBLEU defines it (Post 2018, "A Call for Clarity in Reporting BLEU Scores").

use crate::{Signature, WordTokenizer, ngrams::Numbered};

/// Highest order of the n-grams.
const ORDER: usize = 4;

/// Smoothing of orders without a match, with sacreBLEU's default values.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SacreSmoothing {
    /// No smoothing.
    None,
    /// 0.1 instead of no match.
    Floor,
    /// 1 added to matches and n-grams of every order but the first.
    AddK,
    /// NIST's: 1/2, 1/4, ... instead of no match.
    #[default]
    Exp,
}

impl SacreSmoothing {
    /// All methods.
    pub const ALL: [Self; 4] = [Self::Exp, Self::Floor, Self::AddK, Self::None];

    /// Its name in a signature.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Floor => "floor[0.10]",
            Self::AddK => "add-k[1.00]",
            Self::Exp => "exp",
        }
    }
}

/// BLEU as sacreBLEU defines it. The default is sacreBLEU's: 13a tokenization, cased, exponential
/// smoothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SacreBleu {
    /// The tokenizer.
    pub tokenizer: WordTokenizer,
    /// Whether case is ignored.
    pub lowercase: bool,
    /// Smoothing.
    pub smoothing: SacreSmoothing,
    /// Whether orders longer than the hypothesis are left out, for single sentences.
    pub effective_order: bool,
}

impl Default for SacreBleu {
    fn default() -> Self {
        Self {
            tokenizer: WordTokenizer::Mteval13a,
            lowercase: false,
            smoothing: SacreSmoothing::Exp,
            effective_order: false,
        }
    }
}

/// A score with its components.
#[derive(Clone, Debug, PartialEq)]
pub struct SacreBleuScore {
    /// From 0 to 100.
    pub score: f64,
    /// N-gram precisions of orders 1 to 4, smoothed, from 0 to 100.
    pub precisions: [f64; ORDER],
    /// Brevity penalty.
    pub bp: f64,
    /// Total words of the hypotheses.
    pub sys_len: usize,
    /// Total words of the references closest in length.
    pub ref_len: usize,
    /// Matched n-grams, smoothing included.
    pub counts: [f64; ORDER],
    /// All n-grams of the hypotheses, smoothing included.
    pub totals: [f64; ORDER],
}

/// The statistics of one text, whose sums give the score of any set of texts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct BleuCounts {
    /// Words of the hypothesis.
    pub sys_len: usize,
    /// Words of the reference closest in length.
    pub ref_len: usize,
    /// Matched n-grams of orders 1 to 4.
    pub counts: [usize; ORDER],
    /// N-grams of orders 1 to 4.
    pub totals: [usize; ORDER],
}

impl std::ops::AddAssign for BleuCounts {
    fn add_assign(&mut self, other: Self) {
        self.sys_len += other.sys_len;
        self.ref_len += other.ref_len;
        for n in 0..ORDER {
            self.counts[n] += other.counts[n];
            self.totals[n] += other.totals[n];
        }
    }
}

impl SacreBleu {
    fn spaced(&self, text: &str) -> String {
        let text = text.trim_end();
        if self.lowercase {
            self.tokenizer.spaced(&text.to_lowercase())
        } else {
            self.tokenizer.spaced(text)
        }
    }

    /// The statistics of a text with its references.
    #[must_use]
    pub fn counts<S: AsRef<str>>(&self, hypothesis: &str, references: &[S]) -> BleuCounts {
        let hypothesis = self.spaced(hypothesis);
        let references: Vec<String> = references
            .iter()
            .map(|reference| self.spaced(reference.as_ref()))
            .collect();
        let references: Vec<Vec<&str>> = references
            .iter()
            .map(|text| self.tokenizer.split_spaced(text))
            .collect();
        let pair = Numbered::new(&self.tokenizer.split_spaced(&hypothesis), &references);
        let mut counts = BleuCounts {
            sys_len: pair.hypothesis.len(),
            ref_len: pair.closest_length(),
            ..BleuCounts::default()
        };
        for n in 0..ORDER {
            (counts.counts[n], counts.totals[n]) = pair.matches(n + 1);
        }
        counts
    }

    /// The score of summed statistics.
    #[must_use]
    pub fn score(&self, sums: &BleuCounts) -> SacreBleuScore {
        let bp = match sums.sys_len {
            length if length >= sums.ref_len => 1.0,
            0 => 0.0,
            length => (1.0 - sums.ref_len as f64 / length as f64).exp(),
        };
        let mut score = SacreBleuScore {
            score: 0.0,
            precisions: [0.0; ORDER],
            bp,
            sys_len: sums.sys_len,
            ref_len: sums.ref_len,
            counts: sums.counts.map(|count| count as f64),
            totals: sums.totals.map(|total| total as f64),
        };
        if sums.counts.iter().all(|count| *count == 0) {
            return score;
        }
        let mut half = 1.0;
        let mut order = ORDER;
        for n in 0..ORDER {
            if self.smoothing == SacreSmoothing::AddK && n > 0 {
                score.counts[n] += 1.0;
                score.totals[n] += 1.0;
            }
            if score.totals[n] == 0.0 {
                break;
            }
            if self.effective_order {
                order = n + 1;
            }
            let matched = if score.counts[n] > 0.0 {
                score.counts[n]
            } else {
                match self.smoothing {
                    SacreSmoothing::Exp => {
                        half /= 2.0;
                        half
                    }
                    SacreSmoothing::Floor => 0.1,
                    SacreSmoothing::AddK | SacreSmoothing::None => 0.0,
                }
            };
            score.precisions[n] = 100.0 * matched / score.totals[n];
        }
        // An order without a match counts as minus infinity.
        let log = |precision: f64| {
            if precision == 0.0 {
                -9_999_999_999.0
            } else {
                precision.ln()
            }
        };
        let logs: f64 = score.precisions[..order].iter().copied().map(log).sum();
        score.score = bp * (logs / order as f64).exp();
        score
    }

    /// The score of a corpus of texts, each with its references.
    #[must_use]
    pub fn corpus<S: AsRef<str>>(&self, pairs: &[(S, Vec<S>)]) -> SacreBleuScore {
        let mut sums = BleuCounts::default();
        for (hypothesis, references) in pairs {
            sums += self.counts(hypothesis.as_ref(), references);
        }
        self.score(&sums)
    }

    /// sacreBLEU's signature for a number of references per text; `None` if the number varies.
    #[must_use]
    pub fn signature(&self, references: Option<usize>) -> Signature {
        Signature::new(
            "BLEU",
            [
                (
                    "nrefs",
                    references.map_or("var".to_owned(), |n| n.to_string()),
                ),
                (
                    "case",
                    if self.lowercase { "lc" } else { "mixed" }.to_owned(),
                ),
                (
                    "eff",
                    if self.effective_order { "yes" } else { "no" }.to_owned(),
                ),
                ("tok", self.tokenizer.name().to_owned()),
                ("smooth", self.smoothing.name().to_owned()),
                ("version", "2.6.0".to_owned()),
            ],
        )
    }
}
