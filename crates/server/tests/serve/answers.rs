//! Answers to all kinds of requests.

use base64::{Engine, engine::general_purpose};
use gallery_gpt::prelude::*;
use serde_json::{Value, json};

use super::*;

#[test]
fn answers_are_those_of_the_library_streamed_or_not() {
    let server = start(limits());
    let picture = server
        .gallery
        .processor()
        .decode("a painting", &painting())
        .unwrap();
    let greedy = GenerationConfig::greedy(200);
    let expected = server
        .gallery
        .describe(&picture, QUESTION, &greedy)
        .unwrap();

    let whole = server.chat(&request(json!({})));
    assert_eq!((whole.status, whole.text()), (200, expected.clone()));
    let found = whole.json();
    assert_eq!(found["choices"][0]["finish_reason"], "stop");
    let usage = &found["usage"];
    assert_eq!(
        usage["total_tokens"].as_u64().unwrap(),
        usage["prompt_tokens"].as_u64().unwrap() + usage["completion_tokens"].as_u64().unwrap()
    );

    let options = json!({ "stream": true, "stream_options": { "include_usage": true } });
    let streamed = server.chat(&request(options));
    let chunks = streamed.chunks();
    let pieces = chunks
        .iter()
        .filter_map(|chunk| chunk["choices"][0]["delta"]["content"].as_str());
    assert_eq!(pieces.collect::<String>().trim(), expected);
    assert_eq!(&chunks[chunks.len() - 1]["usage"], usage);
    assert!(
        String::from_utf8(streamed.body)
            .unwrap()
            .trim_end()
            .ends_with("data: [DONE]")
    );

    // Stopped by a text, cut by length, seeded, and a second turn.
    let stop = expected.split_at(20).1.split_at(9).0;
    let stopped = server.chat(&request(json!({ "stop": stop })));
    assert_eq!(
        stopped.text(),
        expected[..expected.find(stop).unwrap()].trim()
    );
    let cut = server.chat(&request(json!({ "max_tokens": 5 }))).json();
    assert_eq!(cut["choices"][0]["finish_reason"], "length");
    assert_eq!(cut["usage"]["completion_tokens"], 5);
    let seeded = || {
        server
            .chat(&request(json!({ "temperature": 1.0, "seed": 7 })))
            .text()
    };
    assert_eq!(seeded(), seeded());
    let messages = json!([
        { "role": "system", "content": "Be brief." },
        user(QUESTION, &[&painting()]),
        { "role": "assistant", "content": expected },
        { "role": "user", "content": "And the light?" },
    ]);
    assert_eq!(
        server
            .chat(&request(json!({ "messages": messages })))
            .status,
        200
    );

    // An attention map of the painting's size.
    let words: Vec<&str> = expected.split(' ').take(6).collect();
    let attended = request(json!({
        "messages": [user(QUESTION, &[&painting()]), { "role": "assistant", "content": expected }],
        "phrase": words.join(" "),
    }));
    let overlay = server.post("/attention", &attended);
    let overlay = image::load_from_memory(&overlay.body).unwrap();
    assert_eq!((overlay.width(), overlay.height()), picture.dimensions());
}

#[test]
fn fields_without_effect_change_nothing() {
    let server = start(limits());
    let plain = server.chat(&request(json!({ "max_tokens": 12 })));
    assert_eq!(plain.status, 200);
    for changes in [
        json!({ "logit_bias": {} }),
        json!({ "tool_choice": "none", "tools": [], "functions": [], "function_call": "none" }),
        json!({ "tool_choice": "auto", "parallel_tool_calls": true }),
        json!({ "logprobs": false, "top_logprobs": 0 }),
        json!({ "modalities": ["text"], "response_format": { "type": "text" }, "audio": null }),
        json!({ "service_tier": "auto", "store": false, "user": "me", "metadata": {} }),
        json!({ "min_p": 0.0, "typical_p": 1, "mirostat": 0, "mirostat_tau": 5.0, "repeat_penalty": 1.0 }),
        json!({ "ignore_eos": false, "skip_special_tokens": true, "stop_token_ids": [] }),
        json!({ "top_k": -1, "seed": -1, "n": 1, "best_of": 1, "stop": null }),
        json!({ "top_k": 0, "seed": null, "stop": [], "stream": false, "stream_options": null }),
        json!({ "presence_penalty": 0, "frequency_penalty": 0.0, "repetition_penalty": 1.0 }),
        json!({ "model": "gpt-4o" }),
        json!({ "model": null, "max_completion_tokens": 12, "max_tokens": 3 }),
        json!({ "stream_options": { "include_usage": false } }),
    ] {
        let found = server.chat(&request_of(&changes, 12));
        assert_eq!(found.status, 200, "{changes}: {}", found.json());
        assert_eq!(found.text(), plain.text(), "{changes}");
        assert_eq!(found.json()["model"], "tiny", "{changes}");
    }
}

fn request_of(changes: &Value, max_tokens: usize) -> Value {
    let mut whole = request(changes.clone());
    if changes.get("max_tokens").is_none() {
        whole["max_tokens"] = json!(max_tokens);
    }
    whole
}

#[test]
fn a_model_says_its_defaults_in_the_digits_they_were_given_in() {
    let defaults = GenerationConfig {
        temperature: 0.2,
        ..GenerationConfig::greedy(90)
    };
    let server = start_by_default(defaults, limits(), connections(), Access::default());
    let found = ask(server.address, "GET", "/v1/models", &[]).unwrap();
    let expected = json!({ "temperature": 0.2, "max_tokens": 90 });
    assert_eq!(found.json()["data"][0]["defaults"], expected);
}

