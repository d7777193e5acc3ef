//! What hostile requests cost a server, in memory and time.

use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
    time::{Duration, Instant},
};

use serde_json::{Value, json};

use super::{Server, is_healthy, serve, start};
use crate::root;

/// The most memory that a hostile request may take beyond that of the server, and the longest time.
const MEMORY: u64 = 64 << 20;
const TIME: Duration = Duration::from_secs(2);

/// Sends a request; returns the status and the body of the response.
fn send(address: SocketAddr, path: &str, body: &[u8]) -> (u16, String) {
    let mut socket = TcpStream::connect(address).unwrap();
    let head = format!(
        "POST {path} HTTP/1.0\r\nhost: localhost\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n",
        body.len()
    );
    socket.write_all(head.as_bytes()).unwrap();
    let _ = socket.write_all(body);
    let mut answer = Vec::new();
    let _ = socket.read_to_end(&mut answer);
    let answer = String::from_utf8_lossy(&answer).into_owned();
    let status = answer.get(9..12).and_then(|status| status.parse().ok());
    let body = answer.split_once("\r\n\r\n").map_or("", |(_, body)| body);
    (status.unwrap_or(0), body.to_owned())
}

fn chat(server: &Server, body: &[u8]) -> (u16, String) {
    send(server.address, "/v1/chat/completions", body)
}

