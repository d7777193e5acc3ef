//! `tokenizer.json`: reads the vocabulary and the steps of a LLaMA tokenizer; other steps are
//! rejected by name.

use std::{fmt, path::Path};

use ahash::AHashMap;
use serde::{
    Deserialize, Deserializer,
    de::{DeserializeSeed, Error, SeqAccess, Visitor},
};

use crate::{
    SPIECE_UNDERLINE, SpecialTokens, TokenizerError,
    added_tokens::{AddedToken, MAX_ADDED},
    limited::{ListOf, MapOf},
    printable,
    vocabulary::{MAX_IDS, Merging, Vocabulary, VocabularyParts},
};

/// Maximum number of merges: a vocabulary has about two per piece.
const MAX_MERGES: usize = 4 * MAX_IDS;
/// Maximum number of steps in a sequence.
const MAX_STEPS: usize = 16;

/// Where U+2581 is prepended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Prefix {
    /// Nowhere.
    Never,
    /// A `Prepend` normalizer: to every text between added tokens.
    EveryText,
    /// `Metaspace` with `first`: to the first text, unless it begins with a space.
    FirstText,
    /// `Metaspace` with `always`: to every text that does not begin with a space.
    EveryTextWithoutSpace,
}

/// The contents of a `tokenizer.json`.
#[derive(Debug)]
pub(crate) struct JsonModel {
    pub(crate) vocabulary: Vocabulary,
    pub(crate) prefix: Prefix,
    pub(crate) added_tokens: Vec<AddedToken>,
    /// Why its decoder is not that of a LLaMA tokenizer, if so.
    pub(crate) foreign_decoder: Option<String>,
}

impl JsonModel {
    /// Checks what the fast tokenizer needs beyond the vocabulary.
    pub(crate) fn check_fast(&self, path: &Path) -> Result<(), TokenizerError> {
        let tokens = self.added_tokens.iter();
        // Matched in a text that already has its U+2581 prefix.
        let prepended = |token: &AddedToken| token.normalized && self.prefix == Prefix::EveryText;
        let mut rules = tokens.filter(|token| token.single_word || prepended(token));
        let rules = rules.next().map(|token| {
            format!(
                "added token `{}` that is single_word or normalized",
                token.content
            )
        });
        let foreign = self.foreign_decoder.clone().or(rules);
        foreign.map_or(Ok(()), |setting| Err(unsupported(path, &setting)))
    }
}

#[derive(Deserialize)]
struct File {
    #[serde(default)]
    added_tokens: ListOf<AddedToken, MAX_ADDED>,
    normalizer: Option<Step>,
    pre_tokenizer: Option<Step>,
    decoder: Option<Step>,
    model: Model,
}

#[derive(Deserialize)]
struct OnlyAddedTokens {
    #[serde(default)]
    added_tokens: ListOf<AddedToken, MAX_ADDED>,
}

#[derive(Deserialize)]
struct OnlyKind {
    model: Kind,
}

#[derive(Deserialize)]
struct Kind {
    #[serde(rename = "type")]
    kind: String,
}

#[derive(Deserialize)]
struct Model {
    #[serde(rename = "type")]
    kind: Option<String>,
    vocab: Vocab,
    merges: Option<Merges>,
    dropout: Option<f64>,
    unk_token: Option<String>,
    continuing_subword_prefix: Option<String>,
    end_of_word_suffix: Option<String>,
    #[serde(default)]
    fuse_unk: bool,
    #[serde(default)]
    byte_fallback: bool,
    #[serde(default)]
    ignore_merges: bool,
}

/// A normalizer, pre-tokenizer or decoder.
#[derive(Deserialize)]
struct Step {
    #[serde(rename = "type")]
    kind: String,
    #[serde(
        default,
        alias = "normalizers",
        alias = "pretokenizers",
        alias = "decoders"
    )]
    steps: ListOf<Self, MAX_STEPS>,
    prepend: Option<String>,
    pattern: Option<Pattern>,
    content: Option<String>,
    replacement: Option<String>,
    prepend_scheme: Option<String>,
    add_prefix_space: Option<bool>,
    split: Option<bool>,
    start: Option<u64>,
    stop: Option<u64>,
}

