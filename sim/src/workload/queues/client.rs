//! A small AMQP client: a connection with one channel, heartbeats, a deadline for each answer. Whatever goes wrong ends the connection.
//! Nothing that was received is lost when a wait is given up; a write that is given up leaves the connection unusable.

use std::collections::VecDeque;
use std::time::Duration;

use anyhow::{Context, bail};
use bytes::{Bytes, BytesMut};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::timeout;
use turmoil::net::TcpStream;
use wire::amqp::method::{Method, basic, channel, connection, exchange};
use wire::amqp::{ContentHeader, Kind, Properties, ShortStr, Table, frame};

use crate::workload::{host, now};

/// The AMQP port of every node, and who may log in.
pub const PORT: u16 = 5672;
pub const USER: &str = "sim:sim";
/// An answer that takes longer is given up, and the connection with it.
const DEADLINE: Duration = Duration::from_secs(3);
/// Both sides are to be heard within this: seconds.
const HEARTBEAT: u16 = 1;
/// How long a client waits for something to come before it shows that it lives.
pub const BEAT: Duration = Duration::from_millis(400);
/// A server that was not heard for so long is gone.
const SILENCE: Duration = Duration::from_millis(2_000);
const FRAME_MAX: usize = 131_072;
const CHANNEL: u16 = 1;

/// A message that came.
pub struct Message {
    /// With what.
    pub deliver: basic::Deliver,
    /// What it says of itself.
    pub properties: Properties,
    /// The rest.
    pub body: Bytes,
}

/// What a server says unasked.
pub enum Event {
    /// A message comes.
    Message(Box<Message>),
    /// Anything without content.
    Method(Method),
}

/// A connection.
pub struct Connection {
    stream: TcpStream,
    received: BytesMut,
    /// A message whose body has not come whole.
    partial: Option<(Method, Option<ContentHeader>, BytesMut)>,
    /// What came while an answer was awaited.
    events: VecDeque<Event>,
    /// When anything came last, and was sent last.
    pub heard: Duration,
    sent: Duration,
}

/// A short string.
pub fn short(text: &str) -> ShortStr {
    ShortStr::shortened(text)
}

impl Connection {
    /// Connects to a node and opens a channel.
    pub async fn open(node: u32) -> anyhow::Result<Self> {
        timeout(DEADLINE, Self::begin(node)).await.context("connecting takes too long")?
    }

    async fn begin(node: u32) -> anyhow::Result<Self> {
        let stream = TcpStream::connect((host(node).as_str(), PORT)).await?;
        let (received, events, partial) = (BytesMut::new(), VecDeque::new(), None);
        let mut this = Self { stream, received, partial, events, heard: now(), sent: now() };
        this.write(&frame::PROTOCOL_HEADER).await?;
        this.answer().await?;
        let response = format!("\0{}", USER.replace(':', "\0")).into();
        let start_ok = connection::StartOk {
            client_properties: Table::default(),
            mechanism: short("PLAIN"),
            response,
            locale: short("en_US"),
        };
        this.send(0, start_ok).await?;
        this.answer().await?;
        let tune_ok = connection::TuneOk { channel_max: 1, frame_max: FRAME_MAX as u32, heartbeat: HEARTBEAT };
        this.send(0, tune_ok).await?;
        this.send(0, connection::Open { virtual_host: short("/") }).await?;
        this.answer().await?;
        this.ask(channel::Open {}).await?;
        Ok(this)
    }

    /// Sends a method on the channel; it has no answer.
    pub async fn tell(&mut self, method: impl Into<Method>) -> anyhow::Result<()> {
        self.send(CHANNEL, method).await
    }

    /// Sends a method on the channel; its answer.
    pub async fn ask(&mut self, method: impl Into<Method>) -> anyhow::Result<Method> {
        self.send(CHANNEL, method).await?;
        let until = now() + DEADLINE;
        loop {
            if let Ok(answer) = timeout(BEAT, self.answer()).await {
                return answer;
            }
            anyhow::ensure!(now() < until, "no answer in time");
            // Who waits lives: a server that hears nothing would give what comes with the answer to others.
            self.beat().await?;
        }
    }

    /// All that was sent on the channel so far is heard when this is done: commands of a channel are carried out in their order.
    pub async fn sync(&mut self) -> anyhow::Result<()> {
        let there = exchange::Declare { exchange: short("amq.direct"), passive: true, ..Default::default() };
        self.ask(there).await.map(drop)
    }

