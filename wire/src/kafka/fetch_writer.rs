//! Writes a Fetch response (v4-18) as a list of slices for one vectored write: skeleton, patched headers, untouched
//! bodies. Byte for byte what the codec writes for the same content (tested), without copying records.
//! Never: keeps fetch sessions, or sends null records (clients choke).

use bytes::{BufMut, Bytes, BytesMut};

use super::batch::{Batch, HEADER_BYTES};
use super::messages::fetch::NodeEndpoint;
use super::{ApiKey, BatchError, ErrorCode, Str, Uuid, frame};
use crate::{Error, Result};

/// A body below this is copied into the skeleton: cheaper than one more slice in the write.
const INLINE_BODY_BYTES: usize = 512;
const LENGTH_BYTES: usize = 4;

/// The content of a Fetch response.
#[derive(Debug, Clone)]
pub struct FetchResponse {
    /// Milliseconds the client shall wait.
    pub throttle_time_ms: i32,
    /// Error of the request as a whole (from v7).
    pub error: ErrorCode,
    /// The fetch session, 0 for none (from v7, KIP-227).
    pub session_id: i32,
    /// Topics that are answered; one may come several times, with other partitions.
    pub topics: Vec<FetchedTopic>,
    /// Addresses of the nodes named as current leaders (from v16, KIP-951).
    pub node_endpoints: Vec<NodeEndpoint>,
}

/// One topic in it.
#[derive(Debug, Clone)]
pub struct FetchedTopic {
    /// Name, sent up to v12.
    pub name: Str,
    /// Id, sent from v13.
    pub id: Uuid,
    /// Its partitions that are answered.
    pub partitions: Vec<FetchedPartition>,
}

/// One partition in it.
#[derive(Debug, Clone)]
pub struct FetchedPartition {
    /// Number of the partition.
    pub partition: i32,
    /// Error of this partition.
    pub error: ErrorCode,
    /// -1 if unknown.
    pub high_watermark: i64,
    /// -1 if unknown.
    pub last_stable_offset: i64,
    /// -1 if unknown; sent from v5.
    pub log_start_offset: i64,
    /// (epoch, end offset) if the client's last fetched epoch diverges from the log (from v12, KIP-595).
    pub diverging_epoch: Option<(i32, i64)>,
    /// (node id, leader epoch) of the leader, with NOT_LEADER_OR_FOLLOWER or FENCED_LEADER_EPOCH (from v12, KIP-951).
    pub current_leader: Option<(i32, i32)>,
    /// (producer id, first offset) of aborted transactions; `None` for read_uncommitted.
    pub aborted_transactions: Option<Vec<(i64, i64)>>,
    /// -1 for none (KIP-392); sent from v11.
    pub preferred_read_replica: i32,
    /// Whole batches in offset order.
    pub batches: Vec<ServedBatch>,
}

impl FetchedPartition {
    /// A partition without data: set the fields that are known.
    #[must_use]
    pub const fn empty(partition: i32, error: ErrorCode) -> Self {
        Self {
            partition,
            error,
            high_watermark: -1,
            last_stable_offset: -1,
            log_start_offset: -1,
            diverging_epoch: None,
            current_leader: None,
            aborted_transactions: None,
            preferred_read_replica: -1,
            batches: Vec::new(),
        }
    }

    /// Bytes of all batches.
    #[must_use]
    pub fn records_bytes(&self) -> usize {
        self.batches.iter().map(ServedBatch::bytes).sum()
    }
}

/// A batch as it goes out: a header with the offset and epoch the log gave it, and the stored body.
#[derive(Debug, Clone)]
pub struct ServedBatch {
    header: [u8; HEADER_BYTES],
    body: Bytes,
}

impl ServedBatch {
    /// From the stored bytes of one batch, which were checked when they were appended.
    ///
    /// # Errors
    /// [`BatchError::Length`] if there is not even a header.
    pub fn new(stored: &Bytes, base_offset: i64, leader_epoch: i32) -> std::result::Result<Self, BatchError> {
        let available = stored.len();
        let head = stored.first_chunk().ok_or(BatchError::Length { declared: HEADER_BYTES as i64, available })?;
        let mut header: [u8; HEADER_BYTES] = *head;
        header[0..8].copy_from_slice(&base_offset.to_be_bytes());
        header[12..16].copy_from_slice(&leader_epoch.to_be_bytes());
        Ok(Self { header, body: stored.slice(HEADER_BYTES..) })
    }

