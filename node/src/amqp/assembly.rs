//! Frames of one channel put together to commands: a method, and the header and body of one that has content.
//! Bound: a body of at most `BODY_BYTES_MAX`, held against the node's budget of requests from its header on, for a time at most; the
//! parts of a longer one are dropped as they come.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use tokio::time::{Instant, timeout};
use wire::amqp::{ContentHeader, Frame, Kind, Method, RawProperties};

use super::failure::{Failure, Result, failure};
use crate::listening::{Budget, Taken};

/// The longest body, as RabbitMQ has it by default.
pub const BODY_BYTES_MAX: u64 = 16 << 20;
/// A body must come within this and its length at this pace, and waits no longer for room: it keeps others from theirs.
const BODY_TIME: Duration = Duration::from_secs(60);
const BODY_BYTES_PER_SECOND: u64 = 64 << 10;

/// A method as it is carried out.
#[derive(Debug)]
pub struct Command {
    pub method: Method,
    /// Of basic.publish, and of nothing else.
    pub content: Option<Content>,
}

/// Header and body.
#[derive(Debug)]
pub struct Content {
    pub properties: RawProperties,
    /// How long the body is, or would be.
    pub body_bytes: u64,
    /// Empty if it is longer than the longest.
    pub body: Bytes,
    /// Its share of the budget.
    pub held: Taken,
}

/// The frames that came of a command that is not whole.
#[derive(Debug, Default)]
pub enum Assembly {
    /// None.
    #[default]
    Idle,
    /// The method.
    Method(Method),
    /// Method, header and a part of the body.
    Body(Box<Body>),
}

#[derive(Debug)]
pub struct Body {
    method: Method,
    header: ContentHeader,
    held: Taken,
    /// The only part, or nothing yet.
    whole: Bytes,
    /// The parts, copied together: each alone would cost more than it says.
    joined: BytesMut,
    came_bytes: u64,
    due: Instant,
}

impl Assembly {
    /// Takes a frame; a command if it is the last of one. Waits for room in the budget.
    ///
    /// # Errors
    /// 501, 502, 503 and 505, which close the connection.
    pub async fn take(&mut self, frame: Frame, budget: &Budget) -> Result<Option<Command>> {
        let next = match (std::mem::take(self), frame.kind) {
            (Self::Idle, Kind::Method) => {
                let id = Method::id_of(&frame.payload).unwrap_or_default();
                let method = Method::decode(frame.payload).map_err(|error| Failure::wire(&error).of(id))?;
                Self::Method(method)
            }
            (Self::Method(method), Kind::Header) => Self::begin(method, frame.payload, budget).await?,
            (Self::Body(mut body), Kind::Body) => {
                body.push(frame.payload)?;
                Self::Body(body)
            }
            (Self::Idle, kind) => return Err(failure!(UnexpectedFrame, "a method frame is expected, not {kind:?}")),
            (_, kind) => return Err(failure!(UnexpectedFrame, "content is expected, not a frame of kind {kind:?}")),
        };
        let (command, rest) = next.finish();
        *self = rest;
        Ok(command)
    }

    async fn begin(method: Method, payload: Bytes, budget: &Budget) -> Result<Self> {
        let header = ContentHeader::decode(payload).map_err(|error| Failure::wire(&error).of(method.id()))?;
        let kept_bytes = if header.body_bytes > BODY_BYTES_MAX { 0 } else { header.body_bytes as usize };
        let room = budget.frame(kept_bytes + header.properties.as_bytes().len());
        let held = timeout(BODY_TIME, room).await.map_err(|_elapsed| {
            failure!(ResourceError, "no room for a message of {} bytes within {BODY_TIME:?}", header.body_bytes)
        })?;
        let due = Instant::now() + BODY_TIME + Duration::from_secs(header.body_bytes / BODY_BYTES_PER_SECOND);
        let (whole, joined) = (Bytes::new(), BytesMut::new());
        Ok(Self::Body(Box::new(Body { method, header, held, whole, joined, came_bytes: 0, due })))
    }

    /// Whether the rest of a body should have come by now.
    pub fn is_late(&self) -> bool {
        matches!(self, Self::Body(body) if body.due <= Instant::now())
    }

    fn finish(self) -> (Option<Command>, Self) {
        match self {
            Self::Method(method) if !method.has_content() => (Some(Command { method, content: None }), Self::Idle),
            Self::Body(body) if body.came_bytes == body.header.body_bytes => (Some(body.finish()), Self::Idle),
            unfinished => (None, unfinished),
        }
    }
}

impl Body {
    fn push(&mut self, part: Bytes) -> Result<()> {
        self.came_bytes += part.len() as u64;
        let announced = self.header.body_bytes;
        if self.came_bytes > announced {
            return Err(failure!(UnexpectedFrame, "{} bytes of body instead of {announced}", self.came_bytes));
        }
        if announced > BODY_BYTES_MAX {
            return Ok(());
        }
        if part.len() as u64 == announced {
            self.whole = part;
        } else {
            self.joined.extend_from_slice(&part);
        }
        Ok(())
    }

    fn finish(self) -> Command {
        let body = if self.joined.is_empty() { self.whole } else { self.joined.freeze() };
        let ContentHeader { body_bytes, properties } = self.header;
        Command { method: self.method, content: Some(Content { properties, body_bytes, body, held: self.held }) }
    }
}

#[cfg(test)]
mod tests {
    use wire::amqp::method::basic;
    use wire::amqp::{Properties, frame};

    use super::*;

    const FRAME_BYTES: usize = 4096;

    fn part(text: &'static str) -> Frame {
        Frame { kind: Kind::Body, channel: 1, payload: text.into() }
    }

    /// A publish whose body has so many bytes, up to its header.
    async fn begun(body_bytes: u64, budget: &Budget) -> Result<Assembly> {
        let mut bytes = BytesMut::new();
        let publish = basic::Publish::default().into();
        frame::put_method(&mut bytes, 1, &publish, FRAME_BYTES).expect("a small frame");
        let header = ContentHeader { body_bytes, properties: Properties::default().to_raw() };
        frame::put_header(&mut bytes, 1, &header, FRAME_BYTES).expect("a small frame");
        let mut assembly = Assembly::default();
        while let Some(frame) = frame::next_frame(&mut bytes, FRAME_BYTES).expect("frames") {
            assert!(assembly.take(frame, budget).await?.is_none());
        }
        Ok(assembly)
    }

    #[tokio::test]
    async fn a_body_is_whole_in_one_part_or_many() {
        let budget = Budget::new(1 << 20);
        for parts in [vec!["abc"], vec!["a", "", "bc"]] {
            let mut assembly = begun(3, &budget).await.unwrap();
            let mut command = None;
            for text in parts {
                assert!(command.is_none());
                command = assembly.take(part(text), &budget).await.unwrap();
            }
            assert_eq!(command.unwrap().content.unwrap().body, "abc");
        }
        let mut assembly = begun(3, &budget).await.unwrap();
        assert!(assembly.take(part("abcd"), &budget).await.is_err());
    }

    #[tokio::test(start_paused = true)]
    async fn a_body_that_does_not_come_is_late_and_one_without_room_is_refused() {
        let budget = Budget::new(2 << 20);
        let assembly = begun(1 << 20, &budget).await.unwrap();
        assert!(!assembly.is_late());
        let refused = begun(1 << 20, &budget).await.unwrap_err();
        assert_eq!(refused.code, wire::amqp::ReplyCode::ResourceError);
        tokio::time::advance(Duration::from_secs(20)).await;
        assert!(assembly.is_late());
    }
}
