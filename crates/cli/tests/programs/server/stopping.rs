//! What ends a server, and what does not.

use std::{
    io::{BufRead, BufReader, Read, Write},
    net::TcpStream,
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use super::{Server, address_in, is_healthy, said, serve, start};

fn signal(server: &Server, name: &str) {
    let process = server.child.id().to_string();
    let sent = Command::new("kill")
        .args([name, &process])
        .status()
        .unwrap();
    assert!(sent.success());
}

/// Waits for the end of the program; `None` if it takes longer.
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

#[test]
#[cfg(unix)]
fn a_signal_ends_it_despite_half_requests() {
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
        // Many answers are under way or queued: the first signal waits for them.
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
        // Two signals of a kind become one if the second is sent before the first was handled.
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
#[cfg(target_os = "linux")]
fn a_closed_or_full_standard_output_does_not_end_it() {
    // A closed pipe, and a full disk.
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let full = std::fs::OpenOptions::new()
        .write(true)
        .open("/dev/full")
        .unwrap();
    for out in [Stdio::from(writer), Stdio::from(full)] {
        let mut command = serve(&[]);
        let mut child = command.stdout(out).stderr(Stdio::piped()).spawn().unwrap();
        // The address goes to standard error.
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
        let line = lines.find_map(|line| line.ok().filter(|line| line.contains("http://")));
        let address = address_in(&line.unwrap());
        let server = Server { child, address };
        assert!(is_healthy(&server));
    }
    // Both are closed: it serves all the same.
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
