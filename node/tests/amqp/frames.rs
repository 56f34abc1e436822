//! An AMQP client of frames: one socket, nothing retried, nothing hidden. Panics where the answer is not what the test says.

use std::time::Duration;

use ::node::config::Amqp;
use bytes::{Bytes, BytesMut};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;
use wire::amqp::method::{Method, basic, channel, connection, queue};
use wire::amqp::{ContentHeader, Frame, Kind, Properties, ShortStr, Table, TableBuilder, Value, frame};

use crate::node::{self, Node};

/// No answer takes longer.
const PATIENCE: Duration = Duration::from_secs(20);
const FRAME_MAX: usize = 131_072;

/// A node of its own that listens for AMQP.
pub async fn start() -> Node {
    node::start_with(listening).await
}

/// Makes it listen for AMQP.
pub fn listening(config: &mut ::node::config::Config) {
    config.listeners.amqp = Amqp { bind: Some(([127, 0, 0, 1], 0).into()), ..Amqp::default() };
}

pub fn short(text: &str) -> ShortStr {
    ShortStr::shortened(text)
}

/// What a client of today says it can do.
pub fn capable() -> Table {
    let capabilities = ["authentication_failure_close", "consumer_cancel_notify", "connection.blocked"];
    let capabilities =
        capabilities.iter().fold(TableBuilder::default(), |table, name| table.put(name, &Value::Bool(true)));
    let capabilities = Value::Table(capabilities.build().expect("flat"));
    TableBuilder::default().put("capabilities", &capabilities).build().expect("two deep")
}

/// A message that came with a method.
#[derive(Debug)]
pub struct Content {
    pub properties: Properties,
    pub body: Bytes,
}

pub struct Frames {
    stream: TcpStream,
    input: BytesMut,
    output: BytesMut,
}

impl Frames {
    pub async fn connect(node: &Node) -> Self {
        let stream =
            TcpStream::connect(node.running.addresses().amqp.expect("it was told to")).await.expect("the node listens");
        stream.set_nodelay(true).expect("an option of every socket");
        Self { stream, input: BytesMut::new(), output: BytesMut::new() }
    }

    /// A connection that is open.
    pub async fn open(node: &Node) -> Self {
        Self::open_with(node, "/", 0).await
    }

    pub async fn open_with(node: &Node, vhost: &str, heartbeat: u16) -> Self {
        let mut client = Self::connect(node).await;
        client.begin(b"\0guest\0guest").await;
        let Method::Connection(connection::Method::Tune(tune)) = client.method(0).await else { panic!("no tune") };
        let connection::Tune { channel_max, frame_max, .. } = tune;
        client.send(0, connection::TuneOk { channel_max, frame_max, heartbeat }).await;
        client.send(0, connection::Open { virtual_host: short(vhost) }).await;
        client
    }

    /// Header and start-ok.
    pub async fn begin(&mut self, response: &'static [u8]) {
        self.raw(&frame::PROTOCOL_HEADER).await;
        let Method::Connection(connection::Method::Start(_)) = self.method(0).await else { panic!("no start") };
        let response = Bytes::from_static(response);
        let (mechanism, locale) = (short("PLAIN"), short("en_US"));
        self.send(0, connection::StartOk { client_properties: capable(), mechanism, response, locale }).await;
    }

    /// An open connection with channel 1.
    pub async fn channel(node: &Node) -> Self {
        let mut client = Self::open(node).await;
        assert_eq!(client.method(0).await, connection::OpenOk {}.into());
        client.open_channel(1).await;
        client
    }

    pub async fn open_channel(&mut self, number: u16) {
        self.send(number, channel::Open {}).await;
        assert_eq!(self.method(number).await, channel::OpenOk {}.into());
    }

