//! Token ids, texts and label masks: exact.

use gallery_gpt::text::{
    Conversation, ConversationError, Role, TemplateKind, Tokenizer, TokenizerMode, Turn,
    encode_conversation, encode_prompt,
};
use serde_json::Value;

use crate::{
    case::Case,
    fixtures::{Variant, ids, list, text},
};

/// Tokenizers by their names.
type Named = Vec<(&'static str, Tokenizer)>;

pub(crate) fn cases(variant: &Variant) -> Vec<Case> {
    vec![
        Case::new("encode", encode),
        Case::new("decode", decode),
        Case::new("image_token", image_token),
        Case::of_path(variant, "tokenizer/slow_reference.json", slow_reference),
        Case::new("labels", labels),
        Case::absent("the slow tokenizer with legacy=True, which LLaVA does not run"),
    ]
}

fn fast(variant: &Variant) -> Named {
    let names = ["legacy", "legacy_hf", "metaspace", "metaspace_hf"];
    let tokenizer = |name| {
        let path = variant.path(&format!("tokenizer/{name}/tokenizer.json"));
        let tokenizer = Tokenizer::from_file(path, TokenizerMode::Fast);
        (name, tokenizer.unwrap())
    };
    names.into_iter().map(tokenizer).collect()
}

/// The slow tokenizer, which must come out the same from every file.
fn slow(variant: &Variant) -> Named {
    let files = [
        "tokenizer.model",
        "legacy/tokenizer.json",
        "legacy_hf/tokenizer.json",
        "metaspace/tokenizer.json",
        "metaspace_hf/tokenizer.json",
    ];
    let tokenizer = |file| {
        let path = variant.path(&format!("tokenizer/{file}"));
        let tokenizer = Tokenizer::from_file(path, TokenizerMode::Slow);
        (file, tokenizer.unwrap())
    };
    files.into_iter().map(tokenizer).collect()
}

fn encode(variant: &Variant) {
    let (fast, slow) = (fast(variant), slow(variant));
    for case in list(&variant.json("tokenizer/cases.json")["encode"]) {
        encode_case(variant, &fast, &slow, case);
    }
}

fn decode(variant: &Variant) {
    let fast = fast(variant);
    for case in list(&variant.json("tokenizer/cases.json")["decode"]) {
        let row: Vec<u32> = ids(&case["ids"]).into_iter().map(|id| id as u32).collect();
        for (name, tokenizer) in &fast {
            if let Some(expected) = case.get(*name) {
                decodes(variant, name, tokenizer, &row, expected);
            }
        }
    }
}

fn image_token(variant: &Variant) {
    let slow = slow(variant).swap_remove(0).1;
    let tokenizers = fast(variant).into_iter().chain([("llava_slow", slow)]);
    let cases = variant.json("tokenizer/cases.json");
    for (name, tokenizer) in tokenizers {
        for case in list(&cases["tokenizer_image_token"]) {
            if let Some(expected) = case.get(name) {
                let found = encode_prompt(&tokenizer, text(&case["text"])).unwrap();
                assert_eq!(found, ids(expected), "{}", variant.at(text(&case["text"])));
            }
        }
    }
}

fn encode_case(
    variant: &Variant,
    fast: &[(&str, Tokenizer)],
    slow: &[(&str, Tokenizer)],
    case: &Value,
) {
    let input = text(&case["text"]);
    for (name, tokenizer) in fast {
        let at = variant.at(&format!("{name} {input:?}"));
        let expected = &case[*name];
        let found = tokenizer.encode(input).unwrap();
        let found_ids: Vec<i64> = found.iter().map(|&id| i64::from(id)).collect();
        assert_eq!(found_ids, ids(&expected["ids_no_bos"]), "{at}");
        let mut all = vec![tokenizer.special_tokens().unwrap().bos];
        all.extend(&found);
        let tokens: Vec<String> = all.iter().map(|&id| tokenizer.token(id).unwrap()).collect();
        let expected_tokens: Vec<&str> = list(&expected["tokens"]).iter().map(text).collect();
        assert_eq!(tokens, expected_tokens, "{at}");
        decodes(variant, name, tokenizer, &all, expected);
    }
    for (file, tokenizer) in slow {
        let mut found = vec![i64::from(tokenizer.special_tokens().unwrap().bos)];
        found.extend(tokenizer.encode(input).unwrap().into_iter().map(i64::from));
        let at = variant.at(&format!("slow from {file} {input:?}"));
        assert_eq!(found, ids(&case["llava_slow"]["ids"]), "{at}");
    }
}

fn decodes(variant: &Variant, name: &str, tokenizer: &Tokenizer, row: &[u32], expected: &Value) {
    let at = variant.at(&format!("{name} decodes {row:?}"));
    assert_eq!(
        tokenizer.decode(row, false),
        text(&expected["decoded"]),
        "{at}"
    );
    let skipped = text(&expected["decoded_skip_special"]);
    assert_eq!(tokenizer.decode(row, true), skipped, "{at}");
}

fn slow_reference(variant: &Variant) {
    let reference = &variant.json("tokenizer/slow_reference.json")["llava_slow"];
    for (file, tokenizer) in &slow(variant) {
        for case in list(&reference["encode"])
            .iter()
            .chain(list(&reference["decode"]))
        {
            let row: Vec<u32> = ids(&case["ids"]).into_iter().map(|id| id as u32).collect();
            decodes(variant, file, tokenizer, &row, case);
        }
        for case in list(&reference["tokenizer_image_token"]) {
            let found = encode_prompt(tokenizer, text(&case["text"])).unwrap();
            assert_eq!(found, ids(&case["ids"]), "{}", variant.at(file));
        }
    }
}

fn labels(variant: &Variant) {
    let (fast, slow) = (fast(variant), slow(variant));
    let template = TemplateKind::VicunaV1.template();
    for row in list(&variant.json("tokenizer/labels.json")) {
        let name = text(&row["tokenizer"]);
        let at = variant.at(&format!("labels of {} with {name}", text(&row["name"])));
        let mut conversation = Conversation::default();
        for turn in list(&row["conversation"]) {
            conversation.turns.push(Turn {
                role: if turn["from"] == "human" {
                    Role::User
                } else {
                    Role::Assistant
                },
                text: text(&turn["value"]).to_owned(),
            });
        }
        let tokenizers: Vec<&Tokenizer> = match name {
            "llava_slow" => slow.iter().map(|(_, tokenizer)| tokenizer).collect(),
            _ => fast
                .iter()
                .filter(|(fast, _)| *fast == name)
                .map(|(_, tokenizer)| tokenizer)
                .collect(),
        };
        assert!(!tokenizers.is_empty(), "{at}");
        for tokenizer in tokenizers {
            let found = encode_conversation(tokenizer, &template, &conversation);
            let flag_is_wrong = name == "llava_slow" && row["legacy_flag"] == true;
            match (found, row["mismatch"] == true) {
                (Ok(found), false) => {
                    assert_eq!(found.input_ids, ids(&row["input_ids"]), "{at}");
                    assert_eq!(found.labels, ids(&row["labels"]), "{at}");
                }
                // The reference lost the mask by counting with the wrong flag; ours does not count.
                (Ok(found), true) if flag_is_wrong => {
                    assert_eq!(found.input_ids, ids(&row["input_ids"]), "{at}");
                    assert!(found.supervised() > 0, "{at}");
                }
                // Where the reference masks the whole record, ours is an error.
                (Err(ConversationError::ReservedText { .. }), true) => {}
                (found, mismatch) => panic!("{at}: {found:?}, reference mismatch {mismatch}"),
            }
        }
    }
}
