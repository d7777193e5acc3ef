//! A client of the server as plain as can be: one request a connection, over a blocking socket.

use std::{
    io::{BufRead, BufReader, Read, Write},
    net::{SocketAddr, TcpStream},
};

use anyhow::{Context, bail};
use base64::{Engine, engine::general_purpose::STANDARD};
use serde_json::{Value, json};

/// What came back.
#[derive(Debug)]
pub struct Answer {
    /// The HTTP status.
    pub status: u16,
    /// The lines of the head, in small letters.
    pub head: Vec<String>,
    /// The body; of a stream, its lines.
    pub body: Vec<u8>,
}

impl Answer {
    /// The value of a header.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        let lines = self.head.iter();
        let mut values = lines.filter_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
        values.next().map(str::trim)
    }

    /// The body as JSON; null if it is none.
    #[must_use]
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or(Value::Null)
    }

    /// The text of an answer that was not streamed.
    #[must_use]
    pub fn text(&self) -> String {
        let value = self.json();
        let text = value["choices"][0]["message"]["content"].as_str();
        text.unwrap_or_default().to_owned()
    }

    /// The chunks of a stream, its `[DONE]` left out.
    #[must_use]
    pub fn chunks(&self) -> Vec<Value> {
        let body = String::from_utf8_lossy(&self.body);
        let data = body.lines().filter_map(|line| line.strip_prefix("data:"));
        data.filter_map(|data| serde_json::from_str(data.trim()).ok())
            .collect()
    }
}

/// A message with pictures, as OpenAI's clients write it.
#[must_use]
pub fn user(question: &str, files: &[&[u8]]) -> Value {
    let pictures = files.iter().map(|file| {
        let url = format!("data:image/jpeg;base64,{}", STANDARD.encode(file));
        json!({ "type": "image_url", "image_url": { "url": url } })
    });
    let mut parts: Vec<Value> = pictures.collect();
    parts.push(json!({ "type": "text", "text": question }));
    json!({ "role": "user", "content": parts })
}

/// Sends a request and hangs up once so many lines of the body have come, if a number is given.
///
/// # Errors
/// There is no connection, or no answer in HTTP.
pub fn post(
    address: SocketAddr,
    path: &str,
    body: &[u8],
    hang_up_after: Option<usize>,
) -> anyhow::Result<Answer> {
    // HTTP/1.0: the body is not chunked and ends with the connection.
    let head = format!(
        "POST {path} HTTP/1.0\r\nhost: {address}\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n",
        body.len()
    );
    let mut socket = TcpStream::connect(address).context("connect")?;
    socket.write_all(head.as_bytes()).context("write")?;
    // A server that refuses a body early may close before all of it is written; its answer is what counts.
    let _ = socket.write_all(body);
    answer(socket, hang_up_after)
}

/// Sends a request without a body, with lines of the head of its own.
///
/// # Errors
/// There is no connection, or no answer in HTTP.
pub fn ask(address: SocketAddr, method: &str, path: &str, head: &[&str]) -> anyhow::Result<Answer> {
    let mut socket = TcpStream::connect(address).context("connect")?;
    let lines: String = head.iter().map(|line| format!("{line}\r\n")).collect();
    write!(socket, "{method} {path} HTTP/1.0\r\n{lines}\r\n").context("write")?;
    answer(socket, None)
}

/// Reads an answer to its end, or so many lines of its body.
///
/// # Errors
/// There is no connection, or no answer in HTTP.
pub fn answer(socket: TcpStream, lines: Option<usize>) -> anyhow::Result<Answer> {
    let mut reader = BufReader::new(socket);
    let mut line = String::new();
    reader.read_line(&mut line).context("no answer")?;
    let Some(status) = line.split(' ').nth(1).and_then(|code| code.parse().ok()) else {
        bail!("no HTTP status in {line:?}");
    };
    let mut head = Vec::new();
    while !line.trim().is_empty() {
        line.clear();
        reader.read_line(&mut line)?;
        head.push(line.trim().to_ascii_lowercase());
    }
    let mut body = Vec::new();
    match lines {
        None => {
            reader.read_to_end(&mut body)?;
        }
        Some(lines) => {
            for _ in 0..lines {
                reader.read_until(b'\n', &mut body)?;
            }
        }
    }
    Ok(Answer { status, head, body })
}
