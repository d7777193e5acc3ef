//! The server under load: many clients on loopback, a third of them hanging up, broken pictures among them, and beside them clients
//! that send half a head or half a body, or a byte at a time. Every whole answer is compared with the library's own; the memory of
//! the process, and how long `/health` takes, are watched. With a Python that has `openai` and `playwright`, the
//! page and the API are tried by a browser and OpenAI's own client first.
//!
//! ```sh
//! cargo bench -p gallery-gpt-benches --bench serve
//! cargo bench -p gallery-gpt-benches --bench serve -- --requests 5000 --python .venv/bin/python --chromium /usr/bin/chromium
//! ```

#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a program talks on the terminal"
)]

use gallery_gpt_benches::memory;
use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
    path::PathBuf,
    process::Command,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use anyhow::{Context, ensure};
use clap::Parser;
use gallery_gpt::{prelude::*, vision::ImageLimits};
use gallery_gpt_scenes::QUESTIONS;
use gallery_gpt_server::{Access, BodyLimits, ConnectionLimits, Limits};
use gallery_gpt_testkit::http_client::{ask, post, user};
use indicatif::{ProgressBar, ProgressStyle};
use memory::resident;
use serde_json::json;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Puts the server under load.
#[derive(Parser)]
struct Arguments {
    /// Requests in all.
    #[arg(long, default_value_t = 1000)]
    requests: usize,
    /// Clients at a time.
    #[arg(long, default_value_t = 64)]
    clients: usize,
    /// Clients that never finish a request, a third of each kind.
    #[arg(long, default_value_t = 96)]
    half_open: usize,
    /// Requests that may wait.
    #[arg(long, default_value_t = 32)]
    queue: usize,
    /// Most tokens of an answer.
    #[arg(long, default_value_t = 64)]
    max_tokens: usize,
    /// A Python with openai and playwright.
    #[arg(long, requires = "chromium")]
    python: Option<PathBuf>,
    /// A Chromium.
    #[arg(long)]
    chromium: Option<PathBuf>,
    /// Passed by `cargo bench`; means nothing here.
    #[arg(long, hide = true)]
    bench: bool,
}

/// A painting's file, and what the library says of it.
struct Known {
    file: Vec<u8>,
    question: &'static str,
    answer: String,
}

#[derive(Default)]
struct Counts {
    whole: AtomicUsize,
    streamed: AtomicUsize,
    hung_up: AtomicUsize,
    broken: AtomicUsize,
    busy: AtomicUsize,
}

