//! The seams between the node and the world: network, clock, storage engine and the stop signal, as trait objects.
//! Owns the real (tokio) implementations; the simulation brings its own, and both run the same compiled node.
//! Invariant: outside this file the node reads no wall clock, opens no socket and starts no thread.
use std::io::{self, IoSlice};
use std::net::SocketAddr;
use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use futures::future::BoxFuture;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::{SetOnce, watch};

use crate::config;

/// What a node needs from the world; see DESIGN.md section 8.
#[derive(Clone)]
pub struct Seams {
    /// Sockets.
    pub net: Arc<dyn Net>,
    /// Time of day and monotonic time.
    pub clock: Arc<dyn Clock>,
    /// Opens the storage engine of a data folder.
    pub engine: Arc<dyn EngineFactory>,
}

/// Opens listeners and connections. Addresses are `host:port`, so that names are resolved here.
pub trait Net: Send + Sync + 'static {
    /// Listens on `address`; port 0 takes a free port (read it from [`Listener::local_addr`]).
    fn bind<'a>(&'a self, address: &'a str) -> BoxFuture<'a, io::Result<Box<dyn Listener>>>;
    /// Connects to `address`. The caller applies the deadline.
    fn connect<'a>(&'a self, address: &'a str) -> BoxFuture<'a, io::Result<Stream>>;
}

/// One bound socket.
pub trait Listener: Send + 'static {
    /// The next connection. Cancel safe. An error concerns one connection attempt, not the listener.
    fn accept(&mut self) -> BoxFuture<'_, io::Result<Stream>>;
    /// The address it is bound to.
    fn local_addr(&self) -> io::Result<SocketAddr>;
}

/// What a connection must be able to do.
pub trait Io: AsyncRead + AsyncWrite + Send + Unpin {
    /// Whether its end shall be a reset, even if the process dies. Ignored where there is no such thing.
    fn end_by_reset(&self, _yes: bool) {}
}

impl<R: AsyncRead + Send + Unpin, W: AsyncWrite + Send + Unpin> Io for tokio::io::Join<R, W> {}

impl Io for tokio::net::TcpStream {
    #[expect(deprecated, reason = "only a time above zero blocks")]
    fn end_by_reset(&self, yes: bool) {
        // A socket that cannot be told so is closed the ordinary way.
        drop(self.set_linger(yes.then_some(Duration::ZERO)));
    }
}

/// A connection with both of its addresses. Vectored writes pass through to the socket.
pub struct Stream {
    io: Box<dyn Io>,
    local: SocketAddr,
    peer: SocketAddr,
    /// Set once the connection may end in good order.
    good: Option<Arc<SetOnce<()>>>,
}

impl Stream {
    /// Wraps `io`, a connection from `local` (this side) to `peer`.
    pub fn new(io: impl Io + 'static, local: SocketAddr, peer: SocketAddr) -> Self {
        Self { io: Box::new(io), local, peer, good: None }
    }

    /// Until the returned flag is set, the end of the connection is a reset, which no client takes for an answer.
    pub fn reset_until(&mut self) -> Arc<SetOnce<()>> {
        self.io.end_by_reset(true);
        self.good.get_or_insert_default().clone()
    }

    /// This side's address: for an accepted connection, the one the client connected to.
    pub fn local_addr(&self) -> SocketAddr {
        self.local
    }

    /// The other side's address.
    pub fn peer_addr(&self) -> SocketAddr {
        self.peer
    }
}

impl Stream {
    fn end_in_order_if_good(&mut self) {
        if self.good.take_if(|good| good.initialized()).is_some() {
            self.io.end_by_reset(false);
        }
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        self.end_in_order_if_good();
    }
}

impl AsyncRead for Stream {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_read(cx, buf)
    }
}

impl AsyncWrite for Stream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write(cx, buf)
    }
    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.end_in_order_if_good();
        Pin::new(&mut self.io).poll_flush(cx)
    }
    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write_vectored(cx, bufs)
    }
    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }
}

/// Time. Timers are `tokio::time`, which the simulation controls by itself.
pub trait Clock: Send + Sync + 'static {
    /// Milliseconds since the Unix epoch, for timestamps that people read. May jump.
    fn wall_ms(&self) -> i64;
    /// Never goes back; for durations that protect a lease or a lock.
    fn monotonic(&self) -> Duration;
}

/// Opens storage engines.
pub trait EngineFactory: Send + Sync + 'static {
    /// Opens (creates) the engine of the data folder `data`.
    ///
    /// # Errors
    /// The folder is in use by another process, or cannot be read.
    fn open(&self, data: &Path, options: &config::Storage) -> Result<Arc<dyn storage::Engine>, storage::Error>;
}

