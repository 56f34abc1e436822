//! Lag: how far what consumer groups have committed is behind the ends of partitions, in records and in seconds.
//! A coordinator knows what was committed, a partition's leader its end and the timestamp at an offset: the one asks the others.
//! Never guesses: a leader that does not answer leaves the lag unknown.
use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use futures::future::join_all;
use model::assign::Spot;
use model::coordinator::{Group, Kind};
use model::{GroupId, NodeId};
use tokio::time::{Instant, timeout};
use wire::kafka::subscription;

use super::read::bounds;
use super::{Broker, ConsumerGroup, GroupMember, PartitionLag};
use crate::peer::questions::{Answered, Place, Question};

/// How long another node may take to answer.
const DEADLINE: Duration = Duration::from_secs(2);
/// Offsets in one question, far below what a frame may hold.
const PLACES_MAX: usize = 2_000;
/// Growth is measured over so long at least.
const GROWTH: Duration = Duration::from_secs(5);

/// What lags were when they were looked at last, and how they grew.
pub(super) type Lags = Mutex<BTreeMap<(String, Spot), Look>>;

#[derive(Clone, Copy)]
pub(super) struct Look {
    at: Instant,
    lag: i64,
    growth: Option<f64>,
}

/// A partition that a group has committed something of or reads, and the member that reads it.
type Row = (Spot, Option<String>);

/// A group, and what its partitions are of.
struct Seen {
    group: ConsumerGroup,
    rows: Vec<Row>,
}

/// Where an offset is looked up, and for which row.
struct Wanted {
    leader: NodeId,
    log: GroupId,
    offset: i64,
    row: (usize, usize),
}

impl Broker {
    /// All consumer groups of the cluster, by id; those of a node that does not answer are missing.
    pub async fn consumer_groups(&self) -> Vec<ConsumerGroup> {
        let answers = self.ask_all(Question::ConsumerGroups, DEADLINE * 2).await;
        let groups = answers.into_iter().filter_map(|answer| match answer {
            Answered::ConsumerGroups(groups) => Some(groups),
            _ => None,
        });
        let mut all: Vec<ConsumerGroup> = groups.flatten().collect();
        all.sort_by(|one, other| one.group.cmp(&other.group));
        all
    }

    /// The groups that this node coordinates.
    pub async fn groups_coordinated_here(&self) -> Vec<ConsumerGroup> {
        let (mut groups, mut wanted) = (Vec::new(), Vec::new());
        for local in self.0.router.locals().into_iter().filter(|local| local.desk().is_some() && local.role().is_leader)
        {
            local.raft().coordinator(|machine| {
                for (id, group) in machine.groups() {
                    let rows = self.rows(group);
                    for (row, (spot, _)) in rows.iter().enumerate() {
                        let offset = group.offsets.get(spot).map(|offset| offset.offset);
                        wanted.extend(self.wanted(*spot, offset, (groups.len(), row)));
                    }
                    groups.push(Seen { group: self.seen(id, group, &rows), rows });
                }
            });
        }
        self.look_up(wanted, &mut groups).await;
        self.grow(&mut groups);
        groups.into_iter().map(|seen| seen.group).collect()
    }

    /// What is committed or assigned, and to whom.
    fn rows(&self, group: &Group) -> Vec<Row> {
        let mut rows: BTreeMap<Spot, Option<String>> = group.offsets.keys().map(|spot| (*spot, None)).collect();
        match &group.kind {
            Kind::Classic(classic) => {
                let image = self.image();
                for (id, member) in &classic.members {
                    for (topic, partitions) in subscription::partitions(member.assignment.clone().into()) {
                        let Some(topic) = image.topic(&topic).map(|topic| topic.id) else { continue };
                        let spot = |partition| Spot { topic, partition: model::PartitionIndex(partition) };
                        rows.extend(partitions.into_iter().map(|partition| (spot(partition), Some(id.clone()))));
                    }
                }
            }
            Kind::Consumer(consumer) => {
                for (id, member) in &consumer.members {
                    rows.extend(member.assigned.iter().map(|spot| (*spot, Some(id.clone()))));
                }
            }
        }
        rows.into_iter().collect()
    }

    fn wanted(&self, spot: Spot, offset: Option<i64>, row: (usize, usize)) -> Option<Wanted> {
        let log = self.image().topic_by_id(spot.topic)?.partition(spot.partition)?.group;
        let leader = self.0.router.leader(log).node?;
        Some(Wanted { leader, log, offset: offset.unwrap_or(i64::MAX), row })
    }

