//! SentencePiece models: its ids, or a refusal of the setting that changes them.

use gallery_gpt_text::{Tokenizer, TokenizerMode};
use serde_json::{Value, json};

use crate::{
    fixture,
    made::{DENORMALIZER, NORMALIZER, TRAINER, field, flag},
    read, slow,
};

#[test]
fn sentencepiece_models_give_the_ids_of_sentencepiece() {
    let all: Value = serde_json::from_slice(&read("ids.json")).unwrap();
    let mut cases = 0;
    for (name, texts) in all.as_object().unwrap() {
        let path = fixture(&format!("{name}.model"));
        let tokenizer = Tokenizer::from_file(path, TokenizerMode::Slow).unwrap();
        for case in texts.as_array().unwrap() {
            let text = case[0].as_str().unwrap();
            let found = tokenizer.encode(text).unwrap();
            assert_eq!(json!(found), case[1], "{name} {text:?}");
            cases += 1;
        }
    }
    assert!(cases > 150, "{cases} cases");
}

#[test]
fn settings_that_change_ids_are_refused_by_name() {
    let model = read("equal_scores.model");
    // A later field of a message takes the place of an earlier one.
    let cases = [
        (
            NORMALIZER,
            field(2, b"rules"),
            "precompiled_charsmap (rules `identity`)",
        ),
        (DENORMALIZER, field(2, b"rules"), "denormalizer_spec"),
        (NORMALIZER, flag(4, 1), "remove_extra_whitespaces"),
        (NORMALIZER, flag(5, 0), "escape_whitespaces"),
        (TRAINER, flag(24, 1), "treat_whitespace_as_suffix"),
        (TRAINER, flag(3, 1), "unigram"),
        (TRAINER, flag(3, 3), "word"),
        (TRAINER, flag(3, 4), "char"),
        (TRAINER, flag(35, 0), "byte_fallback is false"),
        (
            1,
            [field(1, b"light"), flag(3, 5)].concat(),
            "unused piece 305 (\"light\")",
        ),
        (1, [field(1, b"light"), flag(3, 9)].concat(), "type 9"),
        (1, field(1, b"an"), "\"an\" twice"),
        (1, field(1, b""), "no text"),
        (
            1,
            [field(1, b"light"), vec![0x15, 0, 0, 0xC0, 0x7F]].concat(),
            "score",
        ),
    ];
    for (tag, setting, expected) in cases {
        let changed = [model.clone(), field(tag, &setting)].concat();
        let error = slow("folder/tokenizer.model", &changed)
            .unwrap_err()
            .to_string();
        assert!(error.contains(expected), "{error}");
        assert!(error.contains("folder/tokenizer.model"), "{error}");
    }
    let harmless = [model, field(NORMALIZER, &field(1, b"nfkc")), flag(19, 7)].concat();
    slow("tokenizer.model", &harmless).unwrap();
}
