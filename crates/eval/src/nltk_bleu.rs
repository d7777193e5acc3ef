//! BLEU as nltk defines it (`nltk.translate.bleu_score`), after Papineni et al. 2002, with the
//! smoothing of Chen and Cherry 2014.
//!
//! nltk's quirks are kept, so that scores are comparable with its own: methods 5 and 7 can exceed
//! 1, and for a corpus methods 5, 6 and 7 take the counts that they need themselves from the last
//! hypothesis only.

use rayon::prelude::*;

use crate::{Signature, ngrams::Numbered};

/// Smoothing of orders without a match: nltk's `SmoothingFunction().methodN`, with its default
/// parameters.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum NltkSmoothing {
    /// No smoothing: an order without a match makes the score 0.
    #[default]
    Method0,
    /// 0.1 instead of no match.
    Method1,
    /// 1 added to matches and n-grams of every order but the first (Lin and Och 2004).
    Method2,
    /// NIST's: 1/2, 1/4, ... instead of no match.
    Method3,
    /// As method 3, smaller for shorter hypotheses.
    Method4,
    /// Averages with the neighbouring orders.
    Method5,
    /// Interpolates with an estimate from the lower orders (Gao and He 2013).
    Method6,
    /// Methods 4 and 5 together.
    Method7,
}

impl NltkSmoothing {
    /// All methods.
    pub const ALL: [Self; 8] = [
        Self::Method0,
        Self::Method1,
        Self::Method2,
        Self::Method3,
        Self::Method4,
        Self::Method5,
        Self::Method6,
        Self::Method7,
    ];

    /// nltk's name of the method.
    #[must_use]
    pub fn name(self) -> String {
        format!("method{}", self as usize)
    }
}

/// BLEU as nltk defines it.
#[derive(Clone, Debug, PartialEq)]
pub struct NltkBleu {
    /// Weight of each order, from 1 on.
    pub weights: Vec<f64>,
    /// Smoothing.
    pub smoothing: NltkSmoothing,
}

impl Default for NltkBleu {
    /// Orders 1 to 4, equally weighted, not smoothed.
    fn default() -> Self {
        Self::up_to(4)
    }
}

/// Matches and n-grams of one order, or their smoothed ratio.
#[derive(Clone, Copy)]
enum Precision {
    Counted { matched: usize, runs: usize },
    Smoothed(f64),
}

impl Precision {
    fn value(self) -> f64 {
        match self {
            Self::Counted { matched, runs } => matched as f64 / runs as f64,
            Self::Smoothed(value) => value,
        }
    }

    /// The number of n-grams, if none matches.
    fn unmatched(self) -> Option<f64> {
        match self {
            Self::Counted { matched: 0, runs } => Some(runs as f64),
            _ => None,
        }
    }
}

/// Matches and n-grams of every order, and lengths, of one text or summed over a corpus.
struct Sums {
    orders: Vec<(usize, usize)>,
    length: usize,
    wanted: usize,
}

impl Sums {
    fn new(orders: usize) -> Self {
        Self {
            orders: vec![(0, 0); orders],
            length: 0,
            wanted: 0,
        }
    }

    fn add(&mut self, other: &Self) {
        for (sum, order) in self.orders.iter_mut().zip(&other.orders) {
            sum.0 += order.0;
            sum.1 += order.1;
        }
        self.length += other.length;
        self.wanted += other.wanted;
    }
}

fn precision(pair: &Numbered, n: usize) -> (usize, usize) {
    let (matched, runs) = pair.matches(n);
    (matched, runs.max(1))
}

impl NltkBleu {
    /// Orders 1 to `n`, equally weighted, not smoothed.
    #[must_use]
    pub fn up_to(n: usize) -> Self {
        Self {
            weights: vec![1.0 / n as f64; n],
            smoothing: NltkSmoothing::Method0,
        }
    }

    /// Sets the smoothing.
    #[must_use]
    pub fn with_smoothing(mut self, smoothing: NltkSmoothing) -> Self {
        self.smoothing = smoothing;
        self
    }

    /// `sentence_bleu`: between 0 and 1, except for methods 5 and 7. `None` where nltk raises:
    /// method 6 without a matching trigram.
    #[must_use]
    pub fn sentence<S: AsRef<str>>(&self, hypothesis: &[S], references: &[Vec<S>]) -> Option<f64> {
        let pair = Numbered::new(hypothesis, references);
        self.score(&self.sums(&pair), &pair)
    }

    /// `corpus_bleu` of hypotheses, each with its references: matches and lengths are summed before
    /// the division.
    #[must_use]
    pub fn corpus<S: AsRef<str> + Sync>(&self, pairs: &[(Vec<S>, Vec<Vec<S>>)]) -> Option<f64> {
        let sums = pairs
            .par_iter()
            .map(|(hypothesis, references)| self.sums(&Numbered::new(hypothesis, references)))
            .reduce(
                || Sums::new(self.weights.len()),
                |mut a, b| {
                    a.add(&b);
                    a
                },
            );
        let (hypothesis, references) = pairs.last()?;
        self.score(&sums, &Numbered::new(hypothesis, references))
    }

