//! What the flags of a server do, and which values are refused.

use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
};

use super::{Server, said, serve, start_again};

#[test]
fn values_out_of_range_are_refused() {
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
