//! Folders of a tokenizer: added words, settings, and files that disagree or are missing.

use gallery_gpt_text::{
    IMAGE_TOKEN_INDEX, Tokenizer, TokenizerError, encode_prompt, literal_image,
};
use serde_json::{Value, json};

use crate::{
    made::{json_bytes, small_json},
    read,
};

/// A folder with a vocabulary of 305 pieces and files beside it.
fn folder(vocabulary: &str, files: &[(&str, Value)]) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    if vocabulary == "tokenizer.model" {
        std::fs::write(folder.path().join(vocabulary), read("equal_scores.model")).unwrap();
    } else {
        std::fs::write(folder.path().join(vocabulary), json_bytes(&small_json())).unwrap();
    }
    for (name, json) in files {
        std::fs::write(folder.path().join(name), json_bytes(json)).unwrap();
    }
    folder
}

#[test]
fn added_words_are_read_from_every_file() {
    let rules = |content: &str, special: bool| {
        json!({ "content": content, "special": special, "lstrip": false, "rstrip": false,
            "single_word": false, "normalized": !special })
    };
    let mut listed = small_json();
    listed["added_tokens"] = json!([{ "id": 305, "content": "<art>", "special": false }]);
    let decoder = json!({ "0": rules("<unk>", true), "305": rules("<art>", false),
        "306": rules("<image>", true) });
    let cases: [(&str, Vec<(&str, Value)>); 5] = [
        (
            "added_tokens.json",
            vec![("added_tokens.json", json!({ "<art>": 305 }))],
        ),
        (
            "added_tokens_decoder",
            vec![(
                "tokenizer_config.json",
                json!({ "added_tokens_decoder": decoder }),
            )],
        ),
        ("tokenizer.json beside", vec![("tokenizer.json", listed)]),
        (
            "special_tokens_map.json",
            vec![(
                "special_tokens_map.json",
                json!({ "bos_token": "<s>", "additional_special_tokens": [rules("<art>", true)] }),
            )],
        ),
        (
            "extra_special_tokens",
            vec![(
                "tokenizer_config.json",
                json!({ "extra_special_tokens": { "art": "<art>" } }),
            )],
        ),
    ];
    for (name, files) in cases {
        let folder = folder("tokenizer.model", &files);
        let tokenizer = Tokenizer::from_folder(folder.path()).unwrap();
        let pieces = tokenizer.encode("ban<art> nan").unwrap();
        let is = |id: u32| tokenizer.token(id).unwrap();
        let texts: Vec<String> = pieces.iter().map(|&id| is(id)).collect();
        assert_eq!(texts, ["▁ba", "n", "<art>", "▁", "nan"], "{name}");
        assert_eq!(pieces[2], 305, "{name}");
        assert_eq!(tokenizer.decode(&pieces, false), "ban<art> nan", "{name}");
        assert_eq!(tokenizer.required_rows(), 306, "{name}");
        assert!(tokenizer.check_rows(306).is_ok(), "{name}");
        let error = tokenizer.check_rows(305).unwrap_err().to_string();
        assert!(error.contains("<art>") && error.contains("305"), "{error}");
        assert!(tokenizer.notes().is_empty(), "{:?}", tokenizer.notes());
    }
}

#[test]
fn added_words_are_found_as_transformers_finds_them() {
    let all: Value = serde_json::from_slice(&read("added_words.json")).unwrap();
    for (name, case) in all.as_object().unwrap() {
        let special = if name == "word" || name == "single" {
            json!([])
        } else {
            json!(["<art>"])
        };
        let config = json!({ "legacy": false, "additional_special_tokens": special,
            "added_tokens_decoder": case["added_tokens_decoder"] });
        let folder = folder("tokenizer.model", &[("tokenizer_config.json", config)]);
        let tokenizer = Tokenizer::from_folder(folder.path()).unwrap();
        let texts = case["ids"].as_array().unwrap();
        assert_eq!(texts.len(), 10);
        for row in texts {
            let text = row[0].as_str().unwrap();
            let found = tokenizer.encode(text).unwrap();
            assert_eq!(json!(found), row[1], "{name} {text:?}");
        }
    }
}

#[test]
fn files_that_disagree_or_are_damaged_are_named() {
    let cases = [
        (
            "added_tokens.json",
            json!({ "ban": 1 }),
            "`ban` with id 1, which is the id of `<s>`",
        ),
        (
            "added_tokens.json",
            json!({ "an": 305 }),
            "`an` with id 305, which has id",
        ),
        (
            "added_tokens.json",
            json!({ "<art>": 4_000_000 }),
            "4000000",
        ),
        (
            "added_tokens.json",
            json!({ "<art>": -1 }),
            "added_tokens.json",
        ),
        (
            "tokenizer_config.json",
            json!({ "added_tokens_decoder": { "x": { "content": "<art>" } } }),
            "\"x\"",
        ),
        (
            "special_tokens_map.json",
            json!({ "bos_token": 7 }),
            "special_tokens_map.json",
        ),
    ];
    for (name, json, expected) in cases {
        let folder = folder("tokenizer.model", &[(name, json)]);
        let error = Tokenizer::from_folder(folder.path())
            .unwrap_err()
            .to_string();
        assert!(error.contains(expected) && error.contains(name), "{error}");
    }
    let two = folder(
        "tokenizer.json",
        &[
            ("added_tokens.json", json!({ "<art>": 10 })),
            (
                "tokenizer_config.json",
                json!({ "added_tokens_decoder": { "11": "<art>" } }),
            ),
        ],
    );
    let error = Tokenizer::from_folder(two.path()).unwrap_err().to_string();
    assert!(
        error.contains("`<art>` with id 10, which has id 11"),
        "{error}"
    );
}

