//! How a connection begins: protocol header, start, login, tune, open. Owns the limits that are negotiated.
//! Invariant: nothing of the cluster is touched before the client has logged in.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::AsyncRead;
use wire::amqp::method::{Method, connection};
use wire::amqp::{Frame, Kind, Table, TableBuilder, Value, frame};

use super::connection::End;
use super::failure::{Failure, failure};
use super::input::Input;
use super::outbox::Outbox;
use super::{Shared, is_local, login};

/// Channels of a connection.
const CHANNEL_MAX: u16 = 2047;
/// Bytes of a frame.
const FRAME_MAX: u32 = 131_072;
/// Seconds.
const HEARTBEAT: u16 = 60;
/// Characters of each thing that a client says of itself.
const DESCRIPTION_MAX: usize = 128;
/// What a login that fails costs at least, against guessing.
const REFUSED_AFTER: Duration = Duration::from_millis(500);
/// What this server can do beside the standard.
const CAPABILITIES: [&str; 9] = [
    "publisher_confirms",
    "exchange_exchange_bindings",
    "basic.nack",
    "consumer_cancel_notify",
    "connection.blocked",
    "consumer_priorities",
    "authentication_failure_close",
    "per_consumer_qos",
    "direct_reply_to",
];

/// What was agreed.
pub struct Agreed {
    /// Who it is.
    pub user: String,
    /// The virtual host.
    pub vhost: String,
    /// The highest channel.
    pub channel_max: u16,
    /// The client wants to hear that a consumer was cancelled by us.
    pub cancels_notified: bool,
    /// And that it is blocked.
    pub blocks_notified: bool,
    /// What the client says of itself, for operators.
    pub client: BTreeMap<String, String>,
}

/// The handshake of one connection.
pub struct Handshake<'a, R> {
    pub input: &'a mut Input<R>,
    pub outbox: &'a Outbox,
    pub shared: &'a Shared,
    pub peer: SocketAddr,
}

impl<R: AsyncRead + Unpin> Handshake<'_, R> {
    /// From the first byte to open-ok.
    pub async fn run(mut self) -> Result<Agreed, End> {
        if let Err(error) = self.input.protocol_header().await {
            if matches!(error, super::input::Error::Wire(_)) {
                self.outbox.put_raw(&frame::PROTOCOL_HEADER);
            }
            return Err(End::Lost(error.to_string()));
        }
        self.outbox.put_method(0, start());
        let connection::Method::StartOk(start_ok) = self.method().await? else { return Err(out_of_order("start-ok")) };
        let user = log_in(self.shared, self.peer, &start_ok).await?;
        let capable = |name| is_capable(&start_ok.client_properties, name);
        let (cancels_notified, blocks_notified) = (capable("consumer_cancel_notify"), capable("connection.blocked"));
        let tune = connection::Tune { channel_max: CHANNEL_MAX, frame_max: FRAME_MAX, heartbeat: HEARTBEAT };
        self.outbox.put_method(0, tune);
        let connection::Method::TuneOk(tune_ok) = self.method().await? else { return Err(out_of_order("tune-ok")) };
        let channel_max = self.tune(&tune_ok)?;
        let connection::Method::Open(open) = self.method().await? else { return Err(out_of_order("open")) };
        let vhost = open.virtual_host.to_str().unwrap_or_default().to_owned();
        if !self.shared.broker.has_vhost(&vhost) {
            return Err(failure!(NotAllowed, "vhost {vhost} not found").of((connection::CLASS, 40)).into());
        }
        self.outbox.put_method(0, connection::OpenOk {});
        let client = self_description(&start_ok.client_properties);
        Ok(Agreed { user, vhost, channel_max, cancels_notified, blocks_notified, client })
    }

    /// The next method of class connection.
    async fn method(&mut self) -> Result<connection::Method, End> {
        loop {
            let Frame { kind, channel, payload } = self.input.frame().await?;
            match (kind, channel) {
                (Kind::Heartbeat, _) => continue,
                (Kind::Method, 0) => {}
                _ => return Err(failure!(UnexpectedFrame, "the connection is not open").into()),
            }
            return match Method::decode(payload).map_err(|error| Failure::wire(&error))? {
                Method::Connection(connection::Method::Close(_)) => Err(End::Closed),
                Method::Connection(method) => Ok(method),
                other => Err(failure!(CommandInvalid, "{} on a connection that is not open", other.name()).into()),
            };
        }
    }

    /// Takes over what the client chose; gives the highest channel.
    fn tune(&mut self, chosen: &connection::TuneOk) -> Result<u16, Failure> {
        let refused = |what, value: u32, max: u32| {
            failure!(NotAllowed, "negotiated {what} = {value} is outside of what the server allows ({max})")
        };
        let channel_max = if chosen.channel_max == 0 { CHANNEL_MAX } else { chosen.channel_max };
        if channel_max > CHANNEL_MAX {
            return Err(refused("channel_max", channel_max.into(), CHANNEL_MAX.into()));
        }
        let frame_max = if chosen.frame_max == 0 { FRAME_MAX } else { chosen.frame_max };
        if frame_max > FRAME_MAX || (frame_max as usize) < frame::FRAME_MIN_BYTES {
            return Err(refused("frame_max", frame_max, FRAME_MAX));
        }
        let heartbeat = Duration::from_secs(chosen.heartbeat.into());
        // Dead after two intervals without anything; none agreed: only the socket tells.
        let silence_max = if heartbeat.is_zero() { Duration::MAX } else { heartbeat * 2 };
        self.input.tune(frame_max as usize, silence_max);
        self.outbox.tune(frame_max as usize, heartbeat / 2);
        Ok(channel_max)
    }
}

