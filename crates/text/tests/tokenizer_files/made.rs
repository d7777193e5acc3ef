//! Tokenizer files that the tests make.

use serde_json::{Value, json};

/// Fields of a protobuf message, as bytes.
pub(crate) fn field(tag: u32, value: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    prost::encoding::encode_key(tag, prost::encoding::WireType::LengthDelimited, &mut bytes);
    prost::encoding::encode_varint(value.len() as u64, &mut bytes);
    bytes.extend_from_slice(value);
    bytes
}

pub(crate) fn flag(tag: u32, value: u64) -> Vec<u8> {
    let mut bytes = Vec::new();
    prost::encoding::encode_key(tag, prost::encoding::WireType::Varint, &mut bytes);
    prost::encoding::encode_varint(value, &mut bytes);
    bytes
}

pub(crate) const TRAINER: u32 = 2;
pub(crate) const NORMALIZER: u32 = 3;
pub(crate) const DENORMALIZER: u32 = 5;

/// A `tokenizer.json` with a few pieces: ids 0 to 2, `▁`, letters, `▁a`, `ab`, `▁▁`.
pub(crate) fn small_json() -> Value {
    let pieces = ["<unk>", "<s>", "</s>", "▁", "a", "b", "c", "▁a", "ab", "▁▁"];
    let vocab: serde_json::Map<String, Value> = (0..)
        .zip(pieces)
        .map(|(id, piece)| (piece.to_owned(), json!(id)))
        .collect();
    json!({
        "added_tokens": [],
        "normalizer": { "type": "Sequence", "normalizers": [
            { "type": "Prepend", "prepend": "▁" },
            { "type": "Replace", "pattern": { "String": " " }, "content": "▁" },
        ] },
        "pre_tokenizer": null,
        "decoder": { "type": "Sequence", "decoders": [
            { "type": "Replace", "pattern": { "String": "▁" }, "content": " " },
            { "type": "ByteFallback" },
            { "type": "Fuse" },
            { "type": "Strip", "content": " ", "start": 1, "stop": 0 },
        ] },
        "model": { "type": "BPE", "unk_token": "<unk>", "fuse_unk": true, "byte_fallback": false,
            "vocab": vocab, "merges": [["a", "b"], "▁ a", ["▁", "▁"]] },
    })
}

pub(crate) fn json_bytes(json: &Value) -> Vec<u8> {
    serde_json::to_vec(json).unwrap()
}
