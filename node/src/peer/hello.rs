//! The first words on a connection between nodes: who is calling, from which cluster and data folder, and yes or no.
//! Owns the hello's format and the directory of nodes that may speak. A refusal always says why, in words.
//! Invariant: Raft traffic passes only from a (node id, store id) that this node knows as registered.
use std::collections::BTreeMap;
use std::io;
use std::sync::{PoisonError, RwLock};
use std::time::Duration;

use bytes::{BufMut, BytesMut};
use model::{NodeId, StoreId};
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

/// Opens every hello.
const MAGIC: &[u8; 4] = b"FLTP";
/// Version of hello and frames. A node refuses another one in words.
pub const FORMAT: u16 = 2;
/// Bytes of a hello or its answer, at most.
const HELLO_BYTES_MAX: usize = 4096;
/// How long either side waits for the other's hello.
pub const HELLO_DEADLINE: Duration = Duration::from_secs(2);

/// What a connection is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Lane {
    /// Ordered appends and snapshots; the receiver may pause it.
    Append,
    /// Votes, heartbeats, forwarded commands; never paused.
    Control,
    /// Founding and joining, by someone who may be no member.
    Visit,
}

/// Who speaks.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hello {
    /// The cluster the speaker belongs to, if it does.
    pub cluster: Option<String>,
    /// Its node id.
    pub node: NodeId,
    /// Its data folder.
    pub store: StoreId,
    /// Changes with every start of its process.
    pub boot: u64,
    /// What the connection is for.
    pub lane: Lane,
}

/// The answer.
type Answer = Result<Hello, String>;

/// A node that may speak: its data folder and peer address.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Member {
    /// Its node id.
    pub node: NodeId,
    /// Its data folder.
    pub store: StoreId,
    /// `host:port` of its peer listener.
    pub address: String,
}

/// This node and all it knows of others.
pub struct Directory {
    me: (NodeId, StoreId, u64),
    known: RwLock<Known>,
}

#[derive(Default)]
struct Known {
    cluster: Option<String>,
    members: BTreeMap<NodeId, Member>,
}

impl Directory {
    /// Knows only this node.
    pub fn new(node: NodeId, store: StoreId, boot: u64) -> Self {
        Self { me: (node, store, boot), known: RwLock::default() }
    }

    /// This node's id.
    pub fn node(&self) -> NodeId {
        self.me.0
    }

    /// This node's data folder.
    pub fn store(&self) -> StoreId {
        self.me.1
    }

    /// This start of this node.
    pub fn boot(&self) -> u64 {
        self.me.2
    }

    /// The cluster, once this node belongs to one.
    pub fn cluster(&self) -> Option<String> {
        self.read().cluster.clone()
    }

    /// This node belongs to `cluster` from now on.
    pub fn set_cluster(&self, cluster: String) {
        self.write().cluster = Some(cluster);
    }

    /// Learns or updates members. Whoever is not named stays known: registrations are never taken back.
    pub fn learn(&self, members: impl IntoIterator<Item = Member>) {
        let mut known = self.write();
        for member in members {
            known.members.insert(member.node, member);
        }
    }

    /// A member's peer address.
    pub fn address(&self, node: NodeId) -> Option<String> {
        self.read().members.get(&node).map(|member| member.address.clone())
    }

    /// Everybody known, this node included if registered.
    pub fn members(&self) -> Vec<Member> {
        self.read().members.values().cloned().collect()
    }

    /// This node's own hello.
    pub fn hello(&self, lane: Lane) -> Hello {
        Hello { cluster: self.cluster(), node: self.me.0, store: self.me.1, boot: self.me.2, lane }
    }

    /// Whether the speaker may go on. The words of a refusal are for the operator of either side.
    ///
    /// # Errors
    /// The refusal.
    pub fn admit(&self, hello: &Hello) -> Result<(), String> {
        let known = self.read();
        if let (Some(ours), Some(theirs)) = (&known.cluster, &hello.cluster)
            && ours != theirs
        {
            return Err(format!("node {} belongs to cluster {theirs}, this is cluster {ours}", hello.node));
        }
        if hello.node == self.me.0 && hello.store != self.me.1 {
            return Err(format!("node id {} is this node's own: every node needs its own id", hello.node));
        }
        if hello.lane == Lane::Visit {
            return Ok(());
        }
        if known.cluster.is_none() {
            return Err(format!("node {} belongs to no cluster yet", self.me.0));
        }
        match known.members.get(&hello.node) {
            Some(member) if member.store == hello.store => Ok(()),
            Some(member) => Err(format!(
                "node {} is registered with the data folder {}, not {}: its folder was wiped or exchanged",
                hello.node, member.store, hello.store
            )),
            None => Err(format!("node {} is not registered in this cluster yet", hello.node)),
        }
    }

