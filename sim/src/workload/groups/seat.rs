//! A connection to the coordinator of one group: finds it, loses it when it moves, and writes down commits and reads of offsets.

use std::collections::BTreeMap;
use std::time::Duration;

use rand::Rng;
use rand::rngs::SmallRng;
use wire::kafka::messages::offset_commit::{OffsetCommitRequestPartition, OffsetCommitRequestTopic};
use wire::kafka::messages::offset_fetch::{
    OffsetFetchRequestGroup, OffsetFetchRequestTopics, OffsetFetchResponseGroup, OffsetFetchResponsePartitions,
};
use wire::kafka::messages::{FindCoordinatorRequest, OffsetCommitRequest, OffsetFetchRequest, RequestBody};
use wire::kafka::{ErrorCode, Str};

use super::GROUPS;
use crate::history::groups::{Fetch, Outcome, Who};
use crate::workload::client::Client;
use crate::workload::{JOBS, Ledger, now};

/// FindCoordinator, OffsetCommit and OffsetFetch as they are spoken here.
pub const FIND_VERSION: i16 = 4;
const COMMIT_VERSION: i16 = 9;
const FETCH_VERSION: i16 = 8;
/// Pause between two questions of a watcher, milliseconds.
const WATCH_MS: std::ops::Range<u64> = 60..250;
/// A refusal that comes later is of a coordinator that was deposed while the request waited.
const WAITED: Duration = Duration::from_millis(300);

/// Why a member does not get what it asks for.
#[derive(Debug)]
pub enum Trouble {
    /// No answer, or none from the coordinator.
    Lost,
    /// The group has gone on: the member should join again.
    Behind,
    /// The group does not know the member any more.
    Expelled,
    /// Another one has its instance id.
    Fenced,
    /// It is to come again under this id.
    Named(Str),
}

/// What an error code means to a member.
pub fn judge(code: i16) -> Result<(), Trouble> {
    match ErrorCode::from_i16(code) {
        Some(ErrorCode::None) => Ok(()),
        Some(ErrorCode::IllegalGeneration | ErrorCode::RebalanceInProgress | ErrorCode::StaleMemberEpoch) => {
            Err(Trouble::Behind)
        }
        Some(ErrorCode::UnknownMemberId | ErrorCode::FencedMemberEpoch) => Err(Trouble::Expelled),
        Some(ErrorCode::FencedInstanceId) => Err(Trouble::Fenced),
        _ => Err(Trouble::Lost),
    }
}

/// A seat at a group's coordinator.
pub struct Seat {
    /// The group.
    pub group: &'static str,
    /// For the partitions too.
    pub client: Client,
    /// The history.
    pub ledger: Ledger,
    coordinator: Option<u32>,
}

impl Seat {
    /// One that has not found its coordinator yet.
    pub fn new(group: &'static str, nodes: u32, ledger: Ledger) -> Self {
        Self { group, client: Client::new(nodes, 2), ledger, coordinator: None }
    }

    /// Which node coordinates, as far as is known.
    pub fn coordinator(&self) -> Option<u32> {
        self.coordinator
    }

    /// The coordinator is another one, or nobody knows.
    pub fn lost(&mut self) -> Trouble {
        self.coordinator = None;
        Trouble::Lost
    }

    /// What an error code of the coordinator means; one that is none any more is forgotten.
    pub fn judge(&mut self, code: i16) -> Result<(), Trouble> {
        judge(code).map_err(|trouble| if matches!(trouble, Trouble::Lost) { self.lost() } else { trouble })
    }

    /// Calls the coordinator.
    pub async fn call<T: RequestBody>(&mut self, version: i16, request: &T) -> Result<T::Response, Trouble> {
        let node = match self.coordinator {
            Some(node) => node,
            None => self.find().await?,
        };
        self.coordinator = Some(node);
        let answer = self.client.call_node(node, version, request).await;
        answer.map_err(|_| self.lost())
    }

    async fn find(&mut self) -> Result<u32, Trouble> {
        let key = self.group.to_owned().into();
        let find = FindCoordinatorRequest::default().with_coordinator_keys(vec![key]);
        let answer = self.client.call_any(FIND_VERSION, &find).await.map_err(|_| Trouble::Lost)?;
        let found = answer.coordinators.first().filter(|found| found.error_code == 0).ok_or(Trouble::Lost)?;
        u32::try_from(found.node_id).map_err(|_| Trouble::Lost)
    }

    /// What is committed of these partitions; 0 where nothing is.
    pub async fn offsets(&mut self, partitions: &[i32]) -> Result<BTreeMap<i32, i64>, Trouble> {
        let begun = now();
        let request = OffsetFetchRequest::default().with_groups(vec![asked(self.group, partitions)]);
        let answer = self.call(FETCH_VERSION, &request).await?;
        let answer = answer.groups.into_iter().next().ok_or(Trouble::Lost)?;
        self.judge(answer.error_code)?;
        let found = note(&self.ledger, self.group, begun, answer);
        if found.len() == partitions.len() { Ok(found) } else { Err(Trouble::Lost) }
    }

