//! Time in a coordinator: sessions, phases of a rebalance, the retention of offsets. What is over is proposed, never done here.
use std::time::Duration;

use model::coordinator::{Classic, Command, ConsumerMember, Group, Kind, Phase, Retention, Turn as Ends, Who};
use tokio::time::Instant;

use super::soft::{Alarm, Session, Turn};
use super::{After, Coordinator};

/// Offsets that one command forgets at most.
const OFFSETS_PER_COMMAND: u32 = 1_000;
/// What was proposed because its time was over is proposed again after this, should it have been lost.
const RETRY: Duration = Duration::from_secs(5);

/// What a group's timers depend on.
pub(super) struct Glance {
    of: (Phase, i32),
    gathers: bool,
    size: usize,
    rebalance_timeout: Duration,
}

impl Glance {
    pub(super) fn of(group: &Classic) -> Self {
        Self {
            of: (group.phase, group.generation),
            gathers: group.gathers,
            size: group.members.len(),
            rebalance_timeout: milliseconds(group.rebalance_timeout_ms().into()),
        }
    }

    /// Whether nobody who waits for the generation can be told anything yet.
    pub(super) fn is_preparing(&self) -> bool {
        self.of.0 == Phase::Preparing
    }
}

pub(super) fn milliseconds(value: i64) -> Duration {
    Duration::from_millis(u64::try_from(value).unwrap_or(0))
}

impl Coordinator {
    /// The value of a broker's key here.
    pub(super) fn number(&self, key: &str) -> i64 {
        let image = self.context.image.borrow();
        image.broker_value(key, Some(self.context.node)).parse().unwrap_or(0)
    }

    /// Begins with full sessions and phases, and holds the shard to this node's settings.
    pub(super) fn take_over(&mut self, now: Instant) {
        let consumer_ms = i32::try_from(self.number("group.consumer.session.timeout.ms")).unwrap_or(i32::MAX);
        let of = |group: &Group| -> Vec<(String, i32)> {
            match &group.kind {
                Kind::Classic(classic) => {
                    classic.members.iter().map(|(id, member)| (id.clone(), member.session_timeout_ms)).collect()
                }
                Kind::Consumer(consumer) => {
                    let timeout = |member: &ConsumerMember| member.session_timeout_ms().unwrap_or(consumer_ms);
                    consumer.members.iter().map(|(id, member)| (id.clone(), timeout(member))).collect()
                }
            }
        };
        let all = self.read(|machine| machine.groups().map(|(id, group)| (id.clone(), of(group))).collect::<Vec<_>>());
        for (group, members) in all.unwrap_or_default() {
            for (member, timeout_ms) in members {
                self.set_session(&group, &member, milliseconds(timeout_ms.into()), now);
            }
            self.look(&group, false, now);
        }
        let bounds = self.context.shard_bounds;
        if self.read(|machine| machine.bounds() != bounds).unwrap_or(false) {
            self.queue.push_back((Command::Bound(bounds), After::Nothing));
        }
        self.deletion = None;
        self.follow_image();
        self.alarms.set(now, Alarm::Retention);
    }

    /// Begins the session of a member that has joined.
    pub(super) fn begin_session(&mut self, who: &Who, now: Instant) {
        let timeout = self.read(|machine| match &machine.group(&who.group)?.kind {
            Kind::Classic(group) => Some(group.members.get(&who.member)?.session_timeout_ms),
            Kind::Consumer(group) => group.members.get(&who.member)?.session_timeout_ms(),
        });
        if let Some(timeout_ms) = timeout.flatten() {
            self.set_session(&who.group, &who.member, milliseconds(timeout_ms.into()), now);
        }
    }

    pub(super) fn set_session(&mut self, group: &str, member: &str, timeout: Duration, now: Instant) {
        let soft = self.groups.entry(group.to_owned()).or_default();
        let deadline = now + timeout;
        // An alarm that is set already rings no later than is needed, unless the timeout has become shorter.
        let rings = soft.sessions.get(member).is_some_and(|session| session.deadline <= deadline);
        soft.sessions.insert(member.to_owned(), Session { deadline, timeout, promised: false });
        if !rings {
            self.alarms.set(deadline, Alarm::Session(group.to_owned(), member.to_owned()));
        }
    }

    /// A member was heard of.
    pub(super) fn touch(&mut self, who: &Who) {
        let session = self.groups.get_mut(&who.group).and_then(|soft| soft.sessions.get_mut(&who.member));
        if let Some(session) = session {
            session.deadline = Instant::now() + session.timeout;
        }
    }

