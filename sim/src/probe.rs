//! The eye on the world: after every step it compares what the replicas say of themselves with what the disks have synced.
//! Owns the state of the checkers that watch (S1, S2, S3, S13) and what it saw of every replica last; says each broken promise once.
//! Reads watches and disks only: that it looks must change nothing. A replica that has not changed costs a few loads.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use model::controller::Image;
use model::partition::PartitionMachine;
use model::{GroupId, ReplicaId};
use node::broker::Broker;
use raft::{Group, Mark};
use tokio::sync::watch;

use crate::checker::committed_durable;
use crate::checker::committed_stays::CommittedStays;
use crate::checker::leader_per_term::{self, LeaderPerTerm};
use crate::checker::log_start_allowed;
use crate::checker::members_intersect::MembersIntersect;
use crate::checker::operations_finish::OperationsFinish;
use crate::checker::orphans_wake::OrphansWake;
use crate::checker::replicas_as_wanted::{self, Led, ReplicasAsWanted};
use crate::checker::sleepers_agree::{Sleeper, SleepersAgree};
use crate::checker::works_after_healing::{Replicas, WorksAfterHealing};
use crate::checker::{metadata_linearizable, minority_bounded, replicas_identical};
use crate::cluster::{State, View};
use crate::disk::Disks;
use crate::fault::Fault;
use crate::history::History;
use crate::history::operation::{Action, Kind};
use crate::nemesis::HEAL;
use crate::workload::{LEDGER, LEDGER_BYTES};

/// How often replicas are compared that have nothing new to tell.
const ROUND: Duration = Duration::from_millis(10);
/// How often replicas and disks are compared with what is wanted.
const REPLICAS: Duration = Duration::from_millis(100);
/// How often what must be settled later is written down.
const SURVEY: Duration = Duration::from_secs(1);
/// What was committed so many surveys ago is applied and synced everywhere, unless something is broken.
const SETTLED: usize = 3;
/// How long after healing everything must be well, and how old a group must be to be asked.
pub const GRACE: Duration = Duration::from_secs(5);
/// The process that describes topics when all is over.
const OBSERVER: u32 = 299;
/// More broken promises than this tell nothing new.
const VIOLATIONS_MAX: usize = 20;

/// A replica as it was seen last.
struct Sight {
    /// Identifies the running replica: a restarted one has another channel.
    applied: watch::Receiver<u64>,
    mark: Mark,
    voter_sets: Vec<BTreeSet<ReplicaId>>,
    /// Committed entries below this are known to be on this replica's disk as they were committed.
    compared: u64,
    /// Since when the next one is different.
    differs_since: Option<Duration>,
}

/// What was seen so far.
#[derive(Default)]
pub struct Probe {
    sights: BTreeMap<(u32, GroupId), Sight>,
    leaders: LeaderPerTerm,
    members: MembersIntersect,
    replicas: ReplicasAsWanted,
    operations: OperationsFinish,
    next_replicas: Duration,
    committed: CommittedStays,
    sleepers: SleepersAgree,
    orphans: OrphansWake,
    /// Nodes that lost or mistook durable data by a fault that no node survives.
    damaged: BTreeSet<u32>,
    next_round: Duration,
    surveys: VecDeque<Survey>,
    /// Asked once the world has been well for [`GRACE`].
    healed: WorksAfterHealing,
    faults: Vec<(Duration, Fault)>,
}

/// What stood at one moment.
struct Survey {
    at: Duration,
    /// The last entry of each group that any replica takes for committed.
    committed: BTreeMap<GroupId, u64>,
    /// The groups that the newest metadata places, and where.
    placed: BTreeMap<GroupId, BTreeSet<u32>>,
}

impl Probe {
    /// A fault was inflicted.
    pub fn note(&mut self, at: Duration, fault: &Fault) {
        self.faults.push((at, fault.clone()));
        if let Fault::BitFlip { node } | Fault::Truncate { node } | Fault::DiskLoss { node } | Fault::Restore { node } =
            fault
        {
            self.damaged.insert(*node);
        }
    }

