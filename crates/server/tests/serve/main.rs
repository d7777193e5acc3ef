//! The server over real sockets.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod access;
mod answers;
mod browser;
mod page;
mod qwen_vl;
mod refusals;
mod slow_clients;

use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant},
};

use gallery_gpt::{prelude::*, vision::ImageLimits};
use gallery_gpt_server::{Access, BodyLimits, ConnectionLimits, Limits};
use gallery_gpt_testkit::http_client::{Answer, ask, post, user};
use serde_json::{Value, json};

const QUESTION: &str = "Please write a paragraph of formal analysis for this painting.";
const CHAT: &str = "/v1/chat/completions";

fn datasets() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../datasets")
}

fn painting() -> Vec<u8> {
    std::fs::read(datasets().join("painting-form-mini/images/test_0.jpg")).unwrap()
}

fn limits() -> Limits {
    Limits {
        queue: 8,
        pictures: 2,
        picture: ImageLimits::default(),
        body: BodyLimits {
            bytes: 1 << 20,
            in_flight: 4 << 20,
            time: Duration::from_secs(30),
            pause: Duration::from_secs(10),
        },
        deadline: Duration::from_secs(60),
    }
}

fn connections() -> ConnectionLimits {
    ConnectionLimits {
        connections: 64,
        head: Duration::from_secs(10),
        answer: Duration::from_secs(70),
    }
}

/// A server of its own on a free port.
struct Running {
    gallery: Arc<GalleryGpt>,
    address: SocketAddr,
    runtime: tokio::runtime::Runtime,
    serving: Option<tokio::task::JoinHandle<()>>,
    stop: Option<tokio::sync::oneshot::Sender<()>>,
}

fn start(limits: Limits) -> Running {
    start_with(limits, connections(), Access::default())
}

fn start_with(limits: Limits, connections: ConnectionLimits, access: Access) -> Running {
    start_by_default(GenerationConfig::greedy(200), limits, connections, access)
}

/// A server that generates by these settings where a request does not say otherwise.
fn start_by_default(
    defaults: GenerationConfig,
    limits: Limits,
    connections: ConnectionLimits,
    access: Access,
) -> Running {
    start_of(
        &datasets().join("tiny-base"),
        defaults,
        limits,
        connections,
        access,
    )
}

/// A server of some model.
fn start_of(
    base: &Path,
    defaults: GenerationConfig,
    limits: Limits,
    connections: ConnectionLimits,
    access: Access,
) -> Running {
    let gallery = Arc::new(GalleryGpt::load(base, &Device::flex()).unwrap());
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .unwrap();
    let name = "tiny".to_owned();
    let (router, _) = gallery_gpt_server::serve(gallery.clone(), name, defaults, limits, access);
    let bind = tokio::net::TcpListener::bind(("127.0.0.1", 0));
    let listener = runtime.block_on(bind).unwrap();
    let address = listener.local_addr().unwrap();
    let (stop, stopped) = tokio::sync::oneshot::channel();
    let stopped = async { drop(stopped.await) };
    let serving = runtime.spawn(gallery_gpt_server::listen(
        listener,
        router,
        connections,
        None,
        stopped,
    ));
    Running {
        gallery,
        address,
        runtime,
        serving: Some(serving),
        stop: Some(stop),
    }
}

impl Running {
    fn post(&self, path: &str, request: &Value) -> Answer {
        post(self.address, path, request.to_string().as_bytes(), None).unwrap()
    }

    fn chat(&self, request: &Value) -> Answer {
        self.post(CHAT, request)
    }

    fn is_healthy(&self) -> bool {
        ask(self.address, "GET", "/health", &[]).is_ok_and(|answer| answer.body == b"ok")
    }

    /// A connection with the beginning of a request.
    fn begin(&self, text: &str) -> TcpStream {
        let mut socket = TcpStream::connect(self.address).unwrap();
        let long = Some(Duration::from_secs(30));
        socket.set_read_timeout(long).unwrap();
        socket.write_all(text.as_bytes()).unwrap();
        socket
    }

    /// A connection with a head that announces so many bytes.
    fn promise(&self, bytes: usize) -> TcpStream {
        self.begin(&format!(
            "POST {CHAT} HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\ncontent-length: {bytes}\r\n\r\n"
        ))
    }

    /// Asks the server to stop and waits until it has.
    fn stop(&mut self) {
        drop(self.stop.take());
        let serving = self.serving.take().unwrap();
        self.runtime.block_on(serving).unwrap();
    }
}

/// Whether the server ends the connection, and after how long.
fn ended(mut socket: TcpStream) -> Duration {
    let began = Instant::now();
    let mut rest = Vec::new();
    let read = socket.read_to_end(&mut rest);
    let is_open = read.is_err_and(|error| error.kind() == std::io::ErrorKind::WouldBlock);
    assert!(!is_open, "still open after {:?}", began.elapsed());
    began.elapsed()
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
