//! Errors in place of answers, and malformed bodies.

use gallery_gpt_server::request::{ChatRequest, RequestLimits};
use rand::{RngExt, SeedableRng};
use serde_json::json;

use super::*;

#[test]
fn what_cannot_be_answered_is_refused_by_name() {
    let server = start(limits());
    let picture = painting();
    let half = &picture[..picture.len() / 2];
    let url = |url: &str| {
        json!({ "messages": [{ "role": "user", "content": [
            { "type": "image_url", "image_url": { "url": url } }
        ] }] })
    };
    let cases = [
        (json!({ "n": 2 }), 400, "n: 2", "n"),
        (json!({ "tools": [{}] }), 400, "tools", "tools"),
        (json!({ "logprobs": true }), 400, "logprobs", "logprobs"),
        (
            json!({ "tool_choice": "required" }),
            400,
            "required",
            "tool_choice",
        ),
        (
            json!({ "logit_bias": { "5": 3 } }),
            400,
            "logit_bias",
            "logit_bias",
        ),
        (
            json!({ "service_tier": "flex" }),
            400,
            "flex",
            "service_tier",
        ),
        (json!({ "min_p": 0.1 }), 400, "min_p", "min_p"),
        (
            json!({ "ignore_eos": true }),
            400,
            "ignore_eos",
            "ignore_eos",
        ),
        (
            json!({ "response_format": { "type": "json_object" } }),
            400,
            "json_object",
            "response_format",
        ),
        (
            json!({ "frobnicate": "x".repeat(500_000) }),
            400,
            "xxx...",
            "frobnicate",
        ),
        (json!({ "max_tokens": 0 }), 400, "max_tokens", "max_tokens"),
        (
            json!({ "max_tokens": 1.5 }),
            400,
            "whole number",
            "max_tokens",
        ),
        (
            json!({ "temperature": -1 }),
            400,
            "temperature",
            "temperature",
        ),
        (
            json!({ "temperature": "hot" }),
            400,
            "\"hot\"",
            "temperature",
        ),
        (json!({ "top_p": 7 }), 400, "top_p", "top_p"),
        (json!({ "stop": [""] }), 400, "stop", "stop"),
        (json!({ "stop": vec!["a"; 17] }), 400, "17", "stop"),
        (
            json!({ "stream_options": { "continuous_usage_stats": true } }),
            400,
            "continuous",
            "stream_options.continuous_usage_stats",
        ),
        (json!({ "messages": [] }), 400, "messages", "messages"),
        (json!({ "messages": "Hello" }), 400, "messages", "messages"),
        (
            json!({ "messages": [{ "role": "user" }] }),
            400,
            "content",
            "messages[0].content",
        ),
        (
            json!({ "messages": [{ "role": "assistant", "content": "I" }] }),
            400,
            "user",
            "messages[0]",
        ),
        (
            json!({ "messages": [{ "role": "user", "content": [{ "type": "input_audio" }] }] }),
            400,
            "input_audio",
            "messages[0].content[0].type",
        ),
        (
            json!({ "messages": [user(QUESTION, &[half])] }),
            400,
            "0 of the request",
            "messages",
        ),
        (
            json!({ "messages": [user(QUESTION, &[b"GIF89a"])] }),
            400,
            "0 of the request",
            "messages",
        ),
        (
            json!({ "messages": [user(QUESTION, &[&picture, &picture, &picture])] }),
            400,
            "2 pictures",
            "messages",
        ),
        (
            url("http://127.0.0.1/secret.png"),
            400,
            "data URI",
            "messages[0].content[0].image_url",
        ),
        (
            url("file:///etc/passwd"),
            400,
            "data URI",
            "messages[0].content[0].image_url",
        ),
        (
            url("data:image/png;base64,@@@@"),
            400,
            "not base64",
            "messages[0].content[0].image_url",
        ),
        (
            json!({ "messages": [user(&"word ".repeat(900), &[])] }),
            400,
            "context",
            "messages",
        ),
        (
            json!({ "messages": [user(&"word ".repeat(200_000), &[])] }),
            400,
            "context",
            "messages",
        ),
        (
            json!({ "messages": [user(&"word ".repeat(300_000), &[])] }),
            413,
            "bytes",
            "",
        ),
    ];
    for (changes, status, word, param) in cases {
        for stream in [false, true] {
            let mut request = request(changes.clone());
            request["stream"] = json!(stream);
            let answer = server.chat(&request);
            let error = &answer.json()["error"];
            let message = error["message"].as_str().unwrap();
            assert_eq!(answer.status, status, "{message}");
            assert!(message.contains(word), "{message:?} has no {word:?}");
            assert!(message.len() < 300, "{message}");
            assert_eq!(error["type"], "invalid_request_error", "{message}");
            assert_eq!(error["param"].as_str().unwrap_or(""), param, "{message}");
            let code = (word == "context").then_some("context_length_exceeded");
            assert_eq!(error["code"].as_str(), code, "{message}");
        }
    }
    let elsewhere = server.post("/attention", &request(json!({ "phrase": "a" })));
    assert_eq!(elsewhere.status, 400);
    // The server still answers.
    let again = server.chat(&request(json!({ "max_tokens": 1 })));
    assert_eq!(again.status, 200);
}

