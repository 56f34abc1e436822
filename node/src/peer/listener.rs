//! The listener for other nodes: hello first, then frames; requests are started in arrival order and answered as they end.
//! Owns the byte budget of append frames: it is taken before a frame is read and given back when it is answered.
//! Invariant: without an accepted hello nothing but a short hello is read.
use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::StreamExt;
use futures::future::BoxFuture;
use futures::stream::FuturesUnordered;
use model::{GroupId, NodeId};
use tokio::io::{AsyncRead, AsyncWrite, BufReader};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::task::JoinSet;

use super::directory::Directory;
use super::frame::{FRAME_BYTES_MAX, Frame, Kind, Service, Slices, VISITOR_FRAME_BYTES_MAX, read_length, read_rest};
use super::hello::{self, Hello, Lane};
use super::messages::{Heartbeat, Visit, Visited};
use super::questions::{Answered, Question};
use crate::metrics::{ListenerLabel, Metrics};
use crate::seams::{Listener, Stop, Stream};

/// Connections from nodes at a time: three lanes and visits of every node of a large cluster.
const CONNECTIONS_MAX: usize = 1024;
/// Visitors at a time: whoever founds or joins asks again.
pub const VISITORS_MAX: usize = 64;
/// A visitor's connection ends after so long.
const VISIT_MAX: Duration = Duration::from_secs(10);
/// After a failed accept.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// What the node does for its peers.
pub trait Services: Send + Sync + 'static {
    /// A Raft request; polled at once, in arrival order.
    fn raft(
        &self,
        from: NodeId,
        group: GroupId,
        request: raft::Frame,
    ) -> BoxFuture<'static, Result<raft::Frame, String>>;
    /// An encoded controller command for the leader, and its encoded outcome.
    fn control(&self, from: NodeId, command: Bytes) -> BoxFuture<'static, Result<Bytes, String>>;
    /// A question of a member, and its answer.
    fn ask(&self, from: NodeId, question: Question) -> BoxFuture<'static, Result<Answered, String>>;
    /// Something about the queue in this raft, and the answer, both with payload bytes. Carried out in the order of the calls.
    fn queue(
        &self,
        from: NodeId,
        group: GroupId,
        head: Bytes,
        body: Vec<Bytes>,
    ) -> BoxFuture<'static, Result<(Bytes, Vec<Bytes>), String>>;
    /// A node lives.
    fn heartbeat(&self, from: NodeId, heartbeat: Heartbeat);
    /// Somebody asks to found or to join.
    fn visit(&self, from: Hello, visit: Visit) -> BoxFuture<'static, Result<Visited, String>>;
}

/// What all connections share.
pub struct Server {
    /// Who may speak.
    pub directory: Arc<Directory>,
    /// What is done for them.
    pub services: Arc<dyn Services>,
    /// Bytes of append frames being read or worked on, all connections together.
    pub append_budget: Arc<Semaphore>,
    /// Visitors at a time.
    pub visitors: Arc<Semaphore>,
    /// The same of frames of queues: those wait for commits, which the other frames bring about.
    pub queue_budget: Arc<Semaphore>,
    /// The size of either budget.
    pub append_budget_bytes: usize,
    /// Counts connections.
    pub metrics: Arc<Metrics>,
}