/// A text to match, or a regular expression, which no LLaMA tokenizer has.
#[derive(Deserialize)]
struct Pattern {
    #[serde(rename = "String")]
    string: Option<String>,
}

impl Step {
    /// The steps of a sequence, or this single step.
    fn flat(&self) -> Vec<&Self> {
        if self.kind == "Sequence" {
            self.steps.0.iter().flat_map(Self::flat).collect()
        } else {
            vec![self]
        }
    }

    fn is_replace(&self, from: &str, to: &str) -> bool {
        let pattern = self.pattern.as_ref();
        let pattern = pattern.and_then(|pattern| pattern.string.as_deref());
        self.kind == "Replace" && pattern == Some(from) && self.content.as_deref() == Some(to)
    }
}

fn flat(step: Option<&Step>) -> Vec<&Step> {
    step.map(Step::flat).unwrap_or_default()
}

/// Pieces with their ids.
struct Vocab(MapOf<u32, MAX_IDS>);

impl<'de> Deserialize<'de> for Vocab {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let entries = MapOf::deserialize(deserializer).map_err(|error| {
            D::Error::custom(format!("model.vocab: {error} (a map from pieces to ids)"))
        })?;
        Ok(Self(entries))
    }
}

/// Pairs of pieces, concatenated in one string.
#[derive(Default)]
struct Merges {
    texts: String,
    /// End positions of the left and the right piece of each pair.
    ends: Vec<(u32, u32)>,
}

impl<'de> Deserialize<'de> for Merges {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Pairs;
        impl<'de> Visitor<'de> for Pairs {
            type Value = Merges;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a list of merges")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Merges, A::Error> {
                let mut merges = Merges::default();
                while seq.next_element_seed(Pair(&mut merges))?.is_some() {
                    if merges.ends.len() > MAX_MERGES {
                        return Err(A::Error::custom(format!("more than {MAX_MERGES} merges")));
                    }
                }
                Ok(merges)
            }
        }
        deserializer.deserialize_seq(Pairs)
    }
}

/// One merge, `"a b"` or `["a", "b"]`.
struct Pair<'m>(&'m mut Merges);

impl<'de> DeserializeSeed<'de> for Pair<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Pair<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a merge of two pieces")
    }

    fn visit_str<E: Error>(self, merge: &str) -> Result<(), E> {
        let pair = merge.split_once(' ');
        let pair = pair.filter(|(_, right)| !right.contains(' '));
        let (left, right) = pair.ok_or_else(|| {
            E::custom(format!("the merge {merge:?} is not two pieces and a space"))
        })?;
        self.0.push(left);
        let middle = self.0.texts.len() as u32;
        self.0.push(right);
        self.0.end(middle);
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<(), A::Error> {
        let two = || A::Error::custom("a merge that is not two pieces");
        seq.next_element_seed(Text(&mut self.0.texts))?
            .ok_or_else(two)?;
        let middle = self.0.texts.len() as u32;
        seq.next_element_seed(Text(&mut self.0.texts))?
            .ok_or_else(two)?;
        self.0.end(middle);
        match seq.next_element::<serde::de::IgnoredAny>()? {
            None => Ok(()),
            Some(_) => Err(two()),
        }
    }
}

/// A string, appended to another.
struct Text<'m>(&'m mut String);

impl<'de> DeserializeSeed<'de> for Text<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl Visitor<'_> for Text<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a piece")
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<(), E> {
        self.0.push_str(text);
        Ok(())
    }
}

impl Merges {
    fn push(&mut self, text: &str) {
        self.texts.push_str(text);
    }

    fn end(&mut self, middle: u32) {
        self.ends.push((middle, self.texts.len() as u32));
    }

