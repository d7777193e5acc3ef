//! Porter's stemmer (M. F. Porter, "An algorithm for suffix stripping", 1980), as published and
//! with nltk's extensions. METEOR and ROUGE use it.

/// The variant of the stemmer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum PorterStemmer {
    /// With nltk's irregular forms and changed conditions.
    #[default]
    Nltk,
    /// As published.
    Original,
}

/// Irregular forms that nltk looks up.
const IRREGULAR: [(&str, &str); 16] = [
    ("sky", "sky"),
    ("skies", "sky"),
    ("dying", "die"),
    ("lying", "lie"),
    ("tying", "tie"),
    ("news", "news"),
    ("innings", "inning"),
    ("inning", "inning"),
    ("outings", "outing"),
    ("outing", "outing"),
    ("cannings", "canning"),
    ("canning", "canning"),
    ("howe", "howe"),
    ("proceed", "proceed"),
    ("exceed", "exceed"),
    ("succeed", "succeed"),
];

/// A suffix, its replacement, and the minimum measure of the stem.
type Rule = (&'static str, &'static str, usize);

const STEP_2: [Rule; 19] = [
    ("ational", "ate", 1),
    ("tional", "tion", 1),
    ("enci", "ence", 1),
    ("anci", "ance", 1),
    ("izer", "ize", 1),
    ("alli", "al", 1),
    ("entli", "ent", 1),
    ("eli", "e", 1),
    ("ousli", "ous", 1),
    ("ization", "ize", 1),
    ("ation", "ate", 1),
    ("ator", "ate", 1),
    ("alism", "al", 1),
    ("iveness", "ive", 1),
    ("fulness", "ful", 1),
    ("ousness", "ous", 1),
    ("aliti", "al", 1),
    ("iviti", "ive", 1),
    ("biliti", "ble", 1),
];

const STEP_3: [Rule; 7] = [
    ("icate", "ic", 1),
    ("ative", "", 1),
    ("alize", "al", 1),
    ("iciti", "ic", 1),
    ("ical", "ic", 1),
    ("ful", "", 1),
    ("ness", "", 1),
];

const STEP_4: [Rule; 19] = [
    ("al", "", 2),
    ("ance", "", 2),
    ("ence", "", 2),
    ("er", "", 2),
    ("ic", "", 2),
    ("able", "", 2),
    ("ible", "", 2),
    ("ant", "", 2),
    ("ement", "", 2),
    ("ment", "", 2),
    ("ent", "", 2),
    ("ion", "", 2),
    ("ou", "", 2),
    ("ism", "", 2),
    ("ate", "", 2),
    ("iti", "", 2),
    ("ous", "", 2),
    ("ive", "", 2),
    ("ize", "", 2),
];

/// Whether each letter is a consonant: not a vowel, and a `y` only if no consonant precedes it.
fn consonants(word: &[char]) -> Vec<bool> {
    let mut flags: Vec<bool> = Vec::with_capacity(word.len());
    for c in word {
        flags.push(match c {
            'a' | 'e' | 'i' | 'o' | 'u' => false,
            'y' => flags.last().is_none_or(|before| !before),
            _ => true,
        });
    }
    flags
}

/// Porter's measure: how often consonants follow vowels.
fn measure(stem: &[char]) -> usize {
    let flags = consonants(stem);
    flags.windows(2).filter(|pair| !pair[0] && pair[1]).count()
}

fn has_vowel(stem: &[char]) -> bool {
    consonants(stem).contains(&false)
}

fn ends(word: &[char], suffix: &str) -> bool {
    let count = suffix.len();
    word.len() >= count
        && word[word.len() - count..]
            .iter()
            .copied()
            .eq(suffix.chars())
}

fn put(word: &mut Vec<char>, suffix: &str, by: &str) {
    word.truncate(word.len() - suffix.len());
    word.extend(by.chars());
}

/// The first matching suffix decides, even if its condition does not hold.
fn apply(word: &mut Vec<char>, rules: &[Rule], also: impl Fn(&Rule, &[char]) -> bool) {
    if let Some(rule) = rules.iter().find(|(suffix, ..)| ends(word, suffix)) {
        let stem = &word[..word.len() - rule.0.len()];
        if measure(stem) >= rule.2 && also(rule, stem) {
            put(word, rule.0, rule.1);
        }
    }
}

impl PorterStemmer {
    fn is_nltk(self) -> bool {
        self == Self::Nltk
    }

    fn ends_cvc(self, word: &[char]) -> bool {
        let flags = consonants(word);
        match &flags[..] {
            [.., true, false, true] => !matches!(word[word.len() - 1], 'w' | 'x' | 'y'),
            [false, true] => self.is_nltk(),
            _ => false,
        }
    }

