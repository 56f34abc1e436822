//! Queues over AMQP: publishers with confirms and several consumers each. Two kinds of queue a run, drawn by the seed, and one for the
//! dead letters of both. Consumers acknowledge, fail, reject, are slow, leave, cancel, die with what they hold, or stand still until their
//! node takes them for dead. When all is healed they only acknowledge, and every queue must become empty.

pub mod client;
mod consume;
mod log;
mod publish;

use std::time::Duration;

use rand::rngs::SmallRng;
use rand::seq::IndexedRandom;
use rand::{Rng, SeedableRng};
use tokio::task::JoinSet;
use wire::amqp::method::{Method, queue};
use wire::amqp::{Table, TableBuilder, Value};

use super::{Ledger, UNTIL, now};
use crate::nemesis::HEAL;
use client::{Connection, short};

/// Where dead messages go.
pub const GRAVES: &str = "graves";
/// From now on nobody misbehaves any more.
const CALM: Duration = HEAL;
/// What is not done by then never will be.
const GIVE_UP: Duration = Duration::from_secs(46);
/// Publishers, each to all queues.
const PUBLISHERS: u32 = 2;
/// Longer than a run, whatever the clocks do.
const DEDUP_MS: u64 = 24 * 60 * 60 * 1_000;
/// Kinds of queue of one run, beside that of the dead letters.
const PLAYED: usize = 2;

/// What the rules of a queue are.
#[derive(Clone, Copy, Debug)]
pub struct Kind {
    /// Its name.
    pub name: &'static str,
    /// Whether publishers publish to it.
    pub is_published: bool,
    /// Whether its dead messages go to [`GRAVES`].
    pub buries: bool,
    /// How often a message may fail.
    pub failures_max: Option<u32>,
    /// How long messages live, ms.
    pub ttl_ms: Option<u64>,
    /// The highest priority of its messages.
    pub priority_max: u8,
    /// How long a message waits after its first failure and at most, ms.
    pub retry_ms: Option<(u64, u64)>,
    /// Whether a message that is published again is the same one.
    pub is_once: bool,
    /// Its consumers at a time.
    consumers: u32,
}

const PLAIN: Kind = Kind {
    name: "plain",
    is_published: true,
    buries: false,
    failures_max: None,
    ttl_ms: None,
    priority_max: 0,
    retry_ms: None,
    is_once: false,
    consumers: 3,
};

/// What a run can have.
pub const KINDS: [Kind; 5] = [
    PLAIN,
    Kind { name: "strict", buries: true, failures_max: Some(2), ..PLAIN },
    Kind { name: "brief", buries: true, ttl_ms: Some(1_500), consumers: 1, ..PLAIN },
    Kind { name: "ranked", priority_max: 4, is_once: true, consumers: 2, ..PLAIN },
    Kind {
        name: "patient",
        buries: true,
        failures_max: Some(3),
        retry_ms: Some((200, 800)),
        is_once: true,
        consumers: 2,
        ..PLAIN
    },
];
/// The queue of the dead.
const DEAD: Kind = Kind { name: GRAVES, is_published: false, consumers: 2, ..PLAIN };

/// Whether queues play in the run of `seed`: they cost about as much as groups.
pub fn plays(seed: u64) -> bool {
    seed % 3 != 1
}

/// Makes the queues of this seed, through any node.
pub async fn prepare(seed: u64, nodes: u32, ledger: &Ledger) {
    let mut rng = SmallRng::seed_from_u64(seed ^ 0x9EE5);
    let mut kinds: Vec<Kind> = KINDS.choose_multiple(&mut rng, PLAYED).copied().collect();
    if kinds.iter().any(|kind| kind.buries) {
        kinds.push(DEAD);
    }
    for kind in &kinds {
        while declare(*kind, rng.random_range(1..=nodes)).await.is_err() {
            publish::pause().await;
        }
    }
    let names: Vec<&str> = kinds.iter().map(|kind| kind.name).collect();
    ledger.borrow_mut().tell(now(), format!("the queues are {}", names.join(", ")));
    ledger.borrow_mut().queues.kinds = kinds;
}

