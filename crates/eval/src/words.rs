//! The tokenizers that scores are defined on.
//!
//! Each reproduces a function of its reference library. Scores with different tokenizers are not
//! comparable.

use std::{borrow::Cow, sync::LazyLock};

use regex::Regex;
use unicode_general_category::{GeneralCategory, get_general_category};

/// A tokenizer of a score.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Words {
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

impl Words {
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
    pub fn of(self, text: &str) -> Vec<String> {
        let spaced = self.spaced(text);
        self.each(&spaced).into_iter().map(str::to_owned).collect()
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
                for c in text.trim_matches(is_blank).chars() {
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
    pub fn each(self, spaced: &str) -> Vec<&str> {
        match self {
            Self::WordPunct => spaced.split_whitespace().collect(),
            _ => split(spaced).collect(),
        }
    }

    /// Whether a text is in a script that this tokenizer does not split: one written without
    /// spaces, such as Chinese, Japanese or Thai. A whole sentence is then one word, or none.
    #[must_use]
    pub fn leaves_whole(self, text: &str) -> bool {
        match self {
            Self::Characters => false,
            Self::Chinese => text.chars().any(|c| is_unspaced(c) && !is_chinese(c)),
            _ => text.chars().any(is_unspaced),
        }
    }
}

/// Parses the names of [`WordTokenizer::name`].
impl std::str::FromStr for Words {
    type Err = UnknownWords;

    fn from_str(name: &str) -> Result<Self, Self::Err> {
        Self::ALL
            .into_iter()
            .find(|words| words.name() == name)
            .ok_or_else(|| UnknownWords {
                name: name.to_owned(),
            })
    }
}

/// An unknown tokenizer name.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{name}` is not a tokenizer of words; expected {}", Words::ALL.map(Words::name).join(", "))]
pub struct UnknownWords {
    /// The name.
    pub name: String,
}

/// A letter of a script that is written without spaces between words.
fn is_unspaced(c: char) -> bool {
    matches!(c,
        '\u{0e01}'..='\u{0eff}' | '\u{1000}'..='\u{109f}' | '\u{1780}'..='\u{17ff}'
        | '\u{3041}'..='\u{30ff}' | '\u{3400}'..='\u{4dbf}' | '\u{4e00}'..='\u{9fff}'
        | '\u{f900}'..='\u{faff}' | '\u{20000}'..='\u{323af}')
}

/// The white space of Python's `str.split`.
fn is_blank(c: char) -> bool {
    c.is_whitespace() || ('\u{1c}'..='\u{1f}').contains(&c)
}

fn split(text: &str) -> impl Iterator<Item = &str> {
    text.split(is_blank).filter(|word| !word.is_empty())
}

/// `\w` of Python's `regex` package, which nltk uses since 3.10: includes marks and joiners, but
/// not fractions and superscripts.
fn is_word(c: char) -> bool {
    use GeneralCategory as G;
    c.is_ascii_alphanumeric()
        || c.is_alphabetic()
        || matches!(c, '\u{200c}' | '\u{200d}')
        || matches!(
            get_general_category(c),
            G::NonspacingMark
                | G::SpacingMark
                | G::EnclosingMark
                | G::DecimalNumber
                | G::ConnectorPunctuation
        )
}

fn wordpunct(text: &str) -> String {
    let kind = |c: char| match c {
        c if is_word(c) => 0,
        c if c.is_whitespace() => 1,
        _ => 2,
    };
    let mut spaced = String::with_capacity(text.len() + text.len() / 8);
    let mut before = 1;
    for c in text.chars() {
        let now = kind(c);
        if now != before {
            spaced.push(' ');
        }
        spaced.push(c);
        before = now;
    }
    spaced
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

/// The language-dependent part of mteval-v13a. All its patterns are ASCII, so it works on bytes.
fn western(text: &str) -> String {
    let is_point = |byte: u8| byte == b'.' || byte == b',';
    let mut spaced = Vec::with_capacity(text.len() + text.len() / 4);
    for &byte in text.as_bytes() {
        if matches!(byte, b'{'..=b'~' | b'['..=b'`' | b' '..=b'&' | b'('..=b'+' | b':'..=b'@' | b'/')
        {
            spaced.extend([b' ', byte, b' ']);
        } else {
            spaced.push(byte);
        }
    }
    let spaced = each_byte_pair(
        &spaced,
        |a, b| !a.is_ascii_digit() && is_point(b),
        |out, a, b| out.extend([a, b' ', b, b' ']),
    );
    let spaced = each_byte_pair(
        &spaced,
        |a, b| is_point(a) && !b.is_ascii_digit(),
        |out, a, b| out.extend([b' ', a, b' ', b]),
    );
    let spaced = each_byte_pair(
        &spaced,
        |a, b| a.is_ascii_digit() && b == b'-',
        |out, a, b| out.extend([a, b' ', b, b' ']),
    );
    String::from_utf8(spaced).expect("only spaces were added, none inside a character")
}

/// As [`each_pair`], on bytes.
fn each_byte_pair(
    text: &[u8],
    fits: impl Fn(u8, u8) -> bool,
    replace: impl Fn(&mut Vec<u8>, u8, u8),
) -> Vec<u8> {
    let mut out = Vec::with_capacity(text.len() + text.len() / 8);
    let mut at = 0;
    while at < text.len() {
        match text.get(at + 1) {
            Some(&next) if fits(text[at], next) => {
                replace(&mut out, text[at], next);
                at += 2;
            }
            _ => {
                out.push(text[at]);
                at += 1;
            }
        }
    }
    out
}

fn international(text: &str) -> String {
    use GeneralCategory as G;
    let is_number = |c| {
        matches!(
            get_general_category(c),
            G::DecimalNumber | G::LetterNumber | G::OtherNumber
        )
    };
    let is_punctuation = |c| {
        matches!(
            get_general_category(c),
            G::ConnectorPunctuation
                | G::DashPunctuation
                | G::OpenPunctuation
                | G::ClosePunctuation
                | G::InitialPunctuation
                | G::FinalPunctuation
                | G::OtherPunctuation
        )
    };
    let is_symbol = |c| {
        matches!(
            get_general_category(c),
            G::MathSymbol | G::CurrencySymbol | G::ModifierSymbol | G::OtherSymbol
        )
    };
    let spaced = each_pair(
        text,
        |a, b| !is_number(a) && is_punctuation(b),
        |out, a, b| out.extend([a, ' ', b, ' ']),
    );
    let spaced = each_pair(
        &spaced,
        |a, b| is_punctuation(a) && !is_number(b),
        |out, a, b| out.extend([' ', a, ' ', b]),
    );
    let mut out = String::with_capacity(spaced.len());
    for c in spaced.chars() {
        if is_symbol(c) {
            out.extend([' ', c, ' ']);
        } else {
            out.push(c);
        }
    }
    out
}

/// The characters that sacreBLEU treats as Chinese. Two of its ranges were meant for the
/// supplementary planes but are U+2001 to U+2A6D and U+2F81 to U+2FA1, which contain dashes and
/// curly quotes. They are kept, so that scores are comparable with its own.
fn is_chinese(c: char) -> bool {
    matches!(c,
        '\u{3400}'..='\u{4db5}' | '\u{4e00}'..='\u{9fa5}' | '\u{9fa6}'..='\u{9fbb}'
        | '\u{f900}'..='\u{fa2d}' | '\u{fa30}'..='\u{fa6a}' | '\u{fa70}'..='\u{fad9}'
        | '\u{2001}'..='\u{2a6d}' | '\u{2f81}'..='\u{2fa1}' | '\u{ff00}'..='\u{ffef}'
        | '\u{2e80}'..='\u{2eff}' | '\u{3000}'..='\u{303f}' | '\u{31c0}'..='\u{31ef}'
        | '\u{2f00}'..='\u{2fdf}' | '\u{2ff0}'..='\u{2fff}' | '\u{3100}'..='\u{312f}'
        | '\u{31a0}'..='\u{31bf}' | '\u{fe10}'..='\u{fe1f}' | '\u{fe30}'..='\u{fe4f}'
        | '\u{3200}'..='\u{32ff}' | '\u{3300}'..='\u{33ff}')
}

/// A step of the Penn Treebank's script: a pattern, its replacement, and characters without which
/// the pattern cannot match.
struct Step {
    pattern: Regex,
    by: &'static str,
    needs: &'static str,
}

fn steps(steps: &[(&str, &'static str, &'static str)]) -> Vec<Step> {
    let steps = steps.iter();
    let steps = steps.map(|&(pattern, by, needs)| Step {
        pattern: Regex::new(pattern).expect("a valid pattern"),
        by,
        needs,
    });
    steps.collect()
}

/// The ASCII characters of a text as a bit set.
fn present(text: &str) -> u128 {
    let ascii = text.bytes().filter(u8::is_ascii);
    ascii.fold(0, |bits, byte| bits | 1 << byte)
}

fn apply(mut text: String, steps: &[Step]) -> String {
    let mut has = present(&text);
    for step in steps {
        if has & present(step.needs) != 0
            && let Cow::Owned(changed) = step.pattern.replace_all(&text, step.by)
        {
            text = changed;
            has = present(&text);
        }
    }
    text
}

/// Separates the period at the end of a text, before closing brackets and quotes; an ellipsis stays
/// whole.
fn last_period(text: String) -> String {
    let body = text.trim_end_matches(is_blank);
    let before = body.trim_end_matches([']', ')', '}', '>', '"', '\'']);
    match before.strip_suffix('.') {
        Some(sentence) if !sentence.is_empty() && !sentence.ends_with('.') => {
            format!("{sentence} .{} ", &body[before.len()..])
        }
        _ => text,
    }
}

/// The steps of the Penn Treebank's script, in nltk's order.
fn treebank(text: &str) -> String {
    static BEFORE: LazyLock<Vec<Step>> = LazyLock::new(|| {
        steps(&[
            // Opening quotes.
            (r#"^""#, "``", "\""),
            (r"(``)", " $1 ", "`"),
            (r#"([ (\[{<])("|'{2})"#, "$1 `` ", "\"'"),
        ])
    });
    static MIDDLE: LazyLock<Vec<Step>> = LazyLock::new(|| {
        steps(&[
            // Python's `$` also matches before a last line end.
            (r"([:,])(\n?)\z", " $1 $2", ":,"),
            (r"\.\.\.", " ... ", "."),
            (r"[;@#$%&]", " $0 ", ";@#$%&"),
        ])
    });
    static BRACKETS: LazyLock<Vec<Step>> = LazyLock::new(|| {
        steps(&[
            (r"[?!]", " $0 ", "?!"),
            (r"([^'])' ", "$1 ' ", "'"),
            (r"[\]\[(){}<>]", " $0 ", "[](){}<>"),
            (r"--", " -- ", "-"),
        ])
    });
    static AFTER: LazyLock<Vec<Step>> = LazyLock::new(|| {
        steps(&[
            // Closing quotes and clitics.
            (r"''", " '' ", "'"),
            (r#"""#, " '' ", "\""),
            (r"([^' ])('[sS]|'[mM]|'[dD]|') ", "$1 $2 ", "'"),
            (r"([^' ])('ll|'LL|'re|'RE|'ve|'VE|n't|N'T) ", "$1 $2 ", "'"),
        ])
    });
    static CONTRACTIONS: LazyLock<Vec<Step>> = LazyLock::new(|| {
        steps(&[
            (r"(?i)\b(can)(not)\b", " $1 $2 ", "cC"),
            (r"(?i)\b(d)('ye)\b", " $1 $2 ", "'"),
            (r"(?i)\b(gim)(me)\b", " $1 $2 ", "gG"),
            (r"(?i)\b(gon)(na)\b", " $1 $2 ", "gG"),
            (r"(?i)\b(got)(ta)\b", " $1 $2 ", "gG"),
            (r"(?i)\b(lem)(me)\b", " $1 $2 ", "lL"),
            (r"(?i)\b(more)('n)\b", " $1 $2 ", "'"),
            (r"(?i)\b(wan)(na)(\s)", " $1 $2 $3", "wW"),
            (r"(?i) ('t)(is)\b", " $1 $2 ", "'"),
            (r"(?i) ('t)(was)\b", " $1 $2 ", "'"),
        ])
    });
    // Few texts have contractions; one search tells.
    static ANY_CONTRACTION: LazyLock<Regex> = LazyLock::new(|| {
        Regex::new(r"(?i)cannot|d'ye|gimme|gonna|gotta|lemme|more'n|wanna|'tis|'twas")
            .expect("a valid pattern")
    });
    let is_digit = |c| get_general_category(c) == GeneralCategory::DecimalNumber;
    let text = apply(text.to_owned(), &BEFORE);
    let text = each_pair(
        &text,
        |a, b| matches!(a, ':' | ',') && !is_digit(b),
        |out, a, b| out.extend([' ', a, ' ', b]),
    );
    let text = last_period(apply(text, &MIDDLE));
    let text = apply(text, &BRACKETS);
    let text = apply(format!(" {text} "), &AFTER);
    if ANY_CONTRACTION.is_match(&text) {
        apply(text, &CONTRACTIONS)
    } else {
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_in_many_ways() {
        let text = "It's 1,000.5 cm-long -- \"fine\", isn't it?";
        let words = |words: Words| words.of(text).join("|");
        assert_eq!(
            words(Words::Mteval13a),
            "It's|1,000.5|cm-long|--|\"|fine|\"|,|isn't|it|?"
        );
        assert_eq!(
            words(Words::WordPunct),
            "It|'|s|1|,|000|.|5|cm|-|long|--|\"|fine|\",|isn|'|t|it|?"
        );
        assert_eq!(
            words(Words::Treebank),
            "It|'s|1,000.5|cm-long|--|``|fine|''|,|is|n't|it|?"
        );
        assert_eq!(
            Words::Mteval13a.of("48-63 &amp; co."),
            ["48", "-", "63", "&", "co", "."]
        );
        assert_eq!(
            Words::WordPunct.of("ne\u{301}e x\u{b2}\u{bd} a\u{1c}b"),
            ["ne\u{301}e", "x", "\u{b2}\u{bd}", "a", "\u{1c}", "b"]
        );
        assert_eq!(Words::Chinese.of("画的x"), ["画", "的", "x"]);
        assert_eq!(Words::Characters.of("a b"), ["a", "b"]);
        assert_eq!(Words::International.of("3.5€."), ["3.5", "€", "."]);
    }

    #[test]
    fn scripts_without_blanks_are_told() {
        assert!(!Words::Mteval13a.leaves_whole("Свет падает справа"));
        assert!(Words::Mteval13a.leaves_whole("光线从右边"));
        assert!(!Words::Chinese.leaves_whole("光线从右边"));
        assert!(Words::Chinese.leaves_whole("ひかり"));
        assert!(!Words::Characters.leaves_whole("ひかり"));
        assert_eq!("zh".parse(), Ok(Words::Chinese));
        let error = "latin".parse::<Words>().unwrap_err().to_string();
        assert!(error.contains("13a"), "{error}");
    }
}