#[test]
fn pictures_and_padding_are_no_words() {
    let config = json!({ "pad_token": "<fill>", "added_tokens_decoder": {
        "305": { "content": "<image>", "special": true }, "306": { "content": "<pad>" },
        "307": { "content": "<fill>" },
    } });
    let folder = folder("tokenizer.model", &[("tokenizer_config.json", config)]);
    let tokenizer = Tokenizer::from_folder(folder.path()).unwrap();
    assert_eq!(tokenizer.required_rows(), 305);
    for text in ["<image>", "<pad>", "<fill>"] {
        let ids = tokenizer.encode(text).unwrap();
        assert!(ids.iter().all(|&id| id < 305), "{text}: {ids:?}");
        assert_eq!(tokenizer.decode(&ids, false), text);
    }
    let prompt = encode_prompt(&tokenizer, &literal_image("a <image> b")).unwrap();
    assert!(!prompt.contains(&IMAGE_TOKEN_INDEX));
    assert_eq!(prompt[1..], {
        let ids = tokenizer.encode("a <image> b").unwrap();
        ids.into_iter().map(i64::from).collect::<Vec<_>>()
    });
}

#[test]
fn settings_that_are_not_followed_are_noted() {
    let config = json!({ "add_bos_token": false, "add_eos_token": true, "legacy": true,
        "clean_up_tokenization_spaces": true, "eos_token": "<|im_end|>",
        "added_tokens_decoder": { "305": { "content": "<|im_end|>", "special": true } } });
    let folder = folder("tokenizer.model", &[("tokenizer_config.json", config)]);
    let tokenizer = Tokenizer::from_folder(folder.path()).unwrap();
    let notes = tokenizer.notes().join("\n");
    for field in [
        "add_bos_token: false",
        "add_eos_token: true",
        "clean_up_tokenization_spaces: true",
        "`<|im_end|>` as eos_token",
        "legacy: true",
    ] {
        assert!(notes.contains(field), "{field} in {notes}");
    }
    let no_prefix = json!({ "add_prefix_space": false });
    let folder = self::folder("tokenizer.model", &[("tokenizer_config.json", no_prefix)]);
    let tokenizer = Tokenizer::from_folder(folder.path()).unwrap();
    assert_eq!(tokenizer.encode("an").unwrap(), [259]);
    assert_eq!(tokenizer.decode(&[274, 259], false), " an");
}

#[test]
fn git_lfs_pointers_are_called_so() {
    let pointer = b"version https://git-lfs.github.com/spec/v1\noid sha256:1f\nsize 499723\n";
    for name in ["tokenizer.json", "tokenizer.model"] {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join(name), pointer).unwrap();
        let error = Tokenizer::from_folder(folder.path()).unwrap_err();
        assert!(
            matches!(error, TokenizerError::LfsPointer { .. }),
            "{error}"
        );
        assert!(error.to_string().contains(name), "{error}");
    }
    let beside = folder("tokenizer.model", &[]);
    std::fs::write(beside.path().join("tokenizer_config.json"), pointer).unwrap();
    let error = Tokenizer::from_folder(beside.path())
        .unwrap_err()
        .to_string();
    assert!(
        error.contains("tokenizer_config.json is a Git LFS pointer"),
        "{error}"
    );
}

#[test]
fn qwens_file_is_read_before_others() {
    let folder = tempfile::tempdir().unwrap();
    let error = Tokenizer::from_folder(folder.path()).unwrap_err();
    assert!(error.to_string().contains("qwen.tiktoken"), "{error}");
    let goldens = std::path::Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../gallery-gpt/tests/goldens/qwen_basic/tokenizer/qwen.tiktoken");
    std::fs::copy(goldens, folder.path().join("qwen.tiktoken")).unwrap();
    let qwen = Tokenizer::from_folder(folder.path()).unwrap();
    let tokens = qwen.chat_ml().unwrap();
    assert_eq!(
        (qwen.family(), qwen.special_tokens(), qwen.mode()),
        ("Qwen", None, None)
    );
    assert_eq!(tokens.end_ids(), [422, 421, 420]);
    assert_eq!((qwen.vocab_size(), qwen.required_rows()), (637, 637));
    assert!(qwen.check_rows(637).is_ok());
    let error = qwen.check_rows(636).unwrap_err().to_string();
    assert!(
        error.contains("<imgpad>") && error.contains("636 rows"),
        "{error}"
    );
    std::fs::write(
        folder.path().join("tokenizer.model"),
        read("equal_scores.model"),
    )
    .unwrap();
    let both = Tokenizer::from_folder(folder.path()).unwrap();
    assert_eq!(both.family(), "Qwen");
    std::fs::remove_file(folder.path().join("qwen.tiktoken")).unwrap();
    let llama = Tokenizer::from_folder(folder.path()).unwrap();
    assert_eq!((llama.family(), llama.chat_ml()), ("LLaMA", None));
}