    /// Ends it in order.
    pub async fn close(&mut self) -> anyhow::Result<()> {
        self.send(0, connection::Close { reply_code: 200, ..Default::default() }).await?;
        timeout(DEADLINE, self.answer()).await.context("no answer in time")?.map(drop)
    }

    /// Publishes to a queue by its name.
    pub async fn publish(&mut self, queue: &str, properties: &Properties, body: &[u8]) -> anyhow::Result<()> {
        let publish = basic::Publish { routing_key: short(queue), ..Default::default() };
        let header = ContentHeader { body_bytes: body.len() as u64, properties: properties.to_raw() };
        let mut out = BytesMut::new();
        frame::put_method(&mut out, CHANNEL, &publish.into(), FRAME_MAX)?;
        frame::put_header(&mut out, CHANNEL, &header, FRAME_MAX)?;
        frame::put_body(&mut out, CHANNEL, body, FRAME_MAX);
        self.write(&out).await
    }

    /// Shows that this side lives, and looks whether the other one does.
    pub async fn beat(&mut self) -> anyhow::Result<()> {
        anyhow::ensure!(now() < self.heard + SILENCE, "the server is silent");
        if now() < self.sent + BEAT {
            return Ok(());
        }
        let mut out = BytesMut::new();
        frame::put_heartbeat(&mut out);
        self.write(&out).await
    }

    /// The next thing that the server says; `None` if there is none within `wait`.
    pub async fn event(&mut self, wait: Duration) -> anyhow::Result<Option<Event>> {
        if let Some(event) = self.events.pop_front() {
            return Ok(Some(event));
        }
        timeout(wait, self.next()).await.ok().transpose()
    }

    async fn answer(&mut self) -> anyhow::Result<Method> {
        loop {
            match self.next().await? {
                Event::Method(method) => return Ok(method),
                message @ Event::Message(_) => self.events.push_back(message),
            }
        }
    }

    async fn send(&mut self, channel: u16, method: impl Into<Method>) -> anyhow::Result<()> {
        let mut out = BytesMut::new();
        frame::put_method(&mut out, channel, &method.into(), FRAME_MAX)?;
        self.write(&out).await
    }

    async fn write(&mut self, bytes: &[u8]) -> anyhow::Result<()> {
        timeout(DEADLINE, self.stream.write_all(bytes)).await.context("the server reads nothing")??;
        self.sent = now();
        Ok(())
    }

    async fn next(&mut self) -> anyhow::Result<Event> {
        loop {
            if let Some(frame) = frame::next_frame(&mut self.received, FRAME_MAX)? {
                self.heard = now();
                if let Some(event) = self.take(frame)? {
                    return Ok(event);
                }
            } else if self.stream.read_buf(&mut self.received).await? == 0 {
                bail!("connection closed");
            }
        }
    }

    /// What is whole with this frame.
    fn take(&mut self, frame: frame::Frame) -> anyhow::Result<Option<Event>> {
        match frame.kind {
            Kind::Heartbeat => return Ok(None),
            Kind::Method => match Method::decode(frame.payload)? {
                method @ (Method::Connection(connection::Method::Close(_))
                | Method::Channel(channel::Method::Close(_))
                | Method::Basic(basic::Method::Cancel(_))) => bail!("{method:?}"),
                method if method.has_content() => self.partial = Some((method, None, BytesMut::new())),
                method => return Ok(Some(Event::Method(method))),
            },
            Kind::Header => {
                let header = ContentHeader::decode(frame.payload)?;
                self.partial.as_mut().context("a header without a method")?.1 = Some(header);
            }
            Kind::Body => {
                let partial = self.partial.as_mut().context("a body without a method")?;
                partial.2.extend_from_slice(&frame.payload);
            }
        }
        let whole = |(_, header, body): &mut (_, Option<ContentHeader>, BytesMut)| {
            header.as_ref().is_some_and(|header| header.body_bytes == body.len() as u64)
        };
        let Some((method, header, body)) = self.partial.take_if(whole) else { return Ok(None) };
        let Method::Basic(basic::Method::Deliver(deliver)) = method else { bail!("{method:?} was not expected") };
        let properties = header.map(|header| header.properties.read()).unwrap_or_default();
        Ok(Some(Event::Message(Box::new(Message { deliver, properties, body: body.freeze() }))))
    }
}
