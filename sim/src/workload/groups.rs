//! Consumer groups: producers of a topic of their own, three groups that read it, one of members that come and go, one of static
//! members and one of the consumer protocol, and watchers who ask every node for what is committed. Members leave, die with and
//! without leaving, die between join and sync, stand still for longer than their session and commit when they wake. At the end one
//! of each group dies and stays dead.

mod jobs;
mod member;
mod modern;
mod seat;
mod slot;

use std::time::Duration;

use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};
use tokio::task::JoinSet;
use wire::kafka::messages::incremental_alter_configs::{AlterConfigsResource, AlterableConfig};
use wire::kafka::messages::{FindCoordinatorRequest, IncrementalAlterConfigsRequest};

use super::client::Client;
use super::{JOBS, Ledger, PAUSE, UNTIL, now};
use crate::nemesis::HEAL;
use seat::FIND_VERSION;

/// A group of the workload.
#[derive(Clone, Copy)]
pub struct Group {
    /// Its id. The first two live in different shards.
    pub name: &'static str,
    /// What its members are.
    pub members: Members,
}

/// What the members of a group are.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Members {
    /// Of the classic protocol, under a new id in each life.
    Roaming,
    /// Of the classic protocol, under one instance id in all lives.
    Resident,
    /// Of the consumer protocol (KIP-848).
    Modern,
}

/// Every group.
pub const GROUPS: [Group; 3] = [
    Group { name: "roaming", members: Members::Roaming },
    Group { name: "resident", members: Members::Resident },
    Group { name: "modern", members: Members::Modern },
];

/// Coordinator shards of the cluster.
const SHARDS: u32 = 2;
/// Session timeout of a member.
const SESSION: Duration = Duration::from_millis(1_500);
/// How long a rebalance waits for its members.
const REBALANCE: Duration = Duration::from_millis(1_500);
/// How long a new group waits for more members.
const GATHER_MS: u32 = 200;
/// From now on nobody misbehaves any more.
const CALM: Duration = HEAL;
/// A group that is not done by then never will be.
const GIVE_UP: Duration = Duration::from_secs(48);
/// Members that a group has at a time, at most; the last one is short of breath.
const SLOTS: u32 = 4;
/// IncrementalAlterConfigs as it is spoken here, and its resource that is a broker: unnamed, all of them.
const ALTER_CONFIGS_VERSION: i16 = 1;
const BROKER: i8 = 4;

/// Whether there are groups in the run of `seed`: they cost a third of a run, so one in four goes without.
pub fn plays(seed: u64) -> bool {
    !seed.is_multiple_of(4)
}

/// Sets what groups need and makes the shards, before anything else is made.
pub async fn prepare(nodes: u32) {
    let mut client = Client::new(nodes, 0);
    let configs = [
        ("group.min.session.timeout.ms", "500".to_owned()),
        ("group.consumer.session.timeout.ms", SESSION.as_millis().to_string()),
        ("group.initial.rebalance.delay.ms", GATHER_MS.to_string()),
        ("offsets.topic.num.partitions", SHARDS.to_string()),
    ];
    let configs = configs.map(|(name, value)| {
        AlterableConfig::default().with_name(name.to_owned().into()).with_value(Some(value.into()))
    });
    let broker = AlterConfigsResource::default().with_resource_type(BROKER).with_configs(configs.into());
    let alter = IncrementalAlterConfigsRequest::default().with_resources(vec![broker]);
    loop {
        match client.call_any(ALTER_CONFIGS_VERSION, &alter).await {
            Ok(answer) if answer.responses.iter().all(|response| response.error_code == 0) => break,
            _ => tokio::time::sleep(PAUSE).await,
        }
    }
    let keys = GROUPS.iter().map(|group| group.name.to_owned().into()).collect();
    let find = FindCoordinatorRequest::default().with_coordinator_keys(keys);
    loop {
        match client.call_any(FIND_VERSION, &find).await {
            Ok(answer) if answer.coordinators.iter().all(|found| found.error_code == 0) => return,
            _ => tokio::time::sleep(PAUSE).await,
        }
    }
}

/// Begins all clients of the groups.
pub fn spawn(nodes: u32, ledger: &Ledger, rng: &mut SmallRng, tasks: &mut JoinSet<()>) {
    ledger.borrow_mut().groups.plays = true;
    let mut fresh = || SmallRng::seed_from_u64(rng.random());
    tasks.spawn_local(jobs::produce(nodes, ledger.clone(), fresh(), UNTIL));
    for group in GROUPS {
        for number in 0..SLOTS {
            tasks.spawn_local(slot::run(group, number, nodes, ledger.clone(), fresh()));
        }
    }
    for node in 1..=nodes {
        tasks.spawn_local(seat::watch(node, nodes, ledger.clone(), fresh(), UNTIL));
    }
}

/// Reads what is committed when all is over.
pub async fn everything(nodes: u32, ledger: Ledger) {
    for group in GROUPS {
        let mut seat = seat::Seat::new(group.name, nodes, ledger.clone());
        while now() < GIVE_UP && seat.offsets(&(0..JOBS.1).collect::<Vec<_>>()).await.is_err() {
            tokio::time::sleep(PAUSE).await;
        }
    }
}
