//! Levels preferred leaders without moving a byte: along chains of swaps, so that no arrangement of the same replicas is more equal.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use super::Draft;
use crate::ids::NodeId;

/// Which pieces the first node leads and the second could.
type Edges = BTreeMap<NodeId, BTreeMap<NodeId, BTreeSet<usize>>>;

impl Draft<'_> {
    fn may_lead(&self, place: usize, node: NodeId) -> bool {
        let carrier = self.carrier(node).is_some_and(|carrier| carrier.takes && carrier.leads && !carrier.leaves);
        // A replica that comes by this plan is in sync once it is there.
        let piece = &self.fleet.pieces[place];
        carrier && (piece.well.contains(&node) || !piece.replicas.contains(&node))
    }

    fn edges_of(&self, place: usize) -> impl Iterator<Item = (NodeId, NodeId)> {
        let nodes = &self.placed[place];
        let leader = nodes.first().copied().filter(|_| !self.fixed.contains(&place));
        let others = nodes.iter().skip(1).copied().filter(move |node| self.may_lead(place, *node));
        others.filter_map(move |other| Some((leader?, other)))
    }

    fn link(&self, edges: &mut Edges, place: usize) {
        for (leader, other) in self.edges_of(place) {
            edges.entry(leader).or_default().entry(other).or_default().insert(place);
        }
    }

    fn unlink(&self, edges: &mut Edges, place: usize) {
        for (leader, other) in self.edges_of(place) {
            if let Some(pieces) = edges.get_mut(&leader).and_then(|to| to.get_mut(&other)) {
                pieces.remove(&place);
            }
        }
    }

    fn leaders(&self, node: NodeId) -> usize {
        self.loads.get(&node).map_or(0, |load| load.leaders)
    }

    fn lead(&mut self, place: usize, node: NodeId) {
        let Some(rank) = self.placed[place].iter().position(|replica| *replica == node) else { return };
        let old = self.placed[place][0];
        self.placed[place][..=rank].rotate_right(1);
        self.loads.entry(old).or_default().leaders -= 1;
        self.loads.entry(node).or_default().leaders += 1;
    }

    /// Takes leaderships from who may not lead, then levels the others. Each chain makes the sum of squares smaller, so this ends.
    pub(super) fn level_leaders(&mut self) {
        let mut edges = Edges::new();
        (0..self.placed.len()).for_each(|place| self.link(&mut edges, place));
        let nodes: Vec<NodeId> = self.fleet.nodes.keys().copied().collect();
        let idle = |draft: &Self, node: NodeId| {
            draft.carrier(node).is_some_and(|carrier| !carrier.leads || carrier.leaves || !carrier.takes)
        };
        let idle: Vec<NodeId> = nodes.iter().copied().filter(|node| idle(self, *node)).collect();
        for node in idle {
            while let Some(chain) = self.chain(&edges, node, usize::MAX) {
                self.follow(&mut edges, &chain);
            }
        }
        while let Some(chain) = self.next_chain(&edges, &nodes) {
            self.follow(&mut edges, &chain);
        }
    }

    fn next_chain(&self, edges: &Edges, nodes: &[NodeId]) -> Option<Vec<NodeId>> {
        let mut order: Vec<(usize, NodeId)> = nodes.iter().map(|node| (self.leaders(*node), *node)).collect();
        order.sort_by_key(|(leaders, node)| (std::cmp::Reverse(*leaders), *node));
        order.iter().find_map(|(leaders, node)| self.chain(edges, *node, *leaders))
    }

    /// A way from `from`, which has `leaders`, to the nearest of the nodes that have least, and at least two fewer.
    fn chain(&self, edges: &Edges, from: NodeId, leaders: usize) -> Option<Vec<NodeId>> {
        let mut came: BTreeMap<NodeId, NodeId> = BTreeMap::from([(from, from)]);
        let mut queue = VecDeque::from([from]);
        let mut best: Option<(usize, NodeId)> = None;
        while let Some(node) = queue.pop_front() {
            let load = self.leaders(node);
            if node != from && load.saturating_add(2) <= leaders && best.is_none_or(|(least, _)| load < least) {
                best = Some((load, node));
            }
            for (next, pieces) in edges.get(&node).into_iter().flatten() {
                if !pieces.is_empty() && !came.contains_key(next) {
                    came.insert(*next, node);
                    queue.push_back(*next);
                }
            }
        }
        let mut chain = vec![best?.1];
        while let Some(before) =
            chain.last().and_then(|node| came.get(node)).filter(|before| chain.last() != Some(before))
        {
            chain.push(*before);
        }
        chain.reverse();
        Some(chain)
    }

    /// For each step of the chain one partition gets another leader.
    fn follow(&mut self, edges: &mut Edges, chain: &[NodeId]) {
        for pair in chain.windows(2) {
            let &[from, to] = pair else { continue };
            let Some(place) = edges.get(&from).and_then(|others| others.get(&to)?.first()).copied() else { continue };
            self.unlink(edges, place);
            self.lead(place, to);
            self.link(edges, place);
        }
    }
}
