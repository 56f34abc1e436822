//! Clients of the simulated world. They speak real Kafka bytes to the real listener and write what they learn to the history.
//! Idempotent producers fill `ledger`, of which retention keeps a little; producers that never retry fill `audit`, from whose
//! beginning records are deleted; `table` is compacted; groups read `jobs`; readers follow and replay; monitors ask every node for
//! the ends; admins make, change and delete topics of their own; publishers and consumers of queues speak AMQP.

pub mod admin;
pub mod client;
pub mod groups;
pub mod loose;
pub mod monitor;
pub mod process;
pub mod produce;
pub mod queues;
pub mod read;
pub mod table;
pub mod trim;

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};

use crate::history::{History, Partition};

/// The topic of the idempotent producers.
pub const LEDGER: &str = "ledger";
/// The topic of the producers that do not retry.
pub const AUDIT: &str = "audit";
/// The compacted topic, which has clients of its own.
pub const TABLE: (&str, i32) = ("table", 2);
/// The topic that consumer groups read, which has clients of its own too.
pub const JOBS: (&str, i32) = ("jobs", 3);
/// The other two, with their numbers of partitions.
pub const TOPICS: [(&str, i32); 2] = [(LEDGER, 4), (AUDIT, 2)];
/// Bytes that retention leaves of each partition of the ledger; of the audit nothing goes but what is deleted.
pub const LEDGER_BYTES: u64 = 32 << 10;
/// The Kafka port of every node.
pub const KAFKA_PORT: u16 = 9092;
/// Pause between two requests of one client, and before a retry.
pub const PAUSE: Duration = Duration::from_millis(40);

/// Idempotent producers.
const PRODUCERS: u32 = 3;
/// Producers without idempotence, and their first number.
const LOOSE: std::ops::Range<u32> = 10..12;
/// Clients that write the compacted topic.
const WRITERS: u32 = 2;
/// When the reader that follows it begins.
const FOLLOW_FROM: Duration = Duration::from_secs(9);
/// Clients that change topics.
const ADMINS: u32 = 3;
/// Nobody begins anything after this; by then everything has been healed for a while.
pub const UNTIL: Duration = Duration::from_secs(34);
/// Admins stop earlier: what timed out may still happen for a while.
const ADMINS_UNTIL: Duration = Duration::from_secs(28);
/// When the reader that replays begins.
const REPLAY_FROM: Duration = Duration::from_secs(12);

/// The history that all clients of a run share; the simulation has one thread.
pub type Ledger = Rc<RefCell<History>>;

/// Name of node `id` as a turmoil host.
pub fn host(id: u32) -> String {
    format!("node{id}")
}

/// Simulated time.
pub fn now() -> Duration {
    turmoil::sim_elapsed().unwrap_or_default()
}

/// Every partition that records are written to.
pub fn partitions() -> impl Iterator<Item = Partition> {
    TOPICS.into_iter().flat_map(|(topic, count)| (0..count).map(move |index| Partition { topic, index }))
}

/// Records here have no time that means anything, and logs are short: parts to be deleted must be small.
fn configs(topic: &str) -> Vec<(&'static str, String)> {
    if topic == TABLE.0 {
        return table::configs();
    }
    let mut configs = vec![("retention.ms", "-1".to_owned()), ("segment.bytes", "4096".to_owned())];
    configs.extend((topic == LEDGER).then(|| ("retention.bytes", LEDGER_BYTES.to_string())));
    configs
}

/// All clients of a run, from the first topic to the last read.
pub async fn run(seed: u64, nodes: u32, ledger: Ledger) -> turmoil::Result {
    let with_groups = groups::plays(seed);
    if with_groups {
        groups::prepare(nodes).await;
    }
    for (topic, partitions) in TOPICS.into_iter().chain([TABLE]).chain(with_groups.then_some(JOBS)) {
        admin::create(nodes, topic, partitions, &configs(topic)).await;
    }
    let with_queues = queues::plays(seed);
    if with_queues {
        queues::prepare(seed, nodes, &ledger).await;
    }
    ledger.borrow_mut().tell(now(), "the topics exist");
    let mut rng = SmallRng::seed_from_u64(seed ^ 0xC11E);
    let mut tasks = tokio::task::JoinSet::new();
    for number in 0..PRODUCERS {
        let ledger = ledger.clone();
        tasks.spawn_local(async move { produce::Producer::start(number, nodes, ledger).await.run(UNTIL).await });
    }
    for number in LOOSE {
        tasks.spawn_local(loose::Producer::new(number, nodes, ledger.clone()).run(UNTIL));
    }
    let shared = admin::Shared::default();
    for number in 0..ADMINS {
        let rng = SmallRng::seed_from_u64(rng.random());
        tasks.spawn_local(admin::Admin::new(number, nodes, ledger.clone(), shared.clone(), rng).run(ADMINS_UNTIL));
    }
    tasks.spawn_local(trim::run(nodes, ledger.clone(), SmallRng::seed_from_u64(rng.random()), ADMINS_UNTIL));
    for node in 1..=nodes {
        for question in [monitor::Question::Ends, monitor::Question::Epochs] {
            let rng = SmallRng::seed_from_u64(rng.random());
            tasks.spawn_local(monitor::run(question, (node, nodes), ledger.clone(), rng, UNTIL));
        }
    }
    for _ in 0..WRITERS {
        let rng = SmallRng::seed_from_u64(rng.random());
        tasks.spawn_local(table::write(nodes, ledger.clone(), rng, UNTIL));
    }
    if with_groups {
        groups::spawn(nodes, &ledger, &mut rng, &mut tasks);
    }
    if with_queues {
        queues::spawn(nodes, &ledger, &mut rng, &mut tasks);
    }
    tasks.spawn_local(table::follow(nodes, ledger.clone(), FOLLOW_FROM, UNTIL));
    tasks.spawn_local(table::everything(nodes, ledger.clone(), UNTIL));
    tasks.spawn_local(read::follow::tail(nodes, ledger.clone(), UNTIL));
    tasks.spawn_local(read::tail(nodes, ledger.clone(), UNTIL));
    tasks.spawn_local(read::replay(nodes, ledger.clone(), REPLAY_FROM, UNTIL));
    while let Some(ended) = tasks.join_next().await {
        ended?;
    }
    ledger.borrow_mut().tell(now(), "every batch is acknowledged; reading everything");
    if with_groups {
        groups::everything(nodes, ledger.clone()).await;
    }
    if with_queues {
        queues::everything(nodes, ledger.clone()).await;
    }
    table::everything(nodes, ledger.clone(), Duration::ZERO).await;
    read::everything(nodes, ledger.clone()).await;
    read::follow::everything(nodes, ledger).await;
    Ok(())
}
