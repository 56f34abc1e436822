//! What a run comes through, seen from outside: elections and acknowledgements for the story, the state of the cluster that a fault
//! meets, and the situations that a sweep must have reached. Also asks whether every node is ready. Reads watches only.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use model::GroupId;
use raft::{Group, Mark};

use crate::checker::ready::EveryNodeReady;
use crate::cluster::{State, View};
use crate::fault::Fault;
use crate::history::History;
use crate::nemesis::HEAL;
use crate::world::NODES;

/// How often it looks.
const LOOK: Duration = Duration::from_millis(10);
/// How often acknowledgements are told.
const TELL: Duration = Duration::from_secs(1);
/// A replica that lacks more committed entries than this catches up.
const BEHIND: u64 = 10;

/// The lookout of one run.
pub struct Lookout {
    ready: EveryNodeReady,
    next_look: Duration,
    next_tell: Duration,
    acknowledged: u64,
    /// Who led each group last, in which term.
    leaders: BTreeMap<GroupId, (u64, u32)>,
    /// The last entry of each replica, to see logs cut off.
    last: BTreeMap<(u32, GroupId), u64>,
    /// Groups without a leader since all nodes were down, and since all were without power.
    orphaned: BTreeSet<GroupId>,
    /// The last entry of each group whose leader sleeps, and the leader.
    asleep: BTreeMap<GroupId, (u32, Option<u64>)>,
    /// Groups that slept when the process of their leader ended, and that node.
    bereft: BTreeMap<GroupId, u32>,
    darkened: BTreeSet<GroupId>,
    /// Groups whose leader's node began anew since it led them.
    begun: BTreeSet<GroupId>,
    /// Founders without power.
    dark: BTreeSet<u32>,
    /// Replicas that were quarantined, and whether a node that was no founder got ready.
    stopped: BTreeSet<(u32, GroupId)>,
    joined: bool,
    /// Compactions of each node that finished, and that were abandoned.
    compacted: BTreeMap<u32, (u64, u64)>,
}

impl Lookout {
    /// For a run that asks `ready`.
    pub fn new(ready: EveryNodeReady) -> Self {
        Self {
            ready,
            next_look: Duration::ZERO,
            next_tell: Duration::ZERO,
            acknowledged: 0,
            leaders: BTreeMap::new(),
            last: BTreeMap::new(),
            orphaned: BTreeSet::new(),
            asleep: BTreeMap::new(),
            bereft: BTreeMap::new(),
            darkened: BTreeSet::new(),
            begun: BTreeSet::new(),
            dark: BTreeSet::new(),
            stopped: BTreeSet::new(),
            joined: false,
            compacted: BTreeMap::new(),
        }
    }

    /// Whether the run must go on although its clients are done.
    pub fn waits(&self, at: Duration) -> bool {
        self.ready.waits(at)
    }

    /// A fault took effect.
    pub fn note(&mut self, fault: &Fault) {
        match *fault {
            Fault::PowerLoss { node } => {
                self.dark.insert(node);
            }
            Fault::Start { node } => {
                self.dark.remove(&node);
                self.begun.extend(self.leaders.iter().filter(|(_, (_, led))| *led == node).map(|(group, _)| *group));
            }
            _ => {}
        }
        if (1..=NODES).all(|node| self.dark.contains(&node)) {
            self.darkened = self.leaders.keys().copied().collect();
        }
    }

    /// Looks at the world after a step.
    pub fn look(&mut self, at: Duration, views: &[View], history: &mut History) {
        if at < self.next_look {
            return;
        }
        self.next_look = at + LOOK;
        if views.iter().all(|view| view.state == State::Down) {
            self.orphaned = self.leaders.keys().copied().collect();
            self.last.clear();
        }
        for view in views {
            self.look_joined(at, view, history);
            self.look_compacted(view, history);
            for group in view.broker.iter().flat_map(|broker| broker.rafts()) {
                let mark = group.mark();
                self.sleeps(view.node, &group, &mark, views, history);
                if mark.is_leader {
                    self.leads(at, view.node, group.id(), &mark, views, history);
                }
                if mark.stopped {
                    self.stops(at, view.node, &group, history);
                }
                self.log(view.node, &group, history);
            }
        }
        self.tell_acknowledged(at, history);
        self.ready.look(at, views, history);
    }

    /// Counts compactions that ended, well or not.
    fn look_compacted(&mut self, view: &View, history: &mut History) {
        let Some(broker) = &view.broker else { return };
        let metrics = &broker.metrics().compaction;
        let now = (metrics.passes(), metrics.abandoned.get());
        // A process that begins anew counts from zero.
        let (passes, abandoned) = self.compacted.insert(view.node, now).unwrap_or_default();
        (passes..now.0).for_each(|_| history.count("compaction finished"));
        (abandoned..now.1).for_each(|_| history.count("compaction abandoned"));
    }

    /// Counts a node that joined while faults went on.
    fn look_joined(&mut self, at: Duration, view: &View, history: &mut History) {
        let joins = view.node > NODES && at < HEAL && !self.joined;
        if joins && view.broker.as_ref().is_some_and(|broker| broker.readiness().ready) {
            self.joined = true;
            history.tell(at, format!("node {} has joined", view.node));
            history.count("node joined amid faults");
        }
    }

    /// Tells of a replica that was quarantined.
    fn stops(&mut self, at: Duration, node: u32, group: &Group, history: &mut History) {
        let why = group.status_now().stopped.filter(|why| why.starts_with("quarantined"));
        if let Some(why) = why.filter(|_| self.stopped.insert((node, group.id()))) {
            history.tell(at, format!("the replica of group {} on node {node} is {why}", group.id()));
            history.count("replica quarantined");
        }
    }