    /// Keeps the end of a group's phase in step with its phase. Gives whether it is the same phase that goes on.
    pub(super) fn set_turn(&mut self, group: &str, glance: Option<&Glance>, now: Instant) -> bool {
        let glance = glance.filter(|glance| matches!(glance.of.0, Phase::Preparing | Phase::Completing));
        let Some(glance) = glance else {
            if let Some(soft) = self.groups.get_mut(group) {
                soft.turn = None;
            }
            return false;
        };
        let delay = milliseconds(self.number("group.initial.rebalance.delay.ms"));
        let soft = self.groups.entry(group.to_owned()).or_default();
        if soft.turn.as_ref().is_some_and(|turn| turn.of == glance.of) {
            return true;
        }
        let last = now + glance.rebalance_timeout;
        let due = if glance.gathers { last.min(now + delay) } else { last };
        soft.turn = Some(Turn { of: glance.of, due, last, size: glance.size });
        self.alarms.set(due, Alarm::Turn(group.to_owned()));
        false
    }

    /// Acts on every alarm that is due.
    pub(super) fn ring(&mut self, now: Instant) {
        while let Some(alarm) = self.alarms.due(now) {
            match alarm {
                Alarm::Session(group, member) => self.end_session(group, member, now),
                Alarm::Revocation(group, member) => self.end_revocation(group, member, now),
                Alarm::Fetch(group, member) => self.end_fetch(group, member, now),
                Alarm::Turn(group) => self.end_turn(group, now),
                Alarm::Retention => {
                    self.expire_offsets();
                    let every = milliseconds(self.number("offsets.retention.check.interval.ms"));
                    self.alarms.set(now + every.max(RETRY), Alarm::Retention);
                }
            }
        }
    }

    /// Expires a member, unless it was heard of, waits for us, or is none any more.
    fn end_session(&mut self, group: String, member: String, now: Instant) {
        let is_member = |group: &Group| match &group.kind {
            Kind::Classic(classic) => classic.members.contains_key(&member),
            Kind::Consumer(consumer) => consumer.members.contains_key(&member),
        };
        let is_member = self.read(|machine| machine.group(&group).is_some_and(is_member)).unwrap_or(false);
        let Some(soft) = self.groups.get_mut(&group) else { return };
        let waits = soft.waits(&member);
        let Some(session) = soft.sessions.get_mut(&member) else { return };
        let silent = session.deadline <= now;
        if silent && !is_member {
            soft.sessions.remove(&member);
            return;
        }
        if silent {
            session.deadline = now + session.timeout;
        }
        self.alarms.set(session.deadline, Alarm::Session(group.clone(), member.clone()));
        if silent && !waits {
            tracing::info!(group, member, "a group member is silent for its session timeout");
            let who = Who { group, member, instance: None, generation: -1 };
            self.queue.push_back((Command::Expire(who), After::Nothing));
        }
    }

    /// Ends a phase, unless the group gathers and more have come since it was looked at last.
    fn end_turn(&mut self, group: String, now: Instant) {
        let glance = self.read(|machine| machine.group(&group).and_then(Group::classic).map(Glance::of)).flatten();
        let delay = milliseconds(self.number("group.initial.rebalance.delay.ms"));
        let turn = self.groups.get_mut(&group).and_then(|soft| soft.turn.as_mut());
        let (Some(turn), Some(glance)) = (turn, glance) else { return };
        if turn.due > now || turn.of != glance.of {
            return;
        }
        let prolonged = glance.gathers && glance.size > turn.size && now < turn.last;
        turn.size = glance.size;
        turn.due = if prolonged { turn.last.min(now + delay) } else { now + RETRY };
        self.alarms.set(turn.due, Alarm::Turn(group.clone()));
        if prolonged {
            return;
        }
        let (phase, generation) = glance.of;
        let ends = Ends { group, generation };
        let command = if phase == Phase::Preparing { Command::EndJoin(ends) } else { Command::EndSync(ends) };
        self.queue.push_back((command, After::Nothing));
    }

    /// Forgets offsets that nobody needs, if there are any.
    pub(super) fn expire_offsets(&mut self) {
        let ms = self.number("offsets.retention.minutes").saturating_mul(60_000);
        let now_ms = self.context.clock.wall_ms();
        if self.read(|machine| machine.has_expired(now_ms, ms)).unwrap_or(false) {
            let retention = Retention { ms, offsets_max: OFFSETS_PER_COMMAND };
            self.queue.push_back((Command::ExpireOffsets(retention), After::Nothing));
        }
    }

    /// Forgets the offsets of topics that were deleted.
    pub(super) fn follow_image(&mut self) {
        let image = self.context.image.borrow().clone();
        self.refresh(&image);
        let last = image.last_deleted();
        if self.deletion == last {
            return;
        }
        self.deletion = last;
        let topics = self.read(|machine| machine.topics()).unwrap_or_default();
        let gone: Vec<_> = topics.into_iter().filter(|topic| image.was_deleted(*topic)).collect();
        if !gone.is_empty() {
            self.queue.push_back((Command::ForgetTopics(gone), After::Nothing));
        }
    }
}
