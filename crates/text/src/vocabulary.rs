//! The pieces of a vocabulary, and byte-pair merging.
//!
//! Merging follows SentencePiece: of all neighbours whose concatenation is a piece, those with the
//! best score merge first, the leftmost among equals. Other libraries work from a list of merges,
//! which cannot express equal scores; hence this implementation.

use std::{cmp::Reverse, collections::BinaryHeap};

use ahash::AHashMap;
use aho_corasick::{AhoCorasick, MatchKind};

use crate::SPIECE_UNDERLINE;

/// Maximum number of ids: more than any vocabulary of this family has, and few enough to bound
/// memory.
pub(crate) const MAX_IDS: usize = 300_000;
/// Maximum total bytes of all user-defined pieces, or of all added tokens.
pub(crate) const MAX_FIXED_BYTES: usize = 1 << 19;

/// An id with the byte range of the text it came from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Piece {
    pub(crate) id: u32,
    pub(crate) start: usize,
    pub(crate) end: usize,
}

/// Which neighbours merge, and in what order.
#[derive(Debug)]
pub(crate) enum Merging {
    /// A rank per id, lower first: neighbours merge if their concatenation is a piece with a rank.
    Ranks(Vec<Option<u32>>),
    /// Rank and merged id per pair of ids.
    Pairs(AHashMap<(u32, u32), (u32, u32)>),
}

/// A vocabulary as read from a file.
#[derive(Debug)]
pub(crate) struct VocabularyParts {
    /// Texts by id; an empty text means no piece.
    pub(crate) pieces: Vec<Box<str>>,
    pub(crate) merging: Merging,
    /// Ids of pieces that are matched before merging.
    pub(crate) user_defined: Vec<u32>,
    /// Whether unknown characters become `<0x..>` pieces.
    pub(crate) byte_fallback: bool,
    /// Whether consecutive unknown characters become one unknown piece.
    pub(crate) fuse_unk: bool,
    pub(crate) unk: u32,
}

/// A vocabulary, prepared for encoding.
#[derive(Debug)]
pub(crate) struct Vocabulary {
    pieces: Vec<Box<str>>,
    ids: AHashMap<Box<str>, u32>,
    merging: Merging,
    bytes: Option<Box<[Option<u32>; 256]>>,
    user_defined: Option<(AhoCorasick, Vec<u32>)>,
    fuse_unk: bool,
    unk: u32,
    /// Bytes of the longest merged piece.
    longest: usize,
    /// Whether no merge crosses from the end of a word into the U+2581 of the next, so that words
    /// can be merged separately.
    by_words: bool,
    /// Whether a merged piece has a U+2581 after its first character.
    spans_words: bool,
}

impl Vocabulary {
    /// Prepares a vocabulary.
    ///
    /// # Errors
    /// Two ids with the same text, or too many user-defined pieces. The message says which.
    pub(crate) fn new(parts: VocabularyParts) -> Result<Self, String> {
        let mut ids = AHashMap::with_capacity(parts.pieces.len());
        for (id, piece) in parts.pieces.iter().enumerate() {
            if !piece.is_empty()
                && let Some(first) = ids.insert(piece.clone(), id as u32)
            {
                return Err(format!("the piece {piece:?} twice, as {first} and {id}"));
            }
        }
        let bytes = parts.byte_fallback.then(|| {
            let id = |byte| ids.get(format!("<0x{byte:02X}>").as_str()).copied();
            Box::new(std::array::from_fn(id))
        });
        let fixed: Vec<&str> = parts
            .user_defined
            .iter()
            .map(|&id| &*parts.pieces[id as usize])
            .collect();
        let user_defined = match automaton(&fixed)? {
            Some(automaton) => Some((automaton, parts.user_defined)),
            None => None,
        };
        let made: Vec<&str> = match &parts.merging {
            Merging::Ranks(ranks) => {
                let ranked = parts.pieces.iter().zip(ranks);
                ranked
                    .filter_map(|(piece, rank)| rank.map(|_| &**piece))
                    .collect()
            }
            Merging::Pairs(pairs) => {
                let made = pairs.values().map(|&(_, id)| &*parts.pieces[id as usize]);
                made.collect()
            }
        };
        let longest = made.iter().map(|piece| piece.len()).max().unwrap_or(0);
        let crosses = |piece: &str| {
            let mut chars = piece.chars();
            let mut in_word = chars.next().is_some_and(|c| c != SPIECE_UNDERLINE);
            chars.any(|c| std::mem::replace(&mut in_word, c != SPIECE_UNDERLINE) && !in_word)
        };
        let by_words = !made.iter().any(|piece| crosses(piece));
        let spans_words = made
            .iter()
            .any(|piece| piece.chars().skip(1).any(|c| c == SPIECE_UNDERLINE));
        Ok(Self {
            longest,
            by_words,
            spans_words,
            bytes,
            user_defined,
            ids,
            pieces: parts.pieces,
            merging: parts.merging,
            fuse_unk: parts.fuse_unk,
            unk: parts.unk,
        })
    }

