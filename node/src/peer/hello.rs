//! The first words on a connection between nodes: who is calling, from which cluster and data folder, and yes or no.
//! Opening, opening with the proof of the called side, proof of the caller, verdict. A refusal always says why, in words.
//! Owns the hello's format and the directory of nodes that may speak. Invariants: who does not know the cluster's secret
//! learns nothing but a hello; Raft traffic passes only from a (node id, store id) that this node knows as registered.
use std::collections::BTreeMap;
use std::io;
use std::sync::{PoisonError, RwLock};
use std::time::Duration;

use bytes::{BufMut, BytesMut};
use model::{NodeId, StoreId};
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::time::timeout;

use super::proof::{Proof, Side, transcript};
use crate::config::Secret;

/// Opens every hello.
const MAGIC: &[u8; 4] = b"FLTP";
/// Version of hello and frames. A node refuses another one in words.
pub const FORMAT: u16 = 3;
/// Bytes of a hello or its answer, at most.
const HELLO_BYTES_MAX: usize = 4096;
/// How long either side takes for all of it.
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
    /// `host:port` of its peer listener; empty while it does not know how others see it.
    pub address: String,
}

/// A hello and a random number, so that no two connections begin alike.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Opening {
    hello: Hello,
    nonce: [u8; 32],
}

/// The called side's opening and proof, or why it does not speak this format.
type Answer = Result<(Opening, Proof), String>;

/// Whether the caller may go on.
type Verdict = Result<(), String>;

/// What both sides say when a proof is wrong.
const OTHER_SECRET: &str = "the two nodes have different secrets: cluster.secret must be the same on all nodes";

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
    secret: Secret,
    known: RwLock<Known>,
}

#[derive(Default)]
struct Known {
    cluster: Option<String>,
    /// How others reach this node's peer listener; empty while unknown.
    address: String,
    members: BTreeMap<NodeId, Entry>,
}

struct Entry {
    member: Member,
    /// The address comes from the member itself, since this node started: a registration may be older.
    told: bool,
}

impl Directory {
    /// Knows only this node.
    pub fn new(node: NodeId, store: StoreId, boot: u64) -> Self {
        Self { me: (node, store, boot), secret: Secret::default(), known: RwLock::default() }
    }