fn main() -> anyhow::Result<()> {
    let arguments = Arguments::parse();
    let datasets = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../datasets");
    let gallery = Arc::new(GalleryGpt::load(
        datasets.join("tiny-base"),
        &Device::flex(),
    )?);
    let greedy = GenerationConfig::greedy(arguments.max_tokens);
    let paintings: Vec<PathBuf> = (0..16)
        .map(|number| datasets.join(format!("painting-form-mini/images/test_{number}.jpg")))
        .collect();
    let known: Vec<Known> = paintings
        .iter()
        .zip(QUESTIONS.iter().cycle())
        .map(|(path, question)| {
            Ok(Known {
                file: std::fs::read(path).with_context(|| path.display().to_string())?,
                question,
                answer: gallery.describe(path, question, &greedy)?,
            })
        })
        .collect::<anyhow::Result<_>>()?;

    let limits = Limits {
        queue: arguments.queue,
        pictures: 4,
        picture: ImageLimits::default(),
        body: BodyLimits {
            bytes: 1 << 20,
            in_flight: 48 << 20,
            time: Duration::from_secs(30),
            pause: Duration::from_secs(10),
        },
        deadline: Duration::from_secs(120),
    };
    // Fewer than there are clients in all: the half-open ones have to give way.
    let connections = ConnectionLimits {
        connections: arguments.clients + arguments.half_open / 2 + 2,
        head: Duration::from_secs(10),
        answer: Duration::from_secs(130),
    };
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()?;
    let listener = runtime.block_on(tokio::net::TcpListener::bind(("127.0.0.1", 0)))?;
    let address = listener.local_addr()?;
    let defaults = GenerationConfig::greedy(512);
    let name = "tiny-base".to_owned();
    let (router, worker) =
        gallery_gpt_server::serve(gallery, name, defaults, limits, Access::default());
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let stopped = async { drop(stopped.await) };
    let serving = runtime.spawn(gallery_gpt_server::listen(
        listener,
        router,
        connections,
        None,
        stopped,
    ));

    if let (Some(python), Some(chromium)) = (&arguments.python, &arguments.chromium) {
        let script = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("serve.py");
        let status = Command::new(python)
            .args([script.as_os_str(), format!("http://{address}").as_ref()])
            .args([paintings[0].as_os_str(), chromium.as_os_str()])
            .status()
            .with_context(|| format!("cannot run {}", python.display()))?;
        ensure!(status.success(), "the clients in Python failed");
    }

    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let half_open = scope.spawn(|| half_open(arguments.half_open, address, &done));
        let health = scope.spawn(|| watch_health(address, &done));
        let loaded = load(&arguments, address, &known);
        done.store(true, Ordering::Relaxed);
        let joined = half_open.join().is_ok() && health.join().is_ok();
        ensure!(joined, "a client beside the load panicked");
        loaded
    })?;
    let mut half = TcpStream::connect(address)?;
    half.write_all(b"POST /v1/ch")?;
    let began = Instant::now();
    drop(stop);
    runtime.block_on(serving)?;
    ensure!(worker.join().is_ok(), "the model's thread panicked");
    println!(
        "stopped in {:.1} s with half a request open: the queue was done and the model's thread ended without a panic",
        began.elapsed().as_secs_f64()
    );
    Ok(())
}

/// Keeps so many connections open that never bring a whole request, until it is done.
fn half_open(clients: usize, address: SocketAddr, done: &AtomicBool) {
    let promise = "POST /v1/chat/completions HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\ncontent-length: 100000\r\n\r\n";
    let open = |number: usize| {
        let mut socket = TcpStream::connect(address).ok()?;
        let begin = if number.is_multiple_of(3) {
            "POST /v1/ch"
        } else {
            promise
        };
        socket.write_all(begin.as_bytes()).ok()?;
        socket.set_nonblocking(true).ok()?;
        Some(socket)
    };
    let mut sockets: Vec<_> = (0..clients).map(open).collect();
    let mut ended = 0;
    while !done.load(Ordering::Relaxed) {
        for (number, socket) in sockets.iter_mut().enumerate() {
            let alive = socket.as_mut().is_some_and(|socket| {
                let waits = |error: std::io::Error| error.kind() == std::io::ErrorKind::WouldBlock;
                let trickles = number % 3 != 1 || socket.write_all(b" ").is_ok();
                trickles && socket.read(&mut [0; 64]).is_err_and(waits)
            });
            if !alive {
                ended += 1;
                *socket = open(number);
            }
        }
        std::thread::sleep(Duration::from_millis(100));
    }
    println!(
        "{clients} half-open clients beside them were ended {ended} times, and came again each time"
    );
}

/// Asks whether the server is well, again and again, until it is done.
fn watch_health(address: SocketAddr, done: &AtomicBool) {
    let (mut longest, mut failures, mut count) = (Duration::ZERO, 0, 0);
    while !done.load(Ordering::Relaxed) {
        let began = Instant::now();
        let well = ask(address, "GET", "/health", &[]).is_ok_and(|answer| answer.body == b"ok");
        longest = longest.max(began.elapsed());
        count += 1;
        failures += usize::from(!well);
        std::thread::sleep(Duration::from_millis(100));
    }
    println!(
        "/health: {count} times, {failures} without an answer, {:.2} s at most",
        longest.as_secs_f64()
    );
}

