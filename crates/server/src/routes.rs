//! The routes, and how a request passes through them.

use std::{
    convert::Infallible,
    sync::{
        Arc, LazyLock,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant, SystemTime},
};

use axum::{
    Extension, Json, Router,
    body::Body,
    extract::{Path, State},
    http::{HeaderMap, Method, Uri, header},
    middleware::{from_fn, from_fn_with_state},
    response::{IntoResponse, Response, Sse, sse},
    routing::{get, post},
};
use gallery_gpt::{
    model::CancelToken,
    prelude::*,
    projector::ProjectorKind,
    report::{Color, color_rules},
    text::Role,
    vision::ImageLimits,
};
use serde_json::{Value, json};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio_stream::{StreamExt, wrappers::UnboundedReceiverStream};

use crate::{
    body::{BodyLimits, Room},
    guard::{self, Access},
    listen::Connection,
    openai::{self, Reply},
    refusal::Refusal,
    request::{ChatRequest, RequestLimits},
    worker::{self, Event, Job, Task},
};

/// Limits of a server.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Requests that wait for the model; one more gets the answer that the server is busy.
    pub queue: usize,
    /// Pictures per request.
    pub pictures: usize,
    /// Limits of each picture.
    pub picture: ImageLimits,
    /// Limits of bodies.
    pub body: BodyLimits,
    /// Time from a request to the end of its answer.
    pub deadline: Duration,
}

/// The state that all handlers share.
struct Server {
    name: String,
    context: usize,
    /// Whether a picture's tokens are its patches, so that attention to them can be drawn.
    has_patches: bool,
    defaults: GenerationConfig,
    limits: Limits,
    request: RequestLimits,
    room: Room,
    /// One request is parsed at a time: several would take more memory than there is for bodies.
    parsing: Arc<Semaphore>,
    jobs: mpsc::Sender<Job>,
    started: u64,
    requests: AtomicU64,
}

/// The routes, and the thread that owns the model; it ends when the routes are dropped.
///
/// `name` is the model's name in answers. `defaults` are the settings for requests that leave them out; `max_new_tokens` is also their
/// upper bound.
///
/// The routes work under [`listen`](crate::listen()) only, which tells them about their connections.
pub fn serve(
    gallery: Arc<GalleryGpt>,
    name: String,
    defaults: GenerationConfig,
    limits: Limits,
    access: Access,
) -> (Router, std::thread::JoinHandle<()>) {
    let (jobs, queue) = mpsc::channel(limits.queue);
    let context = gallery.model().config().llama.max_position_embeddings;
    let projector = gallery.model().config().projector;
    let has_patches = !matches!(projector, ProjectorKind::Resampler { .. });
    let request = RequestLimits {
        text: context.saturating_mul(longest_token(&gallery)),
        pictures: limits.pictures,
    };
    let picture = limits.picture;
    let worker = std::thread::spawn(move || worker::work(&gallery, picture, queue));
    let server = Server {
        name,
        context,
        has_patches,
        defaults,
        request,
        room: Room::new(limits.body),
        limits,
        parsing: Arc::new(Semaphore::new(1)),
        jobs,
        started: seconds(),
        requests: AtomicU64::new(0),
    };
    let access = Arc::new(access);
    let page = |kind, text: &'static str| get(async move || ([(header::CONTENT_TYPE, kind)], text));
    let mut router = Router::new()
        .route("/v1/models", get(models))
        .route("/v1/models/{*name}", get(model))
        .route("/v1/chat/completions", post(completions))
        .route("/attention", post(attention))
        .route_layer(from_fn_with_state(access.clone(), guard::key_holders_only))
        .route(
            "/",
            page("text/html; charset=utf-8", include_str!("page.html")),
        )
        .route("/page.css", page("text/css; charset=utf-8", &STYLE))
        .route(
            "/page.js",
            page("text/javascript; charset=utf-8", include_str!("page.js")),
        )
        .route("/health", get(async || "ok"))
        .fallback(async |method: Method, uri: Uri| {
            Refusal::no_such_path(method.as_str(), uri.path())
        })
        .method_not_allowed_fallback(async |method: Method, uri: Uri| {
            Refusal::wrong_method(method.as_str(), uri.path())
        })
        .with_state(Arc::new(server));
    if let Some(cross_origin) = access.cross_origin() {
        router = router.layer(cross_origin);
    }
    let router = router
        .layer(from_fn_with_state(access, guard::own_pages_only))
        .layer(from_fn(guard::strict));
    (router, worker)
}