    /// Speaks only to those who know `secret`.
    #[must_use]
    pub fn with_secret(self, secret: Secret) -> Self {
        Self { secret, ..self }
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

    /// Others reach this node's peer listener at `address`.
    pub fn set_address(&self, address: String) {
        self.write().address = address;
    }

    /// Learns members from registrations. Whoever is not named stays known: registrations are never taken back. An
    /// address that the member itself has told is newer than its registration and stays.
    pub fn learn(&self, members: impl IntoIterator<Item = Member>) {
        let mut known = self.write();
        for member in members {
            let told = known.members.get(&member.node).is_some_and(|old| old.told && old.member.store == member.store);
            if !told {
                known.members.insert(member.node, Entry { member, told: false });
            }
        }
    }

    /// A member is at the address that it is called at, or that it tells itself. Nobody becomes a member by that.
    pub fn hear(&self, node: NodeId, store: StoreId, address: String) {
        let mut known = self.write();
        if let Some(entry) = known.members.get_mut(&node).filter(|entry| entry.member.store == store)
            && !address.is_empty()
        {
            entry.member.address = address;
            entry.told = true;
        }
    }

    /// A member's peer address.
    pub fn address(&self, node: NodeId) -> Option<String> {
        self.read().members.get(&node).map(|entry| entry.member.address.clone())
    }

    /// Everybody known, this node included if registered.
    pub fn members(&self) -> Vec<Member> {
        self.read().members.values().map(|entry| entry.member.clone()).collect()
    }

    /// This node's own hello.
    pub fn hello(&self, lane: Lane) -> Hello {
        let (node, store, boot) = self.me;
        let known = self.read();
        Hello { cluster: known.cluster.clone(), node, store, boot, lane, address: known.address.clone() }
    }

    fn open(&self, lane: Lane) -> Opening {
        Opening { hello: self.hello(lane), nonce: rand::random() }
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
        match known.members.get(&hello.node).map(|entry| entry.member.store) {
            Some(store) if store == hello.store => Ok(()),
            Some(store) => Err(format!(
                "node {} is registered with the data folder {store}, not {}: its folder was wiped or exchanged",
                hello.node, hello.store
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
    let other = in_time(introduce(io, directory, lane)).await?;
    if expected.is_some_and(|expected| expected != other.node) {
        return Err(refused(&format!(
            "this address is node {}, not node {}",
            other.node,
            expected.unwrap_or(other.node)
        )));
    }
    directory.admit(&Hello { lane, ..other.clone() }).map_err(|words| refused(&words))?;
    Ok(other)
}

async fn introduce<S: AsyncRead + AsyncWrite + Unpin>(
    io: &mut S,
    directory: &Directory,
    lane: Lane,
) -> io::Result<Hello> {
    let mine = directory.open(lane);
    write(io, &mine).await?;
    let (theirs, proof) = read::<Answer>(io).await?.map_err(|words| refused(&words))?;
    let said = transcript(&mine, &theirs);
    if !proof.holds(&directory.secret, Side::Called, &said) {
        return Err(refused(OTHER_SECRET));
    }
    write(io, &Proof::of(&directory.secret, Side::Caller, &said)).await?;
    read::<Verdict>(io).await?.map_err(|words| refused(&words))?;
    Ok(theirs.hello)
}

/// The called side: hears the hello and answers.
///
/// # Errors
/// The connection's, bytes that are no hello, or the refusal that was sent.
pub async fn answer<S: AsyncRead + AsyncWrite + Unpin>(io: &mut S, directory: &Directory) -> io::Result<Hello> {
    in_time(receive(io, directory)).await
}

async fn receive<S: AsyncRead + AsyncWrite + Unpin>(io: &mut S, directory: &Directory) -> io::Result<Hello> {
    let theirs = match read::<Opening>(io).await {
        Err(error) if error.kind() == io::ErrorKind::Unsupported => {
            write(io, &Answer::Err(error.to_string())).await?;
            return Err(error);
        }
        heard => heard?,
    };
    let mine = directory.open(theirs.hello.lane);
    let said = transcript(&theirs, &mine);
    let proof = Proof::of(&directory.secret, Side::Called, &said);
    write(io, &Answer::Ok((mine, proof))).await?;
    let proof = read::<Proof>(io).await?;
    let verdict = match proof.holds(&directory.secret, Side::Caller, &said) {
        true => directory.admit(&theirs.hello),
        false => Err(OTHER_SECRET.to_owned()),
    };
    if verdict.is_ok() {
        directory.hear(theirs.hello.node, theirs.hello.store, theirs.hello.address.clone());
    }
    write::<Verdict>(io, &verdict).await?;
    verdict.map(|()| theirs.hello).map_err(|words| refused(&words))
}

async fn in_time<T>(talk: impl Future<Output = io::Result<T>>) -> io::Result<T> {
    timeout(HELLO_DEADLINE, talk).await.map_err(|_| io::ErrorKind::TimedOut)?
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

    /// The whole cluster moved; the registrations know it only once their leader can be reached at its new address.
    #[tokio::test]
    async fn a_member_that_moved_is_called_where_it_says_it_is() {
        let (moved, leader) = (directory(1, 10, Some("c")), directory(2, 20, Some("c")));
        moved.set_address("elsewhere:7".to_owned());
        let old = leader.members();
        let (mut near, mut far) = tokio::io::duplex(4096);
        let (called, answered) = tokio::join!(call(&mut near, &moved, Lane::Visit, None), answer(&mut far, &leader));
        assert!(called.is_ok() && answered.is_ok());
        assert_eq!(leader.address(NodeId(1)).as_deref(), Some("elsewhere:7"));
        leader.learn(old);
        assert_eq!(leader.address(NodeId(1)).as_deref(), Some("elsewhere:7"), "an old registration came later");
        assert_eq!(moved.address(NodeId(2)).as_deref(), Some("n2:1"), "who tells nothing is where it was");
        leader.hear(NodeId(1), StoreId(11), "thief:1".to_owned());
        assert_eq!(leader.address(NodeId(1)).as_deref(), Some("elsewhere:7"));
    }

    #[tokio::test]
    async fn only_those_who_share_the_secret_are_heard() {
        let with = |node, text| directory(node, u64::from(node) * 10, Some("c")).with_secret(Secret::new(text));
        let (near, far) = meet(with(1, "a shared secret"), with(2, "a shared secret"), Lane::Append).await;
        assert_eq!((near.unwrap().node, far.unwrap().node), (NodeId(2), NodeId(1)));
        for (caller, called) in [("another one", "a shared secret"), ("", "a shared secret"), ("a shared secret", "")] {
            for lane in [Lane::Append, Lane::Control, Lane::Visit] {
                let (near, far) = meet(with(1, caller), with(2, called), lane).await;
                assert!(near.unwrap_err().to_string().contains("cluster.secret"));
                assert!(far.is_err(), "{caller:?} spoke to {called:?}");
            }
        }
    }

    #[tokio::test]
    async fn a_caller_without_a_proof_of_its_own_is_refused() {
        let called = directory(2, 20, Some("c")).with_secret(Secret::new("a shared secret"));
        let caller = directory(1, 10, Some("c"));
        let (mut near, mut far) = tokio::io::duplex(4096);
        let forging = async {
            let mine = caller.open(Lane::Append);
            write(&mut near, &mine).await.unwrap();
            let (theirs, proof) = read::<Answer>(&mut near).await.unwrap().unwrap();
            assert_eq!(theirs.hello.node, NodeId(2));
            write(&mut near, &proof).await.unwrap();
            read::<Verdict>(&mut near).await.unwrap()
        };
        let (verdict, heard) = tokio::join!(forging, answer(&mut far, &called));
        assert_eq!(verdict, Err(OTHER_SECRET.to_owned()), "its own proof sent back");
        assert!(heard.is_err());
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
