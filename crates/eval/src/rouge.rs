//! ROUGE as the `rouge-score` package defines it (Lin 2004), without its bootstrap: ROUGE-N,
//! ROUGE-L and ROUGE-Lsum.

use std::{borrow::Cow, collections::BTreeSet};

use rustc_hash::FxHashMap;

use crate::{
    PorterStemmer, Signature, WordTokenizer,
    ngrams::{Interner, Numbered},
};

/// The kind of ROUGE.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum RougeKind {
    /// N-grams of this order.
    N(usize),
    /// The longest common subsequence.
    L,
    /// The union of longest common subsequences, line by line.
    Lsum,
}

impl RougeKind {
    /// The package's name of the kind.
    #[must_use]
    pub fn name(self) -> String {
        match self {
            Self::N(n) => format!("rouge{n}"),
            Self::L => "rougeL".to_owned(),
            Self::Lsum => "rougeLsum".to_owned(),
        }
    }
}

/// Precision, recall and their harmonic mean, from 0 to 1.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct FScore {
    /// Fraction of the hypothesis that matches.
    pub precision: f64,
    /// Fraction of the reference that is matched.
    pub recall: f64,
    /// Harmonic mean.
    pub f: f64,
}

impl FScore {
    fn new(matched: usize, hypothesis: usize, reference: usize) -> Self {
        let precision = matched as f64 / hypothesis.max(1) as f64;
        let recall = matched as f64 / reference.max(1) as f64;
        let f = if precision + recall > 0.0 {
            2.0 * precision * recall / (precision + recall)
        } else {
            0.0
        };
        Self {
            precision,
            recall,
            f,
        }
    }
}

/// ROUGE of one kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rouge {
    /// The kind.
    pub kind: RougeKind,
    /// Whether words of more than three letters are stemmed.
    pub stemmer: bool,
    /// A tokenizer for the lower-cased text, instead of the package's own ([`rouge_words`]), which
    /// knows only the letters `a` to `z`. The package has a `tokenizer` argument for it.
    pub tokenizer: Option<WordTokenizer>,
}

/// The package's tokenizer: lower-cased words of `a` to `z` and `0` to `9`.
#[must_use]
pub fn rouge_words(text: &str, stemmer: bool) -> Vec<String> {
    let lower = text.to_lowercase();
    let words = cut(&lower, stemmer).into_iter();
    words.map(Cow::into_owned).collect()
}

fn cut(lower: &str, stemmer: bool) -> Vec<Cow<'_, str>> {
    let words = lower
        .split(|c: char| !c.is_ascii_lowercase() && !c.is_ascii_digit())
        .filter(|word| !word.is_empty());
    stemmed(words, stemmer)
}

fn stemmed<'a>(words: impl Iterator<Item = &'a str>, stemmer: bool) -> Vec<Cow<'a, str>> {
    words
        .map(|word| {
            if stemmer && word.chars().count() > 3 {
                PorterStemmer::Nltk.stem(word).into()
            } else {
                word.into()
            }
        })
        .collect()
}

/// Length of the longest common subsequence.
fn lcs_length(a: &[u32], b: &[u32]) -> usize {
    let mut row = vec![0_u32; b.len() + 1];
    for x in a {
        let mut diagonal = 0;
        for (at, y) in b.iter().enumerate() {
            let above = row[at + 1];
            row[at + 1] = if x == y {
                diagonal + 1
            } else {
                above.max(row[at])
            };
            diagonal = above;
        }
    }
    row[b.len()] as usize
}

/// Positions in `reference` of a longest common subsequence: the one that the package's
/// backtracking finds.
fn lcs_places(reference: &[u32], hypothesis: &[u32]) -> Vec<usize> {
    let width = hypothesis.len() + 1;
    let mut table = vec![0_u32; (reference.len() + 1) * width];
    for (i, x) in reference.iter().enumerate() {
        for (j, y) in hypothesis.iter().enumerate() {
            table[(i + 1) * width + j + 1] = if x == y {
                table[i * width + j] + 1
            } else {
                table[i * width + j + 1].max(table[(i + 1) * width + j])
            };
        }
    }
    let (mut i, mut j) = (reference.len(), hypothesis.len());
    let mut places = Vec::new();
    while i > 0 && j > 0 {
        if reference[i - 1] == hypothesis[j - 1] {
            places.push(i - 1);
            (i, j) = (i - 1, j - 1);
        } else if table[i * width + j - 1] > table[(i - 1) * width + j] {
            j -= 1;
        } else {
            i -= 1;
        }
    }
    places
}

