//! The page and OpenAI's chat completions over one model: routes, limits, and what is said when something cannot be done.

mod openai;
mod worker;

use std::{
    convert::Infallible,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant, SystemTime},
};

use axum::{
    Json, Router,
    body::Bytes,
    extract::{DefaultBodyLimit, Path, State, rejection::BytesRejection},
    http::{HeaderMap, StatusCode, header},
    response::{Html, IntoResponse, Response, Sse, sse},
    routing::{get, post},
};
use gallery_gpt::{model::CancelToken, prelude::*, text::Role};
use openai::{ChatRequest, Reply};
use serde_json::{Value, json};
use tokio::sync::mpsc;
use tokio_stream::{StreamExt, wrappers::UnboundedReceiverStream};
use worker::{Event, Job, Task};

/// What a server allows.
#[derive(Clone, Debug)]
pub(crate) struct Limits {
    /// Jobs that wait for the model; one more is told that the server is busy.
    pub(crate) queue: usize,
    /// Bytes of a request.
    pub(crate) body: usize,
    /// Pictures of a request.
    pub(crate) pictures: usize,
    /// From a request to the end of its answer.
    pub(crate) deadline: Duration,
}

/// What every handler knows.
struct Server {
    name: String,
    defaults: GenerationConfig,
    limits: Limits,
    jobs: mpsc::Sender<Job>,
    started: u64,
    requests: AtomicU64,
}

/// The routes, and the thread that has the model; it ends when the routes are dropped.
pub(crate) fn serve(
    gallery: Arc<GalleryGpt>,
    name: String,
    defaults: GenerationConfig,
    limits: Limits,
) -> (Router, std::thread::JoinHandle<()>) {
    let (jobs, queue) = mpsc::channel(limits.queue);
    let worker = std::thread::spawn(move || worker::work(&gallery, queue));
    let body = limits.body;
    let server = Server {
        name,
        defaults,
        limits,
        jobs,
        started: seconds(),
        requests: AtomicU64::new(0),
    };
    let router = Router::new()
        .route("/", get(async || Html(include_str!("page.html"))))
        .route("/health", get(async || "ok"))
        .route("/v1/models", get(models))
        .route("/v1/models/{*name}", get(model))
        .route("/v1/chat/completions", post(completions))
        .route("/attention", post(attention))
        .layer(DefaultBodyLimit::max(body))
        .with_state(Arc::new(server));
    (router, worker)
}

fn seconds() -> u64 {
    let now = SystemTime::UNIX_EPOCH.elapsed();
    now.map_or(0, |now| now.as_secs())
}

/// Why a request is not answered, in OpenAI's shape.
#[derive(Debug)]
pub(crate) struct Refusal {
    status: StatusCode,
    kind: &'static str,
    message: String,
}

impl Refusal {
    fn new(status: StatusCode, kind: &'static str, message: String) -> Self {
        Self {
            status,
            kind,
            message,
        }
    }

    pub(crate) fn invalid(message: String) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "invalid_request_error", message)
    }

    pub(crate) fn internal(message: String) -> Self {
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, "server_error", message)
    }

    pub(crate) fn too_late() -> Self {
        let message = "the deadline passed before the answer was whole".to_owned();
        Self::new(StatusCode::GATEWAY_TIMEOUT, "timeout", message)
    }

    fn busy(waiting: usize) -> Self {
        let message = format!("busy: {waiting} requests wait already; try again in a moment");
        Self::new(StatusCode::SERVICE_UNAVAILABLE, "busy", message)
    }

    fn stopping() -> Self {
        Self::new(
            StatusCode::SERVICE_UNAVAILABLE,
            "stopping",
            "the server is stopping".to_owned(),
        )
    }

    fn json(&self) -> Value {
        json!({ "error": { "message": self.message, "type": self.kind, "param": null, "code": self.kind } })
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let mut response = (self.status, Json(self.json())).into_response();
        if self.kind == "busy" {
            let soon = header::HeaderValue::from_static("1");
            response.headers_mut().insert(header::RETRY_AFTER, soon);
        }
        response
    }
}

async fn models(State(server): State<Arc<Server>>) -> Json<Value> {
    Json(json!({ "object": "list", "data": [server.description()] }))
}

async fn model(
    State(server): State<Arc<Server>>,
    Path(name): Path<String>,
) -> Result<Json<Value>, Refusal> {
    server.knows(Some(&name))?;
    Ok(Json(server.description()))
}

