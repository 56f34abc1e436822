//! One connection of the load: ready-made Produce requests, pipelined, written together and answered in order.
//! Owns the socket and the line of answers awaited. Invariant: a job that enters leaves exactly once, by its `Sink`.
//! Its queue is bounded by the slots of its client.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::{Bytes, BytesMut};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::{Notify, Semaphore, mpsc};
use tokio::task::AbortHandle;
use tokio::time::Instant;
use wire::kafka::messages::produce::{PartitionProduceData, TopicProduceData};
use wire::kafka::messages::{self, ProduceRequest, ProduceResponse};
use wire::kafka::{Str, frame};

use super::meter::Meter;
use super::payload::Payload;
use crate::cli::client::{Connection, Error};

/// Jobs done again, by why.
pub type Retries = BTreeMap<String, u64>;

const CLIENT_ID: &str = "flotilla-bench";
const TIMEOUT_MS: i32 = 30_000;
/// What one write gathers at most.
const WRITE_BYTES: usize = 256 << 10;
const ANSWER_BYTES_MAX: usize = 1 << 20;
/// Why jobs are done again whose connection has ended.
pub const CLOSED: &str = "the connection ended";
/// Where a request has its correlation id: behind length, API key and version.
const CORRELATION: std::ops::Range<usize> = 8..12;

/// One request to come.
#[derive(Clone, Copy, Debug)]
pub struct Job {
    /// Number of the partition in the run's list.
    pub place: usize,
    /// When it should have been sent.
    pub intended: Instant,
}

/// Where jobs go in the end: one for each client.
pub struct Sink {
    /// What is counted.
    pub meter: Arc<Meter>,
    /// Requests that may still be sent; closed at the end and after a failure.
    pub slots: Semaphore,
    /// Jobs to be done again; at most as many as slots.
    pub again: mpsc::UnboundedSender<Job>,
    /// How many those were.
    pub retries: Mutex<Retries>,
    /// Why the client stopped.
    pub failure: Mutex<Option<Error>>,
    /// Records and bytes of values of one job.
    pub worth: (u64, u64),
}

impl Sink {
    fn settle(&self, job: Job, outcome: Result<(), Error>, now: Instant) {
        match outcome {
            Ok(()) => {
                self.meter.acknowledge(self.worth, job, now);
                self.slots.add_permits(1);
            }
            Err(error) if error.passes() => self.redo(job, &error.to_string()),
            Err(error) => self.fail(error),
        }
    }

    /// Has a job done again.
    pub fn redo(&self, job: Job, why: &str) {
        *self.retries.lock().unwrap_or_else(PoisonError::into_inner).entry(why.to_owned()).or_default() += 1;
        // The receiver ends with the run only, when nothing is to be done any more.
        self.again.send(job).ok();
    }

    /// Ends the client.
    pub fn fail(&self, error: Error) {
        self.failure.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(error);
        self.slots.close();
    }
}

/// What the requests of a run have in common.
pub struct Form {
    /// Topic and partition of each place.
    pub places: Vec<(String, i32)>,
    /// The acks field.
    pub acks: i16,
    /// The batches.
    pub payload: Payload,
}

/// A connection; its tasks end when it is dropped.
pub struct Lane {
    line: Arc<Line>,
    tasks: [AbortHandle; 2],
}

struct Line {
    state: Mutex<State>,
    wake: Notify,
}

#[derive(Default)]
struct State {
    closed: bool,
    to_send: VecDeque<Job>,
    awaited: VecDeque<(i32, Job)>,
    correlation: i32,
}

impl Drop for Lane {
    fn drop(&mut self) {
        self.tasks.iter().for_each(AbortHandle::abort);
    }
}

impl Lane {
    /// Connects, after a look at the versions that the broker offers.
    pub async fn open(address: &str, form: Arc<Form>, sink: Arc<Sink>) -> Result<Self, Error> {
        let version = Connection::connect(address).await?.version::<ProduceRequest>()?;
        let failed = |cause| Error::Connect { address: address.to_owned(), cause };
        let stream = TcpStream::connect(address).await.map_err(failed)?;
        stream.set_nodelay(true).map_err(failed)?;
        let (read_half, write_half) = stream.into_split();
        let line = Arc::new(Line { state: Default::default(), wake: Notify::new() });
        let frames = Frames { form, version, made: BTreeMap::new() };
        let writer = tokio::spawn(write(line.clone(), write_half, frames, sink.clone())).abort_handle();
        let reader = tokio::spawn(read(line.clone(), read_half, version, sink)).abort_handle();
        Ok(Self { line, tasks: [writer, reader] })
    }

    /// Takes a job, or gives it back if the connection is gone.
    pub fn push(&self, job: Job) -> Result<(), Job> {
        let mut state = self.line.state();
        if state.closed {
            return Err(job);
        }
        state.to_send.push_back(job);
        drop(state);
        self.line.wake.notify_one();
        Ok(())
    }
}

impl Line {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Puts waiting requests into the buffer; whether there are any.
    fn fill(&self, buffer: &mut BytesMut, frames: &mut Frames) -> Result<bool, Error> {
        buffer.clear();
        let mut state = self.state();
        while buffer.len() < WRITE_BYTES {
            let Some(job) = state.to_send.pop_front() else { break };
            state.correlation = state.correlation.wrapping_add(1);
            let correlation = state.correlation;
            state.awaited.push_back((correlation, job));
            frames.put(buffer, job, correlation)?;
        }
        Ok(!buffer.is_empty())
    }

