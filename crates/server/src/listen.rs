//! Connections: how many there may be, how long each may stay silent, and how they end.

use std::{
    collections::BTreeMap,
    convert::Infallible,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll},
    time::{Duration, Instant},
};

use axum::{
    Router,
    body::{Body, Bytes, HttpBody},
    extract::Request,
    http::{Response, StatusCode},
};
use hyper::{
    body::{Frame, SizeHint},
    server::conn::http1,
    service::service_fn,
};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::{Notify, watch},
};
use tower::ServiceExt;

/// Bytes of a request's head, and of a piece of its body.
const BUFFER: usize = 64 << 10;
/// How often connections are checked.
const ROUND: Duration = Duration::from_millis(250);
/// How long the end of an answer may take to reach its client after it was written, when the server stops.
const FLUSH: Duration = Duration::from_secs(2);
/// A connection that was silent for so long is closed for a new one if there is no room for both: without a request, and within one.
const SILENT: Duration = Duration::from_millis(500);
const STALLED: Duration = Duration::from_secs(1);

/// Limits of connections: how many, and how slow.
#[derive(Clone, Copy, Debug)]
pub struct ConnectionLimits {
    /// Open connections. One more takes the place of the one that has been silent longest.
    pub connections: usize,
    /// Time from the opening of a connection, or the end of an answer on it, to the end of the next request's head.
    pub head: Duration,
    /// Time from a request's head until its answer has reached the client.
    pub answer: Duration,
}

/// Receives a line about every request, at its end.
pub type Log = fn(&str);

/// What a connection does.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Phase {
    /// Waiting for the head of a request.
    Silent,
    /// Reading the body of a request.
    Asking,
    /// Making and sending the answer.
    Answering,
}

/// What is known of a connection.
#[derive(Debug)]
pub(crate) struct Connection {
    /// Its phase, and since when.
    state: Mutex<(Phase, Instant)>,
    /// Closes it in any phase.
    close: Notify,
}

impl Connection {
    fn new() -> Self {
        Self {
            state: Mutex::new((Phase::Silent, Instant::now())),
            close: Notify::new(),
        }
    }

    fn state(&self) -> MutexGuard<'_, (Phase, Instant)> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn enters(&self, phase: Phase) {
        *self.state() = (phase, Instant::now());
    }

    /// A piece of the body has arrived.
    pub(crate) fn progresses(&self) {
        self.enters(Phase::Asking);
    }

    /// The whole request has arrived.
    pub(crate) fn answers(&self) {
        self.enters(Phase::Answering);
    }

    /// How long it has been in its phase, if it is one of these.
    fn since(&self, phases: &[Phase]) -> Option<Duration> {
        let (phase, since) = *self.state();
        phases.contains(&phase).then(|| since.elapsed())
    }
}

/// All connections, oldest first.
#[derive(Default)]
struct Connections {
    open: Mutex<BTreeMap<u64, Arc<Connection>>>,
    left: Notify,
}

impl Connections {
    fn open(&self) -> MutexGuard<'_, BTreeMap<u64, Arc<Connection>>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until there are fewer than `most`; closes one that is silent or stalled, if there is one.
    async fn make_room(&self, most: usize) {
        loop {
            let left = self.left.notified();
            if self.open().len() < most {
                return;
            }
            self.end_one_that_waits();
            let _ = tokio::time::timeout(SILENT / 10, left).await;
        }
    }

    fn end_one_that_waits(&self) {
        let open = self.open();
        let waiting = open.values().filter_map(|connection| {
            let silent = connection.since(&[Phase::Silent]);
            let silent = silent.filter(|&since| since >= SILENT);
            let stalled = connection.since(&[Phase::Asking]);
            let stalled = stalled.filter(|&since| since >= STALLED);
            silent.or(stalled).map(|since| (since, connection))
        });
        if let Some((_, connection)) = waiting.max_by_key(|(since, _)| *since) {
            connection.close.notify_one();
        }
    }

    /// Closes those that have been in one of these phases longer than allowed.
    fn end_overdue(&self, phases: &[Phase], allowed: Duration) {
        for connection in self.open().values() {
            if connection
                .since(phases)
                .is_some_and(|since| since > allowed)
            {
                connection.close.notify_one();
            }
        }
    }
}

