//! Scores of systems on a test set, with confidence intervals and comparisons.

use gallery_gpt_data::TestPainting;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rayon::prelude::*;

use crate::{
    BleuCounts, EvalError, Exclusion, Gleu, GleuCounts, Meteor, OnUnscorable, Predictions, Rouge,
    RougeKind, SacreBleu, SacreSmoothing, Signature, WordNet, WordTokenizer,
};

/// The columns of the table, all from 0 to 100.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Score {
    /// Corpus BLEU.
    Bleu,
    /// Corpus GLEU.
    Gleu,
    /// Mean METEOR.
    Meteor,
    /// Mean ROUGE-L.
    RougeL,
    /// Mean ROUGE-1.
    Rouge1,
    /// Mean ROUGE-2.
    Rouge2,
    /// Mean ROUGE-Lsum.
    RougeLsum,
}

impl Score {
    /// All columns, the four of the paper's table first.
    pub const ALL: [Self; 7] = [
        Self::Bleu,
        Self::Gleu,
        Self::Meteor,
        Self::RougeL,
        Self::Rouge1,
        Self::Rouge2,
        Self::RougeLsum,
    ];

    /// The column's heading.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Bleu => "BLEU",
            Self::Gleu => "GLEU",
            Self::Meteor => "METEOR",
            Self::RougeL => "ROUGE-L",
            Self::Rouge1 => "ROUGE-1",
            Self::Rouge2 => "ROUGE-2",
            Self::RougeLsum => "ROUGE-Lsum",
        }
    }
}

/// How the columns are computed: our best interpretation of the paper's table, as the paper states
/// no tokenizer, references or script. The signatures state the interpretation exactly.
#[derive(Debug)]
pub struct Scorer {
    bleu: SacreBleu,
    sentence_bleu: SacreBleu,
    gleu: Gleu,
    wordnet: Option<WordNet>,
    tokenizer: Option<WordTokenizer>,
}

impl Scorer {
    /// Corpus BLEU with 13a tokenization, cased, not smoothed; nltk's corpus GLEU with the same
    /// tokenization; the mean of nltk's METEOR with Treebank tokenization; the mean F-score of
    /// ROUGE without a stemmer. Without a WordNet, METEOR matches no synonyms.
    #[must_use]
    pub fn paper(wordnet: Option<WordNet>) -> Self {
        Self {
            bleu: SacreBleu {
                smoothing: SacreSmoothing::None,
                ..SacreBleu::default()
            },
            sentence_bleu: SacreBleu {
                effective_order: true,
                ..SacreBleu::default()
            },
            gleu: Gleu::default(),
            wordnet,
            tokenizer: None,
        }
    }

    /// The same scores with another tokenizer in every column, for texts that are not English: `zh`
    /// for Chinese, `char` for any script without spaces, `intl` for others. The signatures name
    /// it.
    #[must_use]
    pub fn with_tokenizer(mut self, tokenizer: WordTokenizer) -> Self {
        self.tokenizer = Some(tokenizer);
        self.bleu.tokenizer = tokenizer;
        self.sentence_bleu.tokenizer = tokenizer;
        self
    }

    pub(crate) fn tokenizer(&self) -> Option<WordTokenizer> {
        self.tokenizer
    }

    pub(crate) fn bleu_tokenizer(&self) -> WordTokenizer {
        self.bleu.tokenizer
    }

    pub(crate) fn meteor_tokenizer(&self) -> WordTokenizer {
        self.tokenizer.unwrap_or(WordTokenizer::Treebank)
    }

    fn rouge(&self, kind: RougeKind) -> Rouge {
        Rouge {
            tokenizer: self.tokenizer,
            ..Rouge::new(kind)
        }
    }