    /// Settles what the buffer holds answers to.
    fn settle(&self, buffer: &mut BytesMut, version: i16, sink: &Sink) -> Result<(), Error> {
        let now = Instant::now();
        while let Some(frame) = frame::next_response(buffer, ANSWER_BYTES_MAX)? {
            let (correlation, answer) = messages::decode_response::<ProduceResponse>(version, frame)?;
            let Some((expected, job)) = self.state().awaited.pop_front() else { return Err(Error::NoLeader) };
            sink.settle(job, if expected == correlation { outcome(answer) } else { Err(Error::NoLeader) }, now);
        }
        Ok(())
    }

    fn close(&self, sink: &Sink) {
        let mut state = self.state();
        state.closed = true;
        let awaited: Vec<Job> = state.awaited.drain(..).map(|(_, job)| job).collect();
        awaited.into_iter().chain(state.to_send.drain(..)).for_each(|job| sink.redo(job, CLOSED));
    }
}

fn outcome(answer: ProduceResponse) -> Result<(), Error> {
    let partition = answer.responses.into_iter().flat_map(|topic| topic.partition_responses).next();
    let partition = partition.ok_or(Error::NoLeader)?;
    Error::check_with(partition.error_code, partition.error_message.as_ref().map(|message| message.as_str()))
}

async fn write(line: Arc<Line>, mut socket: OwnedWriteHalf, mut frames: Frames, sink: Arc<Sink>) {
    let mut buffer = BytesMut::new();
    loop {
        line.wake.notified().await;
        loop {
            match line.fill(&mut buffer, &mut frames) {
                Ok(true) => {}
                Ok(false) => break,
                Err(error) => return sink.fail(error),
            }
            if socket.write_all(&buffer).await.is_err() {
                return line.close(&sink);
            }
        }
    }
}

async fn read(line: Arc<Line>, mut socket: OwnedReadHalf, version: i16, sink: Arc<Sink>) {
    let mut buffer = BytesMut::new();
    while line.settle(&mut buffer, version, &sink).is_ok() {
        buffer.reserve(frame::read_hint(&buffer));
        match socket.read_buf(&mut buffer).await {
            Ok(count) if count > 0 => {}
            _ => break,
        }
    }
    line.close(&sink);
}

/// Requests of each place but for the batch and the correlation id: the bytes before and behind the batch.
struct Frames {
    form: Arc<Form>,
    version: i16,
    made: BTreeMap<usize, (Bytes, Bytes)>,
}

impl Frames {
    fn put(&mut self, buffer: &mut BytesMut, job: Job, correlation: i32) -> Result<(), Error> {
        let batch = self.form.payload.batch(job.intended)?;
        let (head, tail) = match self.made.entry(job.place) {
            std::collections::btree_map::Entry::Occupied(made) => made.into_mut(),
            std::collections::btree_map::Entry::Vacant(place) => {
                place.insert(around(&self.form, job.place, &batch, self.version)?)
            }
        };
        let start = buffer.len();
        buffer.reserve(head.len() + batch.len() + tail.len());
        buffer.extend_from_slice(head);
        buffer[start..][CORRELATION].copy_from_slice(&correlation.to_be_bytes());
        buffer.extend_from_slice(&batch);
        buffer.extend_from_slice(tail);
        Ok(())
    }
}

/// The bytes of a request before and behind its batch; good for every batch of the same length.
fn around(form: &Form, place: usize, batch: &Bytes, version: i16) -> Result<(Bytes, Bytes), Error> {
    let (topic, partition) = &form.places[place];
    let data = PartitionProduceData { index: *partition, records: Some(batch.clone()), ..Default::default() };
    let topic = TopicProduceData { name: Str::from(topic.clone()), partition_data: vec![data], ..Default::default() };
    let request =
        ProduceRequest { acks: form.acks, timeout_ms: TIMEOUT_MS, topic_data: vec![topic], ..Default::default() };
    let frame = messages::encode_request(version, 0, Some(CLIENT_ID), &request)?;
    let at = frame.windows(batch.len()).rposition(|window| window == batch).unwrap_or(frame.len() - batch.len());
    Ok((frame.slice(..at), frame.slice(at + batch.len()..)))
}

#[cfg(test)]
mod tests {
    use wire::kafka::messages::AnyRequest;

    use super::*;

    #[test]
    fn a_patched_request_is_the_one_that_the_codec_writes() {
        let payload = Payload::fixed(3, 100).expect("a batch");
        let form = Arc::new(Form { places: vec![("a".to_owned(), 0), ("b".to_owned(), 7)], acks: -1, payload });
        for version in [3, 9, 12] {
            let mut frames = Frames { form: form.clone(), version, made: BTreeMap::new() };
            let mut buffer = BytesMut::new();
            let job = Job { place: 1, intended: Instant::now() };
            frames.put(&mut buffer, job, 1).expect("put");
            frames.put(&mut buffer, job, 77).expect("put");
            let mut request = None;
            while let Some(frame) = frame::next_request(&mut buffer, ANSWER_BYTES_MAX).expect("a frame") {
                request = Some(frame::parse_request(frame).expect("a request"));
            }
            let request = request.expect("two requests");
            assert_eq!((request.version, request.correlation_id), (version, 77));
            let AnyRequest::Produce(body) = AnyRequest::decode(request.api, version, request.body).expect("a body")
            else {
                panic!("not Produce");
            };
            let partition = &body.topic_data[0].partition_data[0];
            assert_eq!((body.topic_data[0].name.as_str(), partition.index), ("b", 7));
            assert_eq!(partition.records, Some(form.payload.batch(job.intended).expect("a batch")));
        }
    }
}