    /// Whether a merged piece reaches into a second word.
    pub(crate) fn spans_words(&self) -> bool {
        self.spans_words
    }

    /// Number of pieces.
    pub(crate) fn len(&self) -> usize {
        self.ids.len()
    }

    /// One more than the largest id.
    pub(crate) fn rows(&self) -> usize {
        self.pieces.len()
    }

    /// The text of an id.
    pub(crate) fn text(&self, id: u32) -> Option<&str> {
        let piece = self.pieces.get(id as usize)?;
        (!piece.is_empty()).then_some(piece)
    }

    /// The id of a text.
    pub(crate) fn id(&self, text: &str) -> Option<u32> {
        self.ids.get(text).copied()
    }

    /// The byte of a byte-fallback id.
    pub(crate) fn byte(&self, id: u32) -> Option<u8> {
        let bytes = self.bytes.as_ref()?;
        let byte = byte_of(self.text(id)?)?;
        (bytes[usize::from(byte)] == Some(id)).then_some(byte)
    }

    /// Appends the pieces of a text that starts at byte `at` of a larger text. Spaces become
    /// U+2581, and one more is prepended if `prefix` is true.
    pub(crate) fn encode(&self, text: &str, at: usize, prefix: bool, out: &mut Vec<Piece>) {
        let mut laid_out = String::with_capacity(text.len() + text.len() / 2 + 3);
        if prefix {
            laid_out.push(SPIECE_UNDERLINE);
        }
        laid_out.extend(
            text.chars()
                .map(|c| if c == ' ' { SPIECE_UNDERLINE } else { c }),
        );
        let mut fixed = self
            .user_defined
            .iter()
            .flat_map(|(automaton, ids)| {
                let found = automaton.find_iter(&laid_out);
                found.map(|found| (found.start(), found.end(), ids[found.pattern().as_usize()]))
            })
            .peekable();

        let mut run = Run::new(self, &laid_out);
        let mut origin = at;
        // The prepended U+2581 has no bytes in the text.
        let mut widths = prefix
            .then_some(0)
            .into_iter()
            .chain(text.chars().map(char::len_utf8));
        let mut chars = laid_out.char_indices();
        let mut in_word = false;
        while let Some((start, c)) = chars.next() {
            let from = origin;
            origin += widths.next().unwrap_or(0);
            if let Some(&(_, end, id)) = fixed.peek().filter(|(first, ..)| *first == start) {
                fixed.next();
                while chars.offset() < end && chars.next().is_some() {
                    origin += widths.next().unwrap_or(0);
                }
                run.finish(out);
                run.push_known(id, from, origin, out);
                in_word = false;
                continue;
            }
            let is_space = c == SPIECE_UNDERLINE;
            if is_space && in_word && self.by_words {
                run.finish(out);
            }
            in_word = !is_space;
            run.push(start, start + c.len_utf8(), from, origin);
        }
        run.finish(out);
    }
}

/// A matcher of fixed texts, leftmost-longest; `None` without texts.
pub(crate) fn automaton(texts: &[&str]) -> Result<Option<AhoCorasick>, String> {
    if texts.is_empty() {
        return Ok(None);
    }
    let bytes: usize = texts.iter().map(|text| text.len()).sum();
    if bytes > MAX_FIXED_BYTES {
        return Err(format!(
            "{bytes} bytes of tokens that are found as they are; more than {MAX_FIXED_BYTES} are not read"
        ));
    }
    AhoCorasick::builder()
        .match_kind(MatchKind::LeftmostLongest)
        .build(texts)
        .map(Some)
        .map_err(|error| error.to_string())
}

/// The byte of a byte-fallback piece such as `<0x0A>`.
pub(crate) fn byte_of(token: &str) -> Option<u8> {
    let hex = token.strip_prefix("<0x")?.strip_suffix('>')?;
    let is_hex = hex.len() == 2 && hex.bytes().all(|digit| digit.is_ascii_hexdigit());
    is_hex.then(|| u8::from_str_radix(hex, 16).ok()).flatten()
}

/// Neighbours to merge: the best rank first, then the leftmost.
type Candidate = Reverse<(u32, u32, u32, u32, u32)>;

/// A part of a text that is merged on its own.
struct Run<'a> {
    vocabulary: &'a Vocabulary,
    laid_out: &'a str,
    symbols: Vec<Symbol>,
    candidates: BinaryHeap<Candidate>,
    /// Whether the last piece was unknown.
    after_unknown: bool,
}

