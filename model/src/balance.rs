//! Where replicas and leaders should be: a pure plan that levels what nodes carry, or empties nodes that leave.
//! Invariants: a partition keeps its number of replicas, each on another node, and never loses a rack; nothing moves to a node that
//! takes nothing; a move only makes loads more equal, so that planning ends and a plan of the planned cluster is empty.
//! Same input, same plan: ties go to the lower node id and the earlier partition.

mod leaders;
mod risk;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use serde::{Deserialize, Serialize};

use crate::ids::{NodeId, PartitionIndex};

pub use risk::{Risk, quorum_lost};

/// What a replica weighs besides its bytes: its part of memory, of heartbeats and of what will be written to it.
const REPLICA_BYTES: u64 = 1 << 20;
/// How far from the mean a node's load may be, in percent.
pub const TOLERANCE_PERCENT: u64 = 10;

/// A node that may carry replicas.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Carrier {
    /// Its rack.
    pub rack: Option<String>,
    /// Whether it may be given more: it is alive.
    pub takes: bool,
    /// Whether it must be emptied of replicas.
    pub leaves: bool,
    /// Whether it may lead: it is not drained.
    pub leads: bool,
}

/// A partition and what it weighs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Piece {
    /// Topic name.
    pub topic: String,
    /// Its number.
    pub index: PartitionIndex,
    /// Bytes of one replica.
    pub bytes: u64,
    /// Its nodes, the preferred leader first.
    pub replicas: Vec<NodeId>,
    /// The nodes whose replica is alive and in sync.
    pub well: BTreeSet<NodeId>,
    /// Its replicas are being changed already.
    pub is_changing: bool,
}

/// The whole cluster.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Fleet {
    /// All nodes.
    pub nodes: BTreeMap<NodeId, Carrier>,
    /// All partitions.
    pub pieces: Vec<Piece>,
}

/// A partition whose nodes, or their order, shall change.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Move {
    /// Topic name.
    pub topic: String,
    /// Partition.
    pub index: PartitionIndex,
    /// Its nodes now, the preferred leader first.
    pub from: Vec<NodeId>,
    /// Its nodes afterwards.
    pub to: Vec<NodeId>,
    /// Bytes to copy: 0 when only another replica shall lead.
    pub bytes: u64,
}

/// What a node carries.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Load {
    /// Replicas.
    pub replicas: usize,
    /// Partitions of which it is the preferred leader.
    pub leaders: usize,
    /// Bytes of its replicas.
    pub bytes: u64,
}

/// A partition that should move and does not, and why.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stay {
    /// Topic name.
    pub topic: String,
    /// Partition.
    pub index: PartitionIndex,
    /// Why.
    pub why: Why,
}

/// Why a partition does not move.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Why {
    /// Its replicas are being changed already.
    Changing,
    /// Too few of its replicas are alive and in sync to change anything.
    NoMajority,
    /// No other node could take the replica on this one without a loss of racks.
    NoPlace(NodeId),
    /// The replica on this node, which is down, stays: a node that comes back is cheaper than a copy.
    Down(NodeId),
}

/// What to do, and what it comes to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    /// In the order in which they should be carried out: those that are needed most, first.
    pub moves: Vec<Move>,
    /// What should move and does not.
    pub stays: Vec<Stay>,
    /// Loads before.
    pub before: BTreeMap<NodeId, Load>,
    /// Loads after.
    pub after: BTreeMap<NodeId, Load>,
}

impl fmt::Display for Why {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Why::Changing => f.write_str("its replicas are being changed already"),
            Why::NoMajority => f.write_str("too few of its replicas are in sync to change anything"),
            Why::NoPlace(node) => {
                write!(f, "no other node could take the replica on node {node} without a loss of racks")
            }
            Why::Down(node) => write!(f, "node {node} is down; its replica waits for it"),
        }
    }
}

impl Plan {
    /// Bytes to copy in all.
    pub fn bytes(&self) -> u64 {
        self.moves.iter().map(|one| one.bytes).sum()
    }
}

/// Plans: empties the nodes that leave, spreads over racks, levels bytes and replicas, then leaders.
pub fn plan(fleet: &Fleet) -> Plan {
    let mut draft = Draft::of(fleet);
    let before = draft.loads.clone();
    draft.relocate_all(true);
    draft.level();
    draft.level_leaders();
    draft.into_plan(before)
}

/// Plans only what must leave the nodes that leave.
pub fn plan_leaving(fleet: &Fleet) -> Plan {
    let mut draft = Draft::of(fleet);
    let before = draft.loads.clone();
    draft.relocate_all(false);
    draft.into_plan(before)
}