/// Tells when to stop; cheap to clone, once raised it stays raised.
#[derive(Clone)]
pub struct Stop(watch::Receiver<bool>);

/// Raises [`Stop`]; dropping it raises too.
pub struct Stopper(watch::Sender<bool>);

impl Stop {
    /// A signal and the handle that raises it.
    pub fn channel() -> (Stopper, Stop) {
        let (sender, receiver) = watch::channel(false);
        (Stopper(sender), Stop(receiver))
    }

    /// Ends once the signal is raised. Cancel safe.
    pub async fn stopped(&self) {
        let mut receiver = self.0.clone();
        let _closed_counts_too = receiver.wait_for(|raised| *raised).await;
    }

    /// Whether the signal is raised.
    pub fn is_stopped(&self) -> bool {
        *self.0.borrow() || self.0.has_changed().is_err()
    }
}

impl Stopper {
    /// Raises the signal.
    pub fn stop(&self) {
        self.0.send_replace(true);
    }
}

/// The operating system's TCP, through tokio, without Nagle's delay.
pub struct TcpNet;

struct TcpBound(tokio::net::TcpListener);

fn tcp_stream(stream: tokio::net::TcpStream) -> io::Result<Stream> {
    stream.set_nodelay(true)?;
    let (local, peer) = (stream.local_addr()?, stream.peer_addr()?);
    Ok(Stream::new(stream, local, peer))
}

impl Net for TcpNet {
    fn bind<'a>(&'a self, address: &'a str) -> BoxFuture<'a, io::Result<Box<dyn Listener>>> {
        Box::pin(async move {
            let listener = tokio::net::TcpListener::bind(address).await?;
            Ok(Box::new(TcpBound(listener)) as Box<dyn Listener>)
        })
    }
    fn connect<'a>(&'a self, address: &'a str) -> BoxFuture<'a, io::Result<Stream>> {
        Box::pin(async move { tcp_stream(tokio::net::TcpStream::connect(address).await?) })
    }
}

impl Listener for TcpBound {
    fn accept(&mut self) -> BoxFuture<'_, io::Result<Stream>> {
        Box::pin(async move { tcp_stream(self.0.accept().await?.0) })
    }
    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.0.local_addr()
    }
}

/// The machine's clocks.
pub struct SystemClock {
    started: std::time::Instant,
}

impl SystemClock {
    /// Starts the monotonic count at zero.
    #[allow(clippy::disallowed_methods, reason = "this is the seam")]
    pub fn new() -> Self {
        Self { started: std::time::Instant::now() }
    }
}

impl Default for SystemClock {
    fn default() -> Self {
        Self::new()
    }
}

impl Clock for SystemClock {
    #[allow(clippy::disallowed_methods, reason = "this is the seam")]
    fn wall_ms(&self) -> i64 {
        let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
        i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
    }
    fn monotonic(&self) -> Duration {
        self.started.elapsed()
    }
}

/// The store, within the data folder.
#[cfg(feature = "rocks")]
const FOLDER: &str = "db";
/// How long a store may take to close.
#[cfg(feature = "rocks")]
const CLOSED_WITHIN: Duration = Duration::from_secs(10);

/// Opens RocksDB.
#[cfg(feature = "rocks")]
pub struct Rocks;

#[cfg(feature = "rocks")]
impl Rocks {
    /// Waits a while until the store of a node that has ended is closed: a process must not end before.
    pub fn wait_closed(data: &Path) -> bool {
        storage::engine::rocks::wait_closed(&data.join(FOLDER), CLOSED_WITHIN)
    }
}

#[cfg(feature = "rocks")]
impl EngineFactory for Rocks {
    fn open(&self, data: &Path, options: &config::Storage) -> Result<Arc<dyn storage::Engine>, storage::Error> {
        use storage::engine::rocks::{RocksEngine, RocksOptions};
        let defaults = RocksOptions::default();
        // The nodes of a cluster take in the same bytes: with the same bounds all of them would flush, and hold writers up, at once.
        let share = |bytes: usize| bytes / 100 * rand::random_range(75..=100);
        let (memtable_bytes, wal_bytes_max) =
            (share(options.memtable_bytes), share(defaults.wal_bytes_max as usize) as u64);
        Ok(RocksEngine::open(
            &data.join(FOLDER),
            RocksOptions { memtable_bytes, wal_bytes_max, block_cache_bytes: options.block_cache_bytes, ..defaults },
        )?)
    }
}

#[cfg(feature = "rocks")]
impl Seams {
    /// The real world: TCP, the machine's clocks, RocksDB.
    pub fn real() -> Self {
        Self { net: Arc::new(TcpNet), clock: Arc::new(SystemClock::new()), engine: Arc::new(Rocks) }
    }
}
