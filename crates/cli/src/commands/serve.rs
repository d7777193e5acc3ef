//! Serves a page that describes a painting dropped on it, and OpenAI's chat completions at the same address.
//!
//! ```python
//! from openai import OpenAI
//! client = OpenAI(base_url="http://127.0.0.1:8000/v1", api_key="none")
//! ```
//!
//! One model answers one request after the other; some may wait, and one more gets the answer "busy". Nothing is fetched: pictures come
//! as data URIs. By default the server listens on this machine only, and answers requests to its own names and from its own page.
//! `GALLERY_GPT_API_KEY` is the key that clients have to send; without it everyone who reaches the server may use it.

use std::{collections::HashSet, io, net::IpAddr, path::Path, sync::Arc, time::Duration};

use anyhow::{Context, ensure};
use axum::http::HeaderValue;
use clap::Args;
use gallery_gpt::vision::ImageLimits;
use gallery_gpt_server::{Access, BodyLimits, ConnectionLimits, Limits};
use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::{
    args::{GenerationFlags, ModelFlags},
    terminal,
};

/// The environment variable with the key that clients have to send.
const KEY: &str = "GALLERY_GPT_API_KEY";
/// Seconds for the head of a request, and for a pause in its body.
const HEAD: u64 = 10;
/// Seconds for the body of a request.
const BODY: u64 = 30;
/// Seconds that a client may take to read an answer after its end.
const READING: u64 = 10;

/// The end of the help.
const EXAMPLES: &str = "\
Examples:
  gallery-gpt serve
  gallery-gpt serve --base llava-1.5-7b-hf --adapter runs/finetune-1/adapter --port 8001";

/// Serves a page and OpenAI's chat completions.
#[derive(Args)]
#[command(rename_all = "snake_case", after_help = EXAMPLES, mut_arg("max_new_tokens", |most| {
    most.help("Maximum number of tokens of an answer, also where a request asks for more [default: 512, of Qwen-VL-Chat what its files say]")
}))]
pub(crate) struct Arguments {
    #[command(flatten)]
    model: ModelFlags,
    /// Address to listen on. One that is not this machine's own is open to everyone who reaches it.
    #[arg(long, default_value = "127.0.0.1")]
    host: IpAddr,
    /// Port; 0 chooses a free one.
    #[arg(long, default_value_t = 8000)]
    port: u16,
    /// Name of the model in answers [default: that of its folder]. Requests may give any name.
    #[arg(long)]
    served_model_name: Option<String>,
    /// More host names of the server, such as that of a proxy in front of it.
    #[arg(long, num_args = 1..)]
    allow_host: Vec<String>,
    /// Origins of other pages that may use the server, such as `http://localhost:5173`; `*` is all.
    #[arg(long, num_args = 1..)]
    allow_origin: Vec<String>,
    /// Requests that may wait for the model.
    #[arg(long, default_value_t = 16, value_parser = clap::value_parser!(u16).range(1..=1024))]
    queue: u16,
    /// Open connections.
    #[arg(long, default_value_t = 200, value_parser = clap::value_parser!(u16).range(1..))]
    connections: u16,
    /// Megabytes of a request.
    #[arg(long, default_value_t = 32, value_parser = clap::value_parser!(u16).range(1..=1024))]
    body_limit: u16,
    /// Megabytes of all requests that are being read or wait [default: one and a half times `--body_limit`].
    #[arg(long, value_parser = clap::value_parser!(u16).range(1..))]
    in_flight_limit: Option<u16>,
    /// Pictures of a request.
    #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(u16).range(0..=64))]
    pictures: u16,
    /// Seconds from the beginning of a request to the end of its answer.
    #[arg(long, default_value_t = 300, value_parser = clap::value_parser!(u32).range(1..=86_400))]
    deadline: u32,
    /// Write a line to standard error for every request.
    #[arg(long)]
    log_requests: bool,
    /// For requests that leave these settings out.
    #[command(flatten)]
    generation: GenerationFlags,
}