    /// Looks at the world after a step.
    pub fn look(&mut self, at: Duration, views: &[View], disks: &Disks, history: &mut History) {
        if history.violations.len() >= VIOLATIONS_MAX {
            return;
        }
        let round = at >= self.next_round;
        if round {
            self.next_round = at + ROUND;
        }
        for view in views {
            for group in view.broker.iter().flat_map(|broker| broker.rafts()) {
                for violation in self.see((at, round && view.state == State::Up), (view.node, &group), disks, views) {
                    history.violate(at, violation);
                }
            }
        }
        if round {
            self.look_sleepers(at, views, history);
        }
        if at >= self.next_replicas {
            self.next_replicas = at + REPLICAS;
            self.look_replicas(at, views, disks, history);
            if at >= HEAL + GRACE {
                self.look_healed(at, views, history, false);
            }
        }
        if self.surveys.back().is_none_or(|last| at >= last.at + SURVEY) {
            self.survey(at, views);
        }
    }

    /// Looks at the replicas that sleep.
    fn look_sleepers(&mut self, at: Duration, views: &[View], history: &mut History) {
        let runs = |node: u32| views.iter().any(|view| view.node == node && view.state == State::Up);
        let mut groups: BTreeMap<GroupId, Vec<Sleeper>> = BTreeMap::new();
        for view in views.iter().filter(|view| view.state == State::Up) {
            for group in view.broker.iter().flat_map(|broker| broker.rafts()) {
                let asleep = group.mark().asleep;
                let gone = asleep.map(|(leader, _)| leader.node().0).filter(|leader| !runs(*leader));
                if let Some(words) = self.orphans.look(at, view.node, group.id(), gone) {
                    history.violate(at, format!("L4 OrphansWake: {words}"));
                }
                if let Some((leader, term)) = asleep {
                    let metrics = group.metrics();
                    let stands = [metrics.last, metrics.committed, metrics.applied];
                    groups.entry(group.id()).or_default().push(Sleeper { node: view.node, leader, term, stands });
                }
            }
        }
        for (group, sleepers) in &groups {
            for words in self.sleepers.look(at, *group, sleepers) {
                history.violate(at, format!("S15 SleepersAgree: {words}"));
            }
        }
    }

    /// The run is over: one more look at everything.
    pub fn finish(&mut self, at: Duration, views: &[View], disks: &Disks, history: &mut History) {
        self.next_round = at;
        self.look(at, views, disks, history);
        self.look_healed(at, views, history, true);
        let Some(settled) = self.surveys.front().filter(|survey| survey.at + SURVEY <= at) else { return };
        let placed = settled.placed.iter().flat_map(|(group, nodes)| nodes.iter().map(|node| (*node, *group)));
        let replicas: Vec<_> = placed
            .filter(|(node, _)| !self.damaged.contains(node))
            .filter_map(|(node, group)| Some((node, group, *settled.committed.get(&group)?)))
            .collect();
        let held = |node, group, index| disks.durable(node, group, index);
        let purged = |node, group| disks.purged(node, group).unwrap_or(0);
        let passed = |group: GroupId| match group.is_partition() {
            true => log_start_allowed::passed(self.committed.entries(group)),
            false => 0,
        };
        for words in replicas_identical::check(&self.committed, &replicas, held, purged, passed) {
            history.violate(at, format!("S6 ReplicasIdentical: {words}"));
        }
        for words in minority_bounded::check(&self.faults, history) {
            history.violate(at, format!("L3 MinorityBounded: {words}"));
        }
        if let Some(image) = newest_image(views) {
            for group in image.topic(LEDGER).iter().flat_map(|ledger| ledger.partitions.iter().map(|one| one.group)) {
                for words in log_start_allowed::retained(self.committed.entries(group), LEDGER_BYTES) {
                    history.violate(at, format!("S4 LogStartAllowed: group {group}: {words}"));
                }
            }
            let nodes = views.iter().map(|view| view.node).filter(|node| !self.damaged.contains(node));
            let nodes: Vec<u32> = nodes.collect();
            let holders = |group| nodes.iter().copied().filter(|node| disks.holds(*node, group)).collect();
            for words in replicas_as_wanted::settled(&image, &led(views), holders) {
                history.violate(at, format!("S16 ReplicasAsWanted: {words}"));
            }
        }
        self.compare_coordinators(at, views, history);
        look_bounded(at, views, history);
        describe_topics(at, views, history);
    }

