//! The steps of a rebalance: members rejoin, the generation is made, its leader assigns.

use std::collections::{BTreeMap, BTreeSet};

use super::{Classic, Code, Phase, Sync};
use crate::check;
use crate::limits::GROUP_METADATA_BYTES_MAX;
use crate::machine::At;
use crate::planted::{self, Bug};

impl Classic {
    fn enter(&mut self, at: At, phase: Phase) {
        self.phase = phase;
        self.since_ms = at.leader_ts;
        let empty = (phase == Phase::Empty) == self.members.is_empty();
        check!(empty || phase == Phase::Preparing, GroupPhase, "{phase:?} with {} members", self.members.len());
    }

    /// `joins` has joined: a rebalance begins, or goes on with it.
    pub(super) fn prepare(&mut self, at: At, joins: &str) {
        self.begin(at);
        if let Some(member) = self.members.get_mut(joins) {
            member.ready = true;
        }
        self.complete_if_all_joined(at);
    }

    /// Everybody must join again.
    fn begin(&mut self, at: At) {
        if self.phase == Phase::Preparing {
            return;
        }
        for member in self.members.values_mut() {
            member.ready = false;
            if !planted::is(Bug::DoubleOwner) {
                member.assignment = Vec::new();
            }
        }
        self.enter(at, Phase::Preparing);
    }

    fn complete_if_all_joined(&mut self, at: At) {
        if self.phase == Phase::Preparing && !self.gathers && self.members.values().all(|member| member.ready) {
            self.complete_join(at);
        }
    }

    /// Ends the join with those who have rejoined. A static member keeps its place; if nobody else came, all wait on.
    pub(super) fn complete_join(&mut self, at: At) {
        self.gathers = false;
        self.members.retain(|_, member| member.ready || member.instance.is_some());
        if !self.members.is_empty() && !self.members.values().any(|member| member.ready) {
            self.since_ms = at.leader_ts;
            return;
        }
        self.generation = self.generation.checked_add(1).unwrap_or(1);
        if self.members.is_empty() {
            (self.leader, self.protocol) = (None, None);
            self.enter(at, Phase::Empty);
            return;
        }
        let leads = |id: &String| self.members.get(id).is_some_and(|member| member.ready);
        if !self.leader.as_ref().is_some_and(leads) {
            self.leader = self.members.iter().find(|(_, member)| member.ready).map(|(id, _)| id.clone());
        }
        self.protocol = self.vote();
        check!(self.protocol.is_some(), GroupPhase, "no protocol that all members know");
        self.members.values_mut().for_each(|member| member.ready = false);
        self.enter(at, Phase::Completing);
    }

    /// Of the protocols that all know, the one that most members like best; among equals the first by name.
    fn vote(&self) -> Option<String> {
        let all_know = |name: &&String| self.members.values().all(|member| member.knows(name));
        let of_one = self.members.values().next().into_iter().flat_map(|member| &member.protocols);
        let known: BTreeSet<&String> = of_one.map(|protocol| &protocol.name).filter(all_know).collect();
        let mut votes = BTreeMap::<&String, usize>::new();
        for member in self.members.values() {
            let mut names = member.protocols.iter().map(|protocol| &protocol.name);
            if let Some(best) = names.find(|name| known.contains(name)) {
                *votes.entry(best).or_default() += 1;
            }
        }
        let most = votes.values().max().copied()?;
        votes.into_iter().find(|(_, count)| *count == most).map(|(name, _)| name.clone())
    }

    pub(super) fn sync(&mut self, at: At, sync: Sync) -> Result<(), Code> {
        let id = self.named(&sync.who)?;
        self.current(&sync.who)?;
        // A group that has just come back from the consumer protocol has chosen none.
        let differs = |said: &Option<String>, is: &Option<String>| said.is_some() && is.is_some() && said != is;
        if differs(&sync.protocol_type, &self.protocol_type) || differs(&sync.protocol, &self.protocol) {
            return Err(Code::InconsistentGroupProtocol);
        }
        if self.phase == Phase::Preparing {
            return Err(Code::RebalanceInProgress);
        }
        let bytes: usize = sync.assignments.iter().map(|part| part.bytes.len()).sum();
        if bytes > GROUP_METADATA_BYTES_MAX {
            return Err(Code::GroupMaxSizeReached);
        }
        if let Some(member) = self.members.get_mut(&id) {
            member.ready = true;
        }
        if self.phase == Phase::Completing && self.leader.as_ref() == Some(&id) {
            for part in sync.assignments {
                if let Some(member) = self.members.get_mut(&part.member) {
                    member.assignment = part.bytes;
                    // Until it asks, it reads what it went on reading when it joined.
                    member.owns = part.spots.zip(member.owns.take()).map(|(spots, owns)| &spots | &owns);
                }
            }
            self.enter(at, Phase::Stable);
        }
        Ok(())
    }

    /// Removes those who have not asked for their assignment, which begins a rebalance.
    pub(super) fn complete_sync(&mut self, at: At) {
        self.members.retain(|_, member| member.ready);
        self.rebalance(at);
    }

    /// Removes a member, which begins a rebalance, or may end a join that waits for it only.
    pub(super) fn remove(&mut self, at: At, id: &str) {
        let gone = self.members.remove(id).is_some();
        check!(gone, GroupPhase, "{id} is no member");
        if !planted::is(Bug::LostRebalance) || self.members.is_empty() {
            self.rebalance(at);
        }
    }

    /// Everybody must join again, whatever has become of the members; a join that waits for nobody ends.
    pub(super) fn rebalance(&mut self, at: At) {
        self.begin(at);
        match self.members.is_empty() {
            true => self.complete_join(at),
            false => self.complete_if_all_joined(at),
        }
    }
}
