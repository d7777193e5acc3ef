//! Texts to words, in the ways that scores are defined on.
//!
//! Every way is another function of its reference library: a score without the name of its words says little.

use std::sync::LazyLock;

use regex::Regex;
use unicode_general_category::{GeneralCategory, get_general_category};

/// A way to cut a text into words.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Words {
    /// `str.split`.
    Whitespace,
    /// nltk's `wordpunct_tokenize`: runs of letters, digits and underscores, and runs of what is neither that nor blank.
    WordPunct,
    /// nltk's `TreebankWordTokenizer`, one sentence at a time.
    Treebank,
    /// sacreBLEU's `13a`: mteval-v13a, for Western languages.
    Mteval13a,
    /// sacreBLEU's `intl`: mteval-v14, by Unicode categories.
    International,
    /// sacreBLEU's `char`.
    Characters,
    /// sacreBLEU's `zh`: Chinese characters apart, the rest as in `13a`.
    Chinese,
}

impl Words {
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

    /// The words of a text.
    #[must_use]
    pub fn of(self, text: &str) -> Vec<String> {
        match self {
            Self::Whitespace => split(text),
            Self::WordPunct => wordpunct(text),
            Self::Treebank => treebank(text),
            Self::Mteval13a => {
                let text = text.replace("<skipped>", "");
                let text = text.replace("-\n", "").replace('\n', " ");
                // In this order: `&amp;lt;` becomes `<`.
                let text = text.replace("&quot;", "\"").replace("&amp;", "&");
                let text = text.replace("&lt;", "<").replace("&gt;", ">");
                western(&format!(" {text} "))
            }
            Self::International => international(text),
            Self::Characters => {
                let spaced: String = text.chars().flat_map(|c| [c, ' ']).collect();
                split(&spaced)
            }
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
}

/// What Python's `str.split` cuts at.
fn is_blank(c: char) -> bool {
    c.is_whitespace() || ('\u{1c}'..='\u{1f}').contains(&c)
}

fn split(text: &str) -> Vec<String> {
    text.split(is_blank)
        .filter(|word| !word.is_empty())
        .map(str::to_owned)
        .collect()
}

/// A word of `\w`, as Python has it.
fn is_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

fn wordpunct(text: &str) -> Vec<String> {
    let kind = |c: char| match c {
        c if is_word(c) => 0,
        c if is_blank(c) => 1,
        _ => 2,
    };
    let mut words: Vec<String> = Vec::new();
    let mut before = 1;
    for c in text.chars() {
        let now = kind(c);
        if now != 1 {
            match words.last_mut() {
                Some(word) if now == before => word.push(c),
                _ => words.push(c.into()),
            }
        }
        before = now;
    }
    words
}

/// Replaces every pair of neighbours that fits, from the left and without overlap, as a regular expression of two characters does.
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

fn is_point(c: char) -> bool {
    c == '.' || c == ','
}

/// The part of mteval-v13a that depends on the language.
fn western(text: &str) -> Vec<String> {
    let mut spaced = String::with_capacity(2 * text.len());
    for c in text.chars() {
        if matches!(c, '{'..='~' | '['..='`' | ' '..='&' | '('..='+' | ':'..='@' | '/') {
            spaced.extend([' ', c, ' ']);
        } else {
            spaced.push(c);
        }
    }
    let spaced = each_pair(
        &spaced,
        |a, b| !a.is_ascii_digit() && is_point(b),
        |out, a, b| out.extend([a, ' ', b, ' ']),
    );
    let spaced = each_pair(
        &spaced,
        |a, b| is_point(a) && !b.is_ascii_digit(),
        |out, a, b| out.extend([' ', a, ' ', b]),
    );
    let spaced = each_pair(
        &spaced,
        |a, b| a.is_ascii_digit() && b == '-',
        |out, a, b| out.extend([a, ' ', b, ' ']),
    );
    split(&spaced)
}

fn international(text: &str) -> Vec<String> {
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
    split(&out)
}

/// What sacreBLEU takes for Chinese. Two of its ranges were meant for the supplementary planes and read U+2001 to U+2A6D and U+2F81 to
/// U+2FA1 instead, dashes and curly quotes among them; scores are compared with its own, so they are kept.
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

/// The steps of the Penn Treebank's script, in nltk's order.
fn treebank(text: &str) -> Vec<String> {
    type Steps = Vec<(Regex, &'static str)>;
    fn compile(steps: &[(&str, &'static str)]) -> Steps {
        let steps = steps.iter();
        let steps = steps.map(|(pattern, by)| (Regex::new(pattern).expect("a valid pattern"), *by));
        steps.collect()
    }
    static BEFORE: LazyLock<Steps> = LazyLock::new(|| {
        compile(&[
            // Opening quotes.
            (r#"^""#, "``"),
            (r"(``)", " $1 "),
            (r#"([ (\[{<])("|'{2})"#, "$1 `` "),
            // Punctuation. Python's `$` also stands before a last line end.
            (r"([:,])([^\d])", " $1 $2"),
            (r"([:,])(\n?)\z", " $1 $2"),
            (r"\.\.\.", " ... "),
            (r"[;@#$%&]", " $0 "),
            (r#"([^.])(\.)([\])}>"']*)\s*\z"#, "$1 $2$3 "),
            (r"[?!]", " $0 "),
            (r"([^'])' ", "$1 ' "),
            (r"[\]\[(){}<>]", " $0 "),
            (r"--", " -- "),
        ])
    });
    static AFTER: LazyLock<Steps> = LazyLock::new(|| {
        compile(&[
            // Closing quotes and clitics.
            (r"''", " '' "),
            (r#"""#, " '' "),
            (r"([^' ])('[sS]|'[mM]|'[dD]|') ", "$1 $2 "),
            (r"([^' ])('ll|'LL|'re|'RE|'ve|'VE|n't|N'T) ", "$1 $2 "),
            // Contractions.
            (r"(?i)\b(can)(not)\b", " $1 $2 "),
            (r"(?i)\b(d)('ye)\b", " $1 $2 "),
            (r"(?i)\b(gim)(me)\b", " $1 $2 "),
            (r"(?i)\b(gon)(na)\b", " $1 $2 "),
            (r"(?i)\b(got)(ta)\b", " $1 $2 "),
            (r"(?i)\b(lem)(me)\b", " $1 $2 "),
            (r"(?i)\b(more)('n)\b", " $1 $2 "),
            (r"(?i)\b(wan)(na)(\s)", " $1 $2 $3"),
            (r"(?i) ('t)(is)\b", " $1 $2 "),
            (r"(?i) ('t)(was)\b", " $1 $2 "),
        ])
    });
    let apply = |mut text: String, steps: &Steps| {
        for (pattern, by) in steps {
            if let std::borrow::Cow::Owned(changed) = pattern.replace_all(&text, *by) {
                text = changed;
            }
        }
        text
    };
    let text = apply(text.to_owned(), &BEFORE);
    split(&apply(format!(" {text} "), &AFTER))
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
        assert_eq!(Words::Chinese.of("画的x"), ["画", "的", "x"]);
        assert_eq!(Words::Characters.of("a b"), ["a", "b"]);
        assert_eq!(Words::International.of("3.5€."), ["3.5", "€", "."]);
    }
}
