//! One outgoing connection to one node, of one lane: dialled for ever with backoff, requests multiplexed by id.
//! Owns the queue of frames (bounded in bytes by `QUEUE_BYTES_MAX`) and the requests that wait for an answer.
//! Invariant: frames leave in the order of `send`. Never retries a request: the caller knows whether that is safe.
use std::collections::BTreeMap;
use std::io;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use model::NodeId;
use rand::Rng;
use tokio::io::{AsyncRead, AsyncWrite, BufReader};
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, sleep, timeout};

use super::directory::Directory;
use super::frame::{FRAME_BYTES_MAX, Frame, Kind, Slices, read_length, read_rest};
use super::hello::{self, HELLO_DEADLINE, Lane};
use crate::seams::{Net, Stop};

/// Bytes waiting to be written to one node on one lane. Above it, requests fail at once.
const QUEUE_BYTES_MAX: usize = 256 << 20;
/// Bytes handed to the socket in one go before answers get their turn again.
const WRITE_BYTES: usize = 1 << 20;
/// First and longest pause between two attempts to connect; the real one is drawn between half and all of it.
const BACKOFF: (Duration, Duration) = (Duration::from_millis(20), Duration::from_millis(500));
/// A connection with requests waiting and not a byte heard for so long is dropped.
const SILENCE_MAX: Duration = Duration::from_secs(5);

/// How a request ended without an answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Failure {
    /// It never left.
    Unreachable(String),
    /// It may have arrived.
    Broken(String),
    /// The other side refused it in words.
    Refused(String),
}

/// The handle of one connection; the task behind it ends with the last handle or the stop signal.
pub struct Link {
    state: Arc<State>,
    queue: mpsc::UnboundedSender<Outgoing>,
}

struct State {
    to: NodeId,
    lane: Lane,
    up: AtomicBool,
    /// Counts connections made: a change tells that the other side may have forgotten everything.
    generation: AtomicU64,
    next_id: AtomicU64,
    queued_bytes: AtomicUsize,
    waiting: Mutex<BTreeMap<u64, oneshot::Sender<Result<Frame, Failure>>>>,
    trouble: Mutex<String>,
}

struct Outgoing {
    id: u64,
    slices: Vec<Bytes>,
    bytes: usize,
}

impl Link {
    /// Starts dialling.
    pub fn start(to: NodeId, lane: Lane, directory: Arc<Directory>, net: Arc<dyn Net>, stop: Stop) -> Self {
        let (queue, frames) = mpsc::unbounded_channel();
        let state = Arc::new(State {
            to,
            lane,
            up: AtomicBool::new(false),
            generation: AtomicU64::new(0),
            next_id: AtomicU64::new(1),
            queued_bytes: AtomicUsize::new(0),
            waiting: Mutex::default(),
            trouble: Mutex::new("not connected yet".to_owned()),
        });
        let task = Dialler { state: state.clone(), directory, net, frames };
        tokio::spawn(async move {
            tokio::select! {
                () = stop.stopped() => {}
                () = task.run() => {}
            }
        });
        Self { state, queue }
    }

    /// Counts the connections made so far; 0 while there was none.
    pub fn generation(&self) -> u64 {
        self.state.generation.load(Ordering::Acquire)
    }

    /// Whether a connection stands.
    pub fn is_up(&self) -> bool {
        self.state.up.load(Ordering::Acquire)
    }

    /// Queues a frame that wants no answer; dropped when there is no connection.
    pub fn notify(&self, frame: Frame) {
        if self.is_up() {
            self.push(0, frame);
        }
    }

    /// Queues a request now and returns what waits for its answer. Dropping that forgets the request.
    pub fn request(&self, mut frame: Frame) -> impl Future<Output = Result<Frame, Failure>> + Send + 'static {
        let id = self.state.next_id.fetch_add(1, Ordering::Relaxed);
        frame.id = id;
        let (sender, receiver) = oneshot::channel();
        let state = self.state.clone();
        let queued = self.admit().map(|()| {
            state.waiting().insert(id, sender);
            self.push(id, frame);
        });
        let forget = Forget { state, id };
        async move {
            queued?;
            receiver.await.unwrap_or_else(|_| Err(Failure::Broken(forget.state.trouble())))
        }
    }

    fn admit(&self) -> Result<(), Failure> {
        if !self.is_up() {
            return Err(Failure::Unreachable(self.state.trouble()));
        }
        if self.state.queued_bytes.load(Ordering::Relaxed) > QUEUE_BYTES_MAX {
            return Err(Failure::Unreachable("too many bytes wait for this node".to_owned()));
        }
        Ok(())
    }

    fn push(&self, id: u64, frame: Frame) {
        let slices = frame.encode();
        let bytes = slices.iter().map(Bytes::len).sum();
        self.state.queued_bytes.fetch_add(bytes, Ordering::Relaxed);
        if self.queue.send(Outgoing { id, slices, bytes }).is_err() {
            self.state.waiting().remove(&id);
        }
    }
}

/// Forgets a request whose caller went away.
struct Forget {
    state: Arc<State>,
    id: u64,
}

impl Drop for Forget {
    fn drop(&mut self) {
        self.state.waiting().remove(&self.id);
    }
}