    fn pairs(&self) -> impl Iterator<Item = (&str, &str)> {
        let mut start = 0;
        self.ends.iter().map(move |&(middle, end)| {
            let (middle, end) = (middle as usize, end as usize);
            let pair = (&self.texts[start..middle], &self.texts[middle..end]);
            start = end;
            pair
        })
    }
}

/// Reads a `tokenizer.json`.
pub(crate) fn parse(path: &Path, bytes: &[u8]) -> Result<JsonModel, TokenizerError> {
    let malformed = |found: String| malformed(path, &found);
    let unsupported = |setting: String| unsupported(path, &setting);
    let file: File = serde_json::from_slice(bytes).map_err(|error| {
        // Other kinds of model have other fields; the kind tells more than the first missing field.
        match serde_json::from_slice::<OnlyKind>(bytes) {
            Ok(only) if only.model.kind != "BPE" => {
                unsupported(format!("model.type `{}`", only.model.kind))
            }
            _ => malformed(error.to_string()),
        }
    })?;
    let model = &file.model;
    if let Some(kind) = model.kind.as_deref().filter(|&kind| kind != "BPE") {
        return Err(unsupported(format!("model.type `{kind}`")));
    }
    let text = |text: &Option<String>| text.as_ref().is_some_and(|text| !text.is_empty());
    let refused = [
        (model.dropout.is_some_and(|rate| rate != 0.0), "dropout"),
        (
            text(&model.continuing_subword_prefix),
            "continuing_subword_prefix",
        ),
        (text(&model.end_of_word_suffix), "end_of_word_suffix"),
        (model.ignore_merges, "ignore_merges"),
    ];
    if let Some((_, setting)) = refused.into_iter().find(|(set, _)| *set) {
        return Err(unsupported(format!("model.{setting}")));
    }
    let (prefix, is_split) = prefix(&file).map_err(unsupported)?;
    let foreign_decoder = foreign_decoder(&file);
    let vocabulary = vocabulary(path, file.model)?;
    if is_split && vocabulary.spans_words() {
        return Err(unsupported(
            "pre_tokenizer `Metaspace` with split, and merges that reach into a second word"
                .to_owned(),
        ));
    }
    Ok(JsonModel {
        vocabulary,
        prefix,
        added_tokens: file.added_tokens.0,
        foreign_decoder,
    })
}

/// Only the added tokens, of a file whose vocabulary is not used.
pub(crate) fn added_tokens(path: &Path, bytes: &[u8]) -> Result<Vec<AddedToken>, TokenizerError> {
    let file: OnlyAddedTokens =
        serde_json::from_slice(bytes).map_err(|error| malformed(path, &error.to_string()))?;
    Ok(file.added_tokens.0)
}

fn unsupported(path: &Path, setting: &str) -> TokenizerError {
    TokenizerError::Unsupported {
        path: path.to_owned(),
        setting: printable(setting).into_owned(),
    }
}

fn malformed(path: &Path, found: &str) -> TokenizerError {
    TokenizerError::Malformed {
        path: path.to_owned(),
        expected: "tokenizer.json",
        found: printable(found).into_owned(),
    }
}

/// Where U+2581 is prepended, and whether texts are split into words before merging.
fn prefix(file: &File) -> Result<(Prefix, bool), String> {
    let underline = SPIECE_UNDERLINE.to_string();
    let normalizers = flat(file.normalizer.as_ref());
    let pre_tokenizers = flat(file.pre_tokenizer.as_ref());
    let is_prepend =
        |step: &Step| step.kind == "Prepend" && step.prepend.as_ref() == Some(&underline);
    let is_replace = |step: &Step| step.is_replace(" ", &underline);
    match (&normalizers[..], &pre_tokenizers[..]) {
        ([first, second], []) if is_prepend(first) && is_replace(second) => {
            Ok((Prefix::EveryText, false))
        }
        ([only], []) if is_replace(only) => Ok((Prefix::Never, false)),
        ([], [step])
            if step.kind == "Metaspace" && step.replacement.as_ref() == Some(&underline) =>
        {
            let scheme = match (step.prepend_scheme.as_deref(), step.add_prefix_space) {
                (Some("never"), _) | (None, Some(false)) => Prefix::Never,
                (Some("first"), _) => Prefix::FirstText,
                (Some("always") | None, _) => Prefix::EveryTextWithoutSpace,
                (Some(other), _) => return Err(format!("prepend_scheme `{other}`")),
            };
            Ok((scheme, step.split.unwrap_or(true)))
        }
        _ => {
            let names = |steps: &[&Step]| {
                let kinds: Vec<&str> = steps.iter().map(|step| step.kind.as_str()).collect();
                format!("[{}]", kinds.join(", "))
            };
            Err(format!(
                "normalizer {} with pre_tokenizer {}",
                names(&normalizers),
                names(&pre_tokenizers)
            ))
        }
    }
}