    /// Counts who falls asleep, and how that ends.
    fn sleeps(&mut self, node: u32, group: &Group, mark: &Mark, views: &[View], history: &mut History) {
        let id = group.id();
        let down = |node: u32| views.iter().any(|view| view.node == node && view.state == State::Down);
        let under = mark.asleep.map(|(leader, _)| leader.node().0);
        if under == Some(node) && self.asleep.insert(id, (node, mark.committed)).is_none() {
            history.count("a group fell asleep");
        }
        match under {
            Some(leader) if leader != node && down(leader) => drop(self.bereft.insert(id, leader)),
            Some(_) => {}
            None if mark.is_leader && self.asleep.get(&id).is_some_and(|(leader, _)| *leader == node) => {
                let slept_at = self.asleep.get(&id).and_then(|(_, last)| *last);
                if group.metrics().last > slept_at {
                    self.asleep.remove(&id);
                    history.count("a write woke a group");
                }
            }
            None => {}
        }
    }

    /// Tells a new leader, and counts how it came to lead.
    fn leads(&mut self, at: Duration, node: u32, group: GroupId, mark: &Mark, views: &[View], history: &mut History) {
        let before = self.leaders.get(&group).copied();
        if before.is_some_and(|(term, _)| term >= mark.term) {
            if before == Some((mark.term, node)) && self.begun.remove(&group) {
                history.tell(at, format!("LEADER of group {group}, node {node}, went on in term {}", mark.term));
                history.count("leader went on after a stop in order");
            }
            return;
        }
        self.begun.remove(&group);
        self.leaders.insert(group, (mark.term, node));
        history.tell(at, format!("LEADER of group {group} is node {node} in term {}", mark.term));
        history.count("elections");
        if self.orphaned.remove(&group) {
            history.count("leader after all nodes were down");
        }
        if self.darkened.remove(&group) {
            history.count("leader after all nodes lost power");
        }
        if self.bereft.remove(&group).is_some_and(|gone| gone != node) {
            history.count("a sleeping group's leader died and another was elected");
        }
        self.asleep.remove(&group);
        let Some((_, old)) = before.filter(|(_, old)| *old != node) else { return };
        let old = views.iter().find(|view| view.node == old);
        if old.is_some_and(|view| view.state == State::Paused) {
            history.count("paused leader replaced");
        }
        let rafts = old.iter().flat_map(|view| &view.broker).flat_map(|broker| broker.rafts());
        if rafts.filter(|raft| raft.id() == group).any(|raft| raft.mark().is_leader) {
            history.count("leader replaced that does not know it");
        }
    }

    /// Sees the end of a log go back, or leap to a checkpoint.
    fn log(&mut self, node: u32, group: &Group, history: &mut History) {
        let metrics = group.metrics();
        let now = metrics.last.unwrap_or_default();
        let Some(before) = self.last.insert((node, group.id()), now) else { return };
        if now < before {
            history.count("log cut back to a leader's");
        }
        if metrics.purged.is_some_and(|purged| purged > before) {
            history.count("snapshot installed");
            if !metrics.status.voters.contains(&group.replica()) {
                history.count("learner installed a snapshot");
            }
        }
    }

    fn tell_acknowledged(&mut self, at: Duration, history: &mut History) {
        let now = history.counts.get("records acknowledged").copied().unwrap_or_default();
        if at >= self.next_tell && now != self.acknowledged {
            self.next_tell = at + TELL;
            history.tell(at, format!("{now} records are acknowledged, {} more", now - self.acknowledged));
            self.acknowledged = now;
        }
    }

    /// The states of the cluster that hold now, by the names of [`crate::coverage::STATES`].
    pub fn states(&self, views: &[View]) -> Vec<&'static str> {
        let mut replicas: BTreeMap<GroupId, Vec<Mark>> = BTreeMap::new();
        let (mut learner, mut joint, mut unready) = (false, false, false);
        let mut kept: BTreeMap<GroupId, (u64, u64)> = BTreeMap::new();
        for broker in views.iter().filter_map(|view| view.broker.as_ref()) {
            unready |= !broker.readiness().ready;
            for group in broker.rafts() {
                let metrics = group.metrics();
                learner |= !metrics.status.learners.is_empty();
                joint |= metrics.voter_sets.len() > 1;
                replicas.entry(group.id()).or_default().push(group.mark());
                let (purged, last) = kept.entry(group.id()).or_insert((0, u64::MAX));
                *purged = metrics.purged.unwrap_or(0).max(*purged);
                *last = metrics.last.unwrap_or(0).min(*last);
            }
        }
        let led = |marks: &Vec<Mark>| {
            let term = marks.iter().map(|mark| mark.term).max();
            marks.iter().any(|mark| mark.is_leader && Some(mark.term) == term)
        };
        let behind = |marks: &Vec<Mark>| {
            let committed = || marks.iter().map(|mark| mark.committed.unwrap_or_default());
            committed().max().zip(committed().min()).is_some_and(|(max, min)| max > min + BEHIND)
        };
        let is = |state: State| views.iter().any(|view| view.state == state);
        let held = [
            ("no leader", !replicas.values().all(led)),
            ("catching up", replicas.values().any(behind)),
            ("not ready", unready),
            ("learner", learner),
            ("joint", joint),
            ("needs snapshot", kept.values().any(|(purged, last)| last < purged)),
            ("node down", is(State::Down)),
            ("node paused", is(State::Paused)),
        ];
        let held: Vec<_> = held.into_iter().filter(|(_, holds)| *holds).map(|(state, _)| state).collect();
        if held.is_empty() { vec!["steady"] } else { held }
    }
}
