//! What a connection has to write: channels encode straight into one buffer, the connection's writer empties it.
//! Bound: deliveries wait while it holds `DELIVERIES_BYTES_MAX`, and nothing more is read from a client that lets it grow to
//! `ANSWERS_BYTES_MAX`. Invariant: a method, its header and its body lie together.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use bytes::BytesMut;
use tokio::io::AsyncWriteExt;
use tokio::sync::Notify;
use tokio::time::timeout;
use wire::amqp::{ContentHeader, Method, RawProperties, frame};

/// Unwritten bytes at which deliveries wait.
const DELIVERIES_BYTES_MAX: usize = 1 << 20;
/// Unwritten bytes at which a client's frames are no longer read.
const ANSWERS_BYTES_MAX: usize = 8 << 20;
/// How much goes to the socket at a time: progress is noticed at such steps.
const WRITE_BYTES: usize = 256 << 10;
/// A peer that takes nothing of a step for so long is gone.
const STALLED: Duration = Duration::from_secs(30);
/// A buffer larger than this is not kept.
const KEPT_BYTES: usize = 16 << 10;

/// The frames to be written.
#[derive(Default)]
pub struct Outbox {
    state: Mutex<State>,
    frame_bytes_max: AtomicUsize,
    /// A heartbeat is due when nothing was written for so long; 0: never.
    beat_ms: AtomicU64,
    /// For the writer: there is something, or nothing will come any more.
    filled: Notify,
    /// For who waits for room.
    emptied: Notify,
}

#[derive(Default)]
struct State {
    buffer: BytesMut,
    is_closed: bool,
}

/// A method with content.
pub struct Content<'a> {
    pub properties: &'a RawProperties,
    pub body: &'a [u8],
}

impl Outbox {
    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// From now on frames may be so large, and silence be so long.
    pub fn tune(&self, frame_bytes_max: usize, beat: Duration) {
        self.frame_bytes_max.store(frame_bytes_max, Ordering::Relaxed);
        self.beat_ms.store(u64::try_from(beat.as_millis()).unwrap_or(0), Ordering::Relaxed);
    }

    fn beat(&self) -> Duration {
        let beat_ms = self.beat_ms.load(Ordering::Relaxed);
        if beat_ms == 0 { Duration::MAX } else { Duration::from_millis(beat_ms) }
    }

    fn frame_bytes_max(&self) -> usize {
        self.frame_bytes_max.load(Ordering::Relaxed).max(frame::FRAME_MIN_BYTES)
    }

    /// Bytes as they are: the protocol header.
    pub fn put_raw(&self, bytes: &[u8]) {
        self.put(|buffer| buffer.extend_from_slice(bytes));
    }

    /// A method. One that does not fit into a frame is not sent: no answer of ours is so long.
    pub fn put_method(&self, channel: u16, method: impl Into<Method>) {
        let (method, max) = (method.into(), self.frame_bytes_max());
        self.put(|buffer| {
            if let Err(error) = frame::put_method(buffer, channel, &method, max) {
                tracing::warn!(method = method.name(), %error, "an answer cannot be written");
            }
        });
    }

    /// A method with its content; false if its properties do not fit into a frame of this client, and nothing is sent.
    pub fn put_content(&self, channel: u16, method: impl Into<Method>, content: &Content<'_>) -> bool {
        let (method, max) = (method.into(), self.frame_bytes_max());
        let properties = content.properties.clone();
        let header = ContentHeader { body_bytes: content.body.len() as u64, properties };
        let mut is_put = false;
        self.put(|buffer| {
            let start = buffer.len();
            let head = frame::put_method(buffer, channel, &method, max)
                .and_then(|()| frame::put_header(buffer, channel, &header, max));
            match head {
                Ok(()) => frame::put_body(buffer, channel, content.body, max),
                Err(_) => buffer.truncate(start),
            }
            is_put = head.is_ok();
        });
        is_put
    }

    fn put(&self, write: impl FnOnce(&mut BytesMut)) {
        let mut state = self.state();
        if !state.is_closed {
            write(&mut state.buffer);
            self.filled.notify_one();
        }
    }

    /// Nothing more is put; the writer ends when all is written.
    pub fn close(&self) {
        self.state().is_closed = true;
        self.filled.notify_one();
    }

    /// Waits until a delivery may be put. Cancel safe.
    pub async fn room_for_deliveries(&self) {
        self.below(DELIVERIES_BYTES_MAX).await;
    }

    /// Waits until the client has read enough to be read from. Cancel safe.
    pub async fn room_for_answers(&self) {
        self.below(ANSWERS_BYTES_MAX).await;
    }

    async fn below(&self, bytes: usize) {
        loop {
            let emptied = self.emptied.notified();
            if self.state().buffer.len() < bytes {
                return;
            }
            emptied.await;
        }
    }

    /// Writes what is put until it is closed, and a heartbeat whenever `beat` passes without anything.
    pub async fn write_all(&self, mut writer: impl AsyncWriteExt + Unpin) -> std::io::Result<()> {
        loop {
            let filled = self.filled.notified();
            let (bytes, is_closed) = self.take();
            if !bytes.is_empty() {
                write(&mut writer, &bytes).await?;
            } else if is_closed {
                return within(writer.shutdown()).await;
            } else if timeout(self.beat(), filled).await.is_err() {
                self.put(frame::put_heartbeat);
            }
        }
    }

    fn take(&self) -> (BytesMut, bool) {
        let mut state = self.state();
        let bytes = state.buffer.split();
        if bytes.len() > KEPT_BYTES {
            state.buffer = BytesMut::new();
        }
        self.emptied.notify_waiters();
        (bytes, state.is_closed)
    }
}

async fn write(writer: &mut (impl AsyncWriteExt + Unpin), bytes: &[u8]) -> std::io::Result<()> {
    for step in bytes.chunks(WRITE_BYTES) {
        within(writer.write_all(step)).await?;
    }
    within(writer.flush()).await
}

async fn within(writing: impl Future<Output = std::io::Result<()>>) -> std::io::Result<()> {
    match timeout(STALLED, writing).await {
        Ok(written) => written,
        Err(_elapsed) => Err(std::io::Error::new(std::io::ErrorKind::TimedOut, "the peer does not read")),
    }
}
