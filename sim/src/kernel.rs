//! The operating system of a simulated node, as far as sockets go: it runs on the node's turmoil host, owns the real (turmoil)
//! sockets and moves bytes between them and the process, through bounded buffers. It lives on when the process is killed,
//! paused, or without power, so that peers see of each what they would see of a real machine.
//! Never interprets a byte. At most `WINDOW_BYTES` of each direction of a connection are under way in here.

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, ready};

use bytes::{Bytes, BytesMut};
use futures::future::BoxFuture;
use node::seams::{Listener, Net, Stream};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, DuplexStream, ReadBuf, ReadHalf};
use tokio::sync::{mpsc, oneshot};
use tokio::task::{JoinHandle, spawn_local};
use tokio::time::Instant;
use turmoil::net::{TcpListener, TcpStream};

use crate::net::{End, Handle, Network};

/// Bytes that wait in each direction of a connection before its writer must.
const WINDOW_BYTES: usize = 64 << 10;
/// Connections that wait for the process to accept them.
const BACKLOG: usize = 128;

/// What a process asks of its kernel.
pub enum Call {
    /// Listen on a port.
    Bind(SocketAddr, oneshot::Sender<io::Result<Bound>>),
    /// Connect to `host:port`.
    Connect(String, oneshot::Sender<io::Result<Stream>>),
}

/// The network seam of a process: its kernel's system calls.
pub struct SimNet(pub mpsc::Sender<Call>);

/// A listening socket of a process.
pub struct Bound {
    accepted: mpsc::Receiver<Stream>,
    local: SocketAddr,
}

/// What the process reads of a connection: its end, or that it was reset.
struct Received {
    io: ReadHalf<DuplexStream>,
    reset: Arc<AtomicBool>,
}

impl SimNet {
    async fn call<T>(&self, call: impl FnOnce(oneshot::Sender<io::Result<T>>) -> Call) -> io::Result<T> {
        let (reply, answer) = oneshot::channel();
        let gone = || io::Error::other("the kernel is gone");
        self.0.send(call(reply)).await.map_err(|_| gone())?;
        answer.await.map_err(|_| gone())?
    }
}

impl Net for SimNet {
    fn bind<'a>(&'a self, address: &'a str) -> BoxFuture<'a, io::Result<Box<dyn Listener>>> {
        Box::pin(async move {
            let address = address.parse().map_err(io::Error::other)?;
            let bound = self.call(|reply| Call::Bind(address, reply)).await?;
            Ok(Box::new(bound) as Box<dyn Listener>)
        })
    }

    fn connect<'a>(&'a self, address: &'a str) -> BoxFuture<'a, io::Result<Stream>> {
        Box::pin(self.call(|reply| Call::Connect(address.to_owned(), reply)))
    }
}

impl Listener for Bound {
    fn accept(&mut self) -> BoxFuture<'_, io::Result<Stream>> {
        Box::pin(async move { self.accepted.recv().await.ok_or_else(|| io::Error::other("the kernel is gone")) })
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        Ok(self.local)
    }
}

impl AsyncRead for Received {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        ready!(Pin::new(&mut self.io).poll_read(cx, buf))?;
        let ended = buf.filled().len() == before && buf.remaining() > 0;
        let reset = ended && self.reset.load(Ordering::Relaxed);
        Poll::Ready(if reset { Err(io::ErrorKind::ConnectionReset.into()) } else { Ok(()) })
    }
}

/// Serves the calls of `node`'s processes, one after the other, to the end of the world.
pub async fn run(node: End, network: Network, mut calls: mpsc::Receiver<Call>) -> turmoil::Result {
    let mut listeners: BTreeMap<u16, JoinHandle<()>> = BTreeMap::new();
    while let Some(call) = calls.recv().await {
        match call {
            Call::Bind(address, reply) => {
                // Of a process that is gone.
                if let Some(old) = listeners.remove(&address.port()) {
                    old.abort();
                    let _aborted = old.await;
                }
                let (accepted, receiver) = mpsc::channel(BACKLOG);
                let bound = TcpListener::bind(address).await.map(|listener| {
                    let accepting = accept(node, network.clone(), listener, accepted);
                    listeners.insert(address.port(), spawn_local(accepting));
                    Bound { accepted: receiver, local: address }
                });
                let _process_gone = reply.send(bound);
            }
            Call::Connect(address, reply) => {
                spawn_local(connect(node, network.clone(), address, reply));
            }
        }
    }
    Ok(())
}