impl State {
    fn waiting(&self) -> std::sync::MutexGuard<'_, BTreeMap<u64, oneshot::Sender<Result<Frame, Failure>>>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn trouble(&self) -> String {
        self.trouble.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Notes why there is no connection; says so in the log when the reason is new.
    fn down(&self, reason: String) {
        self.up.store(false, Ordering::Release);
        let mut trouble = self.trouble.lock().unwrap_or_else(PoisonError::into_inner);
        if *trouble != reason {
            tracing::info!(node = self.to.0, lane = ?self.lane, reason, "no connection to a node");
            trouble.clone_from(&reason);
        }
        drop(trouble);
        let waiting = std::mem::take(&mut *self.waiting());
        for (_, sender) in waiting {
            let _gone = sender.send(Err(Failure::Broken(reason.clone())));
        }
    }
}

struct Dialler {
    state: Arc<State>,
    directory: Arc<Directory>,
    net: Arc<dyn Net>,
    frames: mpsc::UnboundedReceiver<Outgoing>,
}

impl Dialler {
    async fn run(mut self) {
        let mut pause = BACKOFF.0;
        loop {
            let ended = match self.connect().await {
                Ok(stream) => {
                    pause = BACKOFF.0;
                    self.drive(stream).await
                }
                Err(error) => Err(error),
            };
            let reason = ended.err().map_or_else(|| "closed by the other side".to_owned(), |error| error.to_string());
            self.state.down(reason);
            let drawn = rand::rng().random_range(pause / 2..=pause);
            if !self.rest(drawn).await {
                return;
            }
            pause = (pause * 2).min(BACKOFF.1);
        }
    }

    async fn connect(&self) -> io::Result<crate::seams::Stream> {
        let address = self.directory.address(self.state.to);
        let address = address.ok_or_else(|| io::Error::other("its address is not known"))?;
        let mut stream = timeout(HELLO_DEADLINE, self.net.connect(&address))
            .await
            .map_err(|_| io::Error::from(io::ErrorKind::TimedOut))??;
        hello::call(&mut stream, &self.directory, self.state.lane, Some(self.state.to)).await?;
        tracing::info!(node = self.state.to.0, lane = ?self.state.lane, address, "connected to a node");
        Ok(stream)
    }

    /// Waits out the pause; frames that were queued while the connection broke are dropped, their requests have failed.
    /// False when nobody holds the link any more.
    async fn rest(&mut self, pause: Duration) -> bool {
        let until = Instant::now() + pause;
        loop {
            match tokio::time::timeout_at(until, self.frames.recv()).await {
                Ok(Some(lost)) => self.drop_frame(&lost),
                Ok(None) => return false,
                Err(_elapsed) => return true,
            }
        }
    }

    fn drop_frame(&self, lost: &Outgoing) {
        self.state.queued_bytes.fetch_sub(lost.bytes, Ordering::Relaxed);
        if let Some(sender) = self.state.waiting().remove(&lost.id) {
            let _gone = sender.send(Err(Failure::Unreachable(self.state.trouble())));
        }
    }

    async fn drive(&mut self, stream: impl AsyncRead + AsyncWrite + Unpin) -> io::Result<()> {
        while let Ok(lost) = self.frames.try_recv() {
            self.drop_frame(&lost);
        }
        let (reader, mut writer) = tokio::io::split(stream);
        let heard = Mutex::new(Instant::now());
        self.state.generation.fetch_add(1, Ordering::AcqRel);
        self.state.up.store(true, Ordering::Release);
        let state = self.state.clone();
        tokio::select! {
            ended = read_answers(&state, reader, &heard) => ended,
            ended = write_frames(&state, &mut self.frames, &mut writer) => ended,
            ended = watch_silence(&state, &heard) => ended,
        }
    }
}

async fn read_answers(state: &State, reader: impl AsyncRead + Unpin, heard: &Mutex<Instant>) -> io::Result<()> {
    let mut reader = BufReader::with_capacity(64 << 10, reader);
    while let Some(length) = read_length(&mut reader, FRAME_BYTES_MAX).await? {
        let frame = read_rest(&mut reader, length).await?;
        *heard.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
        let Some(sender) = state.waiting().remove(&frame.id) else { continue };
        let answer = match frame.kind {
            Kind::Failure => Err(Failure::Refused(String::from_utf8_lossy(&frame.head).into_owned())),
            _ => Ok(frame),
        };
        let _gone = sender.send(answer);
    }
    Ok(())
}

async fn write_frames(
    state: &State,
    frames: &mut mpsc::UnboundedReceiver<Outgoing>,
    writer: &mut (impl AsyncWrite + Unpin),
) -> io::Result<()> {
    let mut slices = Slices::default();
    while let Some(first) = frames.recv().await {
        let mut bytes = first.bytes;
        slices.push(first.slices);
        while bytes < WRITE_BYTES {
            let Ok(next) = frames.try_recv() else { break };
            bytes += next.bytes;
            slices.push(next.slices);
        }
        let written = slices.write_to(writer).await;
        state.queued_bytes.fetch_sub(bytes, Ordering::Relaxed);
        written?;
    }
    Ok(())
}

async fn watch_silence(state: &State, heard: &Mutex<Instant>) -> io::Result<()> {
    let mut idle_since = Instant::now();
    loop {
        sleep(SILENCE_MAX / 5).await;
        let heard = *heard.lock().unwrap_or_else(PoisonError::into_inner);
        if state.waiting().is_empty() {
            idle_since = Instant::now();
        } else if heard.max(idle_since).elapsed() > SILENCE_MAX {
            return Err(io::Error::new(io::ErrorKind::TimedOut, "the node does not answer"));
        }
    }
}