    fn meteor(&self) -> Meteor<'_, WordNet> {
        Meteor::new(self.wordnet.as_ref())
    }

    /// The signature of a column for a number of references per painting; `None` if the number
    /// varies ([`reference_count`]).
    #[must_use]
    pub fn signature(&self, score: Score, references: Option<usize>) -> Signature {
        let rouge = |kind| self.rouge(kind).signature();
        match score {
            Score::Bleu => self.bleu.signature(references),
            Score::Gleu => self.gleu.signature(self.bleu_tokenizer().name()),
            Score::Meteor => self.meteor().signature(self.meteor_tokenizer().name()),
            Score::RougeL => rouge(RougeKind::L),
            Score::Rouge1 => rouge(RougeKind::N(1)),
            Score::Rouge2 => rouge(RougeKind::N(2)),
            Score::RougeLsum => rouge(RougeKind::Lsum),
        }
    }

    /// The statistics of one text.
    #[must_use]
    pub fn score(&self, text: &str, references: &[String]) -> PaintingScores {
        let words = |text: &str| self.bleu_tokenizer().tokenize(text.trim_end());
        let cut: Vec<Vec<String>> = references.iter().map(|text| words(text)).collect();
        let meteor_tokenizer = self.meteor_tokenizer();
        let treebank: Vec<Vec<String>> = references
            .iter()
            .map(|text| meteor_tokenizer.tokenize(text))
            .collect();
        let bleu = self.bleu.counts(text, references);
        let rouge = |kind| self.rouge(kind).score(text, references).f;
        PaintingScores {
            bleu,
            sentence_bleu: self.sentence_bleu.score(&bleu).score,
            gleu: self.gleu.counts(&words(text), &cut),
            meteor: self
                .meteor()
                .score(&meteor_tokenizer.tokenize(text), &treebank),
            rouge_l: rouge(RougeKind::L),
            rouge_1: rouge(RougeKind::N(1)),
            rouge_2: rouge(RougeKind::N(2)),
            rouge_lsum: rouge(RougeKind::Lsum),
        }
    }
}

/// The number of references per painting; `None` if it varies.
#[must_use]
pub fn reference_count(paintings: &[TestPainting]) -> Option<usize> {
    let mut counts = paintings.iter().map(|painting| painting.references.len());
    let first = counts.next()?;
    counts.all(|count| count == first).then_some(first)
}

/// The statistics of one text for every column.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct PaintingScores {
    bleu: BleuCounts,
    sentence_bleu: f64,
    gleu: GleuCounts,
    meteor: f64,
    rouge_l: f64,
    rouge_1: f64,
    rouge_2: f64,
    rouge_lsum: f64,
}

impl PaintingScores {
    /// The score of this text alone, from 0 to 100; BLEU is smoothed, as single texts need it.
    #[must_use]
    pub fn get(&self, score: Score) -> f64 {
        match score {
            Score::Bleu => self.sentence_bleu,
            Score::Gleu => 100.0 * self.gleu.score(),
            Score::Meteor => 100.0 * self.meteor,
            Score::RougeL => 100.0 * self.rouge_l,
            Score::Rouge1 => 100.0 * self.rouge_1,
            Score::Rouge2 => 100.0 * self.rouge_2,
            Score::RougeLsum => 100.0 * self.rouge_lsum,
        }
    }
}

/// The scores of a system on a test set.
#[derive(Clone, Debug)]
pub struct SystemScores {
    /// Its name in the table.
    pub name: String,
    /// Its text for every painting; `None` if it is excluded.
    pub texts: Vec<Option<String>>,
    /// The scores of those texts.
    pub paintings: Vec<Option<PaintingScores>>,
    /// The excluded predictions and paintings.
    pub exclusions: Vec<Exclusion>,
}

/// A score with its 95 % bootstrap confidence interval.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Interval {
    /// The score.
    pub score: f64,
    /// 2.5th percentile.
    pub low: f64,
    /// 97.5th percentile.
    pub high: f64,
}

/// A comparison of two systems on the paintings that both have.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Comparison {
    /// The second system's score minus the first's.
    pub difference: f64,
    /// 2.5th percentile of the difference.
    pub low: f64,
    /// 97.5th percentile of the difference.
    pub high: f64,
    /// Two-sided p-value of the paired bootstrap (Koehn 2004).
    pub p_value: f64,
    /// The smallest p-value that this number of resamples can give.
    pub p_floor: f64,
    /// Number of paintings compared.
    pub paintings: usize,
}

impl Comparison {
    /// The p-value as text: "p 0.120", or "p <= 0.002" at its smallest possible value.
    #[must_use]
    pub fn p_text(&self) -> String {
        let relation = if self.p_value <= self.p_floor {
            "<= "
        } else {
            ""
        };
        format!("p {relation}{:.3}", self.p_value)
    }
}

