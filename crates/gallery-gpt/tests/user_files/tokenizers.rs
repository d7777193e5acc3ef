//! Tokenizers with words of their own, and ends that a model's own files list.

use std::path::Path;

use burn::tensor::Device;
use gallery_gpt::{
    GalleryError, GalleryGpt,
    checkpoint::{Layout, SaveOptions, save_model},
    data::PaintingForm,
    model::{FinishReason, GenerationConfig},
    text::{IMAGE_TOKEN_INDEX, TokenizerError},
};
use image::RgbImage;
use serde_json::{Value, json};

use crate::{fixture, root};

/// A file and what is changed in it.
type Change<'a> = (&'a str, &'a dyn Fn(&mut Value));

/// A copy of the sample's base, with changes.
fn base(changes: &[Change<'_>]) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    for entry in std::fs::read_dir(root().join("datasets/tiny-base")).unwrap() {
        let entry = entry.unwrap();
        let to = folder.path().join(entry.file_name());
        std::fs::copy(entry.path(), to).unwrap();
    }
    for (name, change) in changes {
        let path = folder.path().join(name);
        let text = std::fs::read(&path).unwrap_or_else(|_| b"{}".to_vec());
        let mut json = serde_json::from_slice(&text).unwrap();
        change(&mut json);
        std::fs::write(&path, json.to_string()).unwrap();
    }
    folder
}

/// Adds `<image>`, `<pad>` and a word to a `tokenizer.json`.
fn add_word(json: &mut Value, content: &str, id: u32) {
    let tokens = json["added_tokens"].as_array_mut().unwrap();
    for (content, id) in [("<image>", 800), ("<pad>", 801), (content, id)] {
        tokens.push(
            json!({ "id": id, "content": content, "single_word": false, "lstrip": false,
            "rstrip": false, "normalized": false, "special": true }),
        );
    }
}

fn load(folder: &Path) -> GalleryGpt {
    GalleryGpt::load(folder, &Device::flex()).unwrap()
}

fn square() -> RgbImage {
    let path = fixture("tokenizers/square.png");
    image::open(path).unwrap().to_rgb8()
}

fn ask(gallery: &GalleryGpt, question: &str) -> String {
    let greedy = GenerationConfig::greedy(60);
    gallery.describe(&square(), question, &greedy).unwrap()
}

/// What transformers 5.24 answers, with the row of `<art>` and without that word.
const ANSWERS: [(&str, &str); 2] = [
    (
        "Describe the <art> light.",
        "Landscape: a sky in red; a meadow in orange; light from the right.",
    ),
    (
        "Describe the light.",
        "Landscape: a tree in black at the centre; a sky in red; light from the right.",
    ),
];

#[test]
fn an_added_word_has_the_row_that_was_trained_for_it() {
    let folder = base(&[("tokenizer.json", &|json| add_word(json, "<art>", 802))]);
    let gallery = load(folder.path());
    assert_eq!(gallery.model().config().llama.vocab_size, 803);
    for (question, answer) in ANSWERS {
        assert_eq!(ask(&gallery, question), answer, "{question}");
    }
    // Written again in either layout, the word is still there and the picture token still in its place.
    let saved = tempfile::tempdir().unwrap();
    for layout in [Layout::LlavaHf, Layout::Llava] {
        let again = saved.path().join(format!("{layout:?}"));
        let options = SaveOptions {
            layout,
            companions: Some(folder.path().to_owned()),
            ..SaveOptions::default()
        };
        save_model(gallery.model(), &again, &options).unwrap();
        let config: Value =
            serde_json::from_slice(&std::fs::read(again.join("config.json")).unwrap()).unwrap();
        if layout == Layout::LlavaHf {
            assert_eq!(config["image_token_index"], 800);
            assert_eq!(config["pad_token_id"], 801);
            assert_eq!(config["vocab_size"], 832);
        } else {
            assert_eq!(config["vocab_size"], 803);
        }
        let again = load(&again);
        for (question, answer) in ANSWERS {
            assert_eq!(ask(&again, question), answer, "{layout:?} {question}");
        }
    }
}