/// Runs the command.
///
/// # Errors
/// Anything that ends it before it is done.
pub(crate) fn run(arguments: &Arguments) -> anyhow::Result<()> {
    arguments.generation.check()?;
    ensure!(
        arguments.generation.is_streamable(),
        "--num_beams and --stop_strings are not for a server: beams cannot be streamed, and stop strings come with a request"
    );
    let (limits, connections) = arguments.limits()?;
    let access = arguments.access()?;
    let gallery = Arc::new(arguments.model.load()?);
    let config = arguments.generation.config(&gallery)?;
    let name = match &arguments.served_model_name {
        Some(name) => name.clone(),
        None => name_of(arguments.model.folder()?),
    };
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()?;
    let worker = runtime.block_on(async {
        let listener = tokio::net::TcpListener::bind((arguments.host, arguments.port))
            .await
            .with_context(|| format!("cannot listen on {}:{}", arguments.host, arguments.port))?;
        let mut signals = [SignalKind::interrupt(), SignalKind::terminate()]
            .map(signal)
            .into_iter()
            .collect::<io::Result<Vec<Signal>>>()?;
        if !arguments.host.is_loopback() && access.key.is_none() {
            note!(
                "warning: everyone who reaches {} may use this server and can read its answers; {KEY} sets a key, and TLS needs a proxy in front",
                arguments.host
            );
        }
        announce(&format!("{name} at http://{}/", listener.local_addr()?));
        let (router, worker) = gallery_gpt_server::serve(gallery, name, config, limits, access);
        let log = arguments.log_requests.then_some(log as fn(&str));
        let stopped = async move {
            first_of(&mut signals).await;
            note!("stopping after the requests under way; a second signal stops at once");
            tokio::spawn(async move {
                first_of(&mut signals).await;
                leave();
            });
        };
        gallery_gpt_server::listen(listener, router, connections, log, stopped).await;
        anyhow::Ok(worker)
    })?;
    // All connections are closed, so every request is done.
    worker.join().ok().context("the model's thread failed")
}

impl Arguments {
    fn limits(&self) -> anyhow::Result<(Limits, ConnectionLimits)> {
        let body = usize::from(self.body_limit) << 20;
        let in_flight = match self.in_flight_limit {
            Some(megabytes) => usize::from(megabytes) << 20,
            None => body / 2 * 3,
        };
        ensure!(
            in_flight >= body,
            "--in_flight_limit is {} MB, expected at least the {} MB of one request (--body_limit)",
            in_flight >> 20,
            body >> 20
        );
        let deadline = Duration::from_secs(self.deadline.into());
        let limits = Limits {
            queue: self.queue.into(),
            pictures: self.pictures.into(),
            picture: ImageLimits::small(),
            body: BodyLimits {
                bytes: body,
                in_flight,
                time: Duration::from_secs(BODY).min(deadline),
                pause: Duration::from_secs(HEAD).min(deadline),
            },
            deadline,
        };
        let connections = ConnectionLimits {
            connections: self.connections.into(),
            head: Duration::from_secs(HEAD),
            answer: deadline + Duration::from_secs(READING),
        };
        Ok((limits, connections))
    }

    fn access(&self) -> anyhow::Result<Access> {
        let key = std::env::var_os(KEY)
            .map(|key| {
                let key = key.into_string().ok();
                let key = key.filter(|key| {
                    !key.is_empty() && key.bytes().all(|byte| byte.is_ascii_graphic())
                });
                key.with_context(|| {
                    format!("{KEY} is empty, or has characters other than letters, digits and punctuation of ASCII")
                })
            })
            .transpose()?;
        for origin in &self.allow_origin {
            let is_origin = origin == "*"
                || origin == "null"
                || (origin.contains("://") && origin.matches('/').count() == 2);
            ensure!(
                is_origin && HeaderValue::from_str(origin).is_ok(),
                "--allow_origin {origin}: expected an origin such as http://localhost:5173, without a path, or *"
            );
        }
        let mut hosts: HashSet<String> = self
            .allow_host
            .iter()
            .map(|host| host.to_ascii_lowercase())
            .collect();
        let any_address = self.host.is_unspecified();
        if !any_address {
            hosts.insert(self.host.to_string());
        }
        Ok(Access {
            hosts,
            any_address,
            origins: self.allow_origin.clone(),
            key,
        })
    }
}

/// The name of the model in this folder. Every run calls its adapter `adapter`, so the run's folder gives the name.
fn name_of(folder: &Path) -> String {
    let folder = folder.canonicalize().unwrap_or_else(|_| folder.to_owned());
    let mut names = folder.iter().rev().map(|name| name.to_string_lossy());
    let own = names.find(|name| {
        let name = name.as_ref();
        !matches!(name, "adapter" | "best" | "checkpoints")
            && !name.starts_with("step-")
            && !name.starts_with("checkpoint-")
    });
    own.map_or_else(|| "gallery-gpt".to_owned(), std::borrow::Cow::into_owned)
}

/// Waits for Ctrl-C or SIGTERM.
async fn first_of(signals: &mut [Signal]) {
    std::future::poll_fn(|context| {
        let mut ready = signals.iter_mut().map(|signal| signal.poll_recv(context));
        match ready.any(|signal| signal.is_ready()) {
            true => std::task::Poll::Ready(()),
            false => std::task::Poll::Pending,
        }
    })
    .await;
}

#[allow(clippy::exit, reason = "a second signal must not wait for destructors")]
fn leave() -> ! {
    std::process::exit(130)
}

/// Prints the address of the server: to standard error if standard output is closed or full.
fn announce(text: &str) {
    say!("{text}");
    if !terminal::is_written() {
        note!("{text}");
    }
}

fn log(line: &str) {
    note!("{line}");
}