impl SystemScores {
    /// Scores a system's predictions, in parallel.
    ///
    /// # Errors
    /// A prediction cannot be scored and `on_unscorable` is [`OnUnscorable::Fail`], or none can be.
    pub fn new(
        name: &str,
        predictions: &Predictions,
        paintings: &[TestPainting],
        scorer: &Scorer,
        on_unscorable: OnUnscorable,
    ) -> Result<Self, EvalError> {
        let (texts, exclusions) = predictions.align(paintings, name, on_unscorable)?;
        let scores = texts
            .par_iter()
            .zip(paintings)
            .map(|(text, painting)| {
                let text = text.as_deref()?;
                Some(scorer.score(text, &painting.references))
            })
            .collect();
        Ok(Self {
            name: name.to_owned(),
            texts,
            paintings: scores,
            exclusions,
        })
    }

    fn scored(&self) -> Vec<PaintingScores> {
        self.paintings.iter().flatten().copied().collect()
    }

    /// A column's score, with the confidence interval of `resamples` bootstrap resamples of the
    /// paintings.
    #[must_use]
    pub fn interval(&self, score: Score, scorer: &Scorer, resamples: usize, seed: u64) -> Interval {
        let scores = self.scored();
        let all: Vec<usize> = (0..scores.len()).collect();
        let sampled = resampled(scores.len(), resamples, seed, |chosen| {
            column(score, scorer, &scores, chosen)
        });
        Interval {
            score: column(score, scorer, &scores, &all),
            low: percentile(&sampled, 0.025),
            high: percentile(&sampled, 0.975),
        }
    }

    /// Compares this system with another on the paintings that both have; `None` if there are none.
    #[must_use]
    pub fn compare(
        &self,
        baseline: &Self,
        score: Score,
        scorer: &Scorer,
        resamples: usize,
        seed: u64,
    ) -> Option<Comparison> {
        let both: Vec<(PaintingScores, PaintingScores)> = baseline
            .paintings
            .iter()
            .zip(&self.paintings)
            .filter_map(|(a, b)| Some(((*a)?, (*b)?)))
            .collect();
        let (theirs, own): (Vec<_>, Vec<_>) = both.into_iter().unzip();
        if own.is_empty() {
            return None;
        }
        let difference = |chosen: &[usize]| {
            column(score, scorer, &own, chosen) - column(score, scorer, &theirs, chosen)
        };
        let all: Vec<usize> = (0..own.len()).collect();
        let sampled = resampled(own.len(), resamples, seed, difference);
        let not_above = sampled.iter().filter(|d| **d <= 0.0).count();
        let not_below = sampled.iter().filter(|d| **d >= 0.0).count();
        // Both counts are increased by one: the test set itself is one of its resamples.
        let rarer = (not_above.min(not_below) + 1) as f64 / (sampled.len() + 1) as f64;
        Some(Comparison {
            difference: difference(&all),
            low: percentile(&sampled, 0.025),
            high: percentile(&sampled, 0.975),
            p_value: (2.0 * rarer).min(1.0),
            p_floor: (2.0 / (sampled.len() + 1) as f64).min(1.0),
            paintings: own.len(),
        })
    }
}

/// A column's score over the chosen paintings, which may repeat.
fn column(score: Score, scorer: &Scorer, scores: &[PaintingScores], chosen: &[usize]) -> f64 {
    match score {
        Score::Bleu => {
            let mut sums = BleuCounts::default();
            chosen.iter().for_each(|&at| sums += scores[at].bleu);
            scorer.bleu.score(&sums).score
        }
        Score::Gleu => {
            let mut sums = GleuCounts::default();
            chosen.iter().for_each(|&at| sums += scores[at].gleu);
            100.0 * sums.score()
        }
        _ => {
            let sum: f64 = chosen.iter().map(|&at| scores[at].get(score)).sum();
            sum / chosen.len() as f64
        }
    }
}

/// A statistic of all bootstrap resamples, sorted.
fn resampled(
    count: usize,
    resamples: usize,
    seed: u64,
    figure: impl Fn(&[usize]) -> f64 + Sync,
) -> Vec<f64> {
    let mut figures: Vec<f64> = (0..resamples as u64)
        .into_par_iter()
        .map(|number| {
            let mut random = ChaCha8Rng::seed_from_u64(seed);
            random.set_stream(number);
            let chosen: Vec<usize> = (0..count).map(|_| random.random_range(0..count)).collect();
            figure(&chosen)
        })
        .collect();
    figures.sort_by(f64::total_cmp);
    figures
}

fn percentile(sorted: &[f64], share: f64) -> f64 {
    let at = (share * (sorted.len().max(1) - 1) as f64).round() as usize;
    sorted.get(at).copied().unwrap_or(f64::NAN)
}
