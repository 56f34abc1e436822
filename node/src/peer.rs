//! Nodes talking to nodes: one listener, up to three outgoing connections (lanes) per other node, heartbeats, visits.
//! Owns the connections and the directory of who may speak. Implements `raft::Transport`.
//! Never decodes a Raft message, never retries one.
pub mod directory;
pub mod frame;
pub mod heartbeat;
pub mod hello;
pub mod link;
pub mod listener;
pub mod messages;
mod proof;
pub mod questions;
pub mod queues;

use std::collections::BTreeMap;
use std::io;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use futures::future::BoxFuture;
use model::{GroupId, NodeId};
use raft::{Lane, TransportError};
use tokio::time::timeout;

use crate::seams::{Net, Stop};
use directory::Directory;
use frame::{Frame, Kind, Service, Slices, VISITOR_FRAME_BYTES_MAX};
use hello::{HELLO_DEADLINE, Hello};
use link::{Failure, Link};
use messages::{Visit, Visited};

/// How long a visit waits for its answer: a join includes a controller commit.
const VISIT_DEADLINE: Duration = Duration::from_secs(5);

/// The other nodes. Links are made when a node is first spoken to and stay for ever.
pub struct Peers {
    directory: Arc<Directory>,
    net: Arc<dyn Net>,
    stop: Stop,
    links: Mutex<BTreeMap<NodeId, Arc<Pair>>>,
}

struct Pair {
    append: Link,
    control: Link,
    /// Made when it is first needed.
    queue: OnceLock<Link>,
}

impl Peers {
    /// Knows nobody but whom `directory` names.
    pub fn new(directory: Arc<Directory>, net: Arc<dyn Net>, stop: Stop) -> Self {
        Self { directory, net, stop, links: Mutex::default() }
    }

    /// Who is who.
    pub fn directory(&self) -> &Arc<Directory> {
        &self.directory
    }

    fn link(&self, to: NodeId, lane: hello::Lane) -> Link {
        Link::start(to, lane, self.directory.clone(), self.net.clone(), self.stop.clone())
    }

    fn pair(&self, to: NodeId) -> Arc<Pair> {
        let mut links = self.links.lock().unwrap_or_else(PoisonError::into_inner);
        let start = |lane| self.link(to, lane);
        let (append, control, queue) = (hello::Lane::Append, hello::Lane::Control, OnceLock::new());
        let make = || Arc::new(Pair { append: start(append), control: start(control), queue });
        links.entry(to).or_insert_with(make).clone()
    }

    /// Sends an encoded controller command to `to`, which leads the controller.
    pub fn control(&self, to: NodeId, command: Bytes) -> BoxFuture<'static, Result<Bytes, Failure>> {
        let request = Frame {
            kind: Kind::Request,
            service: Service::Control,
            id: 0,
            group: GroupId::CONTROLLER.0,
            head: command,
            body: Vec::new(),
        };
        let answer = self.pair(to).control.request(request);
        Box::pin(async move { answer.await.map(|frame| frame.head) })
    }

    /// Sends an encoded [`questions::Question`] to `to`.
    pub fn ask(&self, to: NodeId, question: Bytes) -> BoxFuture<'static, Result<Bytes, Failure>> {
        let (service, body) = (Service::Ask, Vec::new());
        let request = Frame { kind: Kind::Request, service, id: 0, group: 0, head: question, body };
        let answer = self.pair(to).control.request(request);
        Box::pin(async move { answer.await.map(|frame| frame.head) })
    }

    /// Sends something about the queue in `group` to `to`: it is on its way, in the order of the calls, when this returns.
    pub fn queue(
        &self,
        to: NodeId,
        group: GroupId,
        head: Bytes,
        body: Vec<Bytes>,
    ) -> BoxFuture<'static, Result<(Bytes, Vec<Bytes>), Failure>> {
        let request = Frame { kind: Kind::Request, service: Service::Queue, id: 0, group: group.0, head, body };
        let pair = self.pair(to);
        let answer = pair.queue.get_or_init(|| self.link(to, hello::Lane::Queue)).request(request);
        Box::pin(async move { answer.await.map(|frame| (frame.head, frame.body)) })
    }

    /// One question to whoever listens at `address`, on a connection of its own. Also tells which of this node's own
    /// addresses leads there.
    ///
    /// # Errors
    /// The connection's, a refusal in words, or no answer in time.
    pub async fn visit(&self, address: &str, visit: &Visit) -> io::Result<(Hello, Visited, IpAddr)> {
        let late = |_| io::Error::from(io::ErrorKind::TimedOut);
        let mut stream = timeout(HELLO_DEADLINE, self.net.connect(address)).await.map_err(late)??;
        let mine = stream.local_addr().ip();
        let other = hello::call(&mut stream, &self.directory, hello::Lane::Visit, None).await?;
        let head = visit.encode();
        let ask = Frame { kind: Kind::Request, service: Service::Bootstrap, id: 1, group: 0, head, body: Vec::new() };
        let mut slices = Slices::default();
        slices.push(ask.encode());
        let answered = async {
            slices.write_to(&mut stream).await?;
            let length = frame::read_length(&mut stream, VISITOR_FRAME_BYTES_MAX).await?;
            frame::read_rest(&mut stream, length.ok_or(io::ErrorKind::UnexpectedEof)?).await
        };
        let answer = timeout(VISIT_DEADLINE, answered).await.map_err(late)??;
        match answer.kind {
            Kind::Answer => Ok((other, Visited::decode(&answer.head)?, mine)),
            _ => Err(io::Error::other(String::from_utf8_lossy(&answer.head).into_owned())),
        }
    }
}

impl raft::Transport for Peers {
    fn call(
        &self,
        to: NodeId,
        lane: Lane,
        group: GroupId,
        request: raft::Frame,
    ) -> BoxFuture<'static, Result<raft::Frame, TransportError>> {
        let pair = self.pair(to);
        let link = match lane {
            Lane::Append => &pair.append,
            Lane::Control => &pair.control,
        };
        let answer = link.request(Frame {
            kind: Kind::Request,
            service: Service::Raft,
            id: 0,
            group: group.0,
            head: request.head,
            body: request.body,
        });
        Box::pin(async move {
            match answer.await {
                Ok(frame) => Ok(raft::Frame { head: frame.head, body: frame.body }),
                Err(Failure::Unreachable(reason)) => Err(TransportError::Unreachable { node: to, reason }),
                Err(Failure::Broken(reason) | Failure::Refused(reason)) => {
                    Err(TransportError::Broken { node: to, reason })
                }
            }
        })
    }
}