/// Accepts until the process is gone; the socket of a machine without power stays silent instead.
async fn accept(node: End, network: Network, listener: TcpListener, accepted: mpsc::Sender<Stream>) {
    let gone = async {
        accepted.closed().await;
        network.powered(node).await;
    };
    tokio::pin!(gone);
    loop {
        let (socket, from) = tokio::select! { biased;
            () = &mut gone => return,
            socket = listener.accept() => match socket {
                Ok(socket) => socket,
                Err(_) => continue,
            },
        };
        let (network, accepted) = (network.clone(), accepted.clone());
        spawn_local(async move {
            let peer = network.end_of(from.ip());
            network.reachable(peer, node).await;
            if let Some(stream) = carry(node, &network, socket) {
                let _process_gone = accepted.send(stream).await;
            }
        });
    }
}

async fn connect(node: End, network: Network, address: String, reply: oneshot::Sender<io::Result<Stream>>) {
    let host = address.rsplit_once(':').map_or(address.as_str(), |(host, _)| host);
    let peer = network.end_of(turmoil::lookup(host));
    network.reachable(node, peer).await;
    let connected = TcpStream::connect(address.as_str()).await;
    let stream = connected
        .and_then(|socket| carry(node, &network, socket).ok_or_else(|| io::Error::from(io::ErrorKind::NotConnected)));
    let _process_gave_up = reply.send(stream);
}

/// Begins to move the bytes of a connection; gives the process's side of it.
fn carry(node: End, network: &Network, socket: TcpStream) -> Option<Stream> {
    let (local, peer) = (socket.local_addr().ok()?, socket.peer_addr().ok()?);
    let handle = network.connection(node, network.end_of(peer.ip()));
    let (io, inside) = tokio::io::duplex(WINDOW_BYTES);
    let reset = Arc::new(AtomicBool::new(false));
    spawn_local(pump_both(handle, socket, inside, reset.clone()));
    let (read, write) = tokio::io::split(io);
    Some(Stream::new(tokio::io::join(Received { io: read, reset }, write), local, peer))
}

async fn pump_both(handle: Handle, socket: TcpStream, inside: DuplexStream, reset: Arc<AtomicBool>) {
    let (mut from_peer, mut to_peer) = socket.into_split();
    let (mut from_process, mut to_process) = tokio::io::split(inside);
    let outwards = pump(&handle, true, &mut from_process, &mut to_peer);
    let inwards = pump(&handle, false, &mut from_peer, &mut to_process);
    let broken = tokio::select! { biased;
        () = handle.reset() => true,
        ended = async { tokio::try_join!(outwards, inwards) } => ended.is_err(),
    };
    reset.store(broken, Ordering::Relaxed);
}

/// Moves the bytes of one direction, in order, when the network lets them pass; then the end of the stream. Only the peer's side
/// can fail: a process that is gone takes no more, but what it wrote still goes out.
async fn pump(
    handle: &Handle,
    outwards: bool,
    from: &mut (impl AsyncRead + Unpin),
    to: &mut (impl AsyncWrite + Unpin),
) -> io::Result<()> {
    let mut flight: VecDeque<(Instant, Bytes)> = VecDeque::new();
    let (mut waiting, mut ended) = (0, false);
    let mut buffer = BytesMut::new();
    loop {
        let first = flight.front().map(|(due, _)| *due);
        tokio::select! { biased;
            () = arrives(handle, outwards, first), if first.is_some() => {
                let Some((_, bytes)) = flight.pop_front() else { continue };
                handle.note(outwards, turmoil::sim_elapsed().unwrap_or_default(), &bytes);
                if bytes.is_empty() {
                    return to.shutdown().await;
                }
                waiting -= bytes.len();
                match to.write_all(&bytes).await {
                    Err(_) if !outwards => return Ok(()),
                    result => result?,
                }
            }
            read = from.read_buf(&mut buffer), if !ended && waiting < WINDOW_BYTES => {
                let read = read?;
                (ended, waiting) = (read == 0, waiting + read);
                let delay = if handle.is_link_end(outwards) { handle.delay(outwards) } else { Default::default() };
                let due = first_due(flight.back(), Instant::now() + delay);
                flight.push_back((due, buffer.split().freeze()));
            }
        }
    }
}

/// Nothing overtakes in a connection.
fn first_due(last: Option<&(Instant, Bytes)>, due: Instant) -> Instant {
    last.map_or(due, |(last, _)| due.max(*last))
}

async fn arrives(handle: &Handle, outwards: bool, due: Option<Instant>) {
    if let Some(due) = due.filter(|due| *due > Instant::now()) {
        tokio::time::sleep_until(due).await;
    }
    handle.passes(outwards).await;
}
