//! SentencePiece `tokenizer.model`: the vocabulary out of its protobuf.
//!
//! Field numbers from `sentencepiece_model.proto` of google/sentencepiece.

use std::path::Path;

use prost::Message;

use crate::TokenizerError;

#[derive(Clone, PartialEq, Message)]
struct ModelProto {
    #[prost(message, repeated, tag = "1")]
    pieces: Vec<SentencePiece>,
    #[prost(message, optional, tag = "2")]
    trainer_spec: Option<TrainerSpec>,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct SentencePiece {
    #[prost(string, optional, tag = "1")]
    pub(crate) piece: Option<String>,
    #[prost(float, optional, tag = "2")]
    pub(crate) score: Option<f32>,
    #[prost(int32, optional, tag = "3")]
    kind: Option<i32>,
}

#[derive(Clone, PartialEq, Message)]
struct TrainerSpec {
    #[prost(int32, optional, tag = "3")]
    model_type: Option<i32>,
}

/// `SentencePiece.Type.NORMAL`, also what an absent field means.
const NORMAL: i32 = 1;
/// `TrainerSpec.ModelType.BPE`.
const BPE: i32 = 2;

/// A vocabulary: piece texts by id, and merges in order of preference.
#[derive(Debug)]
pub(crate) struct PieceModel {
    pub(crate) pieces: Vec<String>,
    pub(crate) merges: Vec<(String, String)>,
}

/// Reads the vocabulary out of the bytes of a `tokenizer.model`.
pub(crate) fn parse(path: &Path, bytes: &[u8]) -> Result<PieceModel, TokenizerError> {
    let malformed = |found: String| TokenizerError::Malformed {
        path: path.to_owned(),
        expected: "SentencePiece BPE model",
        found,
    };
    let proto = ModelProto::decode(bytes).map_err(|error| malformed(error.to_string()))?;
    let model_type = proto.trainer_spec.as_ref().and_then(|spec| spec.model_type);
    if model_type != Some(BPE) {
        return Err(malformed(match model_type {
            None => "no trainer_spec.model_type".to_owned(),
            Some(other) => format!("model type {other} (BPE is {BPE})"),
        }));
    }
    if proto.pieces.is_empty() {
        return Err(malformed("a vocabulary of 0 pieces".to_owned()));
    }
    let mut pieces = Vec::with_capacity(proto.pieces.len());
    for (id, piece) in proto.pieces.iter().enumerate() {
        match piece.piece.as_deref() {
            Some(text) if !text.is_empty() => pieces.push(text.to_owned()),
            _ => return Err(malformed(format!("piece {id} has no text"))),
        }
    }
    Ok(PieceModel {
        merges: merges(&proto.pieces),
        pieces,
    })
}

/// The merges that lead to each piece, best score first.
///
/// SentencePiece joins the neighbouring pair whose joined piece has the best score; a merge list ranked by that
/// score, with every way to split a piece, makes the same choices.
fn merges(pieces: &[SentencePiece]) -> Vec<(String, String)> {
    let ids: std::collections::HashMap<&str, usize> = pieces
        .iter()
        .enumerate()
        .filter_map(|(id, piece)| Some((piece.piece.as_deref()?, id)))
        .collect();
    let mut merges = Vec::new();
    for piece in pieces {
        let text = piece.piece.as_deref().unwrap_or_default();
        if piece.kind.unwrap_or(NORMAL) != NORMAL {
            continue;
        }
        let mut splits: Vec<_> = text
            .char_indices()
            .skip(1)
            .filter_map(|(at, _)| {
                let (left, right) = text.split_at(at);
                Some((*ids.get(left)?, *ids.get(right)?, left, right))
            })
            .collect();
        splits.sort_unstable_by_key(|&(left, right, _, _)| (left, right));
        let score = piece.score.unwrap_or_default();
        merges.extend(
            splits
                .into_iter()
                .map(|(_, _, left, right)| (score, left.to_owned(), right.to_owned())),
        );
    }
    merges.sort_by(|a, b| b.0.total_cmp(&a.0));
    merges
        .into_iter()
        .map(|(_, left, right)| (left, right))
        .collect()
}
