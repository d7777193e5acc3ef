//! METEOR as nltk defines it (`nltk.translate.meteor_score`), after Banerjee and Lavie 2005: words
//! are aligned exactly, then by stem, then by synonym; the score is a weighted mean of precision
//! and recall, reduced by a penalty for fragmented matches.

use rustc_hash::FxHashMap;

use crate::{PorterStemmer, Signature, ngrams::Interner, wordnet::Synonyms};

/// METEOR.
#[derive(Clone, Copy, Debug)]
pub struct Meteor<'a, W: ?Sized> {
    /// Weight of precision relative to recall.
    pub alpha: f64,
    /// Exponent of the penalty.
    pub beta: f64,
    /// Weight of the penalty.
    pub gamma: f64,
    /// The synonyms; `None` leaves the third stage out, which the signature states.
    pub synonyms: Option<&'a W>,
}

impl<'a, W: Synonyms + ?Sized> Meteor<'a, W> {
    /// nltk's default parameters.
    #[must_use]
    pub fn new(synonyms: Option<&'a W>) -> Self {
        Self {
            alpha: 0.9,
            beta: 3.0,
            gamma: 0.5,
            synonyms,
        }
    }

    /// The best score of a hypothesis against its references, from 0 to 1.
    #[must_use]
    pub fn score<S: AsRef<str>>(&self, hypothesis: &[S], references: &[Vec<S>]) -> f64 {
        let references = references.iter();
        references
            .map(|reference| self.against(hypothesis, reference))
            .fold(0.0, f64::max)
    }

    /// The score against one reference.
    #[must_use]
    pub fn against<S: AsRef<str>>(&self, hypothesis: &[S], reference: &[S]) -> f64 {
        let matches = self.align(hypothesis, reference);
        if matches.is_empty() {
            return 0.0;
        }
        let count = matches.len() as f64;
        let precision = count / hypothesis.len() as f64;
        let recall = count / reference.len() as f64;
        let mean = precision * recall / (self.alpha * precision + (1.0 - self.alpha) * recall);
        let breaks = matches
            .windows(2)
            .filter(|pair| pair[1].0 != pair[0].0 + 1 || pair[1].1 != pair[0].1 + 1);
        let chunks = (breaks.count() + 1) as f64;
        let penalty = self.gamma * (chunks / count).powf(self.beta);
        (1.0 - penalty) * mean
    }

    /// Positions of aligned words, in the order of the hypothesis.
    ///
    /// As in nltk, every stage goes backwards through the hypothesis and takes the last free
    /// position of the reference, and synonyms are those of the stems.
    fn align<S: AsRef<str>>(&self, hypothesis: &[S], reference: &[S]) -> Vec<(usize, usize)> {
        let lower = |words: &[S]| -> Vec<String> {
            let words = words.iter();
            words.map(|word| word.as_ref().to_lowercase()).collect()
        };
        let (hypothesis, reference) = (lower(hypothesis), lower(reference));
        let mut interner = Interner::default();
        let number = |words: Vec<u32>| words.into_iter().enumerate().collect();
        let mut left: Left = number(interner.ids(&hypothesis));
        let mut right: Left = number(interner.ids(&reference));
        let mut matches = Vec::new();
        stage(&mut left, &mut right, &mut matches);

        let stem = |words: &[String], left: &Left| -> Vec<String> {
            let left = left.iter();
            left.map(|(at, _)| PorterStemmer::Nltk.stem(&words[*at]))
                .collect()
        };
        let stems = (stem(&hypothesis, &left), stem(&reference, &right));
        let mut interner = Interner::default();
        let renumber = |left: &mut Left, ids: Vec<u32>| {
            left.iter_mut().zip(ids).for_each(|(word, id)| word.1 = id);
        };
        renumber(&mut left, interner.ids(&stems.0));
        renumber(&mut right, interner.ids(&stems.1));
        let places: Vec<usize> = left.iter().map(|(at, _)| *at).collect();
        stage(&mut left, &mut right, &mut matches);
        if let Some(synonyms) = self.synonyms {
            // Stems of the remaining words, by position.
            let stem = |at: &usize| places.binary_search(at).map(|nth| stems.0[nth].as_str());
            let left: Vec<(usize, &str)> = left
                .iter()
                .filter_map(|(at, _)| Some((*at, stem(at).ok()?)))
                .collect();
            synonym_stage(left, &right, &interner, &mut matches, synonyms);
        }
        matches.sort_unstable();
        matches
    }

    /// The signature, with the tokenizer's name.
    #[must_use]
    pub fn signature(&self, tokenizer: &str) -> Signature {
        let stages = if self.synonyms.is_some() {
            "exact+stem+wordnet"
        } else {
            "exact+stem"
        };
        Signature::new(
            "METEOR",
            [
                ("def", "nltk".to_owned()),
                ("stages", stages.to_owned()),
                ("alpha", self.alpha.to_string()),
                ("beta", self.beta.to_string()),
                ("gamma", self.gamma.to_string()),
                ("tok", tokenizer.to_owned()),
                ("version", "3.10.4".to_owned()),
            ],
        )
    }
}

/// Positions of words, with their numbers.
type Left = Vec<(usize, u32)>;

/// Moves pairs of equal words from both lists to the matches.
fn stage(left: &mut Left, right: &mut Left, matches: &mut Vec<(usize, usize)>) {
    let mut free = Free::new(right);
    let mut rest = Left::new();
    while let Some((at, word)) = left.pop() {
        match free.last(word) {
            Some(nth) => {
                free.take(word);
                matches.push((at, right[nth].0));
            }
            None => rest.push((at, word)),
        }
    }
    rest.reverse();
    *left = rest;
    let mut nth = 0;
    right.retain(|_| {
        nth += 1;
        !free.taken[nth - 1]
    });
}

/// The free positions of a list as linked lists: for every word its last position, for every
/// position the previous one of the same word.
struct Free {
    last: FxHashMap<u32, usize>,
    before: Vec<Option<usize>>,
    taken: Vec<bool>,
}

impl Free {
    fn new(words: &Left) -> Self {
        let mut last = FxHashMap::default();
        let places = words.iter().enumerate();
        let before = places
            .map(|(nth, (_, word))| last.insert(*word, nth))
            .collect();
        Self {
            last,
            before,
            taken: vec![false; words.len()],
        }
    }

    fn last(&self, word: u32) -> Option<usize> {
        self.last.get(&word).copied()
    }

    fn take(&mut self, word: u32) {
        if let Some(nth) = self.last.remove(&word) {
            self.taken[nth] = true;
            if let Some(before) = self.before[nth] {
                self.last.insert(word, before);
            }
        }
    }
}

fn synonym_stage(
    mut left: Vec<(usize, &str)>,
    right: &Left,
    interner: &Interner<'_>,
    matches: &mut Vec<(usize, usize)>,
    synonyms: &(impl Synonyms + ?Sized),
) {
    let mut free = Free::new(right);
    while let Some((at, word)) = left.pop() {
        let mut best: Option<(usize, u32)> = None;
        let mut consider = |synonym: &str| {
            if let Some(id) = interner.get(synonym)
                && let Some(nth) = free.last(id)
                && best.is_none_or(|(most, _)| nth > most)
            {
                best = Some((nth, id));
            }
        };
        consider(word);
        synonyms.each(word, &mut consider);
        if let Some((nth, id)) = best {
            free.take(id);
            matches.push((at, right[nth].0));
        }
    }
}
