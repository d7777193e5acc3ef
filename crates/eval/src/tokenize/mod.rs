//! The tokenizers that scores are defined on.
//!
//! Each reproduces a function of its reference library. Scores with different tokenizers are not
//! comparable.

mod mteval;
mod treebank;
mod wordpunct;

use std::borrow::Cow;

use gallery_gpt_text::UnknownName;
use mteval::{international, is_chinese, western};
use treebank::treebank;
use wordpunct::wordpunct;

/// A tokenizer of a score.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum WordTokenizer {
    /// `str.split`.
    Whitespace,
    /// nltk's `wordpunct_tokenize`: runs of word characters as Unicode's regular expressions define
    /// them (UTS #18), and runs of other characters that are not white space.
    WordPunct,
    /// nltk's `TreebankWordTokenizer`, one sentence at a time.
    Treebank,
    /// sacreBLEU's `13a`: mteval-v13a, for Western languages.
    Mteval13a,
    /// sacreBLEU's `intl`: mteval-v14, by Unicode categories.
    International,
    /// sacreBLEU's `char`.
    Characters,
    /// sacreBLEU's `zh`: single Chinese characters, the rest as in `13a`.
    Chinese,
}

impl WordTokenizer {
    /// All tokenizers.
    pub const ALL: [Self; 7] = [
        Self::Whitespace,
        Self::WordPunct,
        Self::Treebank,
        Self::Mteval13a,
        Self::International,
        Self::Characters,
        Self::Chinese,
    ];

    /// Its name in a signature.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Whitespace => "none",
            Self::WordPunct => "wordpunct",
            Self::Treebank => "treebank",
            Self::Mteval13a => "13a",
            Self::International => "intl",
            Self::Characters => "char",
            Self::Chinese => "zh",
        }
    }

    /// Splits a text into words.
    #[must_use]
    pub fn tokenize(self, text: &str) -> Vec<String> {
        let spaced = self.spaced(text);
        self.split_spaced(&spaced)
            .into_iter()
            .map(str::to_owned)
            .collect()
    }

    /// The text with spaces between its words, and only there. [`WordTokenizer::split_spaced`]
    /// splits it without copies.
    #[must_use]
    pub fn spaced(self, text: &str) -> String {
        match self {
            Self::Whitespace => text.to_owned(),
            Self::WordPunct => wordpunct(text),
            Self::Treebank => treebank(text),
            Self::Mteval13a => {
                let mut plain = Cow::Borrowed(text);
                // In this order, `&amp;lt;` becomes `<`.
                for (from, to) in [
                    ("<skipped>", ""),
                    ("-\n", ""),
                    ("\n", " "),
                    ("&quot;", "\""),
                    ("&amp;", "&"),
                    ("&lt;", "<"),
                    ("&gt;", ">"),
                ] {
                    if plain.contains(from) {
                        plain = plain.replace(from, to).into();
                    }
                }
                western(&format!(" {plain} "))
            }
            Self::International => international(text),
            Self::Characters => text.chars().flat_map(|c| [c, ' ']).collect(),
            Self::Chinese => {
                let mut spaced = String::with_capacity(text.len());
                for c in text.trim_matches(is_white_space).chars() {
                    if is_chinese(c) {
                        spaced.extend([' ', c, ' ']);
                    } else {
                        spaced.push(c);
                    }
                }
                western(&spaced)
            }
        }
    }

    /// The words of a text made by [`WordTokenizer::spaced`].
    #[must_use]
    pub fn split_spaced(self, spaced: &str) -> Vec<&str> {
        match self {
            Self::WordPunct => spaced.split_whitespace().collect(),
            _ => split(spaced).collect(),
        }
    }

    /// Whether a text is in a script that this tokenizer does not split: one written without
    /// spaces, such as Chinese, Japanese or Thai. A whole sentence is then one word, or none.
    #[must_use]
    pub fn cannot_split(self, text: &str) -> bool {
        match self {
            Self::Characters => false,
            Self::Chinese => text.chars().any(|c| is_unspaced(c) && !is_chinese(c)),
            _ => text.chars().any(is_unspaced),
        }
    }
}

