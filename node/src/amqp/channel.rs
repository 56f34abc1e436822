//! One channel: carries out its commands one after the other, delivers to its consumers, confirms what it published.
//! Owns all that ends with a channel. Invariant: whatever it holds is given back before the client hears that it is closed.

mod acknowledge;
mod basic;
mod confirms;
mod consumers;
mod exchanges;
mod publish;
mod queues;
mod replies;
mod transaction;

use std::ops::ControlFlow;
use std::sync::Arc;

use model::controller::topology::{EntityKind, TopologyError};
use model::exchange::{ArgValue, Args};
use tokio::sync::mpsc;
use wire::amqp::method::{Method, access, channel, confirm, tx};
use wire::amqp::{ReplyCode, ShortStr, Table, Value};

use self::acknowledge::Unacked;
use self::confirms::Confirms;
use self::consumers::Consumers;
use self::replies::Replies;
use self::transaction::Transaction;
use super::assembly::Command;
use super::failure::{Failure, Result, failure};
use super::session::Session;
use crate::broker::TopologyFailure;

/// How a channel publishes: what is selected stays.
enum Mode {
    Plain,
    Confirming,
    Transacting(Transaction),
}

/// How a channel ends in good order.
enum Over {
    /// The client closed it.
    Closed,
    /// With its connection, and all that came before that is done.
    Left,
}

/// A channel.
pub struct Channel {
    number: u16,
    session: Arc<Session>,
    commands: mpsc::Receiver<Command>,
    /// The queue that an empty name stands for.
    last_queue: String,
    mode: Mode,
    confirms: Confirms,
    consumers: Consumers,
    unacked: Unacked,
    replies: Option<Replies>,
}

impl Channel {
    pub fn new(number: u16, session: Arc<Session>, commands: mpsc::Receiver<Command>) -> Self {
        let (confirms, consumers, unacked) = (Confirms::default(), Consumers::default(), Unacked::default());
        let (last_queue, mode, replies) = (String::new(), Mode::Plain, None);
        Self { number, session, commands, last_queue, mode, confirms, consumers, unacked, replies }
    }

    /// From open-ok to close-ok.
    ///
    /// # Errors
    /// What closes the connection.
    pub async fn run(mut self) -> Result<()> {
        self.put(channel::OpenOk {});
        let ended = self.live().await;
        let (number, session) = (self.number, self.session.clone());
        let mut commands = std::mem::replace(&mut self.commands, mpsc::channel(1).1);
        drop(self);
        match ended {
            Ok(Over::Closed) => session.outbox.put_method(number, channel::CloseOk {}),
            Ok(Over::Left) => {}
            Err(failure) if failure.code.is_hard() => return Err(failure),
            Err(failure) => {
                session.outbox.put_method(number, failure.channel_close());
                // Until the client has answered, nothing that it sends means anything.
                while let Some(command) = commands.recv().await {
                    if let Method::Channel(channel::Method::Close(_)) = command.method {
                        session.outbox.put_method(number, channel::CloseOk {});
                    }
                }
            }
        }
        Ok(())
    }

    async fn live(&mut self) -> Result<Over> {
        loop {
            let prefetch_left = self.unacked.has_room();
            tokio::select! {
                command = self.commands.recv(), if self.confirms.has_room() => {
                    let Some(command) = command else { return Ok(Over::Left) };
                    let id = command.method.id();
                    if self.carry_out(command).await.map_err(|failure| failure.of(id))?.is_break() {
                        return Ok(Over::Closed);
                    }
                }
                sent = self.confirms.next() => self.confirm(sent),
                event = self.consumers.next(&self.session.outbox, prefetch_left) => self.consumer_event(event),
                reply = replies::next(&mut self.replies, &self.session.outbox) => self.deliver_reply(&reply),
            }
        }
    }

    /// Breaks if the client closes the channel.
    async fn carry_out(&mut self, command: Command) -> Result<ControlFlow<()>> {
        match command.method {
            Method::Channel(channel::Method::Close(_)) => return Ok(ControlFlow::Break(())),
            Method::Channel(channel::Method::Flow(flow)) => self.flow(&flow)?,
            Method::Access(access::Method::Request(_)) => self.put(access::RequestOk { ticket: 1 }),
            Method::Exchange(method) => self.exchange(method).await?,
            Method::Queue(method) => self.queue(method).await?,
            Method::Basic(method) => self.basic(method, command.content).await?,
            Method::Confirm(confirm::Method::Select(select)) => self.select_confirms(&select)?,
            Method::Tx(tx::Method::Select(_)) => self.select_transactions()?,
            Method::Tx(tx::Method::Commit(_)) => self.commit().await?,
            Method::Tx(tx::Method::Rollback(_)) => self.roll_back()?,
            other => return Err(failure!(CommandInvalid, "{} is not for a server", other.name())),
        }
        Ok(ControlFlow::Continue(()))
    }