impl Rouge {
    /// ROUGE of a kind, without a stemmer.
    #[must_use]
    pub fn new(kind: RougeKind) -> Self {
        Self {
            kind,
            stemmer: false,
            tokenizer: None,
        }
    }

    fn spaced(&self, text: &str) -> String {
        let lower = text.to_lowercase();
        match self.tokenizer {
            Some(tokenizer) => tokenizer.spaced(&lower),
            None => lower,
        }
    }

    fn cut<'a>(&self, spaced: &'a str) -> Vec<Cow<'a, str>> {
        match self.tokenizer {
            Some(tokenizer) => stemmed(tokenizer.split_spaced(spaced).into_iter(), self.stemmer),
            None => cut(spaced, self.stemmer),
        }
    }

    /// Number of words of a text for this score.
    #[must_use]
    pub fn word_count(&self, text: &str) -> usize {
        self.cut(&self.spaced(text)).len()
    }

    /// The score of a text against one reference.
    #[must_use]
    pub fn against(&self, hypothesis: &str, reference: &str) -> FScore {
        if self.kind == RougeKind::Lsum {
            return self.summary(hypothesis, reference);
        }
        let (hypothesis, reference) = (self.spaced(hypothesis), self.spaced(reference));
        let (hypothesis, reference) = (self.cut(&hypothesis), self.cut(&reference));
        match self.kind {
            RougeKind::N(n) => {
                let pair = Numbered::new(&hypothesis, std::slice::from_ref(&reference));
                let matched = pair.shared(n..=n)[0];
                let runs = |words: &[Cow<'_, str>]| (words.len() + 1).saturating_sub(n);
                FScore::new(matched, runs(&hypothesis), runs(&reference))
            }
            RougeKind::L | RougeKind::Lsum => {
                let mut interner = Interner::default();
                let (a, b) = (interner.ids(&hypothesis), interner.ids(&reference));
                FScore::new(lcs_length(&a, &b), a.len(), b.len())
            }
        }
    }

    fn summary(&self, hypothesis: &str, reference: &str) -> FScore {
        let lines = |text: &str| -> Vec<Vec<String>> {
            let lines = text.split('\n').filter(|line| !line.is_empty());
            let cut = |line| {
                let spaced = self.spaced(line);
                let words = self.cut(&spaced).into_iter();
                words.map(Cow::into_owned).collect()
            };
            lines.map(cut).collect()
        };
        let (hypothesis, reference) = (lines(hypothesis), lines(reference));
        let mut interner = Interner::default();
        let hypothesis: Vec<_> = hypothesis.iter().map(|line| interner.ids(line)).collect();
        let reference: Vec<_> = reference.iter().map(|line| interner.ids(line)).collect();
        let left = |lines: &[Vec<u32>]| {
            let mut counts: FxHashMap<u32, usize> = FxHashMap::default();
            for word in lines.iter().flatten() {
                *counts.entry(*word).or_insert(0) += 1;
            }
            counts
        };
        let (mut own, mut theirs) = (left(&hypothesis), left(&reference));
        let mut hits = 0;
        for line in &reference {
            let union: BTreeSet<usize> = hypothesis
                .iter()
                .flat_map(|other| lcs_places(line, other))
                .collect();
            for at in union {
                // A word matches at most as often as both texts have it.
                if let (Some(a @ 1..), Some(b @ 1..)) =
                    (own.get_mut(&line[at]), theirs.get_mut(&line[at]))
                {
                    hits += 1;
                    *a -= 1;
                    *b -= 1;
                }
            }
        }
        let words = |lines: &[Vec<u32>]| lines.iter().map(Vec::len).sum();
        FScore::new(hits, words(&hypothesis), words(&reference))
    }

    /// The score against the reference that gives the highest F-score, the first on ties; 0 without
    /// references.
    #[must_use]
    pub fn score<S: AsRef<str>>(&self, hypothesis: &str, references: &[S]) -> FScore {
        let mut best: Option<FScore> = None;
        for reference in references {
            let score = self.against(hypothesis, reference.as_ref());
            if best.is_none_or(|best| score.f > best.f) {
                best = Some(score);
            }
        }
        best.unwrap_or_default()
    }

    /// The signature.
    #[must_use]
    pub fn signature(&self) -> Signature {
        Signature::new(
            &self.kind.name(),
            [
                ("def", "rouge-score".to_owned()),
                (
                    "tok",
                    self.tokenizer
                        .map_or("a-z0-9", WordTokenizer::name)
                        .to_owned(),
                ),
                (
                    "stem",
                    if self.stemmer { "porter" } else { "no" }.to_owned(),
                ),
                ("refs", "max-f".to_owned()),
                ("version", "0.1.2".to_owned()),
            ],
        )
    }
}