    /// From a batch that was parsed.
    #[must_use]
    pub fn of(batch: &Batch, base_offset: i64, leader_epoch: i32) -> Self {
        Self { header: batch.patch_header(base_offset, leader_epoch), body: batch.body() }
    }

    /// Size on the wire.
    #[must_use]
    pub const fn bytes(&self) -> usize {
        HEADER_BYTES + self.body.len()
    }
}

/// Encodes the response with its length and header. Write the slices in order, best with one `write_vectored`.
///
/// # Errors
/// [`Error::Encode`] for a version that is not served, a topic name above 32 KiB, or more than 2 GiB in all.
pub fn encode_fetch_response(correlation_id: i32, version: i16, response: &FetchResponse) -> Result<Vec<Bytes>> {
    let api = ApiKey::Fetch.api();
    if !api.serves(version) {
        return Err(Error::Encode(format!("Fetch has no version {version}")));
    }
    let head = BytesMut::with_capacity(skeleton_bytes(response));
    let mut writer = Writer { version, flexible: api.is_flexible(version), head, cuts: Vec::new(), cut_bytes: 0 };
    frame::put_response_head(&mut writer.head, correlation_id, api, version, 0)?;
    writer.response(response)?;
    writer.finish()
}

/// Enough for everything but the bodies that are sent as slices.
fn skeleton_bytes(response: &FetchResponse) -> usize {
    let partition = |p: &FetchedPartition| {
        let inline: usize = p.batches.iter().map(|b| HEADER_BYTES + b.body.len().min(INLINE_BODY_BYTES)).sum();
        96 + inline + 17 * p.aborted_transactions.as_ref().map_or(0, Vec::len)
    };
    let topic = |t: &FetchedTopic| 32 + t.name.len() + t.partitions.iter().map(partition).sum::<usize>();
    let endpoint = |e: &NodeEndpoint| 32 + e.host.len() + e.rack.as_ref().map_or(0, Str::len);
    64 + response.topics.iter().map(topic).sum::<usize>() + response.node_endpoints.iter().map(endpoint).sum::<usize>()
}

struct Writer {
    version: i16,
    flexible: bool,
    head: BytesMut,
    /// Position in `head`, and the body that goes in there.
    cuts: Vec<(usize, Bytes)>,
    cut_bytes: usize,
}

impl Writer {
    fn response(&mut self, response: &FetchResponse) -> Result<()> {
        self.head.put_i32(response.throttle_time_ms);
        if self.version >= 7 {
            self.head.put_i16(response.error.code());
            self.head.put_i32(response.session_id);
        }
        self.length(Some(response.topics.len()));
        for topic in &response.topics {
            self.topic(topic)?;
        }
        if self.flexible {
            self.endpoints(&response.node_endpoints)?;
        }
        Ok(())
    }

    fn topic(&mut self, topic: &FetchedTopic) -> Result<()> {
        if self.version >= 13 {
            self.head.put_slice(&topic.id.to_bytes());
        } else {
            self.string(&topic.name)?;
        }
        self.length(Some(topic.partitions.len()));
        for partition in &topic.partitions {
            self.partition(partition);
        }
        self.no_tags();
        Ok(())
    }

    fn partition(&mut self, partition: &FetchedPartition) {
        self.head.put_i32(partition.partition);
        self.head.put_i16(partition.error.code());
        self.head.put_i64(partition.high_watermark);
        self.head.put_i64(partition.last_stable_offset);
        if self.version >= 5 {
            self.head.put_i64(partition.log_start_offset);
        }
        self.length(partition.aborted_transactions.as_ref().map(Vec::len));
        for (producer_id, first_offset) in partition.aborted_transactions.iter().flatten() {
            self.head.put_i64(*producer_id);
            self.head.put_i64(*first_offset);
            self.no_tags();
        }
        if self.version >= 11 {
            self.head.put_i32(partition.preferred_read_replica);
        }
        self.length(Some(partition.records_bytes()));
        for batch in &partition.batches {
            self.batch(batch);
        }
        if self.flexible {
            self.partition_tags(partition);
        }
    }

