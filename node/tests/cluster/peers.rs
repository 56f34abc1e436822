//! The inter-node port: order on a lane, broken and mended connections, and bytes from anybody.
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use futures::future::{BoxFuture, join_all};
use model::{GroupId, NodeId, StoreId};
use node::metrics::Metrics;
use node::peer::Peers;
use node::peer::directory::{Directory, Member};
use node::peer::hello::{FORMAT, Hello};
use node::peer::listener::{self, Server, Services};
use node::peer::messages::{Heartbeat, Visit, Visited};
use node::peer::questions::{Answered, Question};
use node::seams::{Net, Stop, Stopper, TcpNet};
use raft::{Frame, Lane, Transport, TransportError};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::Semaphore;
use tokio::time::timeout;

use crate::world::{PATIENCE, World, append, eventually, read_all, ready, topic};

/// Answers each request with its own bytes and notes the order in which they came.
#[derive(Default)]
struct Echo {
    seen: Arc<Mutex<Vec<Bytes>>>,
}

impl Services for Echo {
    fn raft(&self, _: NodeId, _: GroupId, request: Frame) -> BoxFuture<'static, Result<Frame, String>> {
        self.seen.lock().unwrap().push(request.head.clone());
        Box::pin(async move {
            tokio::time::sleep(Duration::from_millis(u64::from(request.head[0]) % 5)).await;
            if request.head[0] == 255 { Err("no".to_owned()) } else { Ok(request) }
        })
    }
    fn control(&self, _: NodeId, command: Bytes) -> BoxFuture<'static, Result<Bytes, String>> {
        Box::pin(async move { Ok(command) })
    }
    fn ask(&self, _: NodeId, _: Question) -> BoxFuture<'static, Result<Answered, String>> {
        Box::pin(async { Ok(Answered::HandedOver) })
    }
    fn queue(
        &self,
        _: NodeId,
        _: GroupId,
        head: Bytes,
        body: Vec<Bytes>,
    ) -> BoxFuture<'static, Result<(Bytes, Vec<Bytes>), String>> {
        Box::pin(async { Ok((head, body)) })
    }
    fn heartbeat(&self, _: NodeId, _: Heartbeat) {}
    fn visit(&self, _: Hello, _: Visit) -> BoxFuture<'static, Result<Visited, String>> {
        Box::pin(async { Ok(Visited::Founded) })
    }
}

fn directory(node: u32, address: SocketAddr) -> Arc<Directory> {
    let directory = Directory::new(NodeId(node), StoreId(u64::from(node)), 1);
    directory.set_cluster("c".to_owned());
    let member = |node: u32| Member { node: NodeId(node), store: StoreId(node.into()), address: address.to_string() };
    directory.learn([member(1), member(2)]);
    Arc::new(directory)
}

/// Node 2, which echoes, at `address` (port 0 takes a free one). An address may be in use until what listened there has ended.
async fn echo(address: SocketAddr) -> (SocketAddr, Arc<Mutex<Vec<Bytes>>>, Stopper) {
    let mut bound = TcpNet.bind(&address.to_string()).await;
    let until = tokio::time::Instant::now() + PATIENCE;
    while bound.is_err() && tokio::time::Instant::now() < until {
        tokio::time::sleep(Duration::from_millis(20)).await;
        bound = TcpNet.bind(&address.to_string()).await;
    }
    let listener = bound.unwrap();
    let address = listener.local_addr().unwrap();
    let services = Echo::default();
    let seen = services.seen.clone();
    let server = Server {
        directory: directory(2, address),
        services: Arc::new(services),
        append_budget: Arc::new(Semaphore::new(1 << 20)),
        queue_budget: Arc::new(Semaphore::new(1 << 20)),
        visitors: Arc::new(Semaphore::new(4)),
        append_budget_bytes: 1 << 20,
        metrics: Arc::new(Metrics::new()),
    };
    let (stopper, stop) = Stop::channel();
    tokio::spawn(listener::serve(Arc::new(server), listener, stop));
    (address, seen, stopper)
}