/// The name of the user; takes its time over one that is none.
async fn log_in(shared: &Shared, peer: SocketAddr, start_ok: &connection::StartOk) -> Result<String, End> {
    let users = &shared.broker.config().listeners.amqp.users;
    let login = login::read(&start_ok.mechanism, &start_ok.response);
    let admitted = login.filter(|login| users.admits(&login.name, &login.password, is_local(peer)));
    if let Some(login) = admitted {
        return Ok(String::from_utf8_lossy(&login.name).into_owned());
    }
    tokio::time::sleep(REFUSED_AFTER).await;
    let mechanism = start_ok.mechanism.escape_ascii().to_string();
    if is_capable(&start_ok.client_properties, "authentication_failure_close") {
        return Err(failure!(AccessRefused, "Login was refused using authentication mechanism {mechanism}.").into());
    }
    Err(End::Lost(format!("login refused, mechanism {mechanism}")))
}

fn out_of_order(expected: &str) -> End {
    failure!(CommandInvalid, "connection.{expected} is expected").into()
}

fn start() -> connection::Start {
    connection::Start {
        version_major: 0,
        version_minor: 9,
        server_properties: server_properties(),
        mechanisms: login::MECHANISMS.into(),
        locales: "en_US".into(),
    }
}

fn server_properties() -> Table {
    let capabilities =
        CAPABILITIES.into_iter().fold(TableBuilder::default(), |table, name| table.put(name, &Value::Bool(true)));
    let properties = TableBuilder::default()
        .put("capabilities", &Value::Table(capabilities.build().unwrap_or_default()))
        .put("product", &Value::text("Flotilla"))
        .put("version", &Value::text(env!("CARGO_PKG_VERSION")))
        .put("platform", &Value::text("Rust"));
    properties.build().unwrap_or_default()
}

/// What operators see of a client, each cut to what a line holds.
fn self_description(client_properties: &Table) -> BTreeMap<String, String> {
    let said = |name: &&str| match client_properties.get(name) {
        Some(Value::Str(text)) => {
            let text = String::from_utf8_lossy(&text).chars().take(DESCRIPTION_MAX).collect();
            Some(((*name).to_owned(), text))
        }
        _ => None,
    };
    ["product", "version", "platform", "connection_name"].iter().filter_map(said).collect()
}

fn is_capable(client_properties: &Table, name: &str) -> bool {
    match client_properties.get("capabilities") {
        Some(Value::Table(capabilities)) => capabilities.get(name) == Some(Value::Bool(true)),
        _ => false,
    }
}
