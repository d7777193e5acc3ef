//! SentencePiece `tokenizer.model`: reads its vocabulary, and rejects settings that are not
//! supported.
//!
//! Field numbers and defaults are those of `sentencepiece_model.proto` of google/sentencepiece.

use std::path::Path;

use prost::{
    Message,
    bytes::Buf,
    encoding::{DecodeContext, WireType, decode_key, decode_varint, skip_field},
};

use crate::{
    SpecialTokens, TokenizerError, printable,
    vocabulary::{MAX_IDS, Merging, Vocabulary, VocabularyParts},
};

#[derive(Clone, PartialEq, Message)]
struct SentencePiece {
    #[prost(string, optional, tag = "1")]
    piece: Option<String>,
    #[prost(float, optional, tag = "2")]
    score: Option<f32>,
    #[prost(int32, optional, tag = "3")]
    kind: Option<i32>,
}

#[derive(Clone, PartialEq, Message)]
struct TrainerSpec {
    #[prost(int32, optional, tag = "3")]
    model_type: Option<i32>,
    #[prost(bool, optional, tag = "24")]
    treat_whitespace_as_suffix: Option<bool>,
    #[prost(bool, optional, tag = "35")]
    byte_fallback: Option<bool>,
}

#[derive(Clone, PartialEq, Message)]
struct NormalizerSpec {
    #[prost(string, optional, tag = "1")]
    name: Option<String>,
    #[prost(bytes = "vec", optional, tag = "2")]
    precompiled_charsmap: Option<Vec<u8>>,
    #[prost(bool, optional, tag = "3")]
    add_dummy_prefix: Option<bool>,
    #[prost(bool, optional, tag = "4")]
    remove_extra_whitespaces: Option<bool>,
    #[prost(bool, optional, tag = "5")]
    escape_whitespaces: Option<bool>,
}

/// `SentencePiece.Type`.
const NORMAL: i32 = 1;
const UNKNOWN: i32 = 2;
const CONTROL: i32 = 3;
const USER_DEFINED: i32 = 4;
const UNUSED: i32 = 5;
const BYTE: i32 = 6;

/// `TrainerSpec.ModelType`, by number.
const MODEL_TYPES: [&str; 5] = ["unset", "unigram", "BPE", "word", "char"];
/// The default of an absent model type.
const UNIGRAM: i32 = 1;
const BPE: i32 = 2;

/// Maximum bytes of a merged piece: SentencePiece limits pieces to 512 characters.
const MAX_PIECE_BYTES: usize = 4 * 512;

/// A vocabulary, and the one setting that changes how texts are prepared.
#[derive(Debug)]
pub(crate) struct PieceModel {
    pub(crate) vocabulary: Vocabulary,
    /// Whether a U+2581 is prepended to each text (`add_dummy_prefix`).
    pub(crate) dummy_prefix: bool,
}

/// The fields of the file that are used.
#[derive(Default)]
struct ModelFile {
    pieces: Vec<SentencePiece>,
    trainer: Option<TrainerSpec>,
    normalizer: NormalizerSpec,
    denormalizer: NormalizerSpec,
}

/// Parses the bytes of a `tokenizer.model`.
pub(crate) fn parse(path: &Path, bytes: &[u8]) -> Result<PieceModel, TokenizerError> {
    let malformed = |found: String| TokenizerError::Malformed {
        path: path.to_owned(),
        expected: "SentencePiece BPE model",
        found: printable(&found).into_owned(),
    };
    let file = read(bytes).map_err(malformed)?;
    let Some(trainer) = &file.trainer else {
        return Err(malformed("no trainer_spec.model_type".to_owned()));
    };
    let model_type = trainer.model_type.unwrap_or(UNIGRAM);
    if model_type != BPE {
        let name = usize::try_from(model_type).ok();
        let name = name.and_then(|number| MODEL_TYPES.get(number));
        return Err(malformed(format!(
            "model type {model_type} ({}); only BPE models are read",
            name.unwrap_or(&"unknown")
        )));
    }
    let normalizer = &file.normalizer;
    let unsupported = |setting: String| TokenizerError::Unsupported {
        path: path.to_owned(),
        setting: printable(&setting).into_owned(),
    };
    let rules = |spec: &NormalizerSpec| {
        let rules = spec.precompiled_charsmap.as_ref();
        rules.is_some_and(|rules| !rules.is_empty())
    };
    let refused = [
        (
            rules(normalizer),
            format!(
                "normalizer_spec.precompiled_charsmap (rules `{}`)",
                normalizer.name.as_deref().unwrap_or_default()
            ),
        ),
        (
            rules(&file.denormalizer),
            "denormalizer_spec.precompiled_charsmap".to_owned(),
        ),
        (
            normalizer.remove_extra_whitespaces.unwrap_or(true),
            "normalizer_spec.remove_extra_whitespaces".to_owned(),
        ),
        (
            !normalizer.escape_whitespaces.unwrap_or(true),
            "normalizer_spec.escape_whitespaces = false".to_owned(),
        ),
        (
            trainer.treat_whitespace_as_suffix.unwrap_or(false),
            "trainer_spec.treat_whitespace_as_suffix".to_owned(),
        ),
    ];
    if let Some((_, setting)) = refused.into_iter().find(|(set, _)| *set) {
        return Err(unsupported(setting));
    }
    let byte_fallback = trainer.byte_fallback.unwrap_or(false);
    let dummy_prefix = normalizer.add_dummy_prefix.unwrap_or(true);
    let parts = parts(file.pieces, byte_fallback).map_err(|wrong| match wrong {
        Wrong::Malformed(found) => malformed(found),
        Wrong::Unsupported(setting) => unsupported(setting),
    })?;
    Ok(PieceModel {
        vocabulary: Vocabulary::new(parts).map_err(malformed)?,
        dummy_prefix,
    })
}

