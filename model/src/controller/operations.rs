//! Long work on the cluster as data: what is to be moved, how far it is, and what nodes are meant to do. The controller's leader
//! carries it out, whoever that is; here is only what is wanted and what is done.
//! Invariants: an operation that has ended never changes again; of ended ones a bounded number is kept, without their moves.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::balance::Move;
use crate::check;
use crate::controller::{Code, Error, Image, Partition};
use crate::ids::NodeId;
use crate::limits;

mod standing;

pub use standing::Standing;

/// Long work, and how far it is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Operation {
    /// Its number, from 1.
    pub id: u64,
    /// Chosen by who asked for it, so that it is not begun twice when an answer was lost.
    pub token: u64,
    /// What it is.
    pub kind: OperationKind,
    /// How it stands.
    pub state: OperationState,
    /// When it was begun, ms since 1970.
    pub started_ms: i64,
    /// When it changed last, ms since 1970.
    pub changed_ms: i64,
    /// Partitions that change; empty once it has ended.
    pub moves: Vec<Move>,
    /// Which of them are done, by place.
    pub done: BTreeSet<u32>,
    /// How many there are, or were; of a drain the leaderships that there were at first.
    pub total: u32,
    /// How many of them are done.
    pub finished: u32,
    /// Bytes to copy in all.
    pub bytes: u64,
    /// Bytes copied by the moves that are done.
    pub bytes_done: u64,
    /// What it waits for, or how it ended, in words.
    pub note: String,
}

/// What an operation is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum OperationKind {
    /// Levels what nodes carry.
    Rebalance,
    /// Moves partitions to where somebody wants them.
    Move,
    /// Takes all leaderships from a node; its replicas stay.
    Drain(NodeId),
    /// Takes all replicas from a node.
    Decommission(NodeId),
}

impl OperationKind {
    /// The node that it is about.
    pub fn node(self) -> Option<NodeId> {
        match self {
            OperationKind::Drain(node) | OperationKind::Decommission(node) => Some(node),
            OperationKind::Rebalance | OperationKind::Move => None,
        }
    }
}

/// How an operation stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum OperationState {
    /// It is carried out.
    Running,
    /// Nothing new is begun.
    Paused,
    /// Ended on demand.
    Cancelled,
    /// All is done.
    Finished,
    /// It cannot be done; the note says why.
    Failed,
}

impl OperationState {
    /// Whether nothing comes after it.
    pub fn is_end(self) -> bool {
        !matches!(self, OperationState::Running | OperationState::Paused)
    }
}

/// What a node is meant to do besides serving; nodes without one serve.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Duty {
    /// It leads nothing.
    Drained,
    /// It leads and holds nothing.
    Leaving,
}

/// The commands.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Operate {
    /// Begins an operation.
    Start {
        /// See [`Operation`].
        token: u64,
        /// See [`Operation`].
        kind: OperationKind,
        /// See [`Operation`].
        moves: Vec<Move>,
        /// See [`Operation`].
        total: u32,
    },
    /// Pauses, resumes or ends one.
    Steer {
        /// Which.
        id: u64,
        /// `Running`, `Paused`, or how it ends.
        to: OperationState,
        /// The new note.
        note: String,
    },
    /// What was done since.
    Progress(Progress),
    /// Lets a node serve again, and ends the operation that took something from it.
    Restore(NodeId),
}

/// What the controller's leader did for an operation.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Progress {
    /// Of which operation.
    pub id: u64,
    /// Moves that are done now, by place.
    pub done: BTreeSet<u32>,
    /// Moves that go elsewhere, because a node died.
    pub changed: BTreeMap<u32, Vec<NodeId>>,
    /// More moves, of what came meanwhile.
    pub more: Vec<Move>,
    /// Of a drain: leaderships handed over so far.
    pub handed_over: Option<u32>,
    /// The new note.
    pub note: String,
}

impl Operation {
    /// The moves that are left, with their places.
    pub fn left(&self) -> impl Iterator<Item = (u32, &Move)> {
        (0..).zip(&self.moves).filter(|(place, _)| !self.done.contains(place))
    }

    fn end(&mut self, state: OperationState) {
        self.state = state;
        if state == OperationState::Finished {
            (self.finished, self.bytes_done) = (self.total, self.bytes);
        }
        self.moves = Vec::new();
        self.done = BTreeSet::new();
    }

    fn take(&mut self, progress: Progress) {
        let Progress { id: _, done, changed, more, handed_over, note } = progress;
        for (place, to) in changed {
            if let Some(one) = self.moves.get_mut(place as usize) {
                one.to = to;
            }
        }
        for place in done {
            if let Some(one) = self.moves.get(place as usize).filter(|_| !self.done.contains(&place)) {
                self.bytes_done += one.bytes;
                self.finished += 1;
                self.done.insert(place);
            }
        }
        self.bytes += more.iter().map(|one| one.bytes).sum::<u64>();
        self.total += more.len() as u32;
        self.moves.extend(more);
        self.finished = handed_over.map_or(self.finished, |count| count.min(self.total));
        self.note = note;
        check!(self.finished <= self.total, OperationCounts, "{} of {} are done", self.finished, self.total);
    }
}

impl Image {
    /// What a node is meant to do besides serving.
    pub fn duty(&self, node: NodeId) -> Option<Duty> {
        self.duties.get(&node).copied()
    }