/// As the original resizes its embedding: the word's row is the last of 801.
#[test]
fn the_originals_layout_has_a_row_for_a_word_at_its_end() {
    let words = |json: &mut Value| {
        let token = json!({ "id": 800, "content": "<art>", "special": true });
        json["added_tokens"].as_array_mut().unwrap().push(token);
    };
    let folder = base(&[
        ("tokenizer.json", &words),
        ("config.json", &|json| {
            json["image_token_index"] = json!(801);
        }),
    ]);
    let saved = tempfile::tempdir().unwrap();
    let path = saved.path().join("original");
    let options = SaveOptions {
        layout: Layout::Llava,
        companions: Some(folder.path().to_owned()),
        ..SaveOptions::default()
    };
    save_model(load(folder.path()).model(), &path, &options).unwrap();
    let gallery = load(&path);
    assert_eq!(gallery.model().config().llama.vocab_size, 801);
    for (question, answer) in ANSWERS {
        assert_eq!(ask(&gallery, question), answer, "{question}");
    }
}

#[test]
fn a_word_without_a_row_is_refused_by_name() {
    let folder = base(&[("added_tokens.json", &|json| *json = json!({ "<far>": 900 }))]);
    let error = GalleryGpt::load(folder.path(), &Device::flex()).unwrap_err();
    let GalleryError::Tokenizer(TokenizerError::NoRow {
        token, id, rows, ..
    }) = &error
    else {
        panic!("{error}");
    };
    assert_eq!((token.as_str(), *id, *rows), ("<far>", 900, 832));
}

#[test]
fn an_answer_stops_at_every_end_that_the_files_list() {
    const END: &str = "Landscape: a tree in black at the centre;";
    let list = |json: &mut Value| json["eos_token_id"] = json!([2, 265]);
    let in_text_config = |json: &mut Value| json["text_config"]["eos_token_id"] = json!([265, 2]);
    for file in ["generation_config.json", "config.json"] {
        let change: &dyn Fn(&mut Value) = if file == "config.json" {
            &in_text_config
        } else {
            &list
        };
        let gallery = load(base(&[(file, change)]).path());
        let greedy = GenerationConfig::greedy(60);
        let sampled = GenerationConfig {
            temperature: 0.01,
            ..greedy.clone()
        };
        let beams = GenerationConfig {
            num_beams: 3,
            ..greedy.clone()
        };
        for config in [&greedy, &sampled, &beams] {
            let pixels = gallery.processor().process(&square());
            let prompt = gallery.prompt("Describe the light.", vec![pixels]).unwrap();
            let written = gallery.generator(config).generate(&[prompt]).unwrap();
            assert_eq!(written[0].finish, FinishReason::Stop);
            if config.num_beams == 1 {
                assert_eq!(written[0].stop_id, Some(265), "{file}");
                assert_eq!(gallery.answer(&written[0]), END, "{file}");
            } else {
                assert!(written[0].stop_id.is_some_and(|id| id == 265 || id == 2));
            }
        }
        let mut stream = gallery
            .stream(&square(), "Describe the light.", &greedy)
            .unwrap();
        let pieces: Result<String, _> = (&mut stream).collect();
        assert_eq!(pieces.unwrap(), END, "{file}");
        assert_eq!(stream.finish().finish, FinishReason::Stop);
        // What a model is saved with, it is loaded with.
        let saved = tempfile::tempdir().unwrap();
        let path = saved.path().join("again");
        save_model(gallery.model(), &path, &SaveOptions::default()).unwrap();
        let config: Value =
            serde_json::from_slice(&std::fs::read(path.join("config.json")).unwrap()).unwrap();
        assert_eq!(config["text_config"]["eos_token_id"], json!([2, 265]));
    }
    // As transformers: the generation config comes first.
    let only_text_end = |json: &mut Value| json["eos_token_id"] = json!(2);
    let both = base(&[
        ("generation_config.json", &only_text_end),
        ("config.json", &in_text_config),
    ]);
    assert_eq!(ask(&load(both.path()), ANSWERS[1].0), ANSWERS[1].1);
}

