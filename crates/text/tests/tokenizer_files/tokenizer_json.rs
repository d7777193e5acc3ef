//! `tokenizer.json`: the steps of a LLaMA tokenizer, or a refusal of another.

use std::path::Path;

use gallery_gpt_text::{Tokenizer, TokenizerMode};
use serde_json::{Value, json};

use crate::{
    made::{json_bytes, small_json},
    slow,
};

#[test]
fn steps_of_a_tokenizer_json_are_followed_or_refused_by_name() {
    let read = |json: &Value| slow("tokenizer.json", &json_bytes(json));
    let small = read(&small_json()).unwrap();
    assert_eq!(small.encode("ab a  a").unwrap(), [3, 8, 7, 3, 7]);
    let metaspace = |scheme: &str, split: bool| {
        let mut json = small_json();
        json["normalizer"] = Value::Null;
        json["pre_tokenizer"] = json!({ "type": "Metaspace", "replacement": "▁",
            "prepend_scheme": scheme, "split": split });
        json
    };
    for scheme in ["first", "always"] {
        let ids = read(&metaspace(scheme, false)).unwrap().encode("ab a  a");
        assert_eq!(ids.unwrap(), [3, 8, 7, 3, 7], "{scheme}");
    }
    let never = read(&metaspace("never", false)).unwrap();
    assert_eq!(never.encode("ab a").unwrap(), [8, 7]);
    assert_eq!(never.decode(&[7, 8], false), " aab");
    let refused = |change: &dyn Fn(&mut Value), expected: &str| {
        let mut json = small_json();
        change(&mut json);
        let error = read(&json).unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
        assert!(error.contains("tokenizer.json"), "{error}");
    };
    // "▁▁" is merged across what a split would keep apart.
    refused(&|json| *json = metaspace("first", true), "Metaspace");
    refused(
        &|json| json["normalizer"] = json!({ "type": "NFKC" }),
        "NFKC",
    );
    refused(&|json| json["normalizer"] = Value::Null, "normalizer []");
    refused(
        &|json| json["normalizer"]["normalizers"][1]["content"] = json!("_"),
        "Replace",
    );
    refused(
        &|json| json["pre_tokenizer"] = json!({ "type": "ByteLevel" }),
        "ByteLevel",
    );
    refused(
        &|json| json["model"]["type"] = json!("WordPiece"),
        "WordPiece",
    );
    refused(
        &|json| json["model"] = json!({ "type": "Unigram", "vocab": [["a", -1.0]], "unk_id": 0 }),
        "Unigram",
    );
    refused(&|json| json["model"]["dropout"] = json!(0.1), "dropout");
    refused(
        &|json| json["model"]["ignore_merges"] = json!(true),
        "ignore_merges",
    );
    refused(
        &|json| json["model"]["end_of_word_suffix"] = json!("</w>"),
        "end_of_word_suffix",
    );
    refused(
        &|json| json["model"]["merges"][0] = json!(["a", "x"]),
        "\"x\"",
    );
    refused(
        &|json| json["model"]["merges"][0] = json!(["b", "a"]),
        "\"ba\"",
    );
    refused(
        &|json| json["model"]["merges"][0] = json!("a b c"),
        "\"a b c\"",
    );
    refused(
        &|json| json["model"]["merges"][0] = json!(["a"]),
        "not two pieces",
    );
    refused(&|json| json["model"]["vocab"]["a"] = json!(5), "id 5");
    refused(
        &|json| json["model"]["vocab"]["a"] = json!(4_000_000_000_u32),
        "4000000000",
    );
    let fast = |json: &Value| {
        Tokenizer::from_bytes(
            Path::new("tokenizer.json"),
            &json_bytes(json),
            TokenizerMode::Fast,
        )
    };
    assert!(fast(&small_json()).is_ok());
    let mut json = small_json();
    json["decoder"] = json!({ "type": "ByteLevel" });
    assert!(fast(&json).unwrap_err().to_string().contains("ByteLevel"));
    assert!(
        read(&json).is_ok(),
        "the slow tokenizer has its own decoder"
    );
}

#[test]
fn a_row_that_begins_with_blanks_loses_one() {
    let mut json = small_json();
    json["model"]["vocab"]["▁▁▁▁"] = json!(10);
    json["model"]["merges"] = json!([["▁", "▁"], ["▁▁", "▁▁"]]);
    let tokenizer = slow("tokenizer.json", &json_bytes(&json)).unwrap();
    // Three marks are left, and are no piece: transformers' slow tokenizer would show them as they are.
    assert_eq!(tokenizer.encode("   a").unwrap(), [10, 4]);
    assert_eq!(tokenizer.decode(&[10, 4], false), "   a");
    assert_eq!(tokenizer.decode(&[4, 10], false), "a    ");
}
