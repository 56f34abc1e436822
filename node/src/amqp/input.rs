//! What a client sends, frame by frame. Bound: one frame and what came with it; the frame's limit holds from its first bytes.
//! Invariant: `frame` is cancel safe: what was read stays in the buffer.

use std::time::Duration;

use bytes::BytesMut;
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::time::timeout;
use wire::amqp::{Frame, frame};

/// An idle connection keeps so much.
const IDLE_BYTES: usize = 4 << 10;
/// A busy one reads so much at a time.
const BUSY_BYTES: usize = 64 << 10;

/// Why no frame comes.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The bytes are no frame.
    #[error(transparent)]
    Wire(#[from] wire::amqp::Error),
    /// The socket failed.
    #[error(transparent)]
    Io(#[from] std::io::Error),
    /// The client closed the connection.
    #[error("the client closed the connection without saying so")]
    Ended,
    /// Neither frames nor heartbeats came.
    #[error("nothing was heard for {0:?}")]
    Silent(Duration),
}

/// The reading half of a connection.
pub struct Input<R> {
    reader: R,
    buffer: BytesMut,
    read_bytes: usize,
    frame_bytes_max: usize,
    silence_max: Duration,
}

impl<R: AsyncRead + Unpin> Input<R> {
    /// With the limits that hold until the connection is tuned.
    pub fn new(reader: R, silence_max: Duration) -> Self {
        let frame_bytes_max = frame::UNTUNED_FRAME_BYTES;
        Self { reader, buffer: BytesMut::new(), read_bytes: IDLE_BYTES, frame_bytes_max, silence_max }
    }

    /// From now on frames may be so large, and nothing may come for so long.
    pub fn tune(&mut self, frame_bytes_max: usize, silence_max: Duration) {
        (self.frame_bytes_max, self.silence_max) = (frame_bytes_max, silence_max);
    }

    /// Waits for the protocol header.
    pub async fn protocol_header(&mut self) -> Result<(), Error> {
        while !frame::take_protocol_header(&mut self.buffer)? {
            self.fill().await?;
        }
        Ok(())
    }

    /// The next frame.
    pub async fn frame(&mut self) -> Result<Frame, Error> {
        loop {
            if let Some(frame) = frame::next_frame(&mut self.buffer, self.frame_bytes_max)? {
                return Ok(frame);
            }
            self.fill().await?;
        }
    }

    async fn fill(&mut self) -> Result<(), Error> {
        self.buffer.reserve(self.read_bytes);
        let reading = timeout(self.silence_max, self.reader.read_buf(&mut self.buffer)).await;
        match reading.map_err(|_elapsed| Error::Silent(self.silence_max))?? {
            0 => Err(Error::Ended),
            count => {
                self.read_bytes = if count >= self.read_bytes { BUSY_BYTES } else { IDLE_BYTES };
                Ok(())
            }
        }
    }
}