/// The page's own colours, beside those of all pages.
const COLORS: [Color<'_>; 2] = [
    Color {
        name: "accent",
        light: "#8a6d3b",
        dark: "#c9a66b",
    },
    Color {
        name: "bad",
        light: "#a03a22",
        dark: "#e08a72",
    },
];

static STYLE: LazyLock<String> = LazyLock::new(|| color_rules(&COLORS) + include_str!("page.css"));

/// The most bytes of text of one token. A text with more bytes than that for each token of the context is too long.
fn longest_token(gallery: &GalleryGpt) -> usize {
    let tokenizer = gallery.tokenizer();
    let tokens = (0..tokenizer.vocab_size()).filter_map(|id| tokenizer.token(id as u32));
    tokens.map(|token| token.len()).max().unwrap_or(1)
}

fn seconds() -> u64 {
    let now = SystemTime::UNIX_EPOCH.elapsed();
    now.map_or(0, |now| now.as_secs())
}

async fn models(State(server): State<Arc<Server>>) -> Json<Value> {
    Json(json!({ "object": "list", "data": [server.description()] }))
}

async fn model(
    State(server): State<Arc<Server>>,
    Path(name): Path<String>,
) -> Result<Json<Value>, Refusal> {
    if name != server.name {
        return Err(Refusal::no_such_model(&name, &server.name));
    }
    Ok(Json(server.description()))
}

