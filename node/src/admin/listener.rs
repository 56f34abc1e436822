//! The seam's listener as axum wants it. Invariant: a connection holds a permit, and is cut after `CONNECTION_LIFE`
//! however slowly it trickles, so that idle or hostile ones cannot keep health checks out.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Sleep, sleep};

use crate::metrics::{ListenerLabel, Metrics};
use crate::seams::{Listener, Stream};

/// Connections at once; more wait in the system's queue.
const CONNECTIONS_MAX: usize = 128;
/// The longest life of one connection.
const CONNECTION_LIFE: Duration = Duration::from_secs(30);
/// How long open connections may finish after a stop.
pub const GRACE: Duration = Duration::from_millis(500);
const ACCEPT_PAUSE: Duration = Duration::from_millis(20);
const LABEL: ListenerLabel = ListenerLabel { listener: "admin" };

/// Accepts, within the bounds.
pub struct Connections {
    listener: Box<dyn Listener>,
    room: Arc<Semaphore>,
    metrics: Arc<Metrics>,
}

impl Connections {
    /// Over a bound listener.
    pub fn new(listener: Box<dyn Listener>, metrics: Arc<Metrics>) -> Self {
        Self { listener, room: Arc::new(Semaphore::new(CONNECTIONS_MAX)), metrics }
    }
}

impl axum::serve::Listener for Connections {
    type Io = Connection;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Connection, SocketAddr) {
        loop {
            let permit = match self.room.clone().acquire_owned().await {
                Ok(permit) => permit,
                Err(_never_closed) => std::future::pending().await,
            };
            match self.listener.accept().await {
                Ok(stream) => {
                    let peer = stream.peer_addr();
                    self.metrics.connections.get_or_create(&LABEL).inc();
                    let metrics = self.metrics.clone();
                    let life = Box::pin(sleep(CONNECTION_LIFE));
                    return (Connection { stream, life, metrics, _permit: permit }, peer);
                }
                Err(error) => {
                    tracing::debug!(%error, "a connection could not be accepted");
                    sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }
}

/// A connection with its permit and its deadline.
pub struct Connection {
    stream: Stream,
    life: Pin<Box<Sleep>>,
    metrics: Arc<Metrics>,
    _permit: OwnedSemaphorePermit,
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.metrics.connections.get_or_create(&LABEL).dec();
    }
}

impl Connection {
    fn is_over(&mut self, cx: &mut Context<'_>) -> bool {
        self.life.as_mut().poll(cx).is_ready()
    }
}

impl AsyncRead for Connection {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if self.is_over(cx) {
            return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
        }
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl AsyncWrite for Connection {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        if self.is_over(cx) {
            return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
        }
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }
    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }
    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