    /// Follows operations and the changes of replicas.
    fn look_replicas(&mut self, at: Duration, views: &[View], disks: &Disks, history: &mut History) {
        let Some(image) = newest_image(views) else { return };
        let damaged = &self.damaged;
        let holds = |replica: ReplicaId, group| {
            (!damaged.contains(&replica.node().0)).then(|| disks.holds_replica(replica, group))
        };
        let led = led(views);
        let term = led.get(&GroupId::CONTROLLER).map(|led| led.term);
        let (violations, news) = self.operations.look(at, &image, term);
        violations.into_iter().for_each(|words| history.violate(at, format!("L6 OperationsFinish: {words}")));
        news.into_iter().for_each(|news| history.count(news.name()));
        // What was committed before everybody went down is in no image until somebody leads the controller and has applied it all:
        // a replica may be gone from a disk by then, and not yet from the newest image that there is.
        if !views.iter().filter_map(|view| view.broker.as_ref()).any(knows_everything) {
            return;
        }
        let (violations, news) = self.replicas.look(&image, &led, holds);
        violations.into_iter().for_each(|words| history.violate(at, format!("S16 ReplicasAsWanted: {words}")));
        news.into_iter().for_each(|news| history.count(news.name()));
    }

    /// All is quiet: coordinator shards that have applied the same entries must be the same.
    fn compare_coordinators(&mut self, at: Duration, views: &[View], history: &mut History) {
        for view in views.iter().filter(|view| view.state == State::Up && !self.damaged.contains(&view.node)) {
            for group in view.broker.iter().flat_map(|broker| broker.rafts()) {
                let digest = group.coordinator(|machine| crc32c::crc32c(format!("{machine:?}").as_bytes()));
                let Some(digest) = digest else { continue };
                let applied = *group.applied().borrow();
                if let Some(words) = self.committed.digest(group.id(), applied, view.node, digest.into()) {
                    history.violate(at, format!("S6 ReplicasIdentical: coordinators differ: {words}"));
                }
            }
        }
    }

    /// Writes down what must be settled a few seconds from now.
    fn survey(&mut self, at: Duration, views: &[View]) {
        let mut committed: BTreeMap<GroupId, u64> = BTreeMap::new();
        for ((_, group), sight) in &self.sights {
            let last = committed.entry(*group).or_default();
            *last = (*last).max(sight.mark.committed.unwrap_or(0));
        }
        if self.surveys.len() == SETTLED {
            self.surveys.pop_front();
        }
        self.surveys.push_back(Survey { at, committed, placed: placed(views) });
    }

    /// Everything was healed [`GRACE`] ago: every group must be well on every node without lasting damage.
    fn look_healed(&mut self, at: Duration, views: &[View], history: &mut History, last: bool) {
        let Some(settled) = self.surveys.front() else { return };
        let well = |node: &u32| !self.damaged.contains(node);
        let is_first = self.healed.is_new();
        for view in views.iter().filter(|view| (is_first || last) && well(&view.node) && view.state != State::Up) {
            history.violate(at, format!("L1 WorksAfterHealing: node {} is {:?}", view.node, view.state));
        }
        let mut groups: BTreeMap<GroupId, Replicas> = BTreeMap::new();
        for (group, nodes) in placed(views) {
            let due = settled.committed.get(&group).copied().unwrap_or(0);
            let since = settled.placed.get(&group);
            let stays = |node: &u32| well(node) && since.is_none_or(|since| since.contains(node));
            let placed = nodes.into_iter().filter(stays).collect();
            groups.insert(group, Replicas { placed, running: BTreeMap::new(), due });
        }
        for view in views.iter().filter(|view| well(&view.node)) {
            for group in view.broker.iter().flat_map(|broker| broker.rafts()) {
                let is_new = |since: &BTreeSet<u32>| !since.contains(&view.node);
                if settled.placed.get(&group.id()).is_some_and(is_new) {
                    continue;
                }
                let now = (group.mark(), *group.applied().borrow());
                groups.entry(group.id()).or_default().running.insert(view.node, now);
            }
        }
        // What came or went while we waited has had no time to settle.
        groups.retain(|group, replicas| settled.placed.contains_key(group) != replicas.placed.is_empty());
        for words in self.healed.look(at, &groups, last) {
            history.violate(at, format!("L1 WorksAfterHealing: {words}"));
        }
    }

