//! One client connection: frames in, responses out in request order, a bounded number of requests in between.
//! Two loops share one task. Requests begin one after the other, except that a produce is handed to its logs as soon
//! as all that is in front of it are produces, so that several are replicated at once.
//! Invariant: memory is taken from the node's budget before it is filled; a peer that stalls is closed by a deadline.
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use futures::FutureExt;
use futures::future::BoxFuture;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader, ReadHalf, WriteHalf};
use tokio::sync::mpsc;
use tokio::time::{Instant, timeout};
use wire::kafka::ApiKey;
use wire::kafka::frame::{self, FRAME_HEAD_BYTES, LENGTH_BYTES};

use super::response::Response;
use super::table::{self, Request};
use super::{Client, LISTENER, Shared};
use crate::listening::Taken;
use crate::metrics::ApiLabel;
use crate::seams::{Stop, Stream};

/// Requests read but not yet answered; the budget bounds their bytes. Clients in batches send 5 produces ahead, those that
/// send record by record as many as they can: each fsync acknowledges all that came before it.
const PIPELINE_DEPTH: usize = 256;
/// Requests read in one go, before those read first begin.
const READ_AHEAD: usize = 32;
/// Answers that are ready go out in one write until they hold so many bytes: a system call for each costs more than its
/// request. Only the last may pass it, so that fetched records do not wait for one another.
const GATHER_BYTES: usize = 64 << 10;
/// Kafka's `connections.max.idle.ms`.
const IDLE: Duration = Duration::from_secs(600);
/// What a started transfer may take at least, whatever its size ...
const TRANSFER_MIN: Duration = Duration::from_secs(10);
/// ... plus its bytes at this rate: slower peers are closed, since they hold memory that others wait for.
const TRANSFER_BYTES_PER_SECOND: usize = 128 << 10;
/// How long the answers to what was read may take once no more requests come.
const DRAIN: Duration = Duration::from_secs(5);
/// How long a connection that was not answered yet may take to ask, once the node stops: a client that is reset waits before it tries again.
const FIRST_REQUEST: Duration = Duration::from_secs(1);
/// Holds the length, the header and small bodies; larger bodies are read straight into their own memory.
const READ_BUFFER_BYTES: usize = 8 << 10;

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

/// A request that was read and is not answered.
struct Job {
    api: ApiKey,
    read_at: Instant,
    stage: Stage,
    /// The request's share of the budget, until it is answered.
    _held: Taken,
}

enum Stage {
    /// Waits until it may begin.
    Waiting(Option<Request>),
    /// Has begun.
    Begun(Answer),
}

/// The requests of a connection in the order they came. Those in front have begun: one of any kind, or produces only.
#[derive(Default)]
struct Line {
    jobs: VecDeque<Job>,
    begun: usize,
}

/// An answered request and its answer.
type Answered = (Job, Result<Option<Response>, Error>);

impl Line {
    /// Begins what may begin, in order.
    fn begin(&mut self) {
        let in_front = self.jobs.front().map(|job| job.api);
        while let Some(job) = self.jobs.get_mut(self.begun) {
            if self.begun > 0 && (in_front, job.api) != (Some(ApiKey::Produce), ApiKey::Produce) {
                break;
            }
            self.begun += 1;
            if let Stage::Waiting(request) = &mut job.stage
                && let Some(request) = request.take()
            {
                job.stage = Stage::Begun(request.begin());
            }
        }
    }

    /// Waits for the first answer. Cancel safe.
    async fn answered(&mut self) -> Option<Answered> {
        let answered = match &mut self.jobs.front_mut()?.stage {
            Stage::Begun(answer) => answer.await,
            Stage::Waiting(_) => std::future::pending().await,
        };
        self.begun -= 1;
        Some((self.jobs.pop_front()?, answered))
    }
}

