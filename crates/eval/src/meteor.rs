//! METEOR as nltk defines it (`nltk.translate.meteor_score`), after Banerjee and Lavie 2005: words are aligned exactly, then by stem,
//! then by synonym; the score is a mean of precision and recall, less a penalty for how scattered the matches are.

use rustc_hash::FxHashMap;

use crate::{PorterStemmer, Signature, wordnet::Synonyms};

/// METEOR.
#[derive(Clone, Copy, Debug)]
pub struct Meteor<'a, W: ?Sized> {
    /// Weight of precision against recall.
    pub alpha: f64,
    /// Exponent of the penalty.
    pub beta: f64,
    /// Weight of the penalty.
    pub gamma: f64,
    /// Where synonyms come from; none leaves the third stage out, which lowers scores by a point or so.
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

    /// Places of aligned words, in the order of the hypothesis.
    ///
    /// As in nltk, every stage goes through the hypothesis from its end and takes the last place of the reference that is free,
    /// and synonyms are looked up of what the stemmer left of the words.
    fn align<S: AsRef<str>>(&self, hypothesis: &[S], reference: &[S]) -> Vec<(usize, usize)> {
        let lower = |words: &[S]| -> Vec<(usize, String)> {
            let words = words.iter().enumerate();
            words
                .map(|(at, word)| (at, word.as_ref().to_lowercase()))
                .collect()
        };
        let (mut left, mut right) = (lower(hypothesis), lower(reference));
        let mut matches = Vec::new();
        stage(&mut left, &mut right, &mut matches, str::to_owned);
        stage(&mut left, &mut right, &mut matches, |word| {
            PorterStemmer::Nltk.stem(word)
        });
        if let Some(synonyms) = self.synonyms {
            synonym_stage(&mut left, &right, &mut matches, synonyms);
        }
        matches.sort_unstable();
        matches
    }

    /// What a score is, with the name of the words it is over.
    #[must_use]
    pub fn signature(&self, words: &str) -> Signature {
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
                ("tok", words.to_owned()),
                ("version", "3.10.4".to_owned()),
            ],
        )
    }
}

type Left = Vec<(usize, String)>;

fn stage(
    left: &mut Left,
    right: &mut Left,
    matches: &mut Vec<(usize, usize)>,
    form: impl Fn(&str) -> String,
) {
    let mut free: FxHashMap<String, Vec<usize>> = FxHashMap::default();
    for (at, word) in right.iter() {
        free.entry(form(word)).or_default().push(*at);
    }
    let mut rest = Left::new();
    while let Some((at, word)) = left.pop() {
        let word = form(&word);
        match free.get_mut(&word).and_then(Vec::pop) {
            Some(place) => matches.push((at, place)),
            None => rest.push((at, word)),
        }
    }
    rest.reverse();
    *left = rest;
    let unmatched = free.into_iter();
    *right = unmatched
        .flat_map(|(word, places)| places.into_iter().map(move |at| (at, word.clone())))
        .collect();
    right.sort_unstable();
}

fn synonym_stage(
    left: &mut Left,
    right: &Left,
    matches: &mut Vec<(usize, usize)>,
    synonyms: &(impl Synonyms + ?Sized),
) {
    let mut free: FxHashMap<&str, Vec<usize>> = FxHashMap::default();
    for (at, word) in right {
        free.entry(word).or_default().push(*at);
    }
    while let Some((at, word)) = left.pop() {
        let mut best: Option<(usize, String)> = None;
        let mut consider = |synonym: &str| {
            if let Some(&place) = free.get(synonym).and_then(|places| places.last())
                && best.as_ref().is_none_or(|(most, _)| place > *most)
            {
                best = Some((place, synonym.to_owned()));
            }
        };
        consider(&word);
        synonyms.each(&word, &mut consider);
        if let Some((place, synonym)) = best {
            matches.push((at, place));
            if let Some(places) = free.get_mut(synonym.as_str()) {
                places.pop();
            }
        }
    }
}