/// Reads the file field by field, so that memory is bounded: unused fields are dropped, and the
/// number of pieces is limited.
fn read(bytes: &[u8]) -> Result<ModelFile, String> {
    fn field<'a>(rest: &mut &'a [u8]) -> Result<&'a [u8], String> {
        let length = decode_varint(rest).map_err(|error| error.to_string())?;
        let length = usize::try_from(length).ok();
        let (value, after) = length
            .and_then(|length| rest.split_at_checked(length))
            .ok_or("a field longer than the file")?;
        *rest = after;
        Ok(value)
    }
    let mut file = ModelFile::default();
    let mut rest = bytes;
    while rest.has_remaining() {
        let (tag, wire_type) = decode_key(&mut rest).map_err(|error| error.to_string())?;
        if wire_type != WireType::LengthDelimited || !(1..=5).contains(&tag) {
            skip_field(wire_type, tag, &mut rest, DecodeContext::default())
                .map_err(|error| error.to_string())?;
            continue;
        }
        let value = field(&mut rest)?;
        let read = match tag {
            1 => {
                if file.pieces.len() == MAX_IDS {
                    return Err(format!("more than {MAX_IDS} pieces"));
                }
                let id = file.pieces.len();
                let piece =
                    SentencePiece::decode(value).map_err(|error| format!("piece {id}: {error}"))?;
                if piece.piece.as_ref().is_none_or(String::is_empty) {
                    return Err(format!("piece {id} has no text"));
                }
                file.pieces.push(piece);
                Ok(())
            }
            2 => file.trainer.get_or_insert_default().merge(value),
            3 => file.normalizer.merge(value),
            5 => file.denormalizer.merge(value),
            _ => Ok(()),
        };
        read.map_err(|error| error.to_string())?;
    }
    if file.pieces.is_empty() {
        return Err("a vocabulary of 0 pieces".to_owned());
    }
    Ok(file)
}

/// Why the pieces are not a usable vocabulary.
enum Wrong {
    Malformed(String),
    Unsupported(String),
}

fn parts(pieces: Vec<SentencePiece>, byte_fallback: bool) -> Result<VocabularyParts, Wrong> {
    let mut texts = Vec::with_capacity(pieces.len());
    let mut scores = Vec::with_capacity(pieces.len());
    let mut user_defined = Vec::new();
    let mut bytes = 0;
    let mut unk = None;
    for (id, piece) in pieces.into_iter().enumerate() {
        let text = piece.piece.unwrap_or_default();
        let score = piece.score.unwrap_or_default();
        let mut merged = None;
        match piece.kind.unwrap_or(NORMAL) {
            NORMAL if text.len() > MAX_PIECE_BYTES => {
                return Err(Wrong::Malformed(format!(
                    "piece {id} of {} bytes; SentencePiece makes none of more than {MAX_PIECE_BYTES}",
                    text.len()
                )));
            }
            NORMAL if score.is_nan() => {
                return Err(Wrong::Malformed(format!(
                    "piece {id} ({text:?}) with a score that is no number"
                )));
            }
            NORMAL => merged = Some(score),
            UNKNOWN => unk = Some(id as u32),
            CONTROL => {}
            USER_DEFINED => user_defined.push(id as u32),
            UNUSED => return Err(Wrong::Unsupported(format!("unused piece {id} ({text:?})"))),
            BYTE => bytes += 1,
            other => {
                return Err(Wrong::Malformed(format!(
                    "piece {id} ({text:?}) of type {other}"
                )));
            }
        }
        texts.push(text.into_boxed_str());
        scores.push(merged);
    }
    let expected = if byte_fallback { 256 } else { 0 };
    if bytes != expected {
        return Err(Wrong::Malformed(format!(
            "{bytes} byte pieces where trainer_spec.byte_fallback is {byte_fallback}, expected {expected}"
        )));
    }
    let unk = unk.ok_or_else(|| {
        let [unk, ..] = SpecialTokens::TEXTS;
        Wrong::Malformed(format!("no piece of type unknown, which `{unk}` should be"))
    })?;
    Ok(VocabularyParts {
        merging: Merging::Ranks(ranks(&scores)),
        pieces: texts,
        user_defined,
        byte_fallback,
        fuse_unk: true,
        unk,
    })
}

/// The rank of each score, the best first; equal scores share a rank.
fn ranks(scores: &[Option<f32>]) -> Vec<Option<u32>> {
    // Makes minus zero equal to zero.
    let place = |score: f32| score + 0.0;
    let mut distinct: Vec<f32> = scores.iter().flatten().map(|&score| place(score)).collect();
    distinct.sort_unstable_by(|a, b| b.total_cmp(a));
    distinct.dedup();
    let rank = |score| distinct.partition_point(|&other| other > score) as u32;
    let ranks = scores
        .iter()
        .map(|score| score.map(|score| rank(place(score))));
    ranks.collect()
}