/// Serves one connection until either side ends it.
pub async fn serve(stream: Stream, shared: Arc<Shared>, client: Arc<Client>, stop: Stop) {
    let (reader, writer) = tokio::io::split(stream);
    let (jobs, queue) = mpsc::channel(READ_AHEAD);
    let reader = BufReader::with_capacity(READ_BUFFER_BYTES, reader);
    let mut read = Box::pin(read_requests(reader, jobs, shared.clone(), client.clone()));
    let mut write = Box::pin(write_responses(writer, queue, shared.clone(), client.clone()));
    let stopped = async {
        stop.stopped().await;
        timeout(FIRST_REQUEST, client.answered.wait()).await
    };
    let outcome = tokio::select! {
        biased;
        written = &mut write => written,
        no_more = &mut read => drain(write, no_more).await,
        _ = stopped => {
            drop(read);
            drain(write, Ok(())).await
        }
    };
    if matches!(outcome, Err(Error::Wire(_) | Error::Refused(_))) {
        // The end is a refusal.
        drop(client.answered.set(()));
    }
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
    while let Some((frame, held)) = read_frame(&mut reader, &shared).await? {
        let read_at = Instant::now();
        let request = table::read(&shared, &client, frame)?;
        let job = Job { api: request.api(), read_at, stage: Stage::Waiting(Some(request)), _held: held };
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
    let Some(head) = read_head(reader).await? else { return Ok(None) };
    let max = shared.limits.request_bytes_max.min(shared.budget.frame_bytes_max());
    let bytes = frame::request_bytes(head, max)?;
    let held = shared.budget.frame(bytes).await;
    let mut buf = BytesMut::with_capacity(bytes.max(FRAME_HEAD_BYTES));
    buf.put_slice(&head[LENGTH_BYTES..]);
    let missing = bytes.saturating_sub(buf.len());
    if reader.buffer().len() >= missing {
        buf.put_slice(&reader.buffer()[..missing]);
        reader.consume(missing);
    } else {
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
    }
    buf.truncate(bytes);
    Ok(Some((buf.freeze(), held)))
}

/// The first bytes of the next frame: at once if they are here, which spares a deadline for each of many small requests.
async fn read_head(reader: &mut BufReader<ReadHalf<Stream>>) -> Result<Option<[u8; FRAME_HEAD_BYTES]>, Error> {
    if let Some(head) = reader.buffer().first_chunk().copied() {
        reader.consume(FRAME_HEAD_BYTES);
        return Ok(Some(head));
    }
    match timeout(IDLE, reader.fill_buf()).await {
        Ok(Ok([])) | Err(_) => return Ok(None),
        Ok(Ok(_)) => {}
        Ok(Err(error)) => return Err(error.into()),
    }
    let mut head = [0; FRAME_HEAD_BYTES];
    in_time(head.len(), reader.read_exact(&mut head)).await?;
    Ok(Some(head))
}

async fn write_responses(
    mut writer: WriteHalf<Stream>,
    mut queue: mpsc::Receiver<Job>,
    shared: Arc<Shared>,
    client: Arc<Client>,
) -> Result<(), Error> {
    let mut line = Line::default();
    loop {
        line.begin();
        let (has_room, is_empty) = (line.jobs.len() < PIPELINE_DEPTH, line.jobs.is_empty());
        tokio::select! {
            biased;
            Some(job) = queue.recv(), if has_room => line.jobs.push_back(job),
            Some(first) = line.answered(), if !is_empty => {
                let only_greeted = first.0.api == ApiKey::ApiVersions;
                write(&mut writer, first, &mut line, &shared).await?;
                if !only_greeted {
                    // Fails from the second on.
                    if client.answered.set(()).is_ok() {
                        writer.flush().await?;
                    }
                }
            }
            else => break,
        }
    }
    match client.answered.initialized() {
        true => in_time(0, writer.shutdown()).await,
        false => Ok(()),
    }
}

/// Writes an answer, and with it those behind it that are ready too.
async fn write(writer: &mut WriteHalf<Stream>, first: Answered, line: &mut Line, shared: &Shared) -> Result<(), Error> {
    let mut response = Response::default();
    let mut next = Some(first);
    let mut outcome = Ok(());
    while let Some((job, answered)) = next.take() {
        let label = ApiLabel { protocol: LISTENER.listener, api: job.api.name() };
        shared.metrics.requests.get_or_create(&label).observe(job.read_at.elapsed().as_secs_f64());
        drop(job);
        match answered {
            Ok(answer) => response.append(answer.unwrap_or_default()),
            Err(error) => {
                shared.metrics.request_errors.get_or_create(&label).inc();
                outcome = Err(error);
                break;
            }
        }
        if response.remaining() < GATHER_BYTES {
            // What is not ready is asked again, with a waker, by the loop that called.
            next = line.answered().now_or_never().flatten();
        }
    }
    let bytes = response.remaining();
    if bytes > 0 {
        in_time(bytes, async {
            writer.write_all_buf(&mut response).await?;
            writer.flush().await
        })
        .await?;
    }
    outcome
}

/// Runs a transfer of `bytes` under its deadline.
async fn in_time<T>(bytes: usize, transfer: impl Future<Output = std::io::Result<T>>) -> Result<T, Error> {
    let deadline = TRANSFER_MIN + Duration::from_secs((bytes / TRANSFER_BYTES_PER_SECOND) as u64);
    match timeout(deadline, transfer).await {
        Ok(moved) => Ok(moved?),
        Err(_elapsed) => Err(Error::Slow { bytes }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::listening::Budget;

    async fn line(apis: &[ApiKey]) -> Line {
        let budget = Budget::new(1 << 20);
        let mut line = Line::default();
        for api in apis {
            let stage = Stage::Waiting(Some(Request::Refused(*api, Bytes::new())));
            line.jobs.push_back(Job { api: *api, read_at: Instant::now(), stage, _held: budget.frame(1).await });
        }
        line
    }

    fn begun(line: &mut Line) -> usize {
        line.begin();
        line.jobs.iter().filter(|job| matches!(job.stage, Stage::Begun(_))).count()
    }

    /// Produces that came behind something else once waited for each other for as long as the client kept the line full.
    #[tokio::test]
    async fn produces_begin_together_once_what_was_in_front_is_answered() {
        use ApiKey::{Metadata, Produce};
        let mut line = line(&[Produce, Produce, Metadata, Produce, Produce, Produce]).await;
        for expected in [2, 1, 1, 3, 2, 1] {
            assert_eq!(begun(&mut line), expected);
            let (_, answered) = line.answered().await.expect("a request waits");
            assert!(answered.is_ok());
        }
        assert!(line.answered().await.is_none());
    }

    #[tokio::test]
    async fn nothing_else_overtakes_or_is_overtaken() {
        use ApiKey::{CreateTopics, Fetch, Produce};
        let mut line = line(&[CreateTopics, Fetch, Fetch, Produce]).await;
        for _ in 0..4 {
            assert_eq!(begun(&mut line), 1);
            line.answered().await.expect("a request waits").1.expect("an answer");
        }
    }
}