    pub async fn raw(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).await.expect("the connection is open");
    }

    pub async fn send(&mut self, channel: u16, method: impl Into<Method>) {
        frame::put_method(&mut self.output, channel, &method.into(), FRAME_MAX).expect("a small method");
        self.flush().await;
    }

    async fn flush(&mut self) {
        let bytes = self.output.split();
        self.raw(&bytes).await;
    }

    /// Sends and gives what is answered.
    pub async fn ask(&mut self, channel: u16, method: impl Into<Method>) -> Method {
        self.send(channel, method).await;
        self.method(channel).await
    }

    pub async fn publish(&mut self, publish: basic::Publish, properties: &Properties, body: &[u8]) {
        let header = ContentHeader { body_bytes: body.len() as u64, properties: properties.to_raw() };
        frame::put_method(&mut self.output, 1, &publish.into(), FRAME_MAX).expect("a small method");
        frame::put_header(&mut self.output, 1, &header, FRAME_MAX).expect("small properties");
        frame::put_body(&mut self.output, 1, body, FRAME_MAX);
        self.flush().await;
    }

    /// Publishes to a queue by its name.
    pub async fn publish_to(&mut self, queue: &str, body: &[u8]) {
        let publish = basic::Publish { routing_key: short(queue), ..Default::default() };
        self.publish(publish, &Properties::default(), body).await;
    }

    /// Declares a durable queue on channel 1.
    pub async fn declare(&mut self, name: &str, arguments: Table) -> queue::DeclareOk {
        let declare = queue::Declare { queue: short(name), durable: true, arguments, ..Default::default() };
        match self.ask(1, declare).await {
            Method::Queue(queue::Method::DeclareOk(ok)) => ok,
            other => panic!("{other:?}"),
        }
    }

    /// The next frame; `None` when the node has closed the connection.
    pub async fn frame(&mut self) -> Option<Frame> {
        loop {
            if let Some(frame) = frame::next_frame(&mut self.input, FRAME_MAX).expect("frames") {
                return Some(frame);
            }
            let read = timeout(PATIENCE, self.stream.read_buf(&mut self.input)).await;
            if read.unwrap_or_else(|_| panic!("no answer in {PATIENCE:?}")).unwrap_or(0) == 0 {
                return None;
            }
        }
    }

    /// The next method; it must be on this channel.
    pub async fn method(&mut self, channel: u16) -> Method {
        loop {
            let frame = self.frame().await.expect("a method, not the end of the connection");
            if frame.kind == Kind::Heartbeat {
                continue;
            }
            assert_eq!((frame.kind, frame.channel), (Kind::Method, channel), "{frame:?}");
            return Method::decode(frame.payload).expect("a method");
        }
    }

    /// The next method, with its content.
    pub async fn content(&mut self, channel: u16) -> (Method, Content) {
        let method = self.method(channel).await;
        assert!(method.has_content(), "{method:?}");
        let header = self.frame().await.expect("a header");
        let header = ContentHeader::decode(header.payload).expect("a header");
        let mut body = BytesMut::new();
        while (body.len() as u64) < header.body_bytes {
            body.extend_from_slice(&self.frame().await.expect("a body").payload);
        }
        (method, Content { properties: header.properties.read(), body: body.freeze() })
    }

    /// The next delivery on channel 1: its tag, whether it is marked, its content.
    pub async fn delivery(&mut self) -> (u64, bool, Content) {
        let (method, content) = self.content(1).await;
        let Method::Basic(basic::Method::Deliver(deliver)) = method else { panic!("{method:?} is no delivery") };
        (deliver.delivery_tag, deliver.redelivered, content)
    }

    /// All bytes up to the end of the connection.
    pub async fn rest(&mut self) -> BytesMut {
        let reading = async { while self.stream.read_buf(&mut self.input).await.is_ok_and(|count| count > 0) {} };
        timeout(PATIENCE, reading).await.unwrap_or_else(|_| panic!("the connection is open after {PATIENCE:?}"));
        self.input.split()
    }

    /// The node closes channel 1 with this code; it is open again afterwards. Gives the text.
    pub async fn channel_closed(&mut self, code: u16) -> String {
        let Method::Channel(channel::Method::Close(close)) = self.method(1).await else { panic!("no channel.close") };
        assert_eq!(close.reply_code, code, "{:?}", close.reply_text);
        self.send(1, channel::CloseOk {}).await;
        self.open_channel(1).await;
        close.reply_text.to_str().expect("text").to_owned()
    }

    /// The node closes the connection with this code; gives the text.
    pub async fn closed(&mut self, code: u16) -> String {
        let Method::Connection(connection::Method::Close(close)) = self.method(0).await else {
            panic!("no connection.close")
        };
        assert_eq!(close.reply_code, code, "{:?}", close.reply_text);
        self.send(0, connection::CloseOk {}).await;
        assert_eq!(self.frame().await, None, "the connection is closed");
        close.reply_text.to_str().expect("text").to_owned()
    }
}