/// Other nodes for a move one of whose new nodes is lost; none if no node can take its place. A node that the move leaves gets
/// the replica back only if no other can have it.
pub fn replace(fleet: &Fleet, one: &Move, is_lost: impl Fn(NodeId) -> bool) -> Option<Vec<NodeId>> {
    let place = fleet.pieces.iter().position(|piece| piece.topic == one.topic && piece.index == one.index)?;
    let mut draft = Draft::of(fleet);
    draft.fixed.clear();
    draft.placed[place].clone_from(&one.to);
    let left: Vec<NodeId> = one.from.iter().copied().filter(|node| !one.to.contains(node)).collect();
    for lost in one.to.iter().copied().filter(|node| !one.from.contains(node) && is_lost(*node)) {
        let to = draft.lightest(place, lost, 0, &left)?;
        draft.placed[place] = draft.replaced(place, lost, to);
    }
    Some(draft.placed[place].clone())
}

/// Plans only who shall lead, so that no byte is copied.
pub fn plan_leaders(fleet: &Fleet) -> Plan {
    let mut draft = Draft::of(fleet);
    let before = draft.loads.clone();
    draft.level_leaders();
    draft.into_plan(before)
}

struct Draft<'a> {
    fleet: &'a Fleet,
    /// By place in the fleet.
    placed: Vec<Vec<NodeId>>,
    loads: BTreeMap<NodeId, Load>,
    /// Which pieces each node has.
    held: BTreeMap<NodeId, BTreeSet<usize>>,
    /// Pieces that must be left alone.
    fixed: BTreeSet<usize>,
    stays: Vec<Stay>,
}

impl<'a> Draft<'a> {
    fn of(fleet: &'a Fleet) -> Self {
        let loads = fleet.nodes.keys().map(|node| (*node, Load::default())).collect();
        let held = fleet.nodes.keys().map(|node| (*node, BTreeSet::new())).collect();
        let mut draft = Draft { fleet, placed: Vec::new(), loads, held, fixed: BTreeSet::new(), stays: Vec::new() };
        for (place, piece) in fleet.pieces.iter().enumerate() {
            draft.placed.push(piece.replicas.clone());
            for (rank, node) in piece.replicas.iter().enumerate() {
                draft.count(place, *node, rank == 0, 1);
            }
            let why = match () {
                () if piece.is_changing => Some(Why::Changing),
                () if piece.well.len() <= piece.replicas.len() / 2 => Some(Why::NoMajority),
                () => None,
            };
            if let Some(why) = why {
                draft.fixed.insert(place);
                draft.stay(place, why);
            }
        }
        draft
    }

    fn stay(&mut self, place: usize, why: Why) {
        let piece = &self.fleet.pieces[place];
        self.stays.push(Stay { topic: piece.topic.clone(), index: piece.index, why });
    }

    /// Counts a replica in (1) or out (-1).
    fn count(&mut self, place: usize, node: NodeId, is_leader: bool, sign: i8) {
        let bytes = self.fleet.pieces[place].bytes;
        let load = self.loads.entry(node).or_default();
        let held = self.held.entry(node).or_default();
        match sign {
            1 => {
                (load.replicas, load.bytes) = (load.replicas + 1, load.bytes + bytes);
                load.leaders += usize::from(is_leader);
                held.insert(place);
            }
            _ => {
                (load.replicas, load.bytes) = (load.replicas - 1, load.bytes - bytes);
                load.leaders -= usize::from(is_leader);
                held.remove(&place);
            }
        }
    }

    fn carrier(&self, node: NodeId) -> Option<&Carrier> {
        self.fleet.nodes.get(&node)
    }

    fn takes(&self, node: NodeId) -> bool {
        self.carrier(node).is_some_and(|carrier| carrier.takes && !carrier.leaves)
    }

    fn weight(&self, node: NodeId) -> u64 {
        self.loads.get(&node).map_or(0, |load| load.bytes + load.replicas as u64 * REPLICA_BYTES)
    }

    fn weight_of(&self, place: usize) -> u64 {
        self.fleet.pieces[place].bytes + REPLICA_BYTES
    }

    /// How many racks these nodes are in; a node without a rack is one of its own.
    fn racks(&self, nodes: &[NodeId]) -> usize {
        let rack = |node: &NodeId| self.carrier(*node).and_then(|carrier| carrier.rack.as_deref());
        let named: BTreeSet<&str> = nodes.iter().filter_map(rack).collect();
        named.len() + nodes.iter().filter(|node| rack(node).is_none()).count()
    }

    /// The nodes of a piece with one replaced.
    fn replaced(&self, place: usize, from: NodeId, to: NodeId) -> Vec<NodeId> {
        self.placed[place].iter().map(|node| if *node == from { to } else { *node }).collect()
    }

    /// Whether the replica of a piece on `from` may go to `to`.
    fn may_go(&self, place: usize, from: NodeId, to: NodeId) -> bool {
        let nodes = &self.placed[place];
        let free = !self.fixed.contains(&place) && self.takes(to) && !nodes.contains(&to);
        free && self.racks(&self.replaced(place, from, to)) >= self.racks(nodes)
    }

    fn relocate(&mut self, place: usize, from: NodeId, to: NodeId) {
        let is_leader = self.placed[place].first() == Some(&from);
        self.placed[place] = self.replaced(place, from, to);
        self.count(place, from, is_leader, -1);
        self.count(place, to, is_leader, 1);
    }