    fn see(
        &mut self,
        (at, round): (Duration, bool),
        (node, group): (u32, &Group),
        disks: &Disks,
        views: &[View],
    ) -> Vec<String> {
        let (id, mark) = (group.id(), group.mark());
        let mut violations = Vec::new();
        let known = self.sights.get(&(node, id)).filter(|sight| sight.applied.same_channel(&group.applied()));
        let (before, fresh) = (known.map_or(Mark::default(), |sight| sight.mark), known.is_none());
        if fresh {
            let (mark, voter_sets) = (Mark::default(), Vec::new());
            let sight = Sight { applied: group.applied(), mark, voter_sets, compared: 0, differs_since: None };
            self.sights.insert((node, id), sight);
        }
        if fresh || mark != before {
            self.changed((node, group), (before, mark), disks, &mut violations);
        }
        // Of a deleted topic others may have destroyed their copies already.
        if !violations.is_empty() && !placed(views).contains_key(&id) {
            violations.clear();
        }
        if round {
            violations
                .extend(self.compare_entries(at, node, id, disks).map(|words| format!("S2 CommittedStays: {words}")));
            violations.extend(self.compare_digest(node, group).map(|words| format!("S2 CommittedStays: {words}")));
        }
        violations
    }

    fn changed(
        &mut self,
        (node, group): (u32, &Group),
        (before, mark): (Mark, Mark),
        disks: &Disks,
        violations: &mut Vec<String>,
    ) {
        let id = group.id();
        if leader_per_term::went_back(&before, &mark) {
            let (was, is) = ((before.term, before.committed), (mark.term, mark.committed));
            violations.push(format!(
                "S1 LeaderPerTerm: group {id} on node {node} went back in (term, commit) from {was:?} to {is:?}"
            ));
        }
        let Some(sight) = self.sights.get_mut(&(node, id)) else { return };
        sight.mark = mark;
        let former = sight.voter_sets.clone();
        if former.is_empty() || mark.members != before.members {
            sight.voter_sets = group.metrics().voter_sets;
        }
        let voter_sets = sight.voter_sets.clone();
        if mark.is_leader {
            let votes = |voter| disks.durable_term(voter, id);
            let damaged = |voter| if self.damaged.contains(&voter) { Some(u64::MAX) } else { votes(voter) };
            let words = self.leaders.lead((id, mark.term), node, &voter_sets, damaged);
            violations.extend(words.map(|words| format!("S1 LeaderPerTerm: {words}")));
            let words = self.members.see(id, mark.term, group.replica(), &voter_sets);
            violations.extend(words.map(|words| format!("S13 MembersIntersect: {words}")));
        }
        let news =
            before.committed.map_or(0, |committed| committed + 1)..mark.committed.map_or(0, |committed| committed + 1);
        for index in news {
            if self.committed.knows(id, index) {
                continue;
            }
            let held = |voter| disks.durable(voter, id, index);
            let durable = |sets: &[_]| committed_durable::check(sets, held, &self.damaged, node);
            // One step may commit an entry and then change the members: they were not in force for it.
            let is_before_change = mark.members > Some(index) && !former.is_empty();
            let checked = durable(&voter_sets).or_else(|words| match is_before_change {
                true => durable(&former),
                false => Err(words),
            });
            match checked {
                Ok(copy) => self.committed.commit(id, index, copy),
                Err(words) => {
                    violations.push(format!(
                        "S3 CommittedDurable: node {node} takes entry {index} of group {id} for committed, but {words}"
                    ));
                    break;
                }
            }
        }
    }

    /// Compares what the replica wrote with what was committed, from where the last comparison ended. A replica may take an
    /// entry for committed while the one it replaces still waits for the disk's turn: only what stays different is wrong.
    fn compare_entries(&mut self, at: Duration, node: u32, group: GroupId, disks: &Disks) -> Option<String> {
        let sight = self.sights.get_mut(&(node, group)).filter(|_| !self.damaged.contains(&node))?;
        while sight.mark.committed.is_some_and(|committed| sight.compared <= committed) {
            // What is purged was compared by then, or the replica never had it; that it may be gone is checked at the end.
            sight.compared = sight.compared.max(disks.purged_last(node, group).map_or(0, |purged| purged + 1));
            let held = disks.written(node, group, sight.compared)?;
            if let Some(differs) = self.committed.compare(group, sight.compared, node, &held) {
                let since = *sight.differs_since.get_or_insert(at);
                let late = at >= since + GRACE;
                if late {
                    sight.compared += 1;
                    sight.differs_since = None;
                }
                return late.then_some(differs);
            }
            sight.compared += 1;
            sight.differs_since = None;
        }
        None
    }

    fn compare_digest(&mut self, node: u32, group: &Group) -> Option<String> {
        let (applied, digest) = group.partition(|machine| (machine.applied().0, fingerprint(machine)))?;
        self.committed.digest(group.id(), applied, node, digest)
    }
}