    /// The stem of a word, in lower case.
    #[must_use]
    pub fn stem(self, word: &str) -> String {
        let lower = word.to_lowercase();
        if self.is_nltk() {
            if let Some((_, stem)) = IRREGULAR.iter().find(|(form, _)| *form == lower) {
                return (*stem).to_owned();
            }
            if word.chars().count() <= 2 {
                return lower;
            }
        }
        let mut word: Vec<char> = lower.chars().collect();
        self.step_1a(&mut word);
        self.step_1b(&mut word);
        self.step_1c(&mut word);
        self.step_2(&mut word);
        apply(&mut word, &STEP_3, |_, _| true);
        apply(&mut word, &STEP_4, |rule, stem| {
            rule.0 != "ion" || matches!(stem.last(), Some('s' | 't'))
        });
        self.step_5(&mut word);
        word.into_iter().collect()
    }

    fn step_1a(self, word: &mut Vec<char>) {
        if self.is_nltk() && ends(word, "ies") && word.len() == 4 {
            return put(word, "ies", "ie");
        }
        let rules = [
            ("sses", "ss", 0),
            ("ies", "i", 0),
            ("ss", "ss", 0),
            ("s", "", 0),
        ];
        apply(word, &rules, |_, _| true);
    }

    fn step_1b(self, word: &mut Vec<char>) {
        if self.is_nltk() && ends(word, "ied") {
            let by = if word.len() == 4 { "ie" } else { "i" };
            return put(word, "ied", by);
        }
        if ends(word, "eed") {
            if measure(&word[..word.len() - 3]) > 0 {
                put(word, "eed", "ee");
            }
            return;
        }
        let suffix = ["ed", "ing"]
            .into_iter()
            .find(|suffix| ends(word, suffix) && has_vowel(&word[..word.len() - suffix.len()]));
        let Some(suffix) = suffix else { return };
        put(word, suffix, "");
        for (end, by) in [("at", "ate"), ("bl", "ble"), ("iz", "ize")] {
            if ends(word, end) {
                return put(word, end, by);
            }
        }
        let count = word.len();
        let doubled =
            count >= 2 && word[count - 1] == word[count - 2] && consonants(word)[count - 1];
        if doubled {
            if !matches!(word[count - 1], 'l' | 's' | 'z') {
                word.pop();
            }
        } else if measure(word) == 1 && self.ends_cvc(word) {
            word.push('e');
        }
    }

    fn step_1c(self, word: &mut [char]) {
        if let [stem @ .., last @ 'y'] = word {
            let change = if self.is_nltk() {
                stem.len() > 1 && consonants(stem)[stem.len() - 1]
            } else {
                has_vowel(stem)
            };
            if change {
                *last = 'i';
            }
        }
    }

    fn step_2(self, word: &mut Vec<char>) {
        if self.is_nltk() && ends(word, "alli") && measure(&word[..word.len() - 4]) > 0 {
            put(word, "alli", "al");
            return self.step_2(word);
        }
        // The published rule is for `abli`; nltk has its author's later `bli`. Either comes before
        // `alli`, and no other suffix can match the same word.
        let bli: Rule = if self.is_nltk() {
            ("bli", "ble", 1)
        } else {
            ("abli", "able", 1)
        };
        if ends(word, bli.0) {
            return apply(word, &[bli], |_, _| true);
        }
        if STEP_2.iter().any(|(suffix, ..)| ends(word, suffix)) || !self.is_nltk() {
            return apply(word, &STEP_2, |_, _| true);
        }
        if ends(word, "fulli") {
            apply(word, &[("fulli", "ful", 1)], |_, _| true);
        } else if ends(word, "logi") && measure(&word[..word.len() - 3]) > 0 {
            // The `l` counts as part of the stem.
            put(word, "logi", "log");
        }
    }

    fn step_5(self, word: &mut Vec<char>) {
        if ends(word, "e") {
            let stem = &word[..word.len() - 1];
            let m = measure(stem);
            if m > 1 || (m == 1 && !self.ends_cvc(stem)) {
                word.pop();
            }
        }
        if ends(word, "ll") && measure(&word[..word.len() - 1]) > 1 {
            word.pop();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_of_the_paper() {
        for (word, stem) in [
            ("caresses", "caress"),
            ("ponies", "poni"),
            ("feed", "feed"),
            ("agreed", "agre"),
            ("hopping", "hop"),
            ("filing", "file"),
            ("relational", "relat"),
            ("generalizations", "gener"),
            ("controlling", "control"),
            ("rate", "rate"),
        ] {
            assert_eq!(PorterStemmer::Original.stem(word), stem);
        }
        assert_eq!(PorterStemmer::Nltk.stem("Skies"), "sky");
        assert_eq!(PorterStemmer::Nltk.stem("dies"), "die");
        assert_eq!(PorterStemmer::Nltk.stem("painterly"), "painterli");
    }
}
