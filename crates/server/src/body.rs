//! Bodies of requests: read within a time limit, and within memory that all requests share.

use std::{sync::Arc, time::Duration};

use axum::{
    body::{Body, BodyDataStream, HttpBody},
    http::{HeaderMap, header},
};
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::Instant,
};
use tokio_stream::StreamExt;

use crate::{buffer::Buffer, listen::Connection, refusal::Refusal};

/// Limits of the bodies of requests.
#[derive(Clone, Copy, Debug)]
pub struct BodyLimits {
    /// Bytes of one body.
    pub bytes: usize,
    /// Bytes of all bodies that are being read, or wait for the model.
    pub in_flight: usize,
    /// Time from the end of the head to the end of the body.
    pub time: Duration,
    /// Time between two pieces of the body.
    pub pause: Duration,
}

/// The memory that all bodies share.
pub(crate) struct Room {
    limits: BodyLimits,
    free: Arc<Semaphore>,
}

/// A body, and the share of the memory that it holds.
pub(crate) struct Taken {
    pub(crate) bytes: Buffer,
    pub(crate) room: Option<OwnedSemaphorePermit>,
}

impl Room {
    pub(crate) fn new(limits: BodyLimits) -> Self {
        let free = Arc::new(Semaphore::new(limits.in_flight));
        Self { limits, free }
    }

    /// Reads a JSON body.
    ///
    /// # Errors
    /// Its content type is another, it is too large or too slow, or there is no memory for it.
    pub(crate) async fn take(
        &self,
        headers: &HeaderMap,
        body: Body,
        connection: &Connection,
    ) -> Result<Taken, Refusal> {
        // A page of another origin cannot send this type without a preflight request.
        let kind = headers
            .get(header::CONTENT_TYPE)
            .map(|kind| String::from_utf8_lossy(kind.as_bytes()));
        let is_json = kind.as_deref().is_some_and(|kind| {
            let essence = kind.split(';').next().unwrap_or_default().trim();
            essence.eq_ignore_ascii_case("application/json")
        });
        if !is_json {
            return Err(Refusal::not_json(kind.as_deref()));
        }
        let promised = body.size_hint().upper();
        if promised.is_some_and(|bytes| bytes > self.limits.bytes as u64) {
            return Err(Refusal::too_large(self.limits.bytes));
        }
        let mut stream = body.into_data_stream();
        let until = Instant::now() + self.limits.time;
        let read = self.read(&mut stream, promised, until, connection).await;
        if read.is_err() {
            // A client that is still writing would lose the response with the connection.
            self.discard(&mut stream, until).await;
        }
        connection.answers();
        read
    }

    async fn read(
        &self,
        stream: &mut BodyDataStream,
        promised: Option<u64>,
        until: Instant,
        connection: &Connection,
    ) -> Result<Taken, Refusal> {
        let most = promised.map_or(self.limits.bytes, |bytes| bytes as usize);
        let mut bytes = Buffer::default();
        let mut room: Option<OwnedSemaphorePermit> = None;
        while let Some(piece) = self.next(stream, until).await? {
            connection.progresses();
            if bytes.len() + piece.len() > self.limits.bytes {
                return Err(Refusal::too_large(self.limits.bytes));
            }
            let no_room = || Refusal::no_room(self.limits.in_flight);
            let free = self.free.clone();
            let more = free
                .try_acquire_many_owned(piece.len() as u32)
                .map_err(|_| no_room())?;
            match &mut room {
                Some(room) => room.merge(more),
                None => room = Some(more),
            }
            bytes.extend(&piece, most).map_err(|_| no_room())?;
        }
        Ok(Taken { bytes, room })
    }

    async fn next(
        &self,
        stream: &mut BodyDataStream,
        until: Instant,
    ) -> Result<Option<axum::body::Bytes>, Refusal> {
        let until = until.min(Instant::now() + self.limits.pause);
        match tokio::time::timeout_at(until, stream.next()).await {
            Err(_) => Err(Refusal::too_slow()),
            Ok(None) => Ok(None),
            Ok(Some(Ok(piece))) => Ok(Some(piece)),
            Ok(Some(Err(error))) => Err(Refusal::broken_off(&error.to_string())),
        }
    }

    async fn discard(&self, stream: &mut BodyDataStream, until: Instant) {
        let mut left = self.limits.bytes;
        while let Ok(Some(piece)) = self.next(stream, until).await {
            match left.checked_sub(piece.len()) {
                Some(fewer) => left = fewer,
                None => return,
            }
        }
    }
}