/// One number for what must be the same on all replicas at an applied index: the digest of the log, the offsets given, and what is
/// remembered of each producer, message and letter. A replica that began with a checkpoint has it from there.
fn fingerprint(machine: &PartitionMachine) -> u64 {
    let state = machine.state();
    let mix = |sum: u64, word: u64| (sum ^ word).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(23);
    let producers = machine.producers().iter().flat_map(|producer| {
        let batches = producer.batches.iter().flat_map(|batch| [batch.first_sequence as u64, batch.base_offset as u64]);
        [producer.id as u64, producer.epoch as u64].into_iter().chain(batches)
    });
    let cursors = machine.cursors().flat_map(|(cursor, set)| {
        let (state, counts) = (set.state(), set.counts(i64::MIN));
        let numbers = [state.floor as u64, state.next as u64, counts.ready, counts.delayed, counts.dead_pending];
        [u64::from(cursor)].into_iter().chain(numbers).chain(state.dead)
    });
    let letters = machine.inbox().sources().map(|(_, last)| last);
    let clean = machine.clean();
    let counters =
        [state.digest, state.next_offset as u64, state.dead_batches, state.log_bytes, clean.end as u64, clean.moves];
    counters.into_iter().chain(producers).chain(cursors).chain(letters).fold(0, mix)
}

/// All is quiet: nothing that clients asked for may still be on its way.
fn look_bounded(at: Duration, views: &[View], history: &mut History) {
    for (node, broker) in views.iter().filter_map(|view| Some((view.node, view.broker.as_ref()?))) {
        let bytes = broker.admitted_bytes();
        if bytes > 0 {
            history
                .violate(at, format!("L2 OperationsEnd: {bytes} bytes of appends are still under way on node {node}"));
        }
    }
}

/// Whether a node leads the controller and has applied all that was ever committed.
fn knows_everything(broker: &Broker) -> bool {
    broker.rafts().iter().any(|group| group.id() == GroupId::CONTROLLER && group.knows_end())
}

/// Writes down what the cluster holds of the topics that admins worked on, as one last operation on each.
fn describe_topics(at: Duration, views: &[View], history: &mut History) {
    let Some(image) = newest_image(views) else { return };
    let changed = history.operations.iter().filter_map(|operation| metadata_linearizable::topic(&operation.action));
    let names: BTreeSet<String> = changed.map(str::to_owned).collect();
    for topic in names {
        let found = image.topic(&topic).map(|found| {
            let retention = found.configs.get("retention.ms").and_then(|value| value.parse().ok());
            (found.partitions.len() as i32, retention)
        });
        for (kind, found) in [(Kind::Invoke, None), (Kind::Ok, found)] {
            history.record(at, OBSERVER, kind, Action::DescribeTopic { topic: topic.clone(), found }, None);
        }
    }
}

/// The groups as those see them that lead in the newest terms.
fn led(views: &[View]) -> BTreeMap<GroupId, Led> {
    let mut led: BTreeMap<GroupId, Led> = BTreeMap::new();
    for group in views.iter().filter_map(|view| view.broker.as_ref()).flat_map(|broker| broker.rafts()) {
        let mark = group.mark();
        if mark.is_leader && led.get(&group.id()).is_none_or(|known| known.term < mark.term) {
            led.insert(group.id(), Led { term: mark.term, voters: group.metrics().voter_sets });
        }
    }
    led
}

fn newest_image(views: &[View]) -> Option<Arc<Image>> {
    let brokers = views.iter().filter_map(|view| view.broker.as_ref());
    brokers.map(|broker| broker.image()).max_by_key(|image| image.version)
}

/// Where the newest metadata among `views` places each group; the controller's own is where its members say.
fn placed(views: &[View]) -> BTreeMap<GroupId, BTreeSet<u32>> {
    let Some(image) = newest_image(views) else { return BTreeMap::new() };
    let partitions = image.topics.values().flat_map(|topic| &topic.partitions);
    let mut placed: BTreeMap<GroupId, BTreeSet<u32>> =
        partitions.map(|partition| (partition.group, partition.nodes().iter().map(|node| node.0).collect())).collect();
    let controllers = views.iter().filter_map(|view| view.broker.as_ref()).flat_map(|broker| broker.rafts());
    let members = controllers
        .filter(|group| group.id() == GroupId::CONTROLLER)
        .max_by_key(|group| group.mark().committed)
        .map(|group| group.metrics().status);
    let members = members.into_iter().flat_map(|status| status.voters.into_iter().chain(status.learners));
    placed.insert(GroupId::CONTROLLER, members.map(|replica| replica.node().0).collect());
    placed
}
