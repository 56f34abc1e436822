//! One client connection: its frames go to its channels, what they put into the outbox goes to the client.
//! Owns the channels: a task each, ended with the connection. Invariant: exclusive queues are gone before the client hears that the connection
//! is; what a client sent before it closed is carried out; a connection that fails says why with connection.close, and waits a moment for the answer.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::ReadHalf;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::timeout;
use wire::amqp::method::{Method, channel, connection};
use wire::amqp::{Frame, Kind, ShortStr};

use super::assembly::{Assembly, Command};
use super::channel::Channel;
use super::failure::{self, Failure, failure};
use super::handshake::{Agreed, Handshake};
use super::input::{self, Input};
use super::outbox::Outbox;
use super::session::Session;
use super::{LISTENER, Shared};
use crate::broker::{Connected, Registered};
use crate::seams::{Stop, Stream};

/// From the first byte to the login, and on to open.
const HANDSHAKE: Duration = Duration::from_secs(10);
/// How long a client may take to answer connection.close, and to read what is left for it; and how long what it sent before may take.
const GOODBYE: Duration = Duration::from_secs(3);
/// How often bodies are looked for that do not come.
const LOOK: Duration = Duration::from_secs(10);
/// Commands of a channel that wait for those before them; the budget bounds their bytes.
const COMMANDS: usize = 64;

/// How a connection ends.
#[derive(Debug)]
pub enum End {
    /// The client said so.
    Closed,
    /// The client is told why.
    Failed(Failure),
    /// There is nobody to tell.
    Lost(String),
}

impl From<Failure> for End {
    fn from(failure: Failure) -> Self {
        Self::Failed(failure)
    }
}

impl From<input::Error> for End {
    fn from(error: input::Error) -> Self {
        match error {
            input::Error::Wire(error) => Self::Failed(Failure::wire(&error)),
            other => Self::Lost(other.to_string()),
        }
    }
}

/// Serves one connection until either side ends it.
pub async fn serve(stream: Stream, shared: Arc<Shared>, stop: Stop) {
    let (peer, local) = (stream.peer_addr(), stream.local_addr());
    let (reader, writer) = tokio::io::split(stream);
    let outbox = Arc::new(Outbox::default());
    let mut write = Box::pin(outbox.write_all(writer));
    let live = Box::pin(live(Input::new(reader, HANDSHAKE), outbox.clone(), &shared, (peer, local), stop));
    let end = tokio::select! {
        biased;
        end = live => {
            outbox.close();
            let _as_far_as_it_goes = timeout(GOODBYE, write).await;
            end
        }
        written = &mut write => End::Lost(written.err().map_or_else(String::new, |error| error.to_string())),
    };
    let why = match end {
        End::Closed => return,
        End::Failed(failure) => failure.to_string(),
        End::Lost(why) => why,
    };
    shared.metrics.connections_failed.get_or_create(&LISTENER).inc();
    tracing::debug!(%peer, why, "amqp connection closed");
}

async fn live(
    mut input: Input<ReadHalf<Stream>>,
    outbox: Arc<Outbox>,
    shared: &Arc<Shared>,
    (peer, local): (SocketAddr, SocketAddr),
    stop: Stop,
) -> End {
    let handshake = Handshake { input: &mut input, outbox: &outbox, shared, peer };
    let agreed = match timeout(HANDSHAKE, handshake.run()).await {
        Ok(Ok(agreed)) => agreed,
        Ok(Err(end)) => {
            say_goodbye(&end, &mut input, &outbox).await;
            return end;
        }
        Err(_elapsed) => return End::Lost("the handshake takes too long".to_owned()),
    };
    let (channel_max, blocks_notified) = (agreed.channel_max, agreed.blocks_notified);
    let Agreed { user, vhost, cancels_notified, client, .. } = agreed;
    let connected = Connected { peer, local, user: user.clone(), vhost: vhost.clone(), client };
    let registered = shared.broker.register_connection(connected);
    let session = Session::new(shared.clone(), outbox.clone(), user, vhost, cancels_notified);
    let session = Arc::new(session);
    let (channels, tasks) = (BTreeMap::new(), JoinSet::new());
    let mut connection = Connection { session, registered, input, channels, tasks, channel_max, blocks_notified };
    let end = connection.run(&stop).await;
    let Connection { session, mut input, channels, mut tasks, .. } = connection;
    drop(channels);
    if !matches!(end, End::Failed(_)) {
        let ended = async { while tasks.join_next().await.is_some() {} };
        let _as_far_as_it_goes = timeout(GOODBYE, ended).await;
    }
    tasks.shutdown().await;
    session.end().await;
    say_goodbye(&end, &mut input, &outbox).await;
    end
}

/// The last words; waits for the answer to ours, and forgets what else comes.
async fn say_goodbye(end: &End, input: &mut Input<ReadHalf<Stream>>, outbox: &Outbox) {
    match end {
        End::Closed => outbox.put_method(0, connection::CloseOk {}),
        End::Lost(_) => {}
        End::Failed(failure) => {
            outbox.put_method(0, failure.connection_close());
            let answered = async { while input.frame().await.is_ok_and(|frame| !is_close_ok(frame)) {} };
            let _or_not = timeout(GOODBYE, answered).await;
        }
    }
}

fn is_close_ok(frame: Frame) -> bool {
    let method = (frame.kind == Kind::Method && frame.channel == 0).then(|| Method::decode(frame.payload));
    matches!(method, Some(Ok(Method::Connection(connection::Method::CloseOk(_) | connection::Method::Close(_)))))
}

/// An open channel, as the connection sees it.
struct Slot {
    commands: mpsc::Sender<Command>,
    assembly: Assembly,
}

