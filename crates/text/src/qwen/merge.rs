//! Splits a text into pieces and merges the bytes of each: neighbours whose join has the lowest rank first, the leftmost among equals.

use std::{cmp::Reverse, collections::BinaryHeap, sync::LazyLock};

use regex::Regex;

use super::vocabulary::Vocabulary;

/// The pieces, but for `\s+(?!\S)`: [`pieces`] gives the last of several blanks back to what follows.
static PIECE: LazyLock<Regex> = LazyLock::new(|| {
    let pattern = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+";
    Regex::new(pattern).expect("a fixed pattern")
});

/// The pieces of a text, in order; joined, they are the text.
fn pieces(text: &str) -> impl Iterator<Item = &str> {
    let mut at = 0;
    std::iter::from_fn(move || {
        let found = PIECE.find_at(text, at)?;
        let mut end = found.end();
        let piece = found.as_str();
        let is_blank = || piece.chars().all(char::is_whitespace);
        if end < text.len() && !piece.ends_with(['\r', '\n']) && is_blank() {
            let last = piece.chars().next_back().map_or(0, char::len_utf8);
            if last < piece.len() {
                end -= last;
            }
        }
        at = end;
        Some(&text[found.start()..end])
    })
}

/// Appends the ids of a text without special tokens.
pub(crate) fn encode(vocabulary: &Vocabulary, text: &str, out: &mut Vec<u32>) {
    for piece in pieces(text) {
        match vocabulary.id(piece.as_bytes()) {
            Some(id) => out.push(id),
            None => merge(vocabulary, piece.as_bytes(), out),
        }
    }
}

/// A run of bytes during merging; empty after it was joined to its left neighbour.
struct Symbol {
    start: u32,
    end: u32,
    id: u32,
    previous: u32,
    next: u32,
}

/// No neighbour.
const NONE: u32 = u32::MAX;

/// The rank of a join, and its left symbol in the lower half.
type Candidate = Reverse<u64>;

/// The join of a symbol and its right neighbour, if it is a token.
fn candidate(
    vocabulary: &Vocabulary,
    bytes: &[u8],
    symbols: &[Symbol],
    left: u32,
) -> Option<Candidate> {
    let first = &symbols[left as usize];
    let second = symbols.get(first.next as usize)?;
    let rank = vocabulary.id(&bytes[first.start as usize..second.end as usize])?;
    Some(Reverse(u64::from(rank) << 32 | u64::from(left)))
}

fn merge(vocabulary: &Vocabulary, bytes: &[u8], out: &mut Vec<u32>) {
    let count = bytes.len() as u32;
    let mut symbols: Vec<Symbol> = (0..count)
        .zip(bytes)
        .map(|(at, &byte)| Symbol {
            start: at,
            end: at + 1,
            id: vocabulary.byte(byte),
            previous: at.checked_sub(1).unwrap_or(NONE),
            next: if at + 1 < count { at + 1 } else { NONE },
        })
        .collect();
    let first = (0..count).filter_map(|left| candidate(vocabulary, bytes, &symbols, left));
    let mut candidates: BinaryHeap<Candidate> = first.collect();
    while let Some(Reverse(best)) = candidates.pop() {
        let (id, left) = ((best >> 32) as u32, best as u32);
        let one = &symbols[left as usize];
        let Some(other) = symbols.get(one.next as usize) else {
            continue;
        };
        // Another merge came first, unless the two are as long as the token: then they are its bytes.
        let length = vocabulary.token(id).map_or(0, <[u8]>::len) as u32;
        if one.start == one.end || other.end - one.start != length {
            continue;
        }
        let (right, end, next) = (one.next, other.end, other.next);
        symbols[right as usize].end = symbols[right as usize].start;
        let joined = &mut symbols[left as usize];
        (joined.end, joined.next, joined.id) = (end, next, id);
        let previous = joined.previous;
        if next != NONE {
            symbols[next as usize].previous = left;
        }
        candidates.extend(candidate(vocabulary, bytes, &symbols, left));
        if previous != NONE {
            candidates.extend(candidate(vocabulary, bytes, &symbols, previous));
        }
    }
    let left = symbols.iter().filter(|symbol| symbol.start < symbol.end);
    out.extend(left.map(|symbol| symbol.id));
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use proptest::prelude::*;

    use super::{super::vocabulary::tests::file, *};

    /// The rule as it is told: look at all neighbours, join the best, begin again.
    fn slowly(vocabulary: &Vocabulary, piece: &[u8]) -> Vec<u32> {
        let mut parts: Vec<Vec<u8>> = piece.iter().map(|&byte| vec![byte]).collect();
        loop {
            let ranks = parts.windows(2).enumerate();
            let ranks = ranks.filter_map(|(at, pair)| Some((vocabulary.id(&pair.concat())?, at)));
            let Some((_, at)) = ranks.min() else {
                return parts
                    .iter()
                    .map(|part| vocabulary.id(part).unwrap())
                    .collect();
            };
            let second = parts.remove(at + 1);
            parts[at].extend(second);
        }
    }

    fn vocabulary() -> Vocabulary {
        let words = [
            "ab", "aa", "bb", "aab", "abb", "aaaa", "ba", "bab", "abab", "cdc",
        ];
        Vocabulary::parse(Path::new("x"), file(&words).as_bytes()).unwrap()
    }

    #[test]
    fn a_piece_in_the_vocabulary_is_not_merged() {
        let mut ids = Vec::new();
        // No merge leads to it: neither `cd` nor `dc` is a token.
        encode(&vocabulary(), "cdc", &mut ids);
        assert_eq!(ids, [265]);
    }

    #[test]
    fn blanks_go_to_what_follows() {
        let split = |text| pieces(text).collect::<Vec<_>>();
        assert_eq!(split("a   b"), ["a", "  ", " b"]);
        assert_eq!(split("a   1"), ["a", "  ", " ", "1"]);
        assert_eq!(split("  \n  x \t"), ["  \n", " ", " x", " \t"]);
        assert_eq!(split("\u{3000}\u{3000}x"), ["\u{3000}", "\u{3000}x"]);
        assert_eq!(
            split("it'\u{17f} I'LL 12"),
            ["it", "'\u{17f}", " I", "'LL", " ", "1", "2"]
        );
        assert_eq!(split("?!\r\n\r\nx"), ["?!\r\n\r\n", "x"]);
    }

    proptest! {
        #[test]
        fn merging_is_as_the_rule_says(piece in "[abc]{0,40}") {
            let vocabulary = vocabulary();
            let mut ids = Vec::new();
            merge(&vocabulary, piece.as_bytes(), &mut ids);
            prop_assert_eq!(ids, slowly(&vocabulary, piece.as_bytes()));
        }

        #[test]
        fn pieces_joined_are_the_text(text in "([ \t\r\n'sL1.\u{3000}]|\\PC){0,40}") {
            prop_assert_eq!(pieces(&text).collect::<String>(), text);
        }
    }
}
