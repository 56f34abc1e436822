//! Answers those who wait, once the replicated machine has an answer for them.
use std::collections::BTreeMap;

use model::coordinator::{self, CoordinatorMachine, Group, Who};
use tokio::time::Instant;

use super::Coordinator;
use super::soft::Waiting;
use super::timers::Glance;
use crate::router::desk::{Denied, Joined, Synced};

impl Coordinator {
    /// Looks at a group that has changed; `only_joined` says that nobody who waits can have been sent away.
    pub(super) fn look(&mut self, group: &str, only_joined: bool, now: Instant) {
        let glance = self.read(|machine| machine.group(group).and_then(Group::classic).map(Glance::of)).flatten();
        let goes_on = self.set_turn(group, glance.as_ref(), now);
        self.set_revocations(group, now);
        self.refresh_mixed(group);
        let in_vain = only_joined && goes_on && glance.as_ref().is_some_and(Glance::is_preparing);
        let Some(soft) = self.groups.get_mut(group) else { return };
        let joins = if in_vain { BTreeMap::new() } else { std::mem::take(&mut soft.joins) };
        let syncs = std::mem::take(&mut soft.syncs);
        let joined = self.settle(joins, joined);
        let synced = self.settle(syncs, synced);
        let Some(soft) = self.groups.get_mut(group) else { return };
        soft.joins.extend(joined);
        soft.syncs.extend(synced);
        if glance.is_none() && soft.sessions.is_empty() && soft.joins.is_empty() && soft.syncs.is_empty() {
            self.groups.remove(group);
        }
    }

    /// Answers whom there is an answer for; gives back who has to wait on.
    fn settle<T>(
        &mut self,
        waiting: BTreeMap<String, Waiting<T>>,
        answer: impl Fn(&CoordinatorMachine, &Who) -> Option<Result<T, coordinator::Code>>,
    ) -> Vec<(String, Waiting<T>)> {
        if waiting.is_empty() {
            return Vec::new();
        }
        let answers: Vec<_> = self
            .read(|machine| waiting.values().map(|waiting| answer(machine, &waiting.who)).collect())
            .unwrap_or_default();
        let mut rest = Vec::new();
        for ((id, waiting), answer) in waiting.into_iter().zip(answers) {
            let Some(answer) = answer else {
                rest.push((id, waiting));
                continue;
            };
            self.touch(&waiting.who);
            let _gone = waiting.told.send(answer.map_err(Denied::from));
        }
        rest
    }
}

fn joined(machine: &CoordinatorMachine, who: &Who) -> Option<Result<Joined, coordinator::Code>> {
    let joined = |joined: coordinator::Joined<'_>| Joined {
        generation: joined.generation,
        protocol_type: joined.protocol_type.map(str::to_owned),
        protocol: joined.protocol.map(str::to_owned),
        leader: joined.leader().cloned().unwrap_or_default(),
        skip_assignment: joined.skip_assignment(),
        members: match joined.leads() {
            true => {
                joined.members().map(|(id, instance, metadata)| (id.clone(), instance.cloned(), metadata)).collect()
            }
            false => Vec::new(),
        },
        member: joined.member,
    };
    machine.join_answer(who).map(|answer| answer.map(joined))
}

fn synced(machine: &CoordinatorMachine, who: &Who) -> Option<Result<Synced, coordinator::Code>> {
    let joined = machine.join_answer(who).and_then(Result::ok);
    let owned = |name: Option<&str>| name.map(str::to_owned);
    let synced = |share| Synced {
        protocol_type: owned(joined.as_ref().and_then(|joined| joined.protocol_type)),
        protocol: owned(joined.as_ref().and_then(|joined| joined.protocol)),
        share,
    };
    machine.sync_answer(who).map(|answer| answer.map(synced))
}