    /// The signature, with the tokenizer's name.
    #[must_use]
    pub fn signature(&self, tokenizer: &str) -> Signature {
        let weights: Vec<String> = self.weights.iter().map(|w| format!("{w:.4}")).collect();
        Signature::new(
            "BLEU",
            [
                ("def", "nltk".to_owned()),
                ("weights", weights.join(",")),
                ("smooth", self.smoothing.name()),
                ("tok", tokenizer.to_owned()),
                ("version", "3.10.4".to_owned()),
            ],
        )
    }

    fn sums(&self, pair: &Numbered) -> Sums {
        Sums {
            orders: (1..=self.weights.len())
                .map(|n| precision(pair, n))
                .collect(),
            length: pair.hypothesis.len(),
            wanted: pair.closest_length(),
        }
    }

    fn score(&self, sums: &Sums, last: &Numbered) -> Option<f64> {
        let orders = sums.orders.iter();
        let mut precisions: Vec<Precision> = orders
            .map(|&(matched, runs)| Precision::Counted { matched, runs })
            .collect();
        if precisions.first()?.unmatched().is_some() {
            return Some(0.0);
        }
        self.smooth(&mut precisions, last, sums.length)?;
        let logs: f64 = self
            .weights
            .iter()
            .zip(&precisions)
            .map(|(weight, precision)| (weight, precision.value()))
            .filter(|(_, precision)| *precision > 0.0)
            .map(|(weight, precision)| weight * precision.ln())
            .sum();
        Some(brevity_penalty(sums.length, sums.wanted) * logs.exp())
    }

    fn smooth(&self, orders: &mut [Precision], last: &Numbered, length: usize) -> Option<()> {
        use NltkSmoothing as M;
        use Precision::{Counted, Smoothed};
        match self.smoothing {
            M::Method0 => {
                for order in orders
                    .iter_mut()
                    .filter(|order| order.unmatched().is_some())
                {
                    *order = Smoothed(f64::MIN_POSITIVE);
                }
            }
            M::Method1 => {
                for order in orders {
                    if let Some(runs) = order.unmatched() {
                        *order = Smoothed(0.1 / runs);
                    }
                }
            }
            M::Method2 => {
                for order in &mut orders[1..] {
                    if let Counted { matched, runs } = order {
                        *matched += 1;
                        *runs += 1;
                    }
                }
            }
            M::Method3 => {
                let mut half = 1.0;
                for order in orders {
                    if let Some(runs) = order.unmatched() {
                        half /= 2.0;
                        *order = Smoothed(half / runs);
                    }
                }
            }
            M::Method4 => method4(orders, length),
            M::Method5 => method5(orders, last),
            M::Method6 => {
                const ALPHA: f64 = 5.0;
                if orders.get(2)?.unmatched().is_some() {
                    return None;
                }
                for n in 2..orders.len() {
                    let (before, two_before) = (orders[n - 1].value(), orders[n - 2].value());
                    let prior = if two_before == 0.0 {
                        0.0
                    } else {
                        before * before / two_before
                    };
                    let Counted { matched, .. } = orders[n] else {
                        continue;
                    };
                    let runs = last.hypothesis.len().saturating_sub(n) as f64;
                    orders[n] = Smoothed((matched as f64 + ALPHA * prior) / (runs + ALPHA));
                }
            }
            M::Method7 => {
                method4(orders, length);
                method5(orders, last);
            }
        }
        Some(())
    }
}

fn method4(orders: &mut [Precision], length: usize) {
    const K: f64 = 5.0;
    let mut half = 1.0;
    for order in orders {
        if let Some(runs) = order.unmatched().filter(|_| length > 1) {
            half /= 2.0;
            *order = Precision::Smoothed(half / K * (length as f64).ln() / runs);
        }
    }
}

fn method5(orders: &mut [Precision], last: &Numbered) {
    let (matched, runs) = precision(last, 5);
    let mut next: Vec<f64> = orders.iter().map(|order| order.value()).collect();
    next.push(matched as f64 / runs as f64);
    let mut before = next[0] + 1.0;
    for (n, order) in orders.iter_mut().enumerate() {
        before = (before + order.value() + next[n + 1]) / 3.0;
        *order = Precision::Smoothed(before);
    }
}

/// 1 for a hypothesis longer than its reference, less for a shorter one.
fn brevity_penalty(length: usize, wanted: usize) -> f64 {
    match length {
        length if length > wanted => 1.0,
        0 => 0.0,
        length => (1.0 - wanted as f64 / length as f64).exp(),
    }
}
