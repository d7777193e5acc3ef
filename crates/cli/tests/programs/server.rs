//! The program `serve` as it is started and stopped, and what hostile requests cost it.

use std::{
    io::{BufRead, BufReader, Read, Write},
    net::{SocketAddr, TcpStream},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use serde_json::{Value, json};

use crate::{program, root};

/// A hostile request may take so much memory beyond what the server had, and so long.
const MEMORY: u64 = 64 << 20;
const TIME: Duration = Duration::from_secs(2);

/// `serve` on a free port; killed when it is dropped.
struct Server {
    child: Child,
    address: SocketAddr,
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn serve(flags: &[&str]) -> Command {
    let mut command = program("serve");
    command.args(["--port", "0"]).args(flags);
    command.env_remove("GALLERY_GPT_API_KEY");
    command
}

fn start(mut command: Command) -> Server {
    start_again(&mut command)
}

fn start_again(command: &mut Command) -> Server {
    let mut child = command
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    let mut out = BufReader::new(child.stdout.take().unwrap());
    out.read_line(&mut line).unwrap();
    let address = address_in(&line);
    Server { child, address }
}

fn address_in(line: &str) -> SocketAddr {
    let address = line
        .split("http://")
        .nth(1)
        .and_then(|rest| rest.split('/').next());
    address
        .unwrap_or_else(|| panic!("no address in {line:?}"))
        .parse()
        .unwrap()
}

/// Sends a request, and gives the status and the body of the answer.
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

fn is_healthy(server: &Server) -> bool {
    let mut socket = TcpStream::connect(server.address).unwrap();
    let _ = socket.write_all(b"GET /health HTTP/1.0\r\n\r\n");
    let mut answer = String::new();
    socket.read_to_string(&mut answer).is_ok() && answer.ends_with("ok")
}

fn signal(server: &Server, name: &str) {
    let process = server.child.id().to_string();
    let sent = Command::new("kill")
        .args([name, &process])
        .status()
        .unwrap();
    assert!(sent.success());
}

/// Waits for the end of the program, for so long.
fn ended(server: &mut Server, within: Duration) -> Option<std::process::ExitStatus> {
    let began = Instant::now();
    while began.elapsed() < within {
        if let Some(status) = server.child.try_wait().unwrap() {
            return Some(status);
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    None
}

/// A body that an answer of a few tokens is asked for with, and something in front.
fn question(field: &str) -> String {
    format!(r#"{{{field}"messages":[{{"role":"user","content":"What is it?"}}],"max_tokens":2}}"#)
}

fn said(server: &mut Server) -> String {
    let mut text = String::new();
    server
        .child
        .stderr
        .take()
        .unwrap()
        .read_to_string(&mut text)
        .unwrap();
    text
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
    // What an ordinary request takes is the model's.
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
        // From here on the highest value is counted anew.
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
    // At once, and half of each.
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

/// A black picture of one channel, in a file as small as there is.
fn png(width: u32, height: u32, value: u8) -> Vec<u8> {
    let picture = image::GrayImage::from_pixel(width, height, image::Luma([value]));
    let mut file = std::io::Cursor::new(Vec::new());
    picture
        .write_to(&mut file, image::ImageFormat::Png)
        .unwrap();
    file.into_inner()
}

#[test]
#[cfg(unix)]
fn a_polite_kill_is_not_held_up() {
    for first in ["-TERM", "-INT"] {
        let mut server = start(serve(&["--deadline", "20"]));
        let mut half = TcpStream::connect(server.address).unwrap();
        half.write_all(b"POST /v1/chat/completions HTTP/1.1\r\nhost: localh")
            .unwrap();
        let mut body = TcpStream::connect(server.address).unwrap();
        body.write_all(b"POST /v1/chat/completions HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\ncontent-length: 90\r\n\r\n{").unwrap();
        assert!(is_healthy(&server));
        signal(&server, first);
        let status = ended(&mut server, Duration::from_secs(8));
        assert!(
            status.is_some_and(|status| status.success()),
            "{first}: {status:?}"
        );
        let said = said(&mut server);
        assert!(said.contains("stopping"), "{said}");
    }
}

#[test]
#[cfg(unix)]
fn a_second_signal_does_not_wait() {
    for second in ["-TERM", "-INT"] {
        let flags = [
            "--max_new_tokens",
            "1000",
            "--temperature",
            "50",
            "--queue",
            "64",
        ];
        let mut server = start(serve(&flags));
        // Many answers are under way or wait for their turn: their end would be waited for.
        let body = r#"{"messages":[{"role":"user","content":"What is it?"}],"stream":true}"#;
        let waiting: Vec<TcpStream> = (0..48)
            .map(|_| {
                let mut socket = TcpStream::connect(server.address).unwrap();
                write!(
                    socket,
                    "POST /v1/chat/completions HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
                    body.len()
                )
                .unwrap();
                socket
            })
            .collect();
        let mut first = [0; 12];
        let mut begun = &waiting[0];
        begun.read_exact(&mut first).unwrap();
        signal(&server, "-TERM");
        // The two of a kind become one where the second is sent before the first was taken.
        let stderr = BufReader::new(server.child.stderr.take().unwrap());
        let mut lines = stderr.lines().map_while(Result::ok);
        assert!(lines.any(|line| line.starts_with("stopping")));
        signal(&server, second);
        let status = ended(&mut server, Duration::from_secs(1));
        assert_eq!(
            status.and_then(|status| status.code()),
            Some(130),
            "{second}: {status:?}"
        );
    }
}

#[test]
fn flags_beyond_what_there_is_are_refused() {
    for (flag, value) in [
        ("--deadline", "9223372036854775807"),
        ("--deadline", "0"),
        ("--queue", "4611686018427387904"),
        ("--queue", "0"),
        ("--body_limit", "17592186044416"),
        ("--body_limit", "0"),
        ("--in_flight_limit", "1"),
        ("--pictures", "1000000"),
        ("--connections", "0"),
        ("--allow_origin", "localhost"),
        ("--allow_origin", "http://localhost/page"),
    ] {
        let output = serve(&[flag, value]).output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(!output.status.success(), "{flag} {value}");
        assert!(said.contains(flag) && said.contains(value), "{said}");
        assert!(!said.contains("panicked"), "{said}");
    }
    let mut empty = serve(&[]);
    empty.env("GALLERY_GPT_API_KEY", "");
    let output = empty.output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(
        !output.status.success() && said.contains("GALLERY_GPT_API_KEY"),
        "{said}"
    );
}

#[test]
#[cfg(target_os = "linux")]
fn a_closed_or_full_standard_output_does_not_end_it() {
    // A pipe that nobody reads, and a disk without room.
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let full = std::fs::OpenOptions::new()
        .write(true)
        .open("/dev/full")
        .unwrap();
    for out in [Stdio::from(writer), Stdio::from(full)] {
        let mut command = serve(&[]);
        let mut child = command.stdout(out).stderr(Stdio::piped()).spawn().unwrap();
        // The address is said where somebody reads.
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
        let line = lines.find_map(|line| line.ok().filter(|line| line.contains("http://")));
        let address = address_in(&line.unwrap());
        let server = Server { child, address };
        assert!(is_healthy(&server));
    }
    // Nobody reads either: it serves all the same.
    let mut command = serve(&["--log_requests"]);
    let mut child = command
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stderr.take());
    let mut line = String::new();
    let mut out = BufReader::new(child.stdout.take().unwrap());
    out.read_line(&mut line).unwrap();
    drop(out);
    let server = Server {
        child,
        address: address_in(&line),
    };
    assert!(is_healthy(&server) && is_healthy(&server));
}

#[test]
fn it_says_who_may_ask_and_who_asked() {
    let mut command = serve(&[
        "--host",
        "0.0.0.0",
        "--log_requests",
        "--served_model_name",
        "gallery",
    ]);
    let mut open = start_again(&mut command);
    let get = |server: &Server, head: &str| {
        let address = ([127, 0, 0, 1], server.address.port());
        let mut socket = TcpStream::connect(SocketAddr::from(address)).unwrap();
        write!(socket, "GET /v1/models HTTP/1.0\r\n{head}\r\n").unwrap();
        let mut answer = String::new();
        socket.read_to_string(&mut answer).unwrap();
        answer
    };
    assert!(get(&open, "host: 10.1.2.3:8000\r\n").contains("\"id\":\"gallery\""));
    assert!(get(&open, "host: evil.example\r\n").contains(" 403 "));
    let _ = open.child.kill();
    let text = said(&mut open);
    assert!(
        text.contains("warning: everyone who reaches 0.0.0.0"),
        "{text}"
    );
    assert!(
        text.contains("GET /v1/models 200 ") && text.contains("GET /v1/models 403 "),
        "{text}"
    );

    command.env("GALLERY_GPT_API_KEY", "secret");
    let mut closed = start_again(&mut command);
    assert!(get(&closed, "").contains(" 401 "));
    assert!(get(&closed, "authorization: Bearer secret\r\n").contains(" 200 "));
    let _ = closed.child.kill();
    let text = said(&mut closed);
    assert!(
        !text.contains("warning") && !text.contains("secret"),
        "{text}"
    );
}
