//! The server of `examples/serve`, over a real socket.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

#[path = "../../../benches/http_client.rs"]
mod http_client;
#[path = "../../../examples/serve/server/mod.rs"]
mod server;

use std::{net::SocketAddr, path::PathBuf, sync::Arc, time::Duration};

use gallery_gpt::prelude::*;
use http_client::{Answer, post, user};
use serde_json::{Value, json};
use server::Limits;

const QUESTION: &str = "Please write a paragraph of formal analysis for this painting.";

fn datasets() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../datasets")
}

fn painting() -> Vec<u8> {
    std::fs::read(datasets().join("painting-form-mini/images/test_0.jpg")).unwrap()
}

fn limits() -> Limits {
    Limits {
        queue: 8,
        body: 1 << 20,
        pictures: 2,
        deadline: Duration::from_secs(60),
    }
}

/// A server of its own on a free port, stopped when it is dropped.
struct Running {
    gallery: Arc<GalleryGpt>,
    address: SocketAddr,
    _runtime: tokio::runtime::Runtime,
}

fn start(limits: Limits) -> Running {
    let base = datasets().join("tiny-base");
    let gallery = Arc::new(GalleryGpt::load(base, &Device::flex()).unwrap());
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .unwrap();
    let defaults = GenerationConfig::greedy(200);
    let (router, _) = server::serve(gallery.clone(), "tiny".to_owned(), defaults, limits);
    let bind = tokio::net::TcpListener::bind(("127.0.0.1", 0));
    let listener = runtime.block_on(bind).unwrap();
    let address = listener.local_addr().unwrap();
    runtime.spawn(async { axum::serve(listener, router).await });
    Running {
        gallery,
        address,
        _runtime: runtime,
    }
}

impl Running {
    fn post(&self, path: &str, request: &Value) -> Answer {
        post(self.address, path, request.to_string().as_bytes(), None).unwrap()
    }

    fn chat(&self, request: &Value) -> Answer {
        self.post("/v1/chat/completions", request)
    }
}

/// A greedy request with some fields changed.
fn request(changes: Value) -> Value {
    let mut request = json!({
        "model": "tiny",
        "messages": [user(QUESTION, &[&painting()])],
        "temperature": 0,
    });
    for (name, value) in changes.as_object().unwrap() {
        request[name] = value.clone();
    }
    request
}

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

    // Where it looked, as a picture of the painting's size.
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
fn what_cannot_be_answered_is_refused_by_name() {
    let server = start(limits());
    let picture = painting();
    let half = &picture[..picture.len() / 2];
    for (changes, status, word) in [
        (json!({ "model": "gpt" }), 404, "tiny"),
        (json!({ "n": 2 }), 400, "n: 2"),
        (json!({ "tools": [{}] }), 400, "tools"),
        (json!({ "max_tokens": 201 }), 400, "200"),
        (json!({ "max_tokens": 0 }), 400, "max_new_tokens"),
        (json!({ "temperature": -1 }), 400, "temperature"),
        (json!({ "stop": [""] }), 400, "stop_strings"),
        (json!({ "messages": [] }), 400, "messages"),
        (json!({ "messages": "Hello" }), 400, "messages"),
        (
            json!({ "messages": [{ "role": "assistant", "content": "I" }] }),
            400,
            "user",
        ),
        (
            json!({ "messages": [user(QUESTION, &[half])] }),
            400,
            "0 of the request",
        ),
        (
            json!({ "messages": [user(QUESTION, &[b"GIF89a"])] }),
            400,
            "0 of the request",
        ),
        (
            json!({ "messages": [user(QUESTION, &[&picture, &picture, &picture])] }),
            400,
            "3 pictures",
        ),
        (
            json!({ "messages": [user("<image> <image>", &[&picture])] }),
            400,
            "<image>",
        ),
        (
            json!({ "messages": [{ "role": "user", "content": [
            { "type": "image_url", "image_url": { "url": "http://127.0.0.1/secret.png" } }
        ] }] }),
            400,
            "data URI",
        ),
        (
            json!({ "messages": [user(&"word ".repeat(5000), &[])] }),
            400,
            "context",
        ),
        (
            json!({ "messages": [user(&"word ".repeat(300_000), &[])] }),
            413,
            "bytes",
        ),
    ] {
        for stream in [false, true] {
            let mut request = request(changes.clone());
            request["stream"] = json!(stream);
            let answer = server.chat(&request);
            let message = answer.json()["error"]["message"]
                .as_str()
                .unwrap()
                .to_owned();
            assert_eq!(answer.status, status, "{message}");
            assert!(message.contains(word), "{message:?} has no {word:?}");
        }
    }
    let no_json = post(server.address, "/v1/chat/completions", b"{", None).unwrap();
    assert_eq!(no_json.status, 400);
    let elsewhere = server.post("/attention", &request(json!({ "phrase": "a" })));
    assert_eq!(elsewhere.status, 400);
    // And it goes on.
    assert_eq!(
        server.chat(&request(json!({ "max_tokens": 1 }))).status,
        200
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
            .map(|_| {
                scope.spawn(|| {
                    post(
                        server.address,
                        "/v1/chat/completions",
                        body.as_bytes(),
                        None,
                    )
                })
            })
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