async fn completions(
    State(server): State<Arc<Server>>,
    headers: HeaderMap,
    body: Result<Bytes, BytesRejection>,
) -> Result<Response, Refusal> {
    let request = server.read(&headers, body)?;
    let config = request.config(&server.defaults)?;
    let mut running = server.submit(&request, Role::User, Task::Answer(config))?;
    let reply = server.reply();
    // The first event tells whether there is an answer at all.
    let mut event = running.next().await?;
    if let Event::Refused(refusal) = event {
        return Err(refusal);
    }
    if request.stream {
        let chunks = chunks(reply, event, running, request.include_usage());
        let chunks = chunks.map(|data| Ok::<_, Infallible>(sse::Event::default().data(data)));
        return Ok(Sse::new(chunks)
            .keep_alive(sse::KeepAlive::default())
            .into_response());
    }
    let mut text = String::new();
    loop {
        match event {
            Event::Piece(piece) => text.push_str(&piece),
            Event::End { finish, usage } => {
                return Ok(Json(reply.completion(text.trim(), finish, usage)).into_response());
            }
            Event::Overlay(_) => {}
            Event::Refused(refusal) => return Err(refusal),
        }
        event = running.next().await?;
    }
}

/// The chunks of an answer as it is written. When their reader goes away, the job is dropped.
fn chunks(
    reply: Reply,
    first: Event,
    mut running: Running,
    include_usage: bool,
) -> UnboundedReceiverStream<String> {
    let (sender, chunks) = mpsc::unbounded_channel();
    tokio::spawn(async move {
        let mut event = Ok(first);
        let mut pieces = 0;
        loop {
            let (data, ended) = match event {
                Ok(Event::Piece(piece)) => {
                    pieces += 1;
                    (vec![reply.piece(&piece, pieces == 1).to_string()], false)
                }
                Ok(Event::End { finish, usage }) => {
                    let mut last = vec![reply.end(finish).to_string()];
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
    headers: HeaderMap,
    body: Result<Bytes, BytesRejection>,
) -> Result<Response, Refusal> {
    let request = server.read(&headers, body)?;
    let phrase = request.phrase.clone().filter(|phrase| !phrase.is_empty());
    let phrase = phrase
        .ok_or_else(|| Refusal::invalid("phrase: expected words of the answer".to_owned()))?;
    let mut running = server.submit(&request, Role::Assistant, Task::Attend(phrase))?;
    match running.next().await? {
        Event::Overlay(file) => Ok(([(header::CONTENT_TYPE, "image/png")], file).into_response()),
        Event::Refused(refusal) => Err(refusal),
        Event::Piece(_) | Event::End { .. } => {
            Err(Refusal::internal("an answer came for a picture".to_owned()))
        }
    }
}

/// A job from the side of the one who waits. Dropped, it is cancelled.
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

impl Server {
    fn description(&self) -> Value {
        json!({ "id": self.name, "object": "model", "created": self.started, "owned_by": "gallery-gpt" })
    }

    fn knows(&self, model: Option<&str>) -> Result<(), Refusal> {
        match model {
            Some(name) if name != self.name => {
                let message = format!("model: there is no {name:?} here, only {:?}", self.name);
                Err(Refusal::new(
                    StatusCode::NOT_FOUND,
                    "model_not_found",
                    message,
                ))
            }
            _ => Ok(()),
        }
    }

    fn read(
        &self,
        headers: &HeaderMap,
        body: Result<Bytes, BytesRejection>,
    ) -> Result<ChatRequest, Refusal> {
        // A page of another origin cannot send this type without asking first, and is not allowed to.
        let kind = headers
            .get(header::CONTENT_TYPE)
            .and_then(|kind| kind.to_str().ok());
        if !kind.is_some_and(|kind| kind.starts_with("application/json")) {
            let message = format!("content-type: found {kind:?}, expected application/json");
            return Err(Refusal::new(
                StatusCode::UNSUPPORTED_MEDIA_TYPE,
                "invalid_request_error",
                message,
            ));
        }
        let body = body.map_err(|rejection| {
            let message = if rejection.status() == StatusCode::PAYLOAD_TOO_LARGE {
                format!(
                    "the request has more than the {} bytes this server takes",
                    self.limits.body
                )
            } else {
                rejection.body_text()
            };
            Refusal::new(rejection.status(), "invalid_request_error", message)
        })?;
        let mut json = serde_json::Deserializer::from_slice(&body);
        let request: ChatRequest = serde_path_to_error::deserialize(&mut json)
            .map_err(|error| Refusal::invalid(error.to_string()))?;
        self.knows(request.model.as_deref())?;
        Ok(request)
    }

    /// Puts a job in the queue. `last` is who must have spoken last.
    fn submit(&self, request: &ChatRequest, last: Role, task: Task) -> Result<Running, Refusal> {
        let (conversation, pictures) = request.conversation(self.limits.pictures)?;
        if conversation
            .turns
            .last()
            .is_none_or(|turn| turn.role != last)
        {
            let message =
                format!("messages: expected the last one to be of the {last:?}").to_lowercase();
            return Err(Refusal::invalid(message));
        }
        let cancel = CancelToken::new();
        let deadline = Instant::now() + self.limits.deadline;
        let (sender, events) = mpsc::unbounded_channel();
        let job = Job {
            conversation,
            pictures,
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