/// Why the decoder is not that of a LLaMA tokenizer, if so.
fn foreign_decoder(file: &File) -> Option<String> {
    let steps = flat(file.decoder.as_ref());
    let underline = SPIECE_UNDERLINE.to_string();
    let is_llama = match &steps[..] {
        [replace, bytes, fuse, strip] => {
            replace.is_replace(&underline, " ")
                && bytes.kind == "ByteFallback"
                && fuse.kind == "Fuse"
                && strip.kind == "Strip"
                && strip.content.as_deref() == Some(" ")
                && (strip.start, strip.stop) == (Some(1), Some(0))
        }
        _ => false,
    };
    let kinds: Vec<&str> = steps.iter().map(|step| step.kind.as_str()).collect();
    (!is_llama).then(|| format!("decoder [{}] with these settings", kinds.join(", ")))
}

fn vocabulary(path: &Path, model: Model) -> Result<Vocabulary, TokenizerError> {
    let malformed = |found: String| malformed(path, &found);
    let entries = model.vocab.0.0;
    let rows = entries.iter().map(|(_, id)| *id as usize + 1).max();
    let rows = rows.unwrap_or(0);
    if rows > MAX_IDS {
        return Err(malformed(format!(
            "a piece with id {}; {MAX_IDS} ids are read at most",
            rows - 1
        )));
    }
    let mut pieces = vec![Box::<str>::default(); rows];
    let mut ids = AHashMap::with_capacity(entries.len());
    for (text, id) in &entries {
        let place = &mut pieces[*id as usize];
        if !place.is_empty() && **place != **text {
            return Err(malformed(format!(
                "two pieces with id {id}: {place:?} and {text:?}"
            )));
        }
        if ids
            .insert(text.as_str(), *id)
            .is_some_and(|first| first != *id)
        {
            return Err(malformed(format!("two ids for the piece {text:?}")));
        }
        *place = text.as_str().into();
    }
    let merges = model.merges.unwrap_or_default();
    let mut pairs = AHashMap::with_capacity(merges.ends.len());
    let mut joined = String::new();
    for (rank, (left, right)) in merges.pairs().enumerate() {
        joined.clear();
        joined.push_str(left);
        joined.push_str(right);
        let id = |text: &str| {
            let id = ids.get(text).copied();
            id.ok_or_else(|| {
                malformed(format!(
                    "the merge of {left:?} and {right:?}, but no piece {text:?} in the vocabulary"
                ))
            })
        };
        pairs.insert((id(left)?, id(right)?), (rank as u32, id(&joined)?));
    }
    let [unk, ..] = SpecialTokens::TEXTS;
    let unk = model.unk_token.as_deref().unwrap_or(unk);
    let unk = ids
        .get(unk)
        .copied()
        .ok_or_else(|| TokenizerError::MissingToken {
            path: path.to_owned(),
            token: unk.to_owned(),
        })?;
    drop(ids);
    drop(entries);
    Vocabulary::new(VocabularyParts {
        pieces,
        merging: Merging::Pairs(pairs),
        user_defined: Vec::new(),
        byte_fallback: model.byte_fallback,
        fuse_unk: model.fuse_unk,
        unk,
    })
    .map_err(malformed)
}