    /// Moves away what is on nodes that leave and, to `spread`, onto more racks what could be on more, the heaviest first.
    fn relocate_all(&mut self, spread: bool) {
        let mut order: Vec<usize> = (0..self.placed.len()).filter(|place| !self.fixed.contains(place)).collect();
        order.sort_by_key(|place| (std::cmp::Reverse(self.fleet.pieces[*place].bytes), *place));
        for place in order {
            for from in self.fleet.pieces[place].replicas.clone() {
                let Some(carrier) = self.carrier(from) else { continue };
                if carrier.leaves {
                    match self.lightest(place, from, 0, &[]) {
                        Some(to) => self.relocate(place, from, to),
                        None => self.stay(place, Why::NoPlace(from)),
                    }
                } else if !carrier.takes {
                    self.stay(place, Why::Down(from));
                } else if let Some(to) = self.lightest(place, from, 1, &[]).filter(|_| spread) {
                    self.relocate(place, from, to);
                }
            }
        }
    }

    /// The node with the least to carry that may take the replica on `from`, and adds at least so many racks; one of `last` only
    /// if no other does as well.
    fn lightest(&self, place: usize, from: NodeId, racks_more: usize, last: &[NodeId]) -> Option<NodeId> {
        let racks = self.racks(&self.placed[place]) + racks_more;
        let may = self.fleet.nodes.keys().copied().filter(|to| self.may_go(place, from, *to));
        let spread = may.map(|to| (self.racks(&self.replaced(place, from, to)), to)).filter(|(now, _)| *now >= racks);
        spread
            .min_by_key(|(now, to)| (std::cmp::Reverse(*now), last.contains(to), self.weight(*to), *to))
            .map(|(_, to)| to)
    }

    /// Moves replicas from nodes that carry more than the mean to those that carry less, until all are near it.
    fn level(&mut self) {
        let taking: Vec<NodeId> = self.fleet.nodes.keys().copied().filter(|node| self.takes(*node)).collect();
        let total: u64 = taking.iter().map(|node| self.weight(*node)).sum();
        let Some(mean) = total.checked_div(taking.len() as u64) else { return };
        let slack = mean * TOLERANCE_PERCENT / 100;
        while let Some((place, from, to)) = self.next_move(&taking, mean, slack) {
            self.relocate(place, from, to);
        }
    }

    /// Each move makes the sum of the squares of the loads smaller, so that this ends.
    fn next_move(&self, taking: &[NodeId], mean: u64, slack: u64) -> Option<(usize, NodeId, NodeId)> {
        let mut order: Vec<(u64, NodeId)> = taking.iter().map(|node| (self.weight(*node), *node)).collect();
        order.sort_unstable();
        for (high, from) in order.iter().rev() {
            for (low, to) in order.iter().take_while(|(low, _)| low < high) {
                let near = *high <= mean + slack && *low + slack >= mean;
                if near {
                    break;
                }
                let wish = (high.saturating_sub(mean)).max(mean.saturating_sub(*low)).min((high - low) / 2);
                if let Some(place) = self.best_piece(*from, *to, wish, high - low) {
                    return Some((place, *from, *to));
                }
            }
        }
        None
    }

    /// The heaviest piece up to `wish`, else the lightest below `gap`: a heavier one would only turn the difference round.
    fn best_piece(&self, from: NodeId, to: NodeId, wish: u64, gap: u64) -> Option<usize> {
        let held = self.held.get(&from)?.iter().copied();
        let movable: Vec<(u64, usize)> = held
            .filter(|place| self.weight_of(*place) < gap && self.may_go(*place, from, to))
            .map(|place| (self.weight_of(place), place))
            .collect();
        let fitting = movable.iter().filter(|(weight, _)| *weight <= wish);
        let fitting = fitting.max_by_key(|(weight, place)| (*weight, std::cmp::Reverse(*place)));
        fitting.or(movable.iter().min()).map(|(_, place)| *place)
    }

    fn into_plan(self, before: BTreeMap<NodeId, Load>) -> Plan {
        let moves = self.fleet.pieces.iter().zip(&self.placed).filter(|(piece, to)| piece.replicas != **to);
        let describe = |(piece, to): (&Piece, &Vec<NodeId>)| {
            let copies = to.iter().filter(|node| !piece.replicas.contains(node)).count() as u64;
            Move {
                topic: piece.topic.clone(),
                index: piece.index,
                from: piece.replicas.clone(),
                to: to.clone(),
                bytes: piece.bytes * copies,
            }
        };
        let mut moves: Vec<Move> = moves.map(describe).collect();
        // Leaders cost nothing and help at once; then the small ones, so that the first results show early.
        moves.sort_by_key(|one| one.bytes);
        Plan { moves, stays: self.stays, before, after: self.loads }
    }
}

#[cfg(test)]
mod tests;
