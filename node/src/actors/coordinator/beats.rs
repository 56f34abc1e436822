//! Heartbeats of the consumer protocol (KIP-848): answered at once when they change nothing, proposed when they do; and the time
//! that a member has to give partitions up.
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use model::coordinator::consumer::JOINS;
use model::coordinator::{Beat, Beaten, Code, Command, Group, Subscription, Who};
use tokio::time::Instant;

use super::soft::Alarm;
use super::subscriptions::{Lookup, compile};
use super::timers::milliseconds;
use super::{After, Coordinator, uuid};
use crate::router::desk::{Beating, Denied, Told};

impl Coordinator {
    /// A heartbeat: looks up what the member subscribes to, and sees whether anything changes.
    pub(super) fn take_beat(&mut self, beating: Beating, told: Told<(String, Beaten)>) {
        let mut beat = match self.prepare(beating) {
            Ok(beat) => beat,
            Err(denied) => return drop(told.send(Err(denied))),
        };
        beat.members_max = u32::try_from(self.number("group.consumer.max.size")).unwrap_or(u32::MAX);
        let who = beat.who.clone();
        let unchanged = self.read(|machine| machine.group(&who.group)?.consumer()?.unchanged(&beat)).flatten();
        match unchanged {
            Some(answer) => {
                if answer.is_ok() {
                    self.touch(&who);
                }
                let _gone = told.send(answer.map(|beaten| (who.member, beaten)).map_err(Denied::from));
            }
            None => self.queue.push_back((Command::Beat(beat), After::Beat(who, told))),
        }
    }

    fn prepare(&self, beating: Beating) -> Result<Beat, Denied> {
        let Beating { mut beat, names, pattern, assignor } = beating;
        let joins = beat.who.generation == JOINS;
        if joins && beat.who.member.is_empty() {
            beat.who.member = uuid();
        }
        if joins && self.is_crowded() {
            return Err(Code::GroupMaxSizeReached.into());
        }
        let says_more = names.is_some() || pattern.is_some() || assignor.is_some();
        if !joins && !says_more {
            return Ok(beat);
        }
        if let Some(pattern) = pattern.as_ref().filter(|pattern| !pattern.is_empty()) {
            compile(pattern).map_err(Denied::BadPattern)?;
        }
        let known = self.read(|machine| {
            let members = &machine.group(&beat.who.group)?.consumer()?.members;
            Some(members.get(&beat.who.member)?.subscription.clone())
        });
        let known = known.flatten().filter(|_| !joins).unwrap_or_default();
        let mut subscription = Subscription {
            names: names.unwrap_or(known.names),
            pattern: pattern.or(known.pattern).filter(|pattern| !pattern.is_empty()),
            assignor: assignor.or(known.assignor),
            topics: known.topics,
        };
        let image = self.context.image.borrow().clone();
        let mut lookup = Lookup::new(&image);
        subscription.topics = lookup.topics(&subscription);
        beat.named = if joins { lookup.named(&self.names_of_classic(&beat.who.group)) } else { Vec::new() };
        let of_others = beat.named.iter().map(|(_, topic)| *topic);
        beat.topics = lookup.counts(&subscription.topics.iter().copied().chain(of_others).collect());
        beat.subscription = Some(subscription);
        Ok(beat)
    }

    /// The topics that members of the classic protocol subscribe to, who are taken along if the group changes its protocol.
    fn names_of_classic(&self, group: &str) -> BTreeSet<String> {
        let names = self.read(|machine| {
            let members = machine.group(group)?.classic()?.members.values();
            Some(members.flat_map(|member| member.topics.iter().cloned()).collect())
        });
        names.flatten().unwrap_or_default()
    }

    /// A heartbeat is committed.
    pub(super) fn follow_beat(
        &mut self,
        who: Who,
        told: Told<(String, Beaten)>,
        beaten: Result<Beaten, Code>,
        now: Instant,
    ) {
        // A static member that is away for a while has its session's time to come back.
        let is_member = beaten.is_ok()
            && self
                .read(|machine| machine.group(&who.group)?.consumer()?.members.get(&who.member).map(drop))
                .flatten()
                .is_some();
        if is_member {
            let timeout = milliseconds(self.number("group.consumer.session.timeout.ms"));
            self.set_session(&who.group, &who.member, timeout, now);
        }
        let _gone = told.send(beaten.map(|beaten| (who.member, beaten)).map_err(Denied::from));
    }

    /// Gives members that have to give partitions up, or to join again, their time for it.
    pub(super) fn set_revocations(&mut self, group: &str, now: Instant) {
        let revoking = self.read(|machine| {
            let owing = machine.group(group).and_then(Group::consumer).into_iter().flat_map(|group| group.owing());
            owing.map(|(id, timeout_ms)| (id.clone(), milliseconds(timeout_ms.into()))).collect()
        });
        let revoking: BTreeMap<String, Duration> = revoking.unwrap_or_default();
        let Some(soft) = self.groups.get_mut(group) else { return };
        soft.revoking.retain(|member, _| revoking.contains_key(member));
        for (member, timeout) in revoking {
            if !soft.revoking.contains_key(&member) {
                soft.revoking.insert(member.clone(), now + timeout);
                self.alarms.set(now + timeout, Alarm::Revocation(group.to_owned(), member));
            }
        }
    }

    /// A member of the classic protocol that joined a group of the consumer protocol has its rebalance timeout to fetch what it was
    /// given: it might never read it, and beat all the same (Kafka's consumer group sync timeout).
    pub(super) fn await_fetch(&mut self, who: &Who, now: Instant) {
        let timeout = self.read(|machine| {
            let member = machine.group(&who.group)?.consumer()?.members.get(&who.member)?;
            member.classic.as_ref().map(|_| milliseconds(member.rebalance_timeout_ms.into()))
        });
        if let Some(timeout) = timeout.flatten() {
            let soft = self.groups.entry(who.group.clone()).or_default();
            soft.fetching.insert(who.member.clone(), now + timeout);
            self.alarms.set(now + timeout, Alarm::Fetch(who.group.clone(), who.member.clone()));
        }
    }

    /// Removes a member that did not fetch what it was given in time.
    pub(super) fn end_fetch(&mut self, group: String, member: String, now: Instant) {
        let Some(soft) = self.groups.get_mut(&group) else { return };
        // One that has joined once more since has an alarm of its own.
        if soft.fetching.get(&member).is_none_or(|due| *due > now) {
            return;
        }
        soft.fetching.remove(&member);
        let is_taken_along = |group: &Group| group.consumer()?.members.get(&member)?.classic.as_ref().map(drop);
        if self.read(|machine| machine.group(&group).and_then(is_taken_along)).flatten().is_some() {
            tracing::info!(group, member, "a group member did not fetch its assignment in time");
            let who = Who { group, member, instance: None, generation: -1 };
            self.queue.push_back((Command::Expire(who), After::Nothing));
        }
    }

    /// Removes a member that did not give up in time what others wait for.
    pub(super) fn end_revocation(&mut self, group: String, member: String, now: Instant) {
        let Some(due) = self.groups.get_mut(&group).and_then(|soft| soft.revoking.get(&member).copied()) else {
            return;
        };
        if due > now {
            return self.alarms.set(due, Alarm::Revocation(group, member));
        }
        tracing::info!(group, member, "a group member did not give its partitions up, or join again, in time");
        let who = Who { group, member, instance: None, generation: -1 };
        self.queue.push_back((Command::Expire(who), After::Nothing));
    }
}
