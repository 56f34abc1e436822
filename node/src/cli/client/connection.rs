//! One connection to one broker, requests pipelined. Owns the socket and the line of answers awaited.
//! Invariant: answers come in the order of the requests (Kafka keeps it), so the front of the line is the one that comes.
//! At most `INFLIGHT_MAX` requests wait.

use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::{AtomicI32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::{Mutex as AsyncMutex, Semaphore, oneshot};
use tokio::task::AbortHandle;
use wire::kafka::messages::{self, ApiVersionsRequest, RequestBody, ResponseBody};
use wire::kafka::{ApiKey, frame};

use super::Error;

const CLIENT_ID: &str = "flotilla";
const ANSWER_DEADLINE: Duration = Duration::from_secs(30);
const INFLIGHT_MAX: usize = 256;
const FRAME_BYTES_MAX: usize = 256 << 20;

/// Offered versions by API key.
pub type Versions = BTreeMap<i16, (i16, i16)>;

/// Answers awaited; `None` once the connection is gone.
type Line = Mutex<Option<VecDeque<(i32, oneshot::Sender<Bytes>)>>>;

/// A connection; share it as `Arc`.
pub struct Connection {
    address: String,
    writer: AsyncMutex<OwnedWriteHalf>,
    line: Arc<Line>,
    room: Semaphore,
    next: AtomicI32,
    versions: Versions,
    reader: AbortHandle,
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.reader.abort();
    }
}

/// The highest version of an API this client sends: record APIs by topic name, not by id.
fn newest(api: ApiKey) -> i16 {
    match api {
        ApiKey::Produce | ApiKey::Fetch => 12,
        _ => api.api().max,
    }
}

impl Connection {
    /// Connects and asks which versions are offered.
    pub async fn connect(address: &str) -> Result<Self, Error> {
        let failed = |cause| Error::Connect { address: address.to_owned(), cause };
        let stream = TcpStream::connect(address).await.map_err(failed)?;
        stream.set_nodelay(true).map_err(failed)?;
        let (read, write) = stream.into_split();
        let line: Arc<Line> = Arc::new(Mutex::new(Some(VecDeque::new())));
        let reader = tokio::spawn(read_answers(read, line.clone())).abort_handle();
        let mut connection = Self {
            address: address.to_owned(),
            writer: AsyncMutex::new(write),
            line,
            room: Semaphore::new(INFLIGHT_MAX),
            next: AtomicI32::new(1),
            versions: Versions::new(),
            reader,
        };
        let offered = connection.send(0, &ApiVersionsRequest::default()).await?;
        Error::check(offered.error_code)?;
        connection.versions =
            offered.api_keys.iter().map(|api| (api.api_key, (api.min_version, api.max_version))).collect();
        Ok(connection)
    }

    /// Whether requests can still be sent.
    pub fn is_open(&self) -> bool {
        self.line.lock().unwrap_or_else(PoisonError::into_inner).is_some()
    }

    /// What the broker offers.
    pub fn versions(&self) -> &Versions {
        &self.versions
    }

    /// The newest version of a request that both sides speak.
    pub fn version<R: RequestBody>(&self) -> Result<i16, Error> {
        let api = R::API.api();
        self.versions
            .get(&(R::API as i16))
            .map(|(low, high)| (*low.max(&api.min), *high.min(&newest(R::API))))
            .and_then(|(low, high)| (low <= high).then_some(high))
            .ok_or(Error::Unsupported(api.name))
    }

    /// Sends a request in the newest version both sides speak, and waits for its answer.
    pub async fn call<R: RequestBody>(&self, request: &R) -> Result<R::Response, Error> {
        self.send(self.version::<R>()?, request).await
    }

    async fn send<R: RequestBody>(&self, version: i16, request: &R) -> Result<R::Response, Error> {
        let gone = || Error::Disconnected { address: self.address.clone() };
        let _room = self.room.acquire().await.map_err(|_| gone())?;
        let correlation = self.next.fetch_add(1, Ordering::Relaxed);
        let bytes = messages::encode_request(version, correlation, Some(CLIENT_ID), request)?;
        let (sender, answer) = oneshot::channel();
        {
            let mut writer = self.writer.lock().await;
            match self.line.lock().unwrap_or_else(PoisonError::into_inner).as_mut() {
                Some(line) => line.push_back((correlation, sender)),
                None => return Err(gone()),
            }
            if writer.write_all(&bytes).await.is_err() {
                return Err(gone());
            }
        }
        let frame = tokio::time::timeout(ANSWER_DEADLINE, answer).await.map_err(|_| Error::Timeout)?;
        let (_, response) = messages::decode_response::<R::Response>(version, frame.map_err(|_| gone())?)?;
        debug_assert_eq!(<R::Response as ResponseBody>::API, R::API);
        Ok(response)
    }
}

/// Reads frames until the connection ends; dropping the line tells everyone who waits.
async fn read_answers(mut read: OwnedReadHalf, line: Arc<Line>) {
    let mut buffer = BytesMut::new();
    let take = || line.lock().unwrap_or_else(PoisonError::into_inner).as_mut().and_then(VecDeque::pop_front);
    'connection: loop {
        while let Ok(Some(frame)) = frame::next_response(&mut buffer, FRAME_BYTES_MAX) {
            let correlation = frame.first_chunk().map(|id| i32::from_be_bytes(*id));
            match take() {
                Some((expected, waiter)) if Some(expected) == correlation => drop(waiter.send(frame)),
                _ => break 'connection,
            }
        }
        buffer.reserve(frame::read_hint(&buffer));
        match read.read_buf(&mut buffer).await {
            Ok(count) if count > 0 => {}
            _ => break,
        }
    }
    line.lock().unwrap_or_else(PoisonError::into_inner).take();
}