async fn declare(kind: Kind, node: u32) -> anyhow::Result<()> {
    let declare =
        queue::Declare { queue: short(kind.name), durable: true, arguments: kind.arguments()?, ..Default::default() };
    Connection::open(node).await?.ask(declare).await.map(drop)
}

impl Kind {
    /// The arguments that say so to a server.
    fn arguments(&self) -> wire::amqp::Result<Table> {
        let number = |value: u64| Value::I64(i64::try_from(value).unwrap_or(i64::MAX));
        let limit = self.failures_max.map_or(Value::I32(-1), |max| number(max.into()));
        let mut table = TableBuilder::default().put("x-delivery-limit", &limit);
        if self.buries {
            table = table.put("x-dead-letter-exchange", &Value::text(""));
            table = table.put("x-dead-letter-routing-key", &Value::text(GRAVES));
        }
        if let Some(ttl) = self.ttl_ms {
            table = table.put("x-message-ttl", &number(ttl));
        }
        if self.priority_max > 0 {
            table = table.put("x-max-priority", &Value::I32(self.priority_max.into()));
        }
        if self.is_once {
            table = table.put("x-dedup-window", &number(DEDUP_MS));
        }
        if let Some((first, most)) = self.retry_ms {
            table = table.put("x-delayed-retry-min", &number(first)).put("x-delayed-retry-max", &number(most));
        }
        table.build()
    }
}

/// Begins all clients of the queues.
pub fn spawn(nodes: u32, ledger: &Ledger, rng: &mut SmallRng, tasks: &mut JoinSet<()>) {
    let mut fresh = || SmallRng::seed_from_u64(rng.random());
    let kinds = ledger.borrow().queues.kinds.clone();
    for number in 0..PUBLISHERS {
        tasks.spawn_local(publish::Publisher::new(number, nodes, &kinds, ledger.clone(), fresh()).run(UNTIL));
    }
    for kind in kinds {
        for _ in 0..kind.consumers {
            tasks.spawn_local(consume::run(kind, nodes, ledger.clone(), fresh()));
        }
    }
    tasks.spawn_local(drain(nodes, ledger.clone(), fresh()));
}

/// Waits until everything is published and done, and the queues say that they are empty.
async fn drain(nodes: u32, ledger: Ledger, mut rng: SmallRng) {
    let is_over = || {
        let queues = &ledger.borrow().queues;
        now() >= UNTIL && queues.publishers == 0 && queues.open().next().is_none()
    };
    while now() < GIVE_UP {
        publish::pause().await;
        if is_over() && are_empty(&ledger, rng.random_range(1..=nodes)).await.unwrap_or(false) {
            break;
        }
    }
    let is_drained = now() < GIVE_UP;
    let mut ledger = ledger.borrow_mut();
    ledger.queues.drained = is_drained.then(now);
    ledger.queues.is_over = true;
    ledger.tell(now(), if is_drained { "every queue is empty" } else { "the queues are given up" });
}

async fn are_empty(ledger: &Ledger, node: u32) -> anyhow::Result<bool> {
    let names: Vec<&str> = ledger.borrow().queues.kinds.iter().map(|kind| kind.name).collect();
    let mut connection = Connection::open(node).await?;
    for name in names {
        let declare = queue::Declare { queue: short(name), passive: true, ..Default::default() };
        let Method::Queue(queue::Method::DeclareOk(ok)) = connection.ask(declare).await? else { return Ok(false) };
        if ok.message_count > 0 {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Reads what is in the logs of the queues when all is over, as Kafka clients do.
pub async fn everything(nodes: u32, ledger: Ledger) {
    log::read(nodes, ledger).await;
}
