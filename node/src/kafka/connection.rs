//! One client connection: frames in, responses out in request order, a bounded number of requests in between.
//! Two loops share one task. Requests begin one after the other, except that a produce is handed to its logs as soon
//! as it is read when only produces are in front of it, so that several are replicated at once.
//! Invariant: memory is taken from the node's budget before it is filled; a peer that stalls is closed by a deadline.
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures::future::BoxFuture;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader, ReadHalf, WriteHalf};
use tokio::sync::mpsc;
use tokio::time::{Instant, timeout};
use wire::kafka::{ApiKey, frame};

use super::budget::Taken;
use super::response::Response;
use super::table;
use super::{Client, LISTENER, Shared};
use crate::metrics::ApiLabel;
use crate::seams::{Stop, Stream};

/// Requests read but not yet answered. Kafka clients send at most 5 produces ahead.
const PIPELINE_DEPTH: usize = 16;
/// Kafka's `connections.max.idle.ms`.
const IDLE: Duration = Duration::from_secs(600);
/// What a started transfer may take at least, whatever its size ...
const TRANSFER_MIN: Duration = Duration::from_secs(10);
/// ... plus its bytes at this rate: slower peers are closed, since they hold memory that others wait for.
const TRANSFER_BYTES_PER_SECOND: usize = 128 << 10;
/// How long the answers to what was read may take once no more requests come.
const DRAIN: Duration = Duration::from_secs(5);
/// Holds the length, the header and small bodies; larger bodies are read straight into their own memory.
const READ_BUFFER_BYTES: usize = 8 << 10;
/// The length in front of a frame.
const LENGTH_BYTES: usize = 4;
/// Length and API key: enough to know the limit of a frame.
const FRAME_HEAD_BYTES: usize = 6;