#[test]
fn settings_of_a_generation_config_are_said() {
    let folder = base(&[("generation_config.json", &|json| {
        *json = json!({
            "do_sample": true, "temperature": 0.9, "top_p": 0.6, "top_k": 50, "max_length": 4096,
            "suppress_tokens": [5], "bos_token_id": 1, "eos_token_id": 2, "num_beams": 1,
            "forced_eos_token_id": null, "transformers_version": "4.31.0",
        });
    })]);
    let gallery = load(folder.path());
    let notes = gallery.notes();
    let note = notes
        .iter()
        .find(|note| note.contains("generation_config.json"));
    let note = note.unwrap();
    for field in [
        "do_sample true",
        "temperature 0.9",
        "top_p 0.6",
        "max_length 4096",
        "suppress_tokens [5]",
    ] {
        assert!(note.contains(field), "{note}");
    }
    for field in ["top_k", "bos_token_id", "num_beams", "forced", "version"] {
        assert!(!note.contains(field), "{note}");
    }
    let wrong = base(&[("generation_config.json", &|json| {
        *json = json!({ "eos_token_id": [2, "</s>"] });
    })]);
    let error = GalleryGpt::load(wrong.path(), &Device::flex()).unwrap_err();
    assert!(error.to_string().contains("eos_token_id"), "{error}");
    let pointer = wrong.path().join("generation_config.json");
    std::fs::write(&pointer, "version https://git-lfs.github.com/spec/v1\n").unwrap();
    let error = GalleryGpt::load(wrong.path(), &Device::flex()).unwrap_err();
    assert!(error.to_string().contains("Git LFS pointer"), "{error}");
}

#[test]
fn a_question_without_a_picture_may_have_the_word_for_one() {
    let gallery = load(&root().join("datasets/tiny-base"));
    let prompt = gallery.prompt("What does <image> mean?", Vec::new());
    let prompt = prompt.unwrap();
    assert!(!prompt.input_ids.contains(&IMAGE_TOKEN_INDEX));
    let ids: Vec<u32> = prompt.input_ids.iter().map(|&id| id as u32).collect();
    let text = gallery.tokenizer().decode(&ids, true);
    assert!(
        text.contains("USER: What does <image> mean? ASSISTANT:"),
        "{text}"
    );
    let greedy = GenerationConfig::greedy(3);
    let written = gallery.generator(&greedy).generate(&[prompt]).unwrap();
    assert!(!written[0].ids.is_empty());
}

#[test]
fn a_record_that_is_too_long_is_told_which_limit_it_meets() {
    let gallery = load(&root().join("datasets/tiny-base"));
    let samples = root().join("datasets/painting-form-mini");
    let set = PaintingForm::load(samples.join("train_samples_tuning.json")).unwrap();
    let mut record = set.records[0].clone();
    record.conversation.turns[1].text = "light ".repeat(1500);
    let error = |limit: usize| {
        let batcher = gallery.batcher(samples.join("images"), limit);
        batcher.encode_text(&record).unwrap_err().to_string()
    };
    // The base's context is 1024 tokens: raising the setting beyond it is no help.
    let beyond = error(2048);
    assert!(
        beyond.contains("context of 1024") && !beyond.contains("raise it"),
        "{beyond}"
    );
    let mut short = set.records[0].clone();
    short.conversation.turns[1].text = "light ".repeat(60);
    let batcher = gallery.batcher(samples.join("images"), 100);
    let set_limit = batcher.encode_text(&short).unwrap_err().to_string();
    assert!(
        set_limit.contains("model_max_length 100; raise it"),
        "{set_limit}"
    );
}