struct Connection {
    session: Arc<Session>,
    registered: Registered,
    input: Input<ReadHalf<Stream>>,
    channels: BTreeMap<u16, Slot>,
    /// The channels; each tells at its end what closes the connection too, if anything does.
    tasks: JoinSet<failure::Result<()>>,
    channel_max: u16,
    blocks_notified: bool,
}

impl Connection {
    async fn run(&mut self, stop: &Stop) -> End {
        let mut disk_full = self.session.shared.disk_full.clone();
        disk_full.mark_changed();
        let mut is_blocked = false;
        let mut looks = tokio::time::interval(LOOK);
        loop {
            self.registered.has_channels(self.channels.len());
            let outcome = tokio::select! {
                () = stop.stopped() => Err(failure!(ConnectionForced, "the server is shutting down").into()),
                why = self.registered.closed() => Err(failure!(ConnectionForced, "{why}").into()),
                Some(ended) = self.tasks.join_next() => channel_end(ended),
                Ok(()) = disk_full.changed(), if self.blocks_notified => {
                    let is_full = *disk_full.borrow_and_update();
                    self.tell_blocked(std::mem::replace(&mut is_blocked, is_full), is_full);
                    Ok(())
                }
                _ = looks.tick() => self.look_for_late(),
                frame = next_frame(&mut self.input, &self.session.outbox) => match frame {
                    Ok(frame) => self.take(frame).await,
                    Err(error) => Err(error.into()),
                },
            };
            if let Err(end) = outcome {
                return end;
            }
        }
    }

    fn look_for_late(&self) -> Result<(), End> {
        match self.channels.iter().find(|(_, slot)| slot.assembly.is_late()) {
            Some((number, _)) => {
                Err(failure!(ResourceError, "the body of a message on channel {number} does not come").into())
            }
            None => Ok(()),
        }
    }

    fn tell_blocked(&self, was: bool, is: bool) {
        match (was, is) {
            (false, true) => {
                let reason = ShortStr::shortened("the disk is full");
                self.session.outbox.put_method(0, connection::Blocked { reason });
            }
            (true, false) => self.session.outbox.put_method(0, connection::Unblocked {}),
            _ => {}
        }
    }

    async fn take(&mut self, frame: Frame) -> Result<(), End> {
        if frame.kind == Kind::Heartbeat {
            return Ok(());
        }
        if frame.channel == 0 {
            return self.own(frame);
        }
        let number = frame.channel;
        let Some(slot) = self.channels.get_mut(&number) else { return self.open(frame) };
        let Some(command) = slot.assembly.take(frame, &self.session.shared.budget).await? else { return Ok(()) };
        let is_last = match &command.method {
            Method::Channel(channel::Method::Open(_)) => {
                return Err(failure!(ChannelError, "second 'channel.open' seen").of(command.method.id()).into());
            }
            Method::Channel(channel::Method::Close(_) | channel::Method::CloseOk(_)) => true,
            Method::Connection(_) => {
                return Err(failure!(CommandInvalid, "{} on a channel", command.method.name()).into());
            }
            _ => false,
        };
        // A channel that has ended says itself why.
        let _told = slot.commands.send(command).await;
        if is_last {
            self.channels.remove(&number);
        }
        Ok(())
    }

    /// A frame on a channel that is not open.
    fn open(&mut self, frame: Frame) -> Result<(), End> {
        let (number, id) = (frame.channel, Method::id_of(&frame.payload).unwrap_or_default());
        let method = (frame.kind == Kind::Method).then(|| Method::decode(frame.payload)).transpose();
        match method.map_err(|error| Failure::wire(&error).of(id))? {
            Some(Method::Channel(channel::Method::Open(_))) => {}
            _ => return Err(failure!(ChannelError, "expected 'channel.open' on channel {number}").of(id).into()),
        }
        if number > self.channel_max {
            return Err(failure!(NotAllowed, "channel {number} is above channel_max {}", self.channel_max)
                .of(id)
                .into());
        }
        let (commands, inbox) = mpsc::channel(COMMANDS);
        if let Entry::Vacant(entry) = self.channels.entry(number) {
            entry.insert(Slot { commands, assembly: Assembly::default() });
            self.tasks.spawn(Channel::new(number, self.session.clone(), inbox).run());
        }
        Ok(())
    }

    /// A frame of the connection itself.
    fn own(&mut self, frame: Frame) -> Result<(), End> {
        if frame.kind != Kind::Method {
            return Err(failure!(UnexpectedFrame, "{:?} on channel 0", frame.kind).into());
        }
        let id = Method::id_of(&frame.payload).unwrap_or_default();
        match Method::decode(frame.payload).map_err(|error| Failure::wire(&error).of(id))? {
            Method::Connection(connection::Method::Close(_)) => Err(End::Closed),
            Method::Connection(connection::Method::CloseOk(_)) => Ok(()),
            // A password does not expire: there is nothing to renew.
            Method::Connection(connection::Method::UpdateSecret(_)) => {
                self.session.outbox.put_method(0, connection::UpdateSecretOk {});
                Ok(())
            }
            other => Err(failure!(CommandInvalid, "{} on channel 0", other.name()).of(id).into()),
        }
    }
}

/// Reads on only if the client reads, too. Cancel safe.
async fn next_frame(input: &mut Input<ReadHalf<Stream>>, outbox: &Outbox) -> Result<Frame, input::Error> {
    outbox.room_for_answers().await;
    input.frame().await
}

fn channel_end(ended: Result<failure::Result<()>, tokio::task::JoinError>) -> Result<(), End> {
    match ended {
        Ok(ended) => ended.map_err(End::Failed),
        Err(error) if error.is_panic() => {
            tracing::error!(%error, "an amqp channel panicked");
            Err(failure!(InternalError, "the channel failed").into())
        }
        Err(_aborted) => Ok(()),
    }
}