    fn flow(&self, flow: &channel::Flow) -> Result<()> {
        if !flow.active {
            return Err(failure!(NotImplemented, "active=false"));
        }
        self.put(channel::FlowOk { active: true });
        Ok(())
    }

    fn select_confirms(&mut self, select: &confirm::Select) -> Result<()> {
        if matches!(self.mode, Mode::Transacting(_)) {
            return Err(failure!(PreconditionFailed, "cannot switch from tx to confirm mode"));
        }
        self.mode = Mode::Confirming;
        self.answer(confirm::SelectOk {}, select.no_wait);
        Ok(())
    }

    fn put(&self, method: impl Into<Method>) {
        self.session.outbox.put_method(self.number, method);
    }

    /// Answers, unless the client does not want to hear.
    fn answer(&self, method: impl Into<Method>, no_wait: bool) {
        if !no_wait {
            self.put(method);
        }
    }
}

/// The text of a name.
fn text(name: &ShortStr) -> Result<&str> {
    name.to_str().ok_or_else(|| failure!(SyntaxError, "\"{}\" is not UTF-8", name.escape_ascii()))
}

/// A refusal of the topology, with its code.
fn refused(failure: TopologyFailure) -> Failure {
    let error = match failure {
        TopologyFailure::Unavailable(why) => return failure!(InternalError, "{why}"),
        TopologyFailure::Refused(error) => error,
    };
    let code = match &error {
        TopologyError::NotFound { kind: EntityKind::Vhost, .. } => ReplyCode::NotAllowed,
        TopologyError::NotFound { .. } => ReplyCode::NotFound,
        TopologyError::Locked { .. } => ReplyCode::ResourceLocked,
        TopologyError::AccessRefused(_) => ReplyCode::AccessRefused,
        TopologyError::NotImplemented(_) => ReplyCode::NotImplemented,
        TopologyError::Limit(_) => ReplyCode::ResourceError,
        TopologyError::NotEqual { .. } | TopologyError::InUse { .. } | TopologyError::Precondition(_) => {
            ReplyCode::PreconditionFailed
        }
    };
    Failure::new(code, error.to_string())
}

/// A value as the topology compares it.
fn argument(value: &Value) -> ArgValue {
    match value {
        Value::Void => ArgValue::Void,
        Value::Bool(value) => ArgValue::Bool(*value),
        Value::Str(bytes) | Value::Bytes(bytes) => ArgValue::Bytes(bytes.to_vec()),
        Value::Timestamp(seconds) => ArgValue::Timestamp(*seconds),
        Value::F32(number) => ArgValue::Float(f64::from(*number).to_bits()),
        Value::F64(number) => ArgValue::Float(number.to_bits()),
        Value::Array(array) => ArgValue::Other { tag: b'A', bytes: array.as_bytes().to_vec() },
        Value::Table(table) => ArgValue::Other { tag: b'F', bytes: table.as_bytes().to_vec() },
        Value::U64(number) => i64::try_from(*number)
            .map_or_else(|_| ArgValue::Other { tag: b'L', bytes: number.to_be_bytes().to_vec() }, ArgValue::Int),
        Value::Decimal(decimal) => {
            let bytes = [&[decimal.scale][..], &decimal.value.to_be_bytes()].concat();
            ArgValue::Other { tag: b'D', bytes }
        }
        number => ArgValue::Int(number.as_integer().unwrap_or_default()),
    }
}

/// Arguments as the topology reads them; of two with one name the first counts.
fn arguments(table: &Table) -> Result<Args> {
    let mut read = Args::new();
    for (name, value) in table.iter() {
        read.entry(text(&name)?.to_owned()).or_insert_with(|| argument(&value));
    }
    Ok(read)
}

/// What was to go is gone.
fn fine_if_gone(failure: TopologyFailure) -> std::result::Result<(), TopologyFailure> {
    match failure {
        TopologyFailure::Refused(TopologyError::NotFound { .. }) => Ok(()),
        other => Err(other),
    }
}
