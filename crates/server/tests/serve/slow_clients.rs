//! Clients that are slow, silent or too many, and a stop of the server meanwhile.

use std::io::{Read, Write};

use gallery_gpt_testkit::http_client::answer;
use serde_json::json;

use super::*;

#[test]
fn half_a_request_is_not_waited_for_without_end() {
    let mut limits = limits();
    limits.body.time = Duration::from_millis(900);
    limits.body.pause = Duration::from_millis(400);
    let connections = ConnectionLimits {
        head: Duration::from_millis(400),
        ..connections()
    };
    let server = start_with(limits, connections, Access::default());
    let in_time = |time: Duration| assert!(time < Duration::from_secs(3), "{time:?}");
    in_time(ended(server.begin("")));
    in_time(ended(server.begin("POST /v1/chat/comp")));
    in_time(ended(
        server.begin("GET /health HTTP/1.1\r\nhost: localhost\r\nx-a: b\r\n"),
    ));
    // Kept alive after an answer, then silent.
    in_time(ended(
        server.begin("GET /health HTTP/1.1\r\nhost: localhost\r\n\r\n"),
    ));
    for chunked in [false, true] {
        let socket = if chunked {
            server.begin(&format!(
                "POST {CHAT} HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\ntransfer-encoding: chunked\r\n\r\n1\r\n{{\r\n"
            ))
        } else {
            server.promise(1000)
        };
        let began = Instant::now();
        let found = answer(socket, None).unwrap();
        assert_eq!(found.status, 408);
        assert_eq!(found.json()["error"]["code"], "timeout");
        in_time(began.elapsed());
    }
    // Byte by byte: no pause is too long, but the whole is.
    let mut socket = server.promise(1000);
    let began = Instant::now();
    while began.elapsed() < Duration::from_secs(3) && socket.write_all(b" ").is_ok() {
        std::thread::sleep(Duration::from_millis(100));
    }
    in_time(began.elapsed() - Duration::from_millis(100));
    assert!(server.is_healthy());
}

#[test]
fn half_open_connections_give_way_to_new_ones() {
    let connections = ConnectionLimits {
        connections: 8,
        ..connections()
    };
    let server = start_with(limits(), connections, Access::default());
    let half_heads: Vec<_> = (0..24).map(|_| server.begin("POST /v1/ch")).collect();
    let began = Instant::now();
    assert!(server.is_healthy());
    assert!(
        began.elapsed() < Duration::from_secs(5),
        "{:?}",
        began.elapsed()
    );
    let half_bodies: Vec<_> = (0..24).map(|_| server.promise(1000)).collect();
    let began = Instant::now();
    assert!(server.is_healthy());
    let found = server.chat(&request(json!({ "max_tokens": 2 })));
    assert_eq!(found.status, 200);
    assert!(
        began.elapsed() < Duration::from_secs(8),
        "{:?}",
        began.elapsed()
    );
    drop((half_heads, half_bodies));
}

#[test]
fn bodies_share_a_room() {
    let mut limits = limits();
    limits.body.in_flight = 1 << 20;
    limits.body.pause = Duration::from_secs(2);
    let server = start(limits);
    let mut half = server.promise(900_000);
    half.write_all(&vec![b' '; 800_000]).unwrap();
    std::thread::sleep(Duration::from_millis(300));
    let large = request(json!({ "user": "x".repeat(400_000), "max_tokens": 2 }));
    let found = server.chat(&large);
    assert_eq!(found.status, 503);
    assert_eq!(found.header("retry-after"), Some("1"));
    assert_eq!(found.json()["error"]["type"], "busy");
    assert_eq!(
        server.chat(&request(json!({ "max_tokens": 2 }))).status,
        200
    );
    // When the incomplete one is dropped, its memory is free.
    drop(half);
    std::thread::sleep(Duration::from_millis(300));
    assert_eq!(server.chat(&large).status, 200);
}

#[test]
fn a_stop_finishes_what_is_under_way_and_waits_for_nobody_else() {
    let mut server = start(limits());
    let half_head = server.begin("POST /v1/ch");
    let half_body = server.promise(1000);
    let silent = server.begin("");
    let stream =
        request(json!({ "stream": true, "max_tokens": 100, "temperature": 50.0, "seed": 3 }));
    let body = stream.to_string();
    let mut socket = server.promise(body.len());
    socket.write_all(body.as_bytes()).unwrap();
    // Its answer has begun.
    let mut first = [0; 15];
    socket.read_exact(&mut first).unwrap();
    assert_eq!(&first, b"HTTP/1.1 200 OK");
    let began = Instant::now();
    server.stop();
    let took = began.elapsed();
    assert!(took < Duration::from_secs(20), "{took:?}");
    let mut rest = String::new();
    socket.read_to_string(&mut rest).unwrap();
    assert!(rest.contains("data: [DONE]"), "{rest}");
    for socket in [half_head, half_body, silent] {
        ended(socket);
    }
    assert!(TcpStream::connect(server.address).is_err());

    // Nothing is under way: incomplete requests do not hold it up.
    let mut server = start(limits());
    let _half = (server.begin("POST /v1/ch"), server.promise(1000));
    std::thread::sleep(Duration::from_millis(100));
    let began = Instant::now();
    server.stop();
    assert!(
        began.elapsed() < Duration::from_secs(4),
        "{:?}",
        began.elapsed()
    );
}
