//! nltk's `wordpunct_tokenize`.

use unicode_general_category::{GeneralCategory, get_general_category};

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

/// The text with spaces between its words; other white space is kept.
pub(super) fn wordpunct(text: &str) -> String {
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