    fn read(&self) -> std::sync::RwLockReadGuard<'_, Known> {
        self.known.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> std::sync::RwLockWriteGuard<'_, Known> {
        self.known.write().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The caller's side: says hello, checks the answer. `expected` is whom it means to call, where it knows.
///
/// # Errors
/// The connection's, a refusal (its words), or an answer from somebody else.
pub async fn call<S: AsyncRead + AsyncWrite + Unpin>(
    io: &mut S,
    directory: &Directory,
    lane: Lane,
    expected: Option<NodeId>,
) -> io::Result<Hello> {
    let said = async {
        write(io, &directory.hello(lane)).await?;
        read::<Answer>(io).await
    };
    let answer = tokio::time::timeout(HELLO_DEADLINE, said).await.map_err(|_| io::ErrorKind::TimedOut)??;
    let other = answer.map_err(|words| refused(&words))?;
    if expected.is_some_and(|expected| expected != other.node) {
        return Err(refused(&format!(
            "this address is node {}, not node {}",
            other.node,
            expected.unwrap_or(other.node)
        )));
    }
    if let Err(words) = directory.admit(&Hello { lane, ..other.clone() }) {
        return Err(refused(&words));
    }
    Ok(other)
}

/// The called side: hears the hello and answers.
///
/// # Errors
/// The connection's, bytes that are no hello, or the refusal that was sent.
pub async fn answer<S: AsyncRead + AsyncWrite + Unpin>(io: &mut S, directory: &Directory) -> io::Result<Hello> {
    let heard = tokio::time::timeout(HELLO_DEADLINE, read::<Hello>(io)).await.map_err(|_| io::ErrorKind::TimedOut)?;
    let (answer, outcome) = match heard {
        Ok(hello) => match directory.admit(&hello) {
            Ok(()) => (Ok(directory.hello(hello.lane)), Ok(hello)),
            Err(words) => (Err(words.clone()), Err(refused(&words))),
        },
        Err(error) if error.kind() == io::ErrorKind::Unsupported => (Err(error.to_string()), Err(error)),
        Err(error) => return Err(error),
    };
    tokio::time::timeout(HELLO_DEADLINE, write::<Answer>(io, &answer)).await.map_err(|_| io::ErrorKind::TimedOut)??;
    outcome
}

fn refused(words: &str) -> io::Error {
    io::Error::new(io::ErrorKind::PermissionDenied, words.to_owned())
}

async fn write<T: Serialize>(io: &mut (impl AsyncWrite + Unpin), message: &T) -> io::Result<()> {
    let body = storage::codec::encode(message);
    let mut bytes = BytesMut::with_capacity(8 + body.len());
    bytes.put_slice(MAGIC);
    bytes.put_u16_le(FORMAT);
    bytes.put_u16_le(u16::try_from(body.len()).map_err(|_| io::ErrorKind::InvalidData)?);
    bytes.put_slice(&body);
    io.write_all(&bytes).await?;
    io.flush().await
}

async fn read<T: serde::de::DeserializeOwned>(io: &mut (impl AsyncRead + Unpin)) -> io::Result<T> {
    let mut start = [0; 8];
    io.read_exact(&mut start).await?;
    let [m0, m1, m2, m3, f0, f1, l0, l1] = start;
    if &[m0, m1, m2, m3] != MAGIC {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "not a flotilla node"));
    }
    let format = u16::from_le_bytes([f0, f1]);
    if format != FORMAT {
        let words = format!("the other node speaks peer format {format}, this one {FORMAT}");
        return Err(io::Error::new(io::ErrorKind::Unsupported, words));
    }
    let length = usize::from(u16::from_le_bytes([l0, l1]));
    if length > HELLO_BYTES_MAX {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "hello is too long"));
    }
    let mut body = vec![0; length];
    io.read_exact(&mut body).await?;
    storage::codec::decode(&body, HELLO_BYTES_MAX)
        .map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn directory(node: u32, store: u64, cluster: Option<&str>) -> Directory {
        let directory = Directory::new(NodeId(node), StoreId(store), 1);
        if let Some(cluster) = cluster {
            directory.set_cluster(cluster.to_owned());
        }
        directory.learn((1..=3).map(|id| Member {
            node: NodeId(id),
            store: StoreId(u64::from(id) * 10),
            address: format!("n{id}:1"),
        }));
        directory
    }

    async fn meet(caller: Directory, called: Directory, lane: Lane) -> (io::Result<Hello>, io::Result<Hello>) {
        let (mut near, mut far) = tokio::io::duplex(4096);
        let expected = Some(called.node());
        tokio::join!(call(&mut near, &caller, lane, expected), answer(&mut far, &called))
    }

    #[tokio::test]
    async fn members_meet() {
        let (near, far) = meet(directory(1, 10, Some("c")), directory(2, 20, Some("c")), Lane::Append).await;
        assert_eq!(near.unwrap().node, NodeId(2));
        assert_eq!(far.unwrap().lane, Lane::Append);
    }

    #[tokio::test]
    async fn strangers_are_refused_in_words() {
        let cases = [
            (directory(1, 10, Some("other")), Lane::Control, "belongs to cluster other"),
            (directory(1, 11, Some("c")), Lane::Append, "wiped or exchanged"),
            (directory(9, 90, Some("c")), Lane::Append, "not registered"),
            (directory(2, 77, Some("c")), Lane::Visit, "this node's own"),
        ];
        for (caller, lane, words) in cases {
            let (near, far) = meet(caller, directory(2, 20, Some("c")), lane).await;
            assert!(far.unwrap_err().to_string().contains(words));
            assert!(near.unwrap_err().to_string().contains(words), "{words}");
        }
        let (near, far) = meet(directory(9, 90, None), directory(2, 20, Some("c")), Lane::Visit).await;
        assert!(near.is_ok() && far.is_ok());
    }

    #[tokio::test]
    async fn noise_and_newer_formats_end_the_connection() {
        let (mut near, mut far) = tokio::io::duplex(4096);
        near.write_all(b"GET / HTTP/1.1\r\n").await.unwrap();
        assert_eq!(answer(&mut far, &directory(2, 20, None)).await.unwrap_err().kind(), io::ErrorKind::InvalidData);
        let (mut near, mut far) = tokio::io::duplex(4096);
        near.write_all(&[b'F', b'L', b'T', b'P', 9, 0, 0, 0]).await.unwrap();
        let error = answer(&mut far, &directory(2, 20, None)).await.unwrap_err();
        assert!(error.to_string().contains("peer format 9"));
    }
}