/// Parses the names of [`WordTokenizer::name`].
impl std::str::FromStr for WordTokenizer {
    type Err = UnknownName;

    fn from_str(name: &str) -> Result<Self, Self::Err> {
        Self::ALL
            .into_iter()
            .find(|tokenizer| tokenizer.name() == name)
            .ok_or_else(|| {
                let names = Self::ALL.map(Self::name).join(", ");
                UnknownName::new("tokenizer of words", name, format!("one of {names}"))
            })
    }
}

/// A letter of a script that is written without spaces between words.
fn is_unspaced(c: char) -> bool {
    matches!(c,
        '\u{0e01}'..='\u{0eff}' | '\u{1000}'..='\u{109f}' | '\u{1780}'..='\u{17ff}'
        | '\u{3041}'..='\u{30ff}' | '\u{3400}'..='\u{4dbf}' | '\u{4e00}'..='\u{9fff}'
        | '\u{f900}'..='\u{faff}' | '\u{20000}'..='\u{323af}')
}

/// The white space of Python's `str.split`.
fn is_white_space(c: char) -> bool {
    c.is_whitespace() || ('\u{1c}'..='\u{1f}').contains(&c)
}

fn split(text: &str) -> impl Iterator<Item = &str> {
    text.split(is_white_space).filter(|word| !word.is_empty())
}

/// Replaces every matching pair of neighbours, from the left and without overlap, as a regular
/// expression of two characters does.
fn each_pair(
    text: &str,
    fits: impl Fn(char, char) -> bool,
    replace: impl Fn(&mut String, char, char),
) -> String {
    let mut out = String::with_capacity(text.len() + text.len() / 8);
    let mut chars = text.chars().peekable();
    while let Some(first) = chars.next() {
        match chars.peek() {
            Some(&second) if fits(first, second) => {
                replace(&mut out, first, second);
                chars.next();
            }
            _ => out.push(first),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokenizers_differ() {
        let text = "It's 1,000.5 cm-long -- \"fine\", isn't it?";
        let words = |tokenizer: WordTokenizer| tokenizer.tokenize(text).join("|");
        assert_eq!(
            words(WordTokenizer::Mteval13a),
            "It's|1,000.5|cm-long|--|\"|fine|\"|,|isn't|it|?"
        );
        assert_eq!(
            words(WordTokenizer::WordPunct),
            "It|'|s|1|,|000|.|5|cm|-|long|--|\"|fine|\",|isn|'|t|it|?"
        );
        assert_eq!(
            words(WordTokenizer::Treebank),
            "It|'s|1,000.5|cm-long|--|``|fine|''|,|is|n't|it|?"
        );
        assert_eq!(
            WordTokenizer::Mteval13a.tokenize("48-63 &amp; co."),
            ["48", "-", "63", "&", "co", "."]
        );
        assert_eq!(
            WordTokenizer::WordPunct.tokenize("ne\u{301}e x\u{b2}\u{bd} a\u{1c}b"),
            ["ne\u{301}e", "x", "\u{b2}\u{bd}", "a", "\u{1c}", "b"]
        );
        assert_eq!(WordTokenizer::Chinese.tokenize("画的x"), ["画", "的", "x"]);
        assert_eq!(WordTokenizer::Characters.tokenize("a b"), ["a", "b"]);
        assert_eq!(
            WordTokenizer::International.tokenize("3.5€."),
            ["3.5", "€", "."]
        );
    }

    #[test]
    fn scripts_without_spaces_are_recognised() {
        assert!(!WordTokenizer::Mteval13a.cannot_split("Свет падает справа"));
        assert!(WordTokenizer::Mteval13a.cannot_split("光线从右边"));
        assert!(!WordTokenizer::Chinese.cannot_split("光线从右边"));
        assert!(WordTokenizer::Chinese.cannot_split("ひかり"));
        assert!(!WordTokenizer::Characters.cannot_split("ひかり"));
        assert_eq!("zh".parse(), Ok(WordTokenizer::Chinese));
        let error = "latin".parse::<WordTokenizer>().unwrap_err().to_string();
        assert!(error.contains("13a"), "{error}");
    }
}
