//! A Kafka client of raw bytes: one socket, any version of any API, nothing retried, nothing hidden.
//! Panics where the answer is not what the protocol allows: that is the test failing.
use std::net::SocketAddr;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;
use wire::kafka::messages::{self, AnyRequest, AnyResponse, RequestBody, ResponseBody};
use wire::kafka::{ApiKey, frame};

/// No answer takes longer.
const PATIENCE: Duration = Duration::from_secs(20);

pub struct Client {
    stream: TcpStream,
    input: BytesMut,
    next_id: i32,
}

impl Client {
    pub async fn connect(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).await.expect("the node listens");
        stream.set_nodelay(true).expect("an option of every socket");
        Self { stream, input: BytesMut::new(), next_id: 1 }
    }

    /// Sends bytes as they are; the other side may have closed already.
    pub async fn raw(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        self.stream.write_all(bytes).await
    }

    /// Sends a request and does not wait; gives its correlation id.
    pub async fn send<Q: RequestBody>(&mut self, version: i16, request: &Q) -> i32 {
        let id = self.take_id();
        let bytes = messages::encode_request(version, id, Some("test"), request).expect("a request of this version");
        self.raw(&bytes).await.expect("the connection is open");
        id
    }

    pub async fn call<Q: RequestBody>(&mut self, version: i16, request: &Q) -> Q::Response {
        let id = self.send(version, request).await;
        let (answered, response) = self.receive(version).await;
        assert_eq!(answered, id, "answers come in the order of requests");
        response
    }

    pub async fn receive<R: ResponseBody>(&mut self, version: i16) -> (i32, R) {
        let frame = self.frame().await.expect("an answer, not the end");
        messages::decode_response(version, frame)
            .unwrap_or_else(|error| panic!("{} v{version}: {error}", R::API.name()))
    }

    pub async fn call_any(&mut self, api: ApiKey, version: i16, request: &AnyRequest) -> AnyResponse {
        let id = self.take_id();
        let what = format!("{} v{version}", api.name());
        let bytes = request.encode(version, id, Some("test")).unwrap_or_else(|error| panic!("{what}: {error}"));
        self.raw(&bytes).await.unwrap_or_else(|error| panic!("{what}: {error}"));
        let frame = self.frame().await.unwrap_or_else(|| panic!("{what}: closed instead of an answer"));
        let (answered, response) =
            AnyResponse::decode(api, version, frame).unwrap_or_else(|error| panic!("{what}: {error}"));
        assert_eq!(answered, id, "{what}");
        response
    }

    /// The next response frame, or none at the end of the stream.
    pub async fn frame(&mut self) -> Option<Bytes> {
        loop {
            if let Some(frame) = frame::next_response(&mut self.input, frame::MAX_FRAME_BYTES).expect("a sane length") {
                return Some(frame);
            }
            let read = timeout(PATIENCE, self.stream.read_buf(&mut self.input)).await.expect("an answer in time");
            if read.unwrap_or(0) == 0 {
                return None;
            }
        }
    }

    /// Whether the other side closes without another byte.
    pub async fn is_closed(&mut self) -> bool {
        self.frame().await.is_none()
    }

    /// How the other side ends: without another byte, or by a reset, which no client takes for an answer.
    pub async fn end(&mut self) -> std::io::Result<usize> {
        timeout(PATIENCE, self.stream.read_buf(&mut self.input)).await.expect("an end in time")
    }

    fn take_id(&mut self) -> i32 {
        self.next_id += 1;
        self.next_id
    }
}