fn frame(head: &[u8], body: Vec<Bytes>) -> Frame {
    Frame { head: Bytes::copy_from_slice(head), body }
}

async fn connected(peers: &Peers) {
    let until = tokio::time::Instant::now() + PATIENCE;
    while peers.call(NodeId(2), Lane::Append, GroupId(7), frame(&[0], vec![])).await.is_err() {
        assert!(tokio::time::Instant::now() < until, "no connection");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_arrive_in_order_and_large_bodies_come_back() {
    let (address, seen, _server) = echo("127.0.0.1:0".parse().unwrap()).await;
    let (_stopper, stop) = Stop::channel();
    let peers = Peers::new(directory(1, address), Arc::new(TcpNet), stop);
    connected(&peers).await;
    seen.lock().unwrap().clear();
    let heads: Vec<[u8; 2]> = (0..2_000_u16).map(|place| [(place % 200) as u8, (place / 200) as u8]).collect();
    let calls: Vec<_> =
        heads.iter().map(|head| peers.call(NodeId(2), Lane::Append, GroupId(7), frame(head, vec![]))).collect();
    let answers = join_all(calls).await;
    assert!(answers.iter().zip(&heads).all(|(answer, head)| answer.as_ref().unwrap().head[..] == head[..]));
    assert!(seen.lock().unwrap().iter().zip(&heads).all(|(seen, head)| seen[..] == head[..]), "arrival is call order");
    let body = vec![Bytes::from(vec![1; 3 << 20]), Bytes::from_static(b"tail")];
    let answer = peers.call(NodeId(2), Lane::Append, GroupId(7), frame(&[9], body.clone())).await.unwrap();
    assert_eq!(answer.body.concat(), body.concat(), "a frame above the budget passes too");
    let refused = peers.call(NodeId(2), Lane::Control, GroupId(7), frame(&[255], vec![]));
    assert!(matches!(refused.await, Err(TransportError::Broken { .. } | TransportError::Unreachable { .. })));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broken_connection_fails_its_requests_and_mends() {
    let (address, _, server) = echo("127.0.0.1:0".parse().unwrap()).await;
    let (_stopper, stop) = Stop::channel();
    let peers = Peers::new(directory(1, address), Arc::new(TcpNet), stop);
    connected(&peers).await;
    server.stop();
    let failing = async {
        while peers.call(NodeId(2), Lane::Append, GroupId(7), frame(&[1], vec![])).await.is_ok() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(PATIENCE, failing).await.expect("requests fail once the other side is gone");
    let (_, _, _server) = echo(address).await;
    connected(&peers).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn any_bytes_close_the_connection_and_the_node_lives() {
    let world = World::new(1, 1);
    let node = world.start(1).await;
    ready(node.broker()).await;
    let partition = topic(&[node.broker()], "calm", 1, 1).await[0];
    let hello = [b"FLTP".as_slice(), &FORMAT.to_le_bytes(), &[0xff, 0xff]].concat();
    let noise: [&[u8]; 5] = [b"GET / HTTP/1.1\r\n\r\n", &[0; 64], &[0xff; 4096], &hello, b"FLTP\x09\x00\x00\x00"];
    for bytes in noise {
        let mut stream = TcpStream::connect(node.addresses().peer).await.unwrap();
        stream.write_all(bytes).await.unwrap();
        let mut rest = Vec::new();
        let closed = timeout(PATIENCE, stream.read_to_end(&mut rest)).await;
        assert!(closed.is_ok(), "the connection stays open");
    }
    let silent = TcpStream::connect(node.addresses().peer).await.unwrap();
    append(&[node.broker()], partition, "still here").await;
    assert_eq!(read_all(&[node.broker()], partition).await.len(), 1);
    drop(silent);
    eventually("it is still ready", || node.broker().readiness().ready).await;
    node.stop().await;
}
