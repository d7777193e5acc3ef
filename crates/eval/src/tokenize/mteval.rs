//! sacreBLEU's tokenizers `13a`, `intl` and `zh`: the mteval scripts.

use unicode_general_category::{GeneralCategory, get_general_category};

use super::each_pair;

/// The language-dependent part of mteval-v13a. All its patterns are ASCII, so it works on bytes.
pub(super) fn western(text: &str) -> String {
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

/// mteval-v14, by Unicode categories.
pub(super) fn international(text: &str) -> String {
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
pub(super) fn is_chinese(c: char) -> bool {
    matches!(c,
        '\u{3400}'..='\u{4db5}' | '\u{4e00}'..='\u{9fa5}' | '\u{9fa6}'..='\u{9fbb}'
        | '\u{f900}'..='\u{fa2d}' | '\u{fa30}'..='\u{fa6a}' | '\u{fa70}'..='\u{fad9}'
        | '\u{2001}'..='\u{2a6d}' | '\u{2f81}'..='\u{2fa1}' | '\u{ff00}'..='\u{ffef}'
        | '\u{2e80}'..='\u{2eff}' | '\u{3000}'..='\u{303f}' | '\u{31c0}'..='\u{31ef}'
        | '\u{2f00}'..='\u{2fdf}' | '\u{2ff0}'..='\u{2fff}' | '\u{3100}'..='\u{312f}'
        | '\u{31a0}'..='\u{31bf}' | '\u{fe10}'..='\u{fe1f}' | '\u{fe30}'..='\u{fe4f}'
        | '\u{3200}'..='\u{32ff}' | '\u{3300}'..='\u{33ff}')
}