#[test]
fn more_tokens_than_the_limit_end_by_length() {
    let server = start(limits());
    // At this temperature the end of an answer is no likelier than any other token.
    let written = |seed: u64, changes: &Value| {
        let mut request = request(changes.clone());
        request["temperature"] = json!(50.0);
        request["seed"] = json!(seed);
        server.chat(&request).json()
    };
    let is_cut = |seed: &u64| written(*seed, &json!({}))["choices"][0]["finish_reason"] == "length";
    let seed = (0..20).find(is_cut).unwrap();
    let wish = |changes: Value| written(seed, &changes);
    let free = wish(json!({}));
    assert_eq!(free["usage"]["completion_tokens"], 200);
    for changes in [
        json!({ "max_tokens": 1024 }),
        json!({ "max_tokens": 4096 }),
        json!({ "max_completion_tokens": 1e30 }),
        json!({ "max_tokens": -1 }),
        json!({ "max_completion_tokens": -1 }),
        json!({ "max_tokens": null }),
    ] {
        let found = wish(changes.clone());
        assert_eq!(found["choices"], free["choices"], "{changes}");
        assert_eq!(found["usage"], free["usage"], "{changes}");
    }
}

#[test]
fn a_picture_is_the_same_in_every_spelling() {
    let server = start(limits());
    let file = painting();
    let padded = general_purpose::STANDARD.encode(&file);
    let plain = server.chat(&request(json!({ "max_tokens": 12 })));
    let lines: Vec<&str> = padded
        .as_bytes()
        .chunks(76)
        .map(|line| std::str::from_utf8(line).unwrap())
        .collect();
    let percent: String = file.iter().map(|byte| format!("%{byte:02x}")).collect();
    for url in [
        format!("data:image/jpeg;base64,{}", padded.trim_end_matches('=')),
        format!("data:image/jpeg;base64,{}\n", lines.join("\r\n")),
        format!(
            "data:image/jpeg;base64,{}",
            general_purpose::URL_SAFE.encode(&file)
        ),
        format!(
            "data:image/jpeg;base64,{}",
            general_purpose::URL_SAFE_NO_PAD.encode(&file)
        ),
        format!("DATA:IMAGE/JPEG;BASE64,{padded}"),
        format!("data:image/png;charset=utf-8;base64,{padded}"),
        format!("data:;base64,{padded}"),
        format!(
            "data:image/jpeg;base64,{}",
            padded
                .replace('+', "%2B")
                .replace('/', "%2F")
                .replace('=', "%3D")
        ),
        format!("data:image/jpeg,{percent}"),
    ] {
        for part in [json!({ "url": url, "detail": "high" }), json!(url)] {
            let content = json!([
                { "type": "image_url", "image_url": part },
                { "type": "text", "text": QUESTION },
            ]);
            let messages = json!([{ "role": "user", "content": content }]);
            let found = server.chat(&request(json!({ "messages": messages, "max_tokens": 12 })));
            assert_eq!(
                found.text(),
                plain.text(),
                "{}: {}",
                &url[..40],
                found.json()
            );
        }
    }
}

#[test]
fn a_placeholder_in_a_text_is_text() {
    let server = start(limits());
    let picture = painting();
    let tokens = |messages: Value| {
        let found = server.chat(&request(json!({ "messages": messages, "max_tokens": 2 })));
        assert_eq!(found.status, 200, "{}", found.json());
        found.json()["usage"]["prompt_tokens"].as_u64().unwrap()
    };
    let patches = server.gallery.model().config().tokens_per_picture() as u64;
    let without = tokens(json!([user("What is <image>?", &[])]));
    assert!(
        without < patches,
        "{without} tokens: the placeholder was taken for a picture"
    );
    // Placeholders stand for the pictures only if there are as many.
    let plain = tokens(json!([user(QUESTION, &[&picture])]));
    let placed = format!("<image>\n{QUESTION}");
    assert_eq!(tokens(json!([user(&placed, &[&picture])])), plain);
    let twice = tokens(json!([user("<image> <image>", &[&picture])]));
    assert!(twice > patches && twice < 2 * patches, "{twice} tokens");
    let turns = json!([
        { "role": "system", "content": "Say <image>." },
        user(QUESTION, &[&picture]),
        { "role": "assistant", "content": "An <image> it is." },
        { "role": "user", "content": "And?" },
    ]);
    assert!(tokens(turns) < 2 * patches);
}

#[test]
fn a_picture_with_an_orientation_is_noted() {
    let server = start(limits());
    let turned = include_bytes!("fixtures/exif_rotated.jpg");
    let upright = painting();
    let ask = |files: &[&[u8]], stream: bool| {
        let messages = json!([user(QUESTION, files)]);
        let changes = json!({ "messages": messages, "max_tokens": 2, "stream": stream });
        server.chat(&request(changes))
    };
    let notes = ask(&[&upright, turned], false).json()["notes"].clone();
    assert_eq!(notes.as_array().unwrap().len(), 1);
    let note = notes[0].as_str().unwrap();
    assert!(
        note.contains("1 of the request") && note.contains("EXIF"),
        "{note}"
    );
    let streamed = ask(&[&upright, turned], true).chunks();
    assert_eq!(streamed[0]["notes"], notes);
    assert_eq!(streamed[0]["choices"][0]["delta"]["content"], "");
    assert_eq!(ask(&[&upright], false).json().get("notes"), None);
}
