//! The first words on a connection between nodes: who is calling, from which cluster and data folder, and yes or no.
//! Opening, opening with the proof of the called side, proof of the caller, verdict. A refusal always says why, in words.
//! Owns the hello's format. Invariant: who does not know the cluster's secret learns nothing but a hello.
use std::io;
use std::time::Duration;

use bytes::{BufMut, BytesMut};
use model::{NodeId, StoreId};
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::time::timeout;

use super::directory::{Directory, Refusal};
use super::proof::{Proof, Side, transcript};

/// Opens every hello.
const MAGIC: &[u8; 4] = b"FLTP";
/// Version of hello and frames. A node refuses another one in words.
pub const FORMAT: u16 = 12;
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
    /// Messages of queues on their way between the nodes of clients and leaders; the receiver may pause it.
    Queue,
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
    /// How far its disk is synced ([`storage::Engine::synced`]).
    pub synced: u64,
}

/// A hello and a random number, so that no two connections begin alike.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Opening {
    hello: Hello,
    nonce: [u8; 32],
}

impl Opening {
    fn of(directory: &Directory, lane: Lane) -> Self {
        Self { hello: directory.hello(lane), nonce: rand::random() }
    }
}

/// The called side's opening and proof, or why it does not speak this format.
type Answer = Result<(Opening, Proof), String>;

/// Whether the caller may go on.
type Verdict = Result<(), Refusal>;

/// What both sides say when a proof is wrong.
const OTHER_SECRET: &str = "the two nodes have different secrets: cluster.secret must be the same on all nodes";

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
    let other = Hello { lane, ..other };
    directory.admit(&other).map_err(|refusal| refused(&refusal.to_string()))?;
    directory.met(&other);
    Ok(other)
}

async fn introduce<S: AsyncRead + AsyncWrite + Unpin>(
    io: &mut S,
    directory: &Directory,
    lane: Lane,
) -> io::Result<Hello> {
    let mine = Opening::of(directory, lane);
    write(io, &mine).await?;
    let (theirs, proof) = read::<Answer>(io).await?.map_err(|words| refused(&words))?;
    let said = transcript(&mine, &theirs);
    if !proof.holds(directory.secret(), Side::Called, &said) {
        return Err(refused(OTHER_SECRET));
    }
    write(io, &Proof::of(directory.secret(), Side::Caller, &said)).await?;
    read::<Verdict>(io).await?.map_err(|refusal| {
        if let Refusal::OldCopy(words) = &refusal {
            directory.condemn(words.clone());
        }
        refused(&refusal.to_string())
    })?;
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
    let mine = Opening::of(directory, theirs.hello.lane);
    let said = transcript(&theirs, &mine);
    let proof = Proof::of(directory.secret(), Side::Called, &said);
    write(io, &Answer::Ok((mine, proof))).await?;
    let proof = read::<Proof>(io).await?;
    let verdict = match proof.holds(directory.secret(), Side::Caller, &said) {
        true => directory.admit(&theirs.hello),
        false => Err(Refusal::Stranger(OTHER_SECRET.to_owned())),
    };
    if verdict.is_ok() {
        directory.met(&theirs.hello);
    }
    write::<Verdict>(io, &verdict).await?;
    verdict.map(|()| theirs.hello).map_err(|refusal| refused(&refusal.to_string()))
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
    use bytes::Bytes;
    use storage::engine::sim::SimDisk;
    use storage::{Engine, Op, Table};

    use super::super::directory::Member;
    use super::*;
    use crate::config::Secret;

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

    fn directory_of(node: u32) -> Directory {
        directory(node, u64::from(node) * 10, Some("c"))
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
    async fn an_old_copy_of_a_disk_is_refused_and_told_so() {
        let disk = SimDisk::new(1);
        let write = |count| {
            let op = |_| Op::Put { table: Table::Meta, key: Bytes::from_static(b"key"), parts: Vec::new() };
            (0..count).for_each(|at| disk.open().write(&[op(at)], true).unwrap());
        };
        let start = |boot| {
            let directory = Directory::new(NodeId(1), StoreId(10), boot).with_disk(disk.open());
            directory.set_cluster("c".to_owned());
            directory.learn(directory_of(2).members());
            directory
        };
        let called = directory_of(2);
        let meet = async |caller: &Directory| {
            let (mut near, mut far) = tokio::io::duplex(4096);
            tokio::join!(call(&mut near, caller, Lane::Append, Some(NodeId(2))), answer(&mut far, &called)).0
        };
        write(3);
        disk.backup();
        assert!(meet(&start(1)).await.is_ok());
        write(2);
        called.told_synced(NodeId(1), disk.open().synced());
        assert!(meet(&start(2)).await.is_ok(), "a restart has all that was synced");
        assert!(disk.restore());
        let old = start(3);
        assert!(meet(&old).await.unwrap_err().to_string().contains("old copy"));
        assert!(old.condemned().await.contains("up to write 5"));
        write(2);
        assert!(meet(&start(4)).await.is_ok(), "the right disk is back");
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
            let mine = Opening::of(&caller, Lane::Append);
            write(&mut near, &mine).await.unwrap();
            let (theirs, proof) = read::<Answer>(&mut near).await.unwrap().unwrap();
            assert_eq!(theirs.hello.node, NodeId(2));
            write(&mut near, &proof).await.unwrap();
            read::<Verdict>(&mut near).await.unwrap()
        };
        let (verdict, heard) = tokio::join!(forging, answer(&mut far, &called));
        assert_eq!(verdict, Err(Refusal::Stranger(OTHER_SECRET.to_owned())), "its own proof sent back");
        assert!(heard.is_err());
    }

    #[tokio::test]
    async fn noise_and_newer_formats_end_the_connection() {
        let (mut near, mut far) = tokio::io::duplex(4096);
        near.write_all(b"GET / HTTP/1.1\r\n").await.unwrap();
        assert_eq!(answer(&mut far, &directory(2, 20, None)).await.unwrap_err().kind(), io::ErrorKind::InvalidData);
        let (mut near, mut far) = tokio::io::duplex(4096);
        let newer = FORMAT + 1;
        near.write_all(&[&MAGIC[..], &newer.to_le_bytes(), &[0, 0]].concat()).await.unwrap();
        let error = answer(&mut far, &directory(2, 20, None)).await.unwrap_err();
        assert!(error.to_string().contains(&format!("peer format {newer}")));
    }
}