/// The body of a request for a few tokens, with a field in front.
fn question(field: &str) -> String {
    format!(r#"{{{field}"messages":[{{"role":"user","content":"What is it?"}}],"max_tokens":2}}"#)
}

#[test]
#[cfg(target_os = "linux")]
fn hostile_requests_cost_little() {
    let server = start(serve(&["--deadline", "60"]));
    let process = server.child.id();
    let status = |field: &str| {
        let status = std::fs::read_to_string(format!("/proc/{process}/status")).unwrap();
        let line = status.lines().find(|line| line.starts_with(field)).unwrap();
        line.split_whitespace()
            .nth(1)
            .unwrap()
            .parse::<u64>()
            .unwrap()
            << 10
    };
    // Ordinary requests first, so that their memory is not counted.
    let picture =
        std::fs::read(root().join("datasets/painting-form-mini/images/test_0.jpg")).unwrap();
    let ordinary = pictures(&[&picture], "image/jpeg");
    let long = question("").replace("What is it?", &"word ".repeat(300));
    for _ in 0..2 {
        assert_eq!(chat(&server, &ordinary).0, 200);
        assert_eq!(chat(&server, long.as_bytes()).0, 200);
    }
    let before = status("VmRSS:");
    let text = |bytes: usize| {
        let text = "a".repeat(bytes);
        question("").replace("What is it?", &text).into_bytes()
    };
    let escaped = question("")
        .replace("What is it?", &"\\u0041".repeat(5_000_000))
        .into_bytes();
    let field = |name: &str, value: String| question(&format!(r#""{name}":{value},"#)).into_bytes();
    let stops = json!(vec!["stop"; 300_000]).to_string();
    let many = format!(
        r#"{{"messages":[{}]}}"#,
        vec![r#"{"role":"user","content":""}"#; 500_000].join(",")
    );
    let parts = vec![r#"{"type":"text","text":""}"#; 500_000].join(",");
    let parts = format!(r#"{{"messages":[{{"role":"user","content":[{parts}]}}]}}"#);
    let fields: Vec<String> = (0..1_500_000)
        .map(|number| format!(r#""a{number}":null"#))
        .collect();
    let long_name = format!(r#"{{"{}":0}}"#, "\\n".repeat(15_000_000));
    let base64 = |bytes: usize, symbol: &str| {
        let url = format!(
            "data:image/png;base64,{}",
            symbol.repeat(bytes / symbol.len())
        );
        json!({ "messages": [{ "role": "user", "content": [{ "type": "image_url", "image_url": { "url": url } }] }] })
            .to_string()
            .into_bytes()
    };
    let huge = png(13_377, 13_377, 1);
    for (name, path, expected, body) in [
        (
            "lists in metadata",
            "chat",
            200,
            field("metadata", format!("[{}[0]]", "[0],".repeat(2_000_000))),
        ),
        (
            "31 MB of numbers",
            "chat",
            200,
            field("metadata", format!("[{}0]", "0,".repeat(15_500_000))),
        ),
        (
            "numbers where none belong",
            "chat",
            400,
            field("frobnicate", format!("[{}0]", "0,".repeat(15_500_000))),
        ),
        (
            "numbers for messages",
            "chat",
            400,
            format!(r#"{{"messages":[{}0]}}"#, "0,".repeat(15_500_000)).into_bytes(),
        ),
        (
            "brackets without end",
            "chat",
            400,
            "[".repeat(31_000_000).into_bytes(),
        ),
        (
            "a nested field",
            "chat",
            400,
            field("metadata", "[".repeat(10_000_000)),
        ),
        (
            "fields without end",
            "chat",
            400,
            format!("{{{}}}", fields.join(",")).into_bytes(),
        ),
        ("a long name", "chat", 400, long_name.into_bytes()),
        ("messages without end", "chat", 400, many.into_bytes()),
        ("parts without end", "chat", 400, parts.into_bytes()),
        ("300,000 stops", "chat", 400, field("stop", stops)),
        (
            "a long stop",
            "chat",
            400,
            field("stop", format!("\"{}\"", "a".repeat(10_000_000))),
        ),
        (
            "a long model",
            "chat",
            400,
            field("model", format!("\"{}\"", "a".repeat(10_000_000))),
        ),
        ("4 MB of text", "chat", 400, text(4_000_000)),
        ("31 MB of text", "chat", 400, text(31_000_000)),
        ("30 MB of escapes", "chat", 400, escaped),
        (
            "as much text as the context may hold",
            "chat",
            400,
            text(10_000),
        ),
        (
            "a long phrase",
            "attention",
            400,
            field("phrase", format!("\"{}\"", "a".repeat(20_000_000))),
        ),
        ("no base64", "chat", 400, base64(30_000_000, "!")),
        ("a picture of zeros", "chat", 400, base64(30_000_000, "A")),
        ("nothing but blanks", "chat", 400, base64(30_000_000, " ")),
        ("percents", "chat", 400, base64(30_000_000, "%41")),
        (
            "one picture of 13,377 x 13,377",
            "chat",
            400,
            pictures(&[&huge], "image/png"),
        ),
        (
            "four of them",
            "chat",
            400,
            pictures(&[&huge, &huge, &huge, &huge], "image/png"),
        ),
        ("attention over one", "attention", 400, attention(&huge)),
        (
            "a GIF that promises 65535 x 65535",
            "chat",
            400,
            pictures(
                &[b"GIF89a\xff\xff\xff\xff\0\0\0,\0\0\0\0\xff\xff\xff\xff\0\x02\x02D\x01\0;"],
                "image/gif",
            ),
        ),
        ("not UTF-8", "chat", 400, vec![0xff; 31_000_000]),
        ("more than it takes", "chat", 413, vec![b' '; 40_000_000]),
    ] {
        // Resets the peak.
        std::fs::write(format!("/proc/{process}/clear_refs"), "5").unwrap();
        let path = if path == "chat" {
            "/v1/chat/completions"
        } else {
            "/attention"
        };
        let began = Instant::now();
        let (status_code, answer) = send(server.address, path, &body);
        let took = began.elapsed();
        let peak = status("VmHWM:").saturating_sub(before);
        assert_eq!(status_code, expected, "{name}: {answer}");
        assert!(
            answer.len() < 2000,
            "{name}: {} bytes of an answer",
            answer.len()
        );
        assert!(
            peak < MEMORY,
            "{name}: {} MB more at its height",
            peak >> 20
        );
        assert!(took < TIME, "{name}: {took:?}");
    }
    // Several at once, and incomplete ones.
    std::fs::write(format!("/proc/{process}/clear_refs"), "5").unwrap();
    let large = field("metadata", format!("[{}[0]]", "[0],".repeat(3_750_000)));
    std::thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| chat(&server, &large));
        }
        std::thread::sleep(Duration::from_millis(200));
        let began = Instant::now();
        assert!(is_healthy(&server));
        assert!(began.elapsed() < TIME, "{:?}", began.elapsed());
    });
    let peak = status("VmHWM:").saturating_sub(before);
    assert!(peak < MEMORY, "three at once: {} MB more", peak >> 20);
    std::fs::write(format!("/proc/{process}/clear_refs"), "5").unwrap();
    let half_open: Vec<TcpStream> = (0..60)
        .map(|_| {
            let mut socket = TcpStream::connect(server.address).unwrap();
            let head = b"POST /v1/chat/completions HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\ncontent-length: 31000000\r\n\r\n";
            socket.write_all(head).unwrap();
            socket.set_write_timeout(Some(Duration::from_secs(5))).unwrap();
            let _ = socket.write_all(&large[..1_000_000]);
            socket
        })
        .collect();
    assert!(is_healthy(&server));
    let peak = status("VmHWM:").saturating_sub(before);
    assert!(peak < MEMORY, "60 half bodies: {} MB more", peak >> 20);
    drop(half_open);
    assert_eq!(chat(&server, &ordinary).0, 200);
}

fn pictures(files: &[&[u8]], kind: &str) -> Vec<u8> {
    let parts: Vec<Value> = files.iter().map(|file| part(file, kind)).collect();
    let messages = json!([{ "role": "user", "content": parts }]);
    json!({ "messages": messages, "max_tokens": 2 })
        .to_string()
        .into_bytes()
}

fn part(file: &[u8], kind: &str) -> Value {
    use base64::Engine;
    let data = base64::engine::general_purpose::STANDARD.encode(file);
    json!({ "type": "image_url", "image_url": { "url": format!("data:{kind};base64,{data}") } })
}

fn attention(file: &[u8]) -> Vec<u8> {
    let messages = json!([
        { "role": "user", "content": [part(file, "image/png")] },
        { "role": "assistant", "content": "A tree." },
    ]);
    json!({ "messages": messages, "phrase": "tree" })
        .to_string()
        .into_bytes()
}

/// A picture of one grey value, in a small file.
fn png(width: u32, height: u32, value: u8) -> Vec<u8> {
    let picture = image::GrayImage::from_pixel(width, height, image::Luma([value]));
    let mut file = std::io::Cursor::new(Vec::new());
    picture
        .write_to(&mut file, image::ImageFormat::Png)
        .unwrap();
    file.into_inner()
}