/// Serves nodes until `stop`.
pub async fn serve(server: Arc<Server>, mut listener: Box<dyn Listener>, stop: Stop) {
    let mut connections = JoinSet::new();
    let gauge = server.metrics.connections.get_or_create_owned(&ListenerLabel { listener: "peer" });
    loop {
        tokio::select! {
            biased;
            () = stop.stopped() => return,
            Some(_ended) = connections.join_next() => {}
            accepted = listener.accept() => match accepted {
                Ok(stream) if connections.len() < CONNECTIONS_MAX => {
                    connections.spawn(connection(server.clone(), stream));
                }
                Ok(_one_too_many) => tracing::warn!("too many connections from nodes, closing the new one"),
                Err(error) => {
                    tracing::warn!(%error, "accepting a node failed");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            },
        }
        gauge.set(i64::try_from(connections.len()).unwrap_or(i64::MAX));
    }
}

async fn connection(server: Arc<Server>, mut stream: Stream) {
    let peer = stream.peer_addr();
    let hello = match hello::answer(&mut stream, &server.directory).await {
        Ok(hello) => hello,
        Err(error) => {
            tracing::info!(%peer, %error, "a connection from a node was refused");
            return;
        }
    };
    let (node, lane) = (hello.node, hello.lane);
    let ended = match lane {
        Lane::Visit => {
            let Ok(_place) = server.visitors.clone().try_acquire_owned() else {
                tracing::info!(%peer, "too many visitors, closing the new one");
                return;
            };
            tokio::time::timeout(VISIT_MAX, converse(server, hello, stream)).await.unwrap_or(Ok(()))
        }
        Lane::Append | Lane::Control | Lane::Queue => converse(server, hello, stream).await,
    };
    if let Err(error) = ended {
        tracing::info!(%peer, node = node.0, ?lane, %error, "a connection from a node ended");
    }
}

type Job = BoxFuture<'static, Frame>;

/// Reads, works and writes at the same time, in one task.
async fn converse(server: Arc<Server>, hello: Hello, stream: Stream) -> io::Result<()> {
    let (reader, mut writer) = tokio::io::split(stream);
    let (answers, mut written) = mpsc::unbounded_channel();
    let (jobs, mut begun) = mpsc::unbounded_channel::<Job>();
    let work = async {
        let mut running = FuturesUnordered::new();
        loop {
            tokio::select! {
                Some(frame) = running.next() => drop(answers.send(frame)),
                job = begun.recv() => match job {
                    Some(job) => running.push(job),
                    None => return,
                },
            }
        }
    };
    tokio::select! {
        ended = read_requests(&server, &hello, reader, &jobs, &answers) => ended,
        () = work => Ok(()),
        ended = write_answers(&mut written, &mut writer) => ended,
    }
}

async fn read_requests(
    server: &Server,
    hello: &Hello,
    reader: impl AsyncRead + Unpin,
    jobs: &mpsc::UnboundedSender<Job>,
    answers: &mpsc::UnboundedSender<Frame>,
) -> io::Result<()> {
    let (max, buffer) = match hello.lane {
        Lane::Visit => (VISITOR_FRAME_BYTES_MAX, 4 << 10),
        Lane::Append | Lane::Control | Lane::Queue => (FRAME_BYTES_MAX, 64 << 10),
    };
    let mut reader = BufReader::with_capacity(buffer, reader);
    while let Some(length) = read_length(&mut reader, max).await? {
        let permit = match hello.lane {
            Lane::Append => server.take_budget(&server.append_budget, length).await,
            Lane::Queue => server.take_budget(&server.queue_budget, length).await,
            Lane::Control | Lane::Visit => None,
        };
        let frame = read_rest(&mut reader, length).await?;
        let Some(mut job) = server.begin(hello, frame, permit)? else { continue };
        // Polled once here, so that work starts in arrival order.
        match futures::poll!(&mut job) {
            std::task::Poll::Ready(frame) => drop(answers.send(frame)),
            std::task::Poll::Pending => drop(jobs.send(job)),
        }
    }
    Ok(())
}

async fn write_answers(
    answers: &mut mpsc::UnboundedReceiver<Frame>,
    writer: &mut (impl AsyncWrite + Unpin),
) -> io::Result<()> {
    let mut slices = Slices::default();
    while let Some(first) = answers.recv().await {
        slices.push(first.encode());
        for _ in 0..63 {
            let Ok(next) = answers.try_recv() else { break };
            slices.push(next.encode());
        }
        slices.write_to(writer).await?;
    }
    Ok(())
}

impl Server {
    async fn take_budget(&self, budget: &Arc<Semaphore>, length: usize) -> Option<OwnedSemaphorePermit> {
        let permits = u32::try_from(length.min(self.append_budget_bytes)).unwrap_or(u32::MAX);
        budget.clone().acquire_many_owned(permits).await.ok()
    }

    /// Starts the work of one frame; `None` if it wants no answer.
    fn begin(&self, hello: &Hello, frame: Frame, permit: Option<OwnedSemaphorePermit>) -> io::Result<Option<Job>> {
        let unexpected = || io::Error::new(io::ErrorKind::InvalidData, "this frame does not belong here");
        let member = hello.lane != Lane::Visit;
        let (id, from) = (frame.id, hello.node);
        let services = &self.services;
        let job: BoxFuture<'static, Result<(Bytes, Vec<Bytes>), String>> = match (frame.service, frame.kind) {
            (Service::Raft, Kind::Request) if member => {
                let request = raft::Frame { head: frame.head, body: frame.body };
                let done = services.raft(from, GroupId(frame.group), request);
                Box::pin(async move { done.await.map(|answer| (answer.head, answer.body)) })
            }
            (Service::Control, Kind::Request) if member => {
                let done = services.control(from, frame.head);
                Box::pin(async move { done.await.map(|answer| (answer, Vec::new())) })
            }
            (Service::Ask, Kind::Request) if member => {
                let done = services.ask(from, Question::decode(&frame.head)?);
                Box::pin(async move { done.await.map(|answer| (answer.encode(), Vec::new())) })
            }
            (Service::Queue, Kind::Request) if member => {
                services.queue(from, GroupId(frame.group), frame.head, frame.body)
            }
            (Service::Heartbeat, Kind::Notice) if member => {
                let heartbeat = Heartbeat::decode(&frame.head)?;
                self.directory.told_synced(from, heartbeat.synced);
                services.heartbeat(from, heartbeat);
                return Ok(None);
            }
            (Service::Bootstrap, Kind::Request) => {
                let done = services.visit(hello.clone(), Visit::decode(&frame.head)?);
                Box::pin(async move { done.await.map(|visited| (visited.encode(), Vec::new())) })
            }
            _ => return Err(unexpected()),
        };
        let (service, group) = (frame.service, frame.group);
        Ok(Some(Box::pin(async move {
            let (kind, head, body) = match job.await {
                Ok((head, body)) => (Kind::Answer, head, body),
                Err(words) => (Kind::Failure, Bytes::from(words), Vec::new()),
            };
            drop(permit);
            Frame { kind, service, id, group, head, body }
        })))
    }
}