/// A symbol during merging: its bytes in the prepared text and in the original. Empty after it was
/// merged into its left neighbour.
struct Symbol {
    start: usize,
    end: usize,
    from: usize,
    to: usize,
    id: Option<u32>,
    previous: u32,
    next: u32,
}

/// No neighbour.
const NONE: u32 = u32::MAX;

impl<'a> Run<'a> {
    fn new(vocabulary: &'a Vocabulary, laid_out: &'a str) -> Self {
        Self {
            vocabulary,
            laid_out,
            symbols: Vec::new(),
            candidates: BinaryHeap::new(),
            after_unknown: false,
        }
    }

    fn push(&mut self, start: usize, end: usize, from: usize, to: usize) {
        let number = self.symbols.len() as u32;
        if let Some(last) = self.symbols.last_mut() {
            last.next = number;
        }
        let id = self.vocabulary.id(&self.laid_out[start..end]);
        let id = id.filter(|&id| match &self.vocabulary.merging {
            // Texts never encode to control pieces.
            Merging::Ranks(ranks) => ranks[id as usize].is_some(),
            Merging::Pairs(_) => true,
        });
        self.symbols.push(Symbol {
            start,
            end,
            from,
            to,
            id,
            previous: number.checked_sub(1).unwrap_or(NONE),
            next: NONE,
        });
    }

    /// Merges the pushed symbols and appends their pieces.
    fn finish(&mut self, out: &mut Vec<Piece>) {
        for left in 1..self.symbols.len() as u32 {
            self.propose(left - 1, left);
        }
        while let Some(Reverse((_, left, right, size, id))) = self.candidates.pop() {
            let (first, second) = (&self.symbols[left as usize], &self.symbols[right as usize]);
            let sizes = (first.end - first.start, second.end - second.start);
            if sizes.0 == 0 || sizes.1 == 0 || sizes.0 + sizes.1 != size as usize {
                continue;
            }
            let (end, to, next) = (second.end, second.to, second.next);
            self.symbols[right as usize].end = self.symbols[right as usize].start;
            let joined = &mut self.symbols[left as usize];
            (joined.end, joined.to, joined.next, joined.id) = (end, to, next, Some(id));
            let previous = joined.previous;
            if next != NONE {
                self.symbols[next as usize].previous = left;
                self.propose(left, next);
            }
            if previous != NONE {
                self.propose(previous, left);
            }
        }
        let mut symbols = std::mem::take(&mut self.symbols);
        for symbol in symbols.drain(..) {
            if symbol.end > symbol.start {
                match symbol.id {
                    Some(id) => self.push_known(id, symbol.from, symbol.to, out),
                    None => self.push_unknown(&symbol, out),
                }
            }
        }
        self.symbols = symbols;
    }

    fn propose(&mut self, left: u32, right: u32) {
        let (first, second) = (&self.symbols[left as usize], &self.symbols[right as usize]);
        let size = second.end - first.start;
        if size > self.vocabulary.longest {
            return;
        }
        let merge = match &self.vocabulary.merging {
            Merging::Ranks(ranks) => {
                let id = self.vocabulary.id(&self.laid_out[first.start..second.end]);
                id.and_then(|id| Some((ranks[id as usize]?, id)))
            }
            Merging::Pairs(pairs) => {
                let pair = first.id.zip(second.id);
                pair.and_then(|pair| pairs.get(&pair).copied())
            }
        };
        if let Some((rank, id)) = merge {
            self.candidates
                .push(Reverse((rank, left, right, size as u32, id)));
        }
    }

    fn push_known(&mut self, id: u32, start: usize, end: usize, out: &mut Vec<Piece>) {
        self.after_unknown = false;
        out.push(Piece { id, start, end });
    }

    /// Appends a character that is not a piece: as bytes, or as the unknown piece.
    fn push_unknown(&mut self, symbol: &Symbol, out: &mut Vec<Piece>) {
        let vocabulary = self.vocabulary;
        let text = &self.laid_out[symbol.start..symbol.end];
        let bytes = vocabulary.bytes.as_ref().and_then(|bytes| {
            let ids = text.bytes().map(|byte| bytes[usize::from(byte)]);
            ids.collect::<Option<Vec<u32>>>()
        });
        if let Some(ids) = bytes {
            for id in ids {
                self.push_known(id, symbol.from, symbol.to, out);
            }
            return;
        }
        match out.last_mut() {
            Some(last) if self.after_unknown && vocabulary.fuse_unk => last.end = symbol.to,
            _ => self.push_known(vocabulary.unk, symbol.from, symbol.to, out),
        }
        self.after_unknown = true;
    }
}