#[test]
fn what_is_no_request_is_refused_in_the_same_shape() {
    let server = start(limits());
    for (body, word) in [
        ("{", "not JSON"),
        ("", "not JSON"),
        ("[1, 2]", "object"),
        ("{\"messages\": [], \"messages\": []}", "twice"),
        ("{\"metadata\": nope}", "not JSON"),
        ("{}", "messages"),
    ] {
        let found = post(server.address, CHAT, body.as_bytes(), None).unwrap();
        let message = found.json()["error"]["message"].to_string();
        assert_eq!(found.status, 400, "{body}");
        assert!(message.contains(word), "{body}: {message}");
    }
    let latin = post(server.address, CHAT, b"{\"user\": \"caf\xe9\"}", None).unwrap();
    assert!(
        latin.json()["error"]["message"]
            .to_string()
            .contains("UTF-8")
    );
    let get = |method: &str, path: &str| ask(server.address, method, path, &[]).unwrap();
    for (found, status, code) in [
        (get("GET", "/v1/nothing"), 404, "unknown_url"),
        (get("GET", "/v1/models/gpt"), 404, "model_not_found"),
        (get("GET", CHAT), 405, "method_not_allowed"),
        (get("PUT", "/"), 405, "method_not_allowed"),
    ] {
        assert_eq!(found.status, status);
        assert_eq!(found.json()["error"]["code"], code);
        assert!(found.json()["error"]["message"].is_string());
    }
    assert_eq!(get("GET", CHAT).header("allow"), Some("post"));
    let head = "content-type: application/x-www-form-urlencoded";
    let form = ask(server.address, "POST", CHAT, &[head]).unwrap();
    let message = form.json()["error"]["message"].to_string();
    assert_eq!(form.status, 415);
    assert!(
        message.contains("urlencoded") && !message.contains("Some"),
        "{message}"
    );
}

#[test]
fn a_full_queue_and_a_passed_deadline_are_said() {
    let server = start(Limits {
        queue: 1,
        ..limits()
    });
    let body = request(json!({})).to_string();
    let statuses: Vec<u16> = std::thread::scope(|scope| {
        let clients: Vec<_> = (0..12)
            .map(|_| scope.spawn(|| post(server.address, CHAT, body.as_bytes(), None)))
            .collect();
        let answers = clients.into_iter().map(|client| client.join().unwrap());
        answers.map(|answer| answer.unwrap().status).collect()
    });
    let count = |status| statuses.iter().filter(|&&found| found == status).count();
    assert!(count(200) >= 1 && count(503) >= 1, "{statuses:?}");
    assert_eq!(count(200) + count(503), statuses.len(), "{statuses:?}");

    let server = start(Limits {
        deadline: Duration::ZERO,
        ..limits()
    });
    let late = server.chat(&request(json!({})));
    assert_eq!(late.status, 504);
    assert_eq!(late.json()["error"]["type"], "timeout");
}

#[test]
fn changed_bodies_are_read_or_refused() {
    let limits = RequestLimits {
        text: 10_000,
        pictures: 2,
    };
    let full = json!({
        "model": "tiny", "stream": true, "stream_options": { "include_usage": true }, "seed": 5,
        "messages": [
            { "role": "system", "content": "Be brief.\n" },
            user("What é is \u{1f600} this?", &[b"GIF89a"]),
            { "role": "assistant", "content": "A tree.", "tool_calls": [] },
            { "role": "user", "content": [{ "type": "text", "text": "And?" }] },
        ],
        "temperature": 0.5, "top_k": -1, "max_tokens": 1e3, "stop": ["a", "b"], "logit_bias": {}, "phrase": "tree",
    });
    let whole = full.to_string().into_bytes();
    let read = ChatRequest::parse(&whole, &limits).unwrap();
    assert_eq!(
        (read.messages.len(), read.seed, read.max_tokens),
        (4, Some(5), Some(1000))
    );
    assert_eq!(&read.messages[1].pictures[0][..], b"GIF89a");
    let mut rng = rand_chacha::ChaCha8Rng::seed_from_u64(14);
    let tokens: [&[u8]; 12] = [
        b"[", b"{", b"\"", b"\\", b"null", b"-1", b"1e999", b":", b",", b"\\ud800", b"\xff",
        b"data:,",
    ];
    let mut accepted = 0;
    for _ in 0..3000 {
        let mut body = whole.clone();
        for _ in 0..rng.random_range(1..3) {
            let at = rng.random_range(0..body.len());
            match rng.random_range(0..5) {
                0 => body[at] ^= 1 << rng.random_range(0..8),
                1 => body.truncate(at.max(1)),
                2 => drop(body.splice(at..at, tokens[rng.random_range(0..12)].iter().copied())),
                3 => {
                    let end = (at + rng.random_range(1..30)).min(body.len());
                    drop(body.drain(at..end));
                    body.push(b'}');
                }
                _ => {
                    let from = rng.random_range(0..body.len());
                    let end = (from + 40).min(body.len());
                    let piece = body[from..end].to_vec();
                    drop(body.splice(at..at, piece));
                }
            }
        }
        match ChatRequest::parse(&body, &limits) {
            Ok(request) => {
                accepted += 1;
                let text: usize = request
                    .messages
                    .iter()
                    .map(|message| message.text.len())
                    .sum();
                assert!(text <= limits.text + request.messages.len());
            }
            Err(invalid) => assert!(invalid.message.len() < 1000, "{}", invalid.message),
        }
    }
    assert!(
        accepted > 100,
        "only {accepted} of the changed bodies were read: the changes are too coarse"
    );
}