/// Accepts connections and lets the router answer until `stopped` is done. After that no request is accepted, those under way are answered
/// within their time, and all connections are closed.
pub async fn listen(
    listener: TcpListener,
    router: Router,
    limits: ConnectionLimits,
    log: Option<Log>,
    stopped: impl Future<Output = ()>,
) {
    let connections = Arc::new(Connections::default());
    let (stop, stopping) = watch::channel(());
    let mut stopped = std::pin::pin!(stopped);
    let mut round = tokio::time::interval(ROUND);
    // An accepted connection waits here until there is room for it.
    let mut waiting = None;
    for number in 0.. {
        let (socket, client) = loop {
            tokio::select! {
                () = &mut stopped => {
                    drop(listener);
                    let _ = stop.send(());
                    return end_all(&connections, limits).await;
                }
                _ = round.tick() => connections.end_overdue(&[Phase::Answering], limits.answer),
                accepted = listener.accept(), if waiting.is_none() => match accepted {
                    Ok(accepted) => waiting = Some(accepted),
                    // The client has gone already, or there are no file descriptors left: close one that waits.
                    Err(_) => {
                        connections.end_one_that_waits();
                        tokio::time::sleep(Duration::from_millis(50)).await;
                    }
                },
                () = connections.make_room(limits.connections), if waiting.is_some() => {
                    if let Some(accepted) = waiting.take() {
                        break accepted;
                    }
                }
            }
        };
        let connection = Arc::new(Connection::new());
        connections.open().insert(number, connection.clone());
        let (router, connections) = (router.clone(), connections.clone());
        let stopping = stopping.clone();
        tokio::spawn(async move {
            let answering = |request: &Request| Answering {
                connection: connection.clone(),
                log,
                asked: format!("{client} {} {}", request.method(), request.uri().path()),
                status: None,
                began: Instant::now(),
            };
            converse(socket, router, &connection, answering, limits, stopping).await;
            connections.open().remove(&number);
            connections.left.notify_waiters();
        });
    }
}

async fn end_all(connections: &Connections, limits: ConnectionLimits) {
    let began = Instant::now();
    loop {
        let left = connections.left.notified();
        if connections.open().is_empty() {
            return;
        }
        connections.end_overdue(&[Phase::Silent], FLUSH);
        // Even if it still arrives steadily.
        if began.elapsed() > FLUSH {
            connections.end_overdue(&[Phase::Asking], Duration::ZERO);
        }
        connections.end_overdue(&[Phase::Answering], limits.answer);
        let _ = tokio::time::timeout(ROUND, left).await;
    }
}

/// One connection, from its first request to its last.
async fn converse(
    socket: TcpStream,
    router: Router,
    connection: &Arc<Connection>,
    answering: impl Fn(&Request) -> Answering,
    limits: ConnectionLimits,
    mut stopping: watch::Receiver<()>,
) {
    let _ = socket.set_nodelay(true);
    let service = service_fn(|request: hyper::Request<hyper::body::Incoming>| {
        let mut request: Request = request.map(Body::new);
        connection.enters(if request.body().is_end_stream() {
            Phase::Answering
        } else {
            Phase::Asking
        });
        request.extensions_mut().insert(connection.clone());
        let mut answering = answering(&request);
        let answer = router.clone().oneshot(request);
        async {
            let response = answer.await?;
            answering.status = Some(response.status());
            Ok::<Response<Body>, Infallible>(response.map(move |body| {
                Body::new(Answer {
                    body,
                    _answering: answering,
                })
            }))
        }
    });
    let mut serving = std::pin::pin!(
        http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(limits.head)
            .max_buf_size(BUFFER)
            .serve_connection(TokioIo::new(socket), service)
    );
    loop {
        tokio::select! {
            _ = &mut serving => return,
            () = connection.close.notified() => return,
            changed = stopping.changed() => {
                serving.as_mut().graceful_shutdown();
                if changed.is_err() {
                    return;
                }
            }
        }
    }
}

/// Lives as long as an answer is made or sent.
struct Answering {
    connection: Arc<Connection>,
    log: Option<Log>,
    /// The client, the method and the path.
    asked: String,
    /// `None` until there is an answer; a client may go before.
    status: Option<StatusCode>,
    began: Instant,
}

impl Drop for Answering {
    fn drop(&mut self) {
        self.connection.enters(Phase::Silent);
        if let Some(log) = self.log {
            let status = self.status.as_ref().map_or("-", StatusCode::as_str);
            let seconds = self.began.elapsed().as_secs_f64();
            log(&format!("{} {status} {seconds:.3} s", self.asked));
        }
    }
}

/// The body of an answer; when it was sent or dropped, the connection is silent again.
struct Answer {
    body: Body,
    _answering: Answering,
}

impl HttpBody for Answer {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Self::Data>, Self::Error>>> {
        Pin::new(&mut self.body).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