fn load(arguments: &Arguments, address: SocketAddr, known: &[Known]) -> anyhow::Result<()> {
    let counts = Counts::default();
    let next = AtomicUsize::new(0);
    let memory = Mutex::new(Vec::new());
    let every = (arguments.requests / 10).max(1);
    let progress = ProgressBar::new(arguments.requests as u64).with_style(
        ProgressStyle::with_template("{bar:30} {pos}/{len} requests, {per_sec}, {eta} left")?,
    );
    let began = Instant::now();
    std::thread::scope(|scope| {
        let clients: Vec<_> = (0..arguments.clients)
            .map(|_| {
                scope.spawn(|| {
                    loop {
                        let number = next.fetch_add(1, Ordering::Relaxed);
                        if number >= arguments.requests {
                            return anyhow::Ok(());
                        }
                        request(arguments, address, known, number, &counts)
                            .with_context(|| format!("request {number}"))?;
                        progress.inc(1);
                        if number.is_multiple_of(every)
                            && let (Some(resident), Ok(mut memory)) = (resident(), memory.lock())
                        {
                            memory.push((number, resident));
                        }
                    }
                })
            })
            .collect();
        clients.into_iter().try_for_each(|client| {
            client
                .join()
                .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })
    })?;
    progress.finish_and_clear();
    let seconds = began.elapsed().as_secs_f64();
    let count = |count: &AtomicUsize| count.load(Ordering::Relaxed);
    println!(
        "{} requests of {} clients in {seconds:.0} s: {} whole and {} streamed answers, all equal to the library's; {} hung up; \
         {} broken pictures refused; told busy {} times",
        arguments.requests,
        arguments.clients,
        count(&counts.whole),
        count(&counts.streamed),
        count(&counts.hung_up),
        count(&counts.broken),
        count(&counts.busy),
    );
    println!("request   resident MB (server and clients)");
    let mut memory = memory.into_inner().unwrap_or_default();
    memory.sort_unstable();
    for (number, resident) in memory {
        println!("{number:>7}   {:.1}", resident as f64 / 1e6);
    }
    Ok(())
}

/// One request, tried again while the server is busy.
fn request(
    arguments: &Arguments,
    address: SocketAddr,
    known: &[Known],
    number: usize,
    counts: &Counts,
) -> anyhow::Result<()> {
    let Known {
        file,
        question,
        answer,
    } = &known[number % known.len()];
    let broken = number % 10 == 7;
    let hang_up = number.is_multiple_of(3);
    let stream = hang_up || number % 3 == 1;
    // Cut in another place each time.
    let end = if broken {
        1 + number * 131 % (file.len() - 2)
    } else {
        file.len()
    };
    let body = json!({
        "messages": [user(question, &[&file[..end]])],
        "temperature": 0,
        "max_tokens": arguments.max_tokens,
        "stream": stream,
    })
    .to_string();
    let found = loop {
        // Some hang up at once, some after a few words.
        let lines = hang_up.then_some(number / 3 % 12);
        let found = post(address, "/v1/chat/completions", body.as_bytes(), lines)?;
        if found.status != 503 {
            break found;
        }
        counts.busy.fetch_add(1, Ordering::Relaxed);
        std::thread::sleep(Duration::from_millis(50));
    };
    let counter = if broken {
        ensure!(found.status == 400, "a broken picture got {}", found.status);
        &counts.broken
    } else {
        ensure!(
            found.status == 200,
            "status {}: {}",
            found.status,
            found.json()
        );
        if hang_up {
            &counts.hung_up
        } else if stream {
            let chunks = found.chunks();
            let pieces = chunks
                .iter()
                .filter_map(|chunk| chunk["choices"][0]["delta"]["content"].as_str());
            let text: String = pieces.collect();
            ensure!(text.trim() == answer, "{text:?} is not {answer:?}");
            &counts.streamed
        } else {
            ensure!(
                found.text() == *answer,
                "{:?} is not {answer:?}",
                found.text()
            );
            &counts.whole
        }
    };
    counter.fetch_add(1, Ordering::Relaxed);
    Ok(())
}