    fn batch(&mut self, batch: &ServedBatch) {
        self.head.put_slice(&batch.header);
        if batch.body.len() < INLINE_BODY_BYTES {
            self.head.put_slice(&batch.body);
        } else {
            self.cut_bytes += batch.body.len();
            self.cuts.push((self.head.len(), batch.body.clone()));
        }
    }

    fn partition_tags(&mut self, partition: &FetchedPartition) {
        let leader = partition.current_leader.filter(|leader| *leader != (-1, -1));
        let diverging = partition.diverging_epoch.filter(|epoch| *epoch != (-1, -1));
        self.varint(usize::from(leader.is_some()) + usize::from(diverging.is_some()));
        if let Some((epoch, end_offset)) = diverging {
            self.head.put_slice(&[0, 13]);
            self.head.put_i32(epoch);
            self.head.put_i64(end_offset);
            self.no_tags();
        }
        if let Some((leader_id, leader_epoch)) = leader {
            self.head.put_slice(&[1, 9]);
            self.head.put_i32(leader_id);
            self.head.put_i32(leader_epoch);
            self.no_tags();
        }
    }

    /// The tagged fields of the response: the endpoints, written aside since their size goes first.
    fn endpoints(&mut self, endpoints: &[NodeEndpoint]) -> Result<()> {
        if self.version < 16 || endpoints.is_empty() {
            self.no_tags();
            return Ok(());
        }
        let outer = std::mem::take(&mut self.head);
        self.length(Some(endpoints.len()));
        for endpoint in endpoints {
            self.head.put_i32(endpoint.node_id);
            self.string(&endpoint.host)?;
            self.head.put_i32(endpoint.port);
            match &endpoint.rack {
                Some(rack) => self.string(rack)?,
                None => self.varint(0),
            }
            self.no_tags();
        }
        let content = std::mem::replace(&mut self.head, outer);
        self.head.put_slice(&[1, 0]);
        self.varint(content.len());
        self.head.put_slice(&content);
        Ok(())
    }

    /// Length of an array or of bytes; `None` is null. A length above 2 GiB is caught by the frame's own.
    fn length(&mut self, length: Option<usize>) {
        if self.flexible {
            self.varint(length.map_or(0, |length| length + 1));
        } else {
            self.head.put_i32(length.map_or(-1, |length| length as i32));
        }
    }

    fn string(&mut self, string: &Str) -> Result<()> {
        let length = i16::try_from(string.len()).map_err(|_| Error::Encode("string above 32 KiB".into()))?;
        if self.flexible {
            self.varint(string.len() + 1);
        } else {
            self.head.put_i16(length);
        }
        self.head.put_slice(string.as_bytes());
        Ok(())
    }

    fn varint(&mut self, value: usize) {
        let mut rest = value;
        while rest >= 0x80 {
            self.head.put_u8(rest as u8 | 0x80);
            rest >>= 7;
        }
        self.head.put_u8(rest as u8);
    }

    fn no_tags(&mut self) {
        if self.flexible {
            self.head.put_u8(0);
        }
    }

    fn finish(mut self) -> Result<Vec<Bytes>> {
        let length = self.head.len() - LENGTH_BYTES + self.cut_bytes;
        let length = i32::try_from(length).map_err(|_| Error::Encode("frame above 2 GiB".into()))?;
        self.head[..LENGTH_BYTES].copy_from_slice(&length.to_be_bytes());
        let head = self.head.freeze();
        let mut parts = Vec::with_capacity(2 * self.cuts.len() + 1);
        let mut from = 0;
        for (to, body) in self.cuts {
            parts.push(head.slice(from..to));
            parts.push(body);
            from = to;
        }
        if from < head.len() {
            parts.push(head.slice(from..));
        }
        Ok(parts)
    }
}