async fn completions(
    State(server): State<Arc<Server>>,
    Extension(connection): Extension<Arc<Connection>>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Refusal> {
    let (request, asked) = server.read(&headers, body, &connection).await?;
    let config = openai::config(&request, &server.defaults)?;
    let (stream, include_usage) = (request.stream, request.include_usage);
    let mut running = server.submit(request, asked, Role::User, Task::Answer(config))?;
    let reply = server.reply();
    // The first event decides between an answer and an error.
    let mut event = running.next().await?;
    if let Event::Refused(refusal) = event {
        return Err(refusal);
    }
    if stream {
        let chunks = chunks(reply, event, running, include_usage);
        let chunks = chunks.map(|data| Ok::<_, Infallible>(sse::Event::default().data(data)));
        return Ok(Sse::new(chunks)
            .keep_alive(sse::KeepAlive::default())
            .into_response());
    }
    let (mut text, mut notes) = (String::new(), Vec::new());
    loop {
        match event {
            Event::Piece(piece) => text.push_str(&piece),
            Event::Notes(said) => notes = said,
            Event::End {
                finish,
                usage,
                regions,
            } => {
                let answer = reply.completion(text.trim(), &notes, finish, usage, &regions);
                return Ok(Json(answer).into_response());
            }
            Event::Overlay(_) => {}
            Event::Refused(refusal) => return Err(refusal),
        }
        event = running.next().await?;
    }
}

/// The chunks of an answer as it is generated. When their reader goes away, the job is dropped.
fn chunks(
    reply: Reply,
    first: Event,
    mut running: Running,
    include_usage: bool,
) -> UnboundedReceiverStream<String> {
    let (sender, chunks) = mpsc::unbounded_channel();
    tokio::spawn(async move {
        let mut event = Ok(first);
        let mut begun = false;
        loop {
            let (data, ended) = match event {
                Ok(Event::Notes(notes)) => (vec![reply.notes(&notes).to_string()], false),
                Ok(Event::Piece(piece)) => {
                    let first = !std::mem::replace(&mut begun, true);
                    (vec![reply.piece(&piece, first).to_string()], false)
                }
                Ok(Event::End {
                    finish,
                    usage,
                    regions,
                }) => {
                    let mut last = vec![reply.end(finish, &regions).to_string()];
                    last.extend(include_usage.then(|| reply.usage(usage).to_string()));
                    last.push("[DONE]".to_owned());
                    (last, true)
                }
                Ok(Event::Overlay(_)) => (Vec::new(), false),
                Ok(Event::Refused(refusal)) | Err(refusal) => {
                    (vec![refusal.json().to_string()], true)
                }
            };
            if data.into_iter().any(|data| sender.send(data).is_err()) || ended {
                return;
            }
            event = tokio::select! {
                () = sender.closed() => return,
                event = running.next() => event,
            };
        }
    });
    UnboundedReceiverStream::new(chunks)
}

async fn attention(
    State(server): State<Arc<Server>>,
    Extension(connection): Extension<Arc<Connection>>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Refusal> {
    let (mut request, asked) = server.read(&headers, body, &connection).await?;
    let phrase = request.phrase.take().filter(|phrase| !phrase.is_empty());
    let phrase =
        phrase.ok_or_else(|| Refusal::invalid("phrase", "phrase: expected words of the answer"))?;
    let mut running = server.submit(request, asked, Role::Assistant, Task::Attend(phrase))?;
    loop {
        match running.next().await? {
            Event::Overlay(file) => {
                return Ok(([(header::CONTENT_TYPE, "image/png")], file).into_response());
            }
            Event::Refused(refusal) => return Err(refusal),
            Event::Notes(_) => {}
            Event::Piece(_) | Event::End { .. } => {
                return Err(Refusal::internal(
                    "the model answered in place of drawing attention",
                ));
            }
        }
    }
}

/// The deadline of a request, and the share of the memory that its body holds.
struct Asked {
    deadline: Instant,
    room: Option<OwnedSemaphorePermit>,
}

/// The client's side of a job. Dropping it cancels the job.
struct Running {
    events: mpsc::UnboundedReceiver<Event>,
    cancel: CancelToken,
    deadline: Instant,
}

impl Running {
    async fn next(&mut self) -> Result<Event, Refusal> {
        let event = tokio::time::timeout_at(self.deadline.into(), self.events.recv()).await;
        match event {
            Ok(Some(event)) => Ok(event),
            Ok(None) => Err(Refusal::stopping()),
            Err(_) => Err(Refusal::too_late()),
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.cancel.cancel();
    }
}

/// The number that is written with the digits of this one: 0.2, where a conversion gives 0.20000000298023224.
fn as_written(number: f32) -> Option<f64> {
    number.to_string().parse().ok()
}

impl Server {
    fn description(&self) -> Value {
        json!({
            "id": self.name, "object": "model", "created": self.started, "owned_by": "gallery-gpt",
            "max_model_len": self.context,
            "attention_maps": self.has_patches,
            "defaults": {
                "temperature": as_written(self.defaults.temperature),
                "max_tokens": self.defaults.max_new_tokens,
            },
        })
    }

    /// Reads and parses the body; parsing runs on a thread of its own, so that it holds up no other connection.
    async fn read(
        &self,
        headers: &HeaderMap,
        body: Body,
        connection: &Connection,
    ) -> Result<(ChatRequest, Asked), Refusal> {
        let deadline = Instant::now() + self.limits.deadline;
        let taken = self.room.take(headers, body, connection).await?;
        let room = taken.room;
        let limits = self.request;
        let parsing = self.parsing.clone();
        let parsed = async {
            let turn = parsing.acquire_owned().await;
            let parse = move || {
                let request = ChatRequest::parse(&taken.bytes, &limits);
                drop((taken.bytes, turn));
                request
            };
            tokio::task::spawn_blocking(parse).await
        };
        let parsed = tokio::time::timeout_at(deadline.into(), parsed).await;
        let request = parsed
            .map_err(|_| Refusal::too_late())?
            .map_err(|_| Refusal::internal("reading the request failed"))??;
        Ok((request, Asked { deadline, room }))
    }

    /// Puts a job into the queue. `last` is the role that the last message must have.
    fn submit(
        &self,
        request: ChatRequest,
        asked: Asked,
        last: Role,
        task: Task,
    ) -> Result<Running, Refusal> {
        let (conversation, pictures) = openai::conversation(request.messages, last)?;
        let cancel = CancelToken::new();
        let deadline = asked.deadline;
        let (sender, events) = mpsc::unbounded_channel();
        let job = Job {
            conversation,
            pictures,
            room: asked.room,
            task,
            cancel: cancel.clone(),
            deadline,
            events: sender,
        };
        self.jobs.try_send(job).map_err(|error| match error {
            mpsc::error::TrySendError::Full(_) => Refusal::busy(self.limits.queue),
            mpsc::error::TrySendError::Closed(_) => Refusal::stopping(),
        })?;
        Ok(Running {
            events,
            cancel,
            deadline,
        })
    }

    fn reply(&self) -> Reply {
        let number = self.requests.fetch_add(1, Ordering::Relaxed);
        Reply {
            id: format!("chatcmpl-{}-{number}", self.started),
            created: seconds(),
            model: self.name.clone(),
        }
    }
}