/// Why a connection is closed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// What came is not Kafka, or not a version that is served.
    #[error(transparent)]
    Wire(#[from] wire::Error),
    /// The socket failed.
    #[error(transparent)]
    Io(#[from] std::io::Error),
    /// A transfer took longer than a live peer needs.
    #[error("the peer is too slow: {bytes} bytes not moved in time")]
    Slow {
        /// Size of what was to be moved.
        bytes: usize,
    },
    /// The request cannot be answered in words: closing is the answer.
    #[error("{0}")]
    Refused(&'static str),
}

/// An answer in the making; `None` where the protocol has no answer (acks=0).
pub type Answer = BoxFuture<'static, Result<Option<Response>, Error>>;

/// A request that waits for its turn to be answered.
struct Job {
    api: ApiKey,
    read_at: Instant,
    answer: Answer,
    /// The request's share of the budget, until it is answered.
    _held: Taken,
    /// Set unless the request is already on its way: others may not overtake it.
    _turn: Option<Turn>,
}

/// Counts the requests of a connection that have not begun.
#[derive(Clone, Default)]
struct Turns(Arc<AtomicUsize>);

struct Turn(Turns);

impl Turns {
    fn take(&self) -> Turn {
        self.0.fetch_add(1, Ordering::Relaxed);
        Turn(self.clone())
    }

    fn is_free(&self) -> bool {
        self.0.load(Ordering::Relaxed) == 0
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        self.0.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Serves one connection until either side ends it.
pub async fn serve(stream: Stream, shared: Arc<Shared>, stop: Stop) {
    let client = Arc::new(Client::new(&shared.broker, stream.local_addr(), stream.peer_addr()));
    let (reader, writer) = tokio::io::split(stream);
    let (jobs, queue) = mpsc::channel(PIPELINE_DEPTH);
    let reader = BufReader::with_capacity(READ_BUFFER_BYTES, reader);
    let mut read = Box::pin(read_requests(reader, jobs, shared.clone(), client.clone()));
    let mut write = Box::pin(write_responses(writer, queue, shared.clone()));
    let outcome = tokio::select! {
        biased;
        written = &mut write => written,
        no_more = &mut read => drain(write, no_more).await,
        () = stop.stopped() => {
            drop(read);
            drain(write, Ok(())).await
        }
    };
    if let Err(error) = outcome {
        shared.metrics.connections_failed.get_or_create(&LISTENER).inc();
        tracing::debug!(peer = %client.peer, %error, "kafka connection closed");
    }
}

/// Answers what was read before the requests ended.
async fn drain(write: impl Future<Output = Result<(), Error>>, ended: Result<(), Error>) -> Result<(), Error> {
    match timeout(DRAIN, write).await {
        Ok(written) => ended.and(written),
        Err(_elapsed) => ended,
    }
}

async fn read_requests(
    mut reader: BufReader<ReadHalf<Stream>>,
    jobs: mpsc::Sender<Job>,
    shared: Arc<Shared>,
    client: Arc<Client>,
) -> Result<(), Error> {
    let turns = Turns::default();
    while let Some((frame, held)) = read_frame(&mut reader, &shared).await? {
        let read_at = Instant::now();
        let begun = table::begin(&shared, &client, frame, turns.is_free())?;
        let turn = (!begun.under_way).then(|| turns.take());
        let job = Job { api: begun.api, read_at, answer: begun.answer, _held: held, _turn: turn };
        if jobs.send(job).await.is_err() {
            break;
        }
    }
    Ok(())
}

/// The next frame without its length, and its share of the budget; `None` at the end of the stream.
async fn read_frame(
    reader: &mut BufReader<ReadHalf<Stream>>,
    shared: &Shared,
) -> Result<Option<(Bytes, Taken)>, Error> {
    match timeout(IDLE, reader.fill_buf()).await {
        Ok(Ok([])) | Err(_) => return Ok(None),
        Ok(Ok(_)) => {}
        Ok(Err(error)) => return Err(error.into()),
    }
    let mut head = [0; FRAME_HEAD_BYTES];
    in_time(head.len(), reader.read_exact(&mut head)).await?;
    let mut buf = BytesMut::from(&head[..]);
    let max = shared.limits.request_bytes_max.min(shared.budget.frame_bytes_max());
    if let Some(tiny) = frame::next_request(&mut buf, max)? {
        return Ok(Some((tiny, shared.budget.frame(FRAME_HEAD_BYTES).await)));
    }
    let [a, b, c, d, ..] = head;
    let bytes = usize::try_from(i32::from_be_bytes([a, b, c, d])).unwrap_or(0);
    let held = shared.budget.frame(bytes).await;
    let missing = bytes + LENGTH_BYTES - head.len();
    buf.reserve(missing);
    let mut body = reader.take(missing as u64);
    in_time(bytes, async {
        while body.limit() > 0 {
            if body.read_buf(&mut buf).await? == 0 {
                return Err(std::io::ErrorKind::UnexpectedEof.into());
            }
        }
        Ok(())
    })
    .await?;
    match frame::next_request(&mut buf, max)? {
        Some(frame) => Ok(Some((frame, held))),
        None => Err(Error::Refused("a frame ended before its length")),
    }
}

async fn write_responses(
    mut writer: WriteHalf<Stream>,
    mut queue: mpsc::Receiver<Job>,
    shared: Arc<Shared>,
) -> Result<(), Error> {
    while let Some(job) = queue.recv().await {
        let Job { api, read_at, answer, _held, _turn } = job;
        let answered = answer.await;
        drop((_held, _turn));
        let label = ApiLabel { protocol: LISTENER.listener, api: api.name() };
        shared.metrics.requests.get_or_create(&label).observe(read_at.elapsed().as_secs_f64());
        if answered.is_err() {
            shared.metrics.request_errors.get_or_create(&label).inc();
        }
        let Some(mut response) = answered? else { continue };
        let bytes = bytes::Buf::remaining(&response);
        in_time(bytes, async {
            writer.write_all_buf(&mut response).await?;
            writer.flush().await
        })
        .await?;
    }
    in_time(0, writer.shutdown()).await
}

/// Runs a transfer of `bytes` under its deadline.
async fn in_time<T>(bytes: usize, transfer: impl Future<Output = std::io::Result<T>>) -> Result<T, Error> {
    let deadline = TRANSFER_MIN + Duration::from_secs((bytes / TRANSFER_BYTES_PER_SECOND) as u64);
    match timeout(deadline, transfer).await {
        Ok(moved) => Ok(moved?),
        Err(_elapsed) => Err(Error::Slow { bytes }),
    }
}