    fn seen(&self, id: &str, group: &Group, rows: &[Row]) -> ConsumerGroup {
        let image = self.image();
        let members = members(group, rows);
        let partition = |(spot, owner): &Row| {
            let committed = group.offsets.get(spot);
            let named = image.topic_by_id(spot.topic).map(|topic| topic.name.to_string());
            let member = owner.as_ref().and_then(|owner| members.iter().find(|member| member.id == *owner));
            PartitionLag {
                topic: named.or_else(|| committed.map(|offset| offset.name.clone())).unwrap_or_default(),
                partition: spot.partition.0,
                committed: committed.map(|offset| offset.offset),
                end: None,
                lag: None,
                lag_seconds: None,
                growth_per_second: None,
                owner: owner.clone(),
                host: member.map(|member| member.host.clone()),
            }
        };
        let partitions = rows.iter().map(partition).collect();
        ConsumerGroup {
            group: id.to_owned(),
            protocol: group.kind.name().to_owned(),
            state: group.kind.state().to_owned(),
            coordinator: self.node_id(),
            members,
            lag: 0,
            partitions,
        }
    }

    /// Asks the leaders, each about all that is wanted of it, and fills the rows in.
    async fn look_up(&self, wanted: Vec<Wanted>, groups: &mut [Seen]) {
        let mut by_leader = BTreeMap::<NodeId, Vec<Wanted>>::new();
        wanted.into_iter().for_each(|one| by_leader.entry(one.leader).or_default().push(one));
        let questions = by_leader.iter().flat_map(|(leader, all)| all.chunks(PLACES_MAX).map(|some| (*leader, some)));
        let asked = questions.map(async |(leader, some)| {
            let places = some.iter().map(|one| (one.log, one.offset)).collect();
            match timeout(DEADLINE, self.ask(leader, Question::Places(places))).await {
                Ok(Ok(Answered::Places(places))) => some.iter().zip(places).collect(),
                _ => Vec::new(),
            }
        });
        let now_ms = self.0.clock.wall_ms();
        for (Wanted { row: (group, row), .. }, place) in join_all(asked).await.into_iter().flatten() {
            let Some(place) = place else { continue };
            let group = &mut groups[*group].group;
            let row = &mut group.partitions[*row];
            row.end = Some(place.end);
            let Some(committed) = row.committed else { continue };
            let lag = (place.end - committed.max(place.log_start)).max(0);
            let waits_ms = place.timestamp_ms.map_or(0, |timestamp| (now_ms - timestamp).max(0));
            (row.lag, row.lag_seconds) = (Some(lag), Some(waits_ms as f64 / 1_000.0));
            group.lag += lag;
        }
    }

    /// Compares with what the lags were, and remembers what they are.
    fn grow(&self, groups: &mut [Seen]) {
        let mut lags = self.0.groups.lags.lock().unwrap_or_else(PoisonError::into_inner);
        let (before, now) = (std::mem::take(&mut *lags), Instant::now());
        for Seen { group, rows } in groups {
            for (row, (spot, _)) in group.partitions.iter_mut().zip(rows) {
                let Some(lag) = row.lag else { continue };
                let key = (group.group.clone(), *spot);
                let look = match before.get(&key) {
                    None => Look { at: now, lag, growth: None },
                    Some(look) if now - look.at < GROWTH => *look,
                    Some(look) => {
                        let growth = (lag - look.lag) as f64 / (now - look.at).as_secs_f64();
                        Look { at: now, lag, growth: Some(growth) }
                    }
                };
                row.growth_per_second = look.growth;
                lags.insert(key, look);
            }
        }
    }

    /// Where offsets are in partitions that are led here.
    pub(super) async fn places(&self, asked: &[(GroupId, i64)]) -> Vec<Option<Place>> {
        let mut places = Vec::with_capacity(asked.len());
        for (log, offset) in asked {
            places.push(self.place(*log, *offset).await);
        }
        places
    }

    async fn place(&self, log: GroupId, offset: i64) -> Option<Place> {
        let local = self.0.router.local(log).filter(|local| local.raft().knows_end())?;
        let bounds = bounds(&local).ok()?;
        let from = offset.max(bounds.log_start);
        let timestamp_ms = match from < bounds.high_watermark {
            true => self.timestamp_at(&local, from).await.ok()?,
            false => None,
        };
        Some(Place { log_start: bounds.log_start, end: bounds.high_watermark, timestamp_ms })
    }
}

fn members(group: &Group, rows: &[Row]) -> Vec<GroupMember> {
    let partitions = |id: &String| rows.iter().filter(|(_, owner)| owner.as_ref() == Some(id)).count();
    let member = |(id, instance, client_id, host): (&String, &Option<String>, &String, &String)| GroupMember {
        id: id.clone(),
        instance: instance.clone(),
        client_id: client_id.clone(),
        host: host.clone(),
        partitions: partitions(id),
    };
    match &group.kind {
        Kind::Classic(classic) => {
            classic.members.iter().map(|(id, of)| member((id, &of.instance, &of.client_id, &of.client_host))).collect()
        }
        Kind::Consumer(consumer) => {
            consumer.members.iter().map(|(id, of)| member((id, &of.instance, &of.client_id, &of.client_host))).collect()
        }
    }
}
