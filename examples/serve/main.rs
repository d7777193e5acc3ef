//! A page where a painting is dropped and its analysis is written beside it, and OpenAI's chat completions at the same address.
//!
//! ```sh
//! cargo run --release --example serve
//! cargo run --release --example serve -- --base llava-1.5-7b-hf --adapter runs/finetune-1/adapter --port 8001
//! ```
//!
//! ```python
//! from openai import OpenAI
//! client = OpenAI(base_url="http://127.0.0.1:8000/v1", api_key="none")
//! ```
//!
//! One model does one request after the other; some may wait, one more is told "busy". Nothing is fetched from elsewhere:
//! pictures come as data URIs. It listens on this machine alone unless told otherwise, and knows no passwords.

#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a program talks on the terminal"
)]

#[path = "../terminal.rs"]
#[macro_use]
mod terminal;
#[path = "../flags.rs"]
mod flags;
mod server;

use std::{net::IpAddr, sync::Arc, time::Duration};

use anyhow::{Context, ensure};
use clap::Parser;
use flags::{GenerationFlags, ModelFlags};
use server::Limits;
use tokio::signal;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Serves a page and OpenAI's chat completions.
#[derive(Parser)]
#[command(rename_all = "snake_case")]
struct Arguments {
    #[command(flatten)]
    model: ModelFlags,
    /// Address to listen on. Others than this machine's own are open to everyone who reaches them.
    #[arg(long, default_value = "127.0.0.1")]
    host: IpAddr,
    /// Port; 0 takes a free one.
    #[arg(long, default_value_t = 8000)]
    port: u16,
    /// Requests that may wait.
    #[arg(long, default_value_t = 16)]
    queue: usize,
    /// Most megabytes of a request.
    #[arg(long, default_value_t = 32)]
    body_limit: usize,
    /// Most pictures of a request.
    #[arg(long, default_value_t = 4)]
    pictures: usize,
    /// Seconds from a request to the end of its answer.
    #[arg(long, default_value_t = 300)]
    deadline: u64,
    /// What a request gets that says nothing else; `max_new_tokens` is also the most it may ask for.
    #[command(flatten)]
    generation: GenerationFlags,
}

fn main() -> anyhow::Result<()> {
    let arguments = Arguments::parse();
    let config = arguments.generation.config(512)?;
    ensure!(
        config.num_beams == 1 && config.stop_strings.is_empty(),
        "--num_beams and --stop_strings are not for a server: beams cannot be streamed, and stops come with a request"
    );
    ensure!(arguments.queue > 0, "--queue must be at least 1");
    let gallery = Arc::new(arguments.model.load()?);
    let limits = Limits {
        queue: arguments.queue,
        body: arguments.body_limit << 20,
        pictures: arguments.pictures,
        deadline: Duration::from_secs(arguments.deadline),
    };
    let name = arguments.model.name();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()?;
    let worker = runtime.block_on(async {
        let listener = tokio::net::TcpListener::bind((arguments.host, arguments.port))
            .await
            .with_context(|| format!("cannot listen on {}:{}", arguments.host, arguments.port))?;
        println!("{name} at http://{}/", listener.local_addr()?);
        let (router, worker) = server::serve(gallery, name, config, limits);
        axum::serve(listener, router)
            .with_graceful_shutdown(asked_to_stop())
            .await?;
        anyhow::Ok(worker)
    })?;
    // Connections are closed: what was under way is done.
    worker.join().ok().context("the model's thread failed")
}

/// Waits for Ctrl-C or a polite kill. What is under way is finished, within its deadline; a second Ctrl-C does not wait.
async fn asked_to_stop() {
    let mut terminate = signal::unix::signal(signal::unix::SignalKind::terminate()).ok();
    let terminated = async {
        match &mut terminate {
            Some(terminate) => terminate.recv().await,
            None => std::future::pending().await,
        }
    };
    tokio::select! {
        _ = signal::ctrl_c() => {}
        _ = terminated => {}
    }
    eprintln!("stopping; what is under way is finished first");
    tokio::spawn(async {
        if signal::ctrl_c().await.is_ok() {
            std::process::abort();
        }
    });
}