    /// Commits where `who` is; the number of the commit goes with it as metadata.
    pub async fn commit(&mut self, who: &Who, offsets: &BTreeMap<i32, i64>) -> Result<(), Trouble> {
        let offsets: Vec<_> = offsets.iter().map(|(index, offset)| (*index, *offset)).collect();
        let begun = now();
        let number = self.ledger.borrow_mut().groups.commit(begun, who.clone(), offsets.clone());
        let answer = self.call(COMMIT_VERSION, &commit_request(who, &offsets, number)).await;
        let codes = answer.map(|answer| answer.topics.into_iter().flat_map(|topic| topic.partitions));
        let code = codes.map(|codes| codes.map(|partition| partition.error_code).max().unwrap_or(-1));
        let judged = code.and_then(|code| self.judge(code));
        let outcome = match &judged {
            Ok(()) => Outcome::Done,
            Err(Trouble::Lost) => Outcome::Unknown,
            Err(_) => Outcome::Refused,
        };
        let mut ledger = self.ledger.borrow_mut();
        ledger.count(match outcome {
            Outcome::Done => "commits acknowledged",
            Outcome::Refused => "commits refused",
            Outcome::Unknown if now() - begun >= WAITED => "commit lost its coordinator",
            Outcome::Unknown => "commits of unknown outcome",
        });
        ledger.end_commit(now(), number, outcome);
        judged
    }
}

fn asked(group: &'static str, partitions: &[i32]) -> OffsetFetchRequestGroup {
    let name = JOBS.0.to_owned().into();
    let topic = OffsetFetchRequestTopics::default().with_name(name).with_partition_indexes(partitions.to_vec());
    let asked = OffsetFetchRequestGroup::default().with_group_id(group.to_owned().into()).with_member_epoch(-1);
    asked.with_topics(Some(vec![topic]))
}

/// Writes down what a coordinator said is committed, and returns the offsets.
fn note(ledger: &Ledger, group: &'static str, begun: Duration, answer: OffsetFetchResponseGroup) -> BTreeMap<i32, i64> {
    let whole = |partition: &OffsetFetchResponsePartitions| partition.error_code == 0;
    let mut offsets = BTreeMap::new();
    for partition in answer.topics.into_iter().flat_map(|topic| topic.partitions).filter(whole) {
        let offset = partition.committed_offset;
        let number = partition.metadata.as_ref().and_then(|metadata| metadata.as_str().parse().ok());
        // A commit that nobody made has a number that nobody gave.
        let found = (offset >= 0).then(|| (offset, number.unwrap_or(usize::MAX)));
        let cursor = (group, partition.partition_index);
        ledger.borrow_mut().groups.fetches.push(Fetch { cursor, during: (begun, now()), found });
        offsets.insert(partition.partition_index, offset.max(0));
    }
    offsets
}

fn commit_request(who: &Who, offsets: &[(i32, i64)], number: usize) -> OffsetCommitRequest {
    let partition = |(index, offset): &(i32, i64)| {
        let partition = OffsetCommitRequestPartition::default().with_partition_index(*index);
        let partition = partition.with_committed_offset(*offset).with_committed_leader_epoch(-1);
        partition.with_committed_metadata(Some(number.to_string().into()))
    };
    let topic = OffsetCommitRequestTopic::default().with_name(JOBS.0.to_owned().into());
    let topic = topic.with_partitions(offsets.iter().map(partition).collect());
    OffsetCommitRequest::default()
        .with_group_id(who.group.to_owned().into())
        .with_generation_id_or_member_epoch(who.generation)
        .with_member_id(who.member.clone().into())
        .with_group_instance_id(who.instance.clone().map(Str::from))
        .with_topics(vec![topic])
}

/// Asks one node again and again for what all groups have committed, whether it coordinates them or not.
pub async fn watch(node: u32, nodes: u32, ledger: Ledger, mut rng: SmallRng, until: Duration) {
    let mut client = Client::impatient(nodes, node);
    let all: Vec<i32> = (0..JOBS.1).collect();
    let request = OffsetFetchRequest::default();
    let request = request.with_groups(GROUPS.iter().map(|group| asked(group.name, &all)).collect());
    while now() < until {
        tokio::time::sleep(Duration::from_millis(rng.random_range(WATCH_MS))).await;
        let begun = now();
        let Ok(answer) = client.call_node(node, FETCH_VERSION, &request).await else { continue };
        for (group, answer) in GROUPS.iter().zip(answer.groups) {
            if answer.error_code == 0 {
                note(&ledger, group.name, begun, answer);
                ledger.borrow_mut().count("offsets told to watchers");
            }
        }
    }
}
