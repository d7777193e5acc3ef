//! What a folder says of its answers: their ends, and their settings.

use burn::tensor::Device;
use gallery_gpt_checkpoint::{ChatSettings, CheckpointError, LoadOptions, load_model};
use serde_json::json;

use super::{changed, folder, open};

const GENERATION: &str = "generation_config.json";

/// Notes of a load.
fn notes(folder: &tempfile::TempDir) -> Vec<String> {
    let options = LoadOptions::default();
    let (_, report) = load_model(folder.path(), &Device::flex(), &options).unwrap();
    report.notes
}

#[test]
fn an_answer_ends_where_a_turn_of_its_tokenizer_does() {
    let whole = folder();
    assert_eq!(open(&whole).unwrap().config().end_ids, [420, 421, 422]);
    assert!(notes(&whole).is_empty(), "{:?}", notes(&whole));
    // What the configs list is added; `config.json` counts where the other names no end.
    let listed = changed(GENERATION, |json| json["eos_token_id"] = json!([7, 420]));
    assert_eq!(open(&listed).unwrap().config().end_ids, [7, 420, 421, 422]);
    let elsewhere = changed("config.json", |json| json["eos_token_id"] = json!(9));
    let config = open(&elsewhere).unwrap().config().clone();
    assert_eq!(config.end_ids, [420, 421, 422]);
    std::fs::remove_file(elsewhere.path().join(GENERATION)).unwrap();
    let config = open(&elsewhere).unwrap().config().clone();
    assert_eq!(config.end_ids, [9, 420, 421, 422]);

    std::fs::remove_file(whole.path().join("qwen.tiktoken")).unwrap();
    assert_eq!(open(&whole).unwrap().config().end_ids, [420]);
    let said = notes(&whole);
    assert!(said[0].contains("no qwen.tiktoken") && said[0].contains("eos_token_id [420]"));
    std::fs::remove_file(whole.path().join(GENERATION)).unwrap();
    assert!(open(&whole).unwrap().config().end_ids.is_empty());
    let said = notes(&whole).join("\n");
    assert!(said.contains("only its length ends an answer"), "{said}");
}

#[test]
fn a_tokenizer_of_another_model_is_refused() {
    let other = changed("config.json", |json| {
        json["visual"]["image_start_id"] = json!(600);
    });
    let error = open(&other).unwrap_err();
    assert!(matches!(error, CheckpointError::Config { .. }), "{error}");
    let text = error.to_string();
    for part in [
        "config.json",
        "image_start_id is 600",
        "<img> has the id 634",
    ] {
        assert!(text.contains(part), "{text}");
    }

    let llama = folder();
    let base = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../datasets/tiny-base");
    let file = "tokenizer.json";
    std::fs::copy(base.join(file), llama.path().join(file)).unwrap();
    assert!(open(&llama).is_ok(), "qwen.tiktoken is there as well");
    std::fs::remove_file(llama.path().join("qwen.tiktoken")).unwrap();
    let error = open(&llama).unwrap_err().to_string();
    assert!(
        error.contains("the tokenizer beside it is LLaMA's"),
        "{error}"
    );

    std::fs::remove_file(llama.path().join(file)).unwrap();
    std::fs::write(llama.path().join("qwen.tiktoken"), "IQ== 0\nIQ== 1\n").unwrap();
    let error = open(&llama).unwrap_err();
    assert!(matches!(error, CheckpointError::Tokenizer(_)), "{error}");
}

#[test]
fn settings_of_answers_are_read() {
    let shipped = open(&folder()).unwrap();
    let shipped = shipped.chat_settings().unwrap();
    assert_eq!(*shipped, ChatSettings::default());
    let generation = &shipped.generation;
    assert_eq!((generation.temperature, generation.top_p), (1.0, 0.3));
    assert_eq!((generation.top_k, generation.max_new_tokens), (0, 512));
    assert_eq!(shipped.max_window_size, 6144);

    let set = changed(GENERATION, |json| {
        *json = json!({
            "do_sample": true, "temperature": 0.5, "top_p": 0.8, "top_k": 7, "max_new_tokens": 20,
            "repetition_penalty": 1.1, "max_window_size": 300, "num_beams": 4,
        });
    });
    let opened = open(&set).unwrap();
    let chat = opened.chat_settings().unwrap();
    let generation = &chat.generation;
    assert_eq!((generation.temperature, generation.top_p), (0.5, 0.8));
    assert_eq!((generation.top_k, generation.max_new_tokens), (7, 20));
    assert_eq!(
        (generation.repetition_penalty, chat.max_window_size),
        (1.1, 300)
    );
    // What is not read is said, and nothing else.
    let said = notes(&set);
    assert_eq!(said.len(), 1, "{said:?}");
    assert!(
        said[0].contains("num_beams 4") && !said[0].contains("top_p"),
        "{said:?}"
    );

    // The defaults of transformers.
    let empty = changed(GENERATION, |json| *json = json!({}));
    let opened = open(&empty).unwrap();
    let chat = opened.chat_settings().unwrap();
    let generation = &chat.generation;
    assert_eq!((generation.temperature, generation.top_p), (0.0, 1.0));
    assert_eq!((generation.top_k, generation.max_new_tokens), (50, 512));
    assert_eq!(
        (generation.repetition_penalty, chat.max_window_size),
        (1.0, 6144)
    );
    let greedy = changed(GENERATION, |json| json["do_sample"] = json!(false));
    let opened = open(&greedy).unwrap();
    assert!(!opened.chat_settings().unwrap().generation.do_sample());

    std::fs::remove_file(empty.path().join(GENERATION)).unwrap();
    let opened = open(&empty).unwrap();
    assert_eq!(opened.chat_settings(), Some(&ChatSettings::default()));
    let said = notes(&empty).join("\n");
    assert!(said.contains("no generation_config.json"), "{said}");
}

#[test]
fn settings_that_cannot_be_followed_are_refused_by_name() {
    for (field, value, expected) in [
        ("chat_format", json!("raw"), "base model Qwen-VL"),
        ("chat_format", json!(1), "expected a string"),
        ("do_sample", json!("yes"), "expected true or false"),
        ("temperature", json!(0), "expected a positive number"),
        ("temperature", json!(1e-60), "single precision"),
        ("top_p", json!(1.5), "at most 1"),
        ("top_p", json!("0.3"), "expected a positive number"),
        ("top_k", json!(-1), "0 (off)"),
        ("top_k", json!(1_u64 << 60), "0 (off)"),
        ("top_k", json!(2.5), "0 (off)"),
        ("max_new_tokens", json!(0), "an integer from 1"),
        ("max_new_tokens", json!(u64::MAX), "an integer from 1"),
        (
            "repetition_penalty",
            json!(-2),
            "expected a positive number",
        ),
        ("max_window_size", json!("all"), "an integer from 1"),
    ] {
        let folder = changed(GENERATION, |json| json[field] = value.clone());
        let error = open(&folder).unwrap_err();
        assert!(matches!(error, CheckpointError::Config { .. }), "{error}");
        let text = error.to_string();
        for part in [GENERATION, field, expected] {
            assert!(text.contains(part), "{field} {value}: {text}");
        }
    }
}

#[test]
fn a_llava_has_no_settings_of_chats() {
    let base = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../datasets/tiny-base");
    let opened = gallery_gpt_checkpoint::Checkpoint::open(base, &LoadOptions::default()).unwrap();
    assert_eq!(opened.chat_settings(), None);
}
