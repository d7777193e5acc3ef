//! nltk's `TreebankWordTokenizer`: the Penn Treebank's script.

use std::{borrow::Cow, sync::LazyLock};

use regex::Regex;
use unicode_general_category::{GeneralCategory, get_general_category};

use super::{each_pair, is_white_space};

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
    let body = text.trim_end_matches(is_white_space);
    let before = body.trim_end_matches([']', ')', '}', '>', '"', '\'']);
    match before.strip_suffix('.') {
        Some(sentence) if !sentence.is_empty() && !sentence.ends_with('.') => {
            format!("{sentence} .{} ", &body[before.len()..])
        }
        _ => text,
    }
}

/// The steps of the Penn Treebank's script, in nltk's order.
pub(super) fn treebank(text: &str) -> String {
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
