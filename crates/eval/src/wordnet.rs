//! Synonyms, and WordNet's database files (`data.noun`, `index.noun`, `noun.exc` and so on;
//! Fellbaum 1998, formats wndb(5WN)).

use std::path::{Path, PathBuf};

use rustc_hash::FxHashMap;

use crate::{EvalError, error::read_error};

/// A source of synonyms.
pub trait Synonyms {
    /// Calls `tell` with every single-word synonym of a lower-case word; repeats are harmless.
    fn each(&self, word: &str, tell: &mut dyn FnMut(&str));
}

/// No synonyms: METEOR matches exact words and stems only.
#[derive(Clone, Copy, Debug)]
pub enum NoSynonyms {}

impl Synonyms for NoSynonyms {
    fn each(&self, _word: &str, _tell: &mut dyn FnMut(&str)) {
        match *self {}
    }
}

/// Parts of speech, in the order of the files.
const PARTS: [&str; 4] = ["noun", "verb", "adj", "adv"];

/// Endings of inflected forms and of their base forms, by part of speech.
const ENDINGS: [&[(&str, &str)]; 4] = [
    &[
        ("s", ""),
        ("ses", "s"),
        ("ves", "f"),
        ("xes", "x"),
        ("zes", "z"),
        ("ches", "ch"),
        ("shes", "sh"),
        ("men", "man"),
        ("ies", "y"),
    ],
    &[
        ("s", ""),
        ("ies", "y"),
        ("es", "e"),
        ("es", ""),
        ("ed", "e"),
        ("ed", ""),
        ("ing", "e"),
        ("ing", ""),
    ],
    &[("er", ""), ("est", ""), ("er", "e"), ("est", "e")],
    &[],
];

/// WordNet, in memory.
#[derive(Debug)]
pub struct WordNet {
    parts: [Part; 4],
}

#[derive(Debug, Default)]
struct Part {
    /// Offsets of a lemma's synsets in the data file.
    lemmas: FxHashMap<String, Vec<u32>>,
    /// Irregular forms and their base forms.
    exceptions: FxHashMap<String, Vec<String>>,
    /// Words of a synset, by its offset.
    synsets: FxHashMap<u32, Vec<String>>,
}

impl WordNet {
    /// Reads the twelve files of a `dict` folder.
    ///
    /// # Errors
    /// A file is missing or has a malformed line.
    pub fn open(folder: impl AsRef<Path>) -> Result<Self, EvalError> {
        let folder = folder.as_ref();
        let mut parts = <[Part; 4]>::default();
        for (part, name) in parts.iter_mut().zip(PARTS) {
            each_line(&folder.join(format!("index.{name}")), |line| {
                let fields: Vec<&str> = line.split_ascii_whitespace().collect();
                let count: usize = fields.get(2)?.parse().ok()?;
                let pointers: usize = fields.get(3)?.parse().ok()?;
                let places = fields.get(6 + pointers..6 + pointers + count)?;
                let places: Option<Vec<u32>> = places.iter().map(|p| p.parse().ok()).collect();
                part.lemmas.insert((*fields.first()?).to_owned(), places?);
                Some(())
            })?;
            each_line(&folder.join(format!("data.{name}")), |line| {
                let mut fields = line.split_ascii_whitespace();
                let place = fields.next()?.parse().ok()?;
                let count = usize::from_str_radix(fields.nth(2)?, 16).ok()?;
                let mut words = Vec::with_capacity(count);
                for _ in 0..count {
                    let word = fields.next()?;
                    // An adjective may be followed by its position: `galore(ip)`.
                    let word = word.split('(').next()?;
                    words.push(word.to_owned());
                    fields.next()?;
                }
                part.synsets.insert(place, words);
                Some(())
            })?;
            each_line(&folder.join(format!("{name}.exc")), |line| {
                let mut forms = line.split_ascii_whitespace().map(str::to_owned);
                part.exceptions.insert(forms.next()?, forms.collect());
                Some(())
            })?;
        }
        Ok(Self { parts })
    }
}

/// Calls `read` with every line after the licence at the top, which is indented.
fn each_line(path: &Path, mut read: impl FnMut(&str) -> Option<()>) -> Result<(), EvalError> {
    let text = std::fs::read_to_string(path).map_err(read_error(path))?;
    for (number, line) in text.lines().enumerate() {
        if !line.starts_with(' ') && !line.is_empty() && read(line).is_none() {
            return Err(EvalError::WordNet {
                path: PathBuf::from(path),
                line: number + 1,
            });
        }
    }
    Ok(())
}

impl Synonyms for WordNet {
    fn each(&self, word: &str, tell: &mut dyn FnMut(&str)) {
        for (part, endings) in self.parts.iter().zip(ENDINGS) {
            let mut forms = vec![word.to_owned()];
            match part.exceptions.get(word) {
                Some(bases) => forms.extend(bases.iter().cloned()),
                None => forms.extend(endings.iter().filter_map(|(old, new)| {
                    word.strip_suffix(old).map(|stem| format!("{stem}{new}"))
                })),
            }
            for place in forms
                .iter()
                .filter_map(|form| part.lemmas.get(form))
                .flatten()
            {
                let words = part.synsets.get(place).into_iter().flatten();
                words
                    .filter(|word| !word.contains('_'))
                    .for_each(|word| tell(word));
            }
        }
    }
}