    /// The operations that have not ended, oldest first.
    pub fn open_operations(&self) -> impl Iterator<Item = &Arc<Operation>> {
        self.operations.values().filter(|operation| !operation.state.is_end())
    }

    pub(super) fn operate(&mut self, operate: Operate, now_ms: i64) -> Result<u64, Error> {
        match operate {
            Operate::Start { token, kind, moves, total } => self.start_operation((token, kind), moves, total, now_ms),
            Operate::Steer { id, to, note } => self.change_operation(id, now_ms, |operation| {
                operation.note = note;
                if to.is_end() { operation.end(to) } else { operation.state = to }
            }),
            Operate::Progress(progress) => {
                self.change_operation(progress.id, now_ms, |operation| operation.take(progress))
            }
            Operate::Restore(node) => self.restore_node(node, now_ms),
        }
    }

    fn start_operation(
        &mut self,
        (token, kind): (u64, OperationKind),
        moves: Vec<Move>,
        total: u32,
        started_ms: i64,
    ) -> Result<u64, Error> {
        if let Some(known) = self.operations.values().find(|known| known.token == token) {
            return Ok(known.id);
        }
        let refuse = |message: String| Err(Error::new(Code::InvalidRequest, message));
        if moves.len() > limits::OPERATION_MOVES_MAX {
            return refuse(format!("{} moves are more than {}", moves.len(), limits::OPERATION_MOVES_MAX));
        }
        if let Some(other) = self.open_operations().find(|other| other.kind == kind && kind != OperationKind::Move) {
            return refuse(format!("operation {} does the same and has not ended", other.id));
        }
        if self.open_operations().count() >= limits::OPERATIONS_OPEN_MAX {
            return refuse(format!("{} operations have not ended yet", limits::OPERATIONS_OPEN_MAX));
        }
        if let Some(node) = kind.node() {
            if !self.nodes.contains_key(&node) {
                return Err(Error::new(Code::NodeNotRegistered, format!("node {node} is not registered")));
            }
            let duty = if matches!(kind, OperationKind::Drain(_)) { Duty::Drained } else { Duty::Leaving };
            if duty == Duty::Drained && self.duty(node) == Some(Duty::Leaving) {
                return refuse(format!("node {node} is being decommissioned, which includes what a drain does"));
            }
            if let Some(partition) = self.left_without_leader(node).filter(|_| duty == Duty::Drained) {
                return refuse(format!("all other nodes of {partition} are drained: nobody would be left to lead it"));
            }
            self.duties.insert(node, duty);
        }
        let id = self.operations.last_key_value().map_or(0, |(last, _)| *last) + 1;
        let total = total.max(moves.len() as u32);
        let bytes = moves.iter().map(|one| one.bytes).sum();
        let operation = Operation {
            id,
            token,
            kind,
            state: OperationState::Running,
            started_ms,
            changed_ms: started_ms,
            moves,
            done: BTreeSet::new(),
            total,
            finished: 0,
            bytes,
            bytes_done: 0,
            note: String::new(),
        };
        self.operations.insert(id, Arc::new(operation));
        self.forget_operations();
        Ok(id)
    }

    /// A partition on `node` that none of its other nodes is meant to lead: a drain would never end.
    fn left_without_leader(&self, node: NodeId) -> Option<String> {
        let leads = |other: NodeId| other != node && self.duty(other).is_none();
        let led = |partition: &Partition| partition.wanted().map(|replica| replica.node()).any(leads);
        let mut left = self.groups_of_node(node).filter(|(_, _, partition)| !led(partition));
        left.next().map(|(topic, index, _)| format!("{}-{index}", topic.name))
    }

    /// Drops the oldest that have ended; the newest stays in any case, so that no number is given twice.
    fn forget_operations(&mut self) {
        let ended = self.operations.values().filter(|operation| operation.state.is_end());
        let ended: Vec<u64> = ended.map(|operation| operation.id).collect();
        let surplus = ended.len().saturating_sub(limits::OPERATIONS_KEPT);
        for id in ended.into_iter().take(surplus) {
            self.operations.remove(&id);
        }
    }

    fn change_operation(&mut self, id: u64, now_ms: i64, change: impl FnOnce(&mut Operation)) -> Result<u64, Error> {
        let refuse = |message: String| Err(Error::new(Code::InvalidRequest, message));
        let Some(operation) = self.operations.get_mut(&id) else {
            return refuse(format!("there is no operation {id}"));
        };
        if operation.state.is_end() {
            return refuse(format!("operation {id} has ended"));
        }
        let operation = Arc::make_mut(operation);
        operation.changed_ms = now_ms;
        change(operation);
        Ok(id)
    }

    fn restore_node(&mut self, node: NodeId, now_ms: i64) -> Result<u64, Error> {
        if self.duties.remove(&node).is_none() {
            return Err(Error::new(Code::InvalidRequest, format!("node {node} serves already")));
        }
        let about = |operation: &&Arc<Operation>| operation.kind.node() == Some(node);
        let open: Vec<u64> = self.open_operations().filter(about).map(|operation| operation.id).collect();
        for id in &open {
            self.change_operation(*id, now_ms, |operation| {
                operation.end(OperationState::Cancelled);
                operation.note = format!("node {node} serves again");
            })?;
        }
        Ok(open.last().copied().unwrap_or(0))
    }
}

#[cfg(test)]
mod tests;
