//! The actor of a coordinator shard that is led here: proposes what members ask, all that waits in one turn, and answers when
//! it is committed; holds joins and syncs until their generation is there; expires who is silent.
//! Bounded: visits by the desk, those who wait by the connections, sessions by `MEMBERS_MAX`.
//! Never decides for a group: whether a member fits, leads or is fenced is the replicated machine's to say.
mod answers;
mod beats;
mod soft;
mod subscriptions;
mod timers;

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;
use model::Reply as MachineReply;
use model::command::{Payload, Tag};
use model::coordinator::{Beaten, Code, Command, CoordinatorMachine, Reply, Who};
use model::planted::{self, Bug};
use raft::{ProposeError, Proposed};
use storage::codec;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until};

use self::soft::{Alarm, Alarms, Session, Soft, Waiting};
use super::Context;
use crate::router::LocalPartition;
use crate::router::desk::{Denied, Joined, Joining, Synced, Told, Visit};

/// Commands and bytes of one proposal.
const TURN_COMMANDS: usize = 1024;
const TURN_BYTES: usize = 4 << 20;
/// Members of all groups of a shard, and ids promised to members: what a flood of joins may use of memory.
const MEMBERS_MAX: usize = 50_000;

/// What follows once a command is decided.
enum After {
    Join(Who, Told<Joined>),
    Sync(Who, Told<Synced>),
    Beat(Who, Told<(String, Beaten)>),
    Run(Option<Who>, Told<Reply>),
    /// Nobody waits.
    Nothing,
}

/// A proposal under way, with what follows each of its commands.
struct Flight {
    decided: BoxFuture<'static, Vec<Result<Proposed, ProposeError>>>,
    afters: Vec<(String, After)>,
}

/// The actor.
pub struct Coordinator {
    context: Arc<Context>,
    local: Arc<LocalPartition>,
    /// The Raft term in which this node coordinates; `None` while it does not, or does not know all yet.
    term: Option<u64>,
    groups: BTreeMap<String, Soft>,
    alarms: Alarms,
    queue: VecDeque<(Command, After)>,
    flight: Option<Flight>,
    /// The deletion of a topic that was looked at last.
    deletion: Option<model::TopicId>,
}

impl Coordinator {
    /// The actor of the shard whose replica this is.
    pub fn new(context: Arc<Context>, local: Arc<LocalPartition>) -> Self {
        let (groups, alarms, queue) = (BTreeMap::new(), Alarms::default(), VecDeque::new());
        Self { context, local, term: None, groups, alarms, queue, flight: None, deletion: None }
    }

    /// Serves until the raft is gone.
    pub async fn run(mut self, mut visits: mpsc::Receiver<Visit>) {
        let (mut status, mut applied) = (self.local.raft().status(), self.local.raft().applied());
        let mut image = self.context.image.subscribe();
        loop {
            self.follow_role();
            self.propose();
            let (next, idle) = (self.alarms.next(), Instant::now());
            tokio::select! {
                biased;
                changed = status.changed() => if changed.is_err() { return },
                outcomes = decided(&mut self.flight) => self.decided(outcomes),
                () = sleep_until(next.unwrap_or(idle)), if next.is_some() => self.ring(Instant::now()),
                changed = applied.changed(), if self.term.is_none() => if changed.is_err() { return },
                changed = image.changed(), if self.term.is_some() => if changed.is_err() { return } else { self.follow_image() },
                visit = visits.recv() => match visit {
                    Some(visit) => self.welcome(visit, &mut visits),
                    None => return,
                },
            }
        }
    }

    fn read<R>(&self, read: impl FnOnce(&CoordinatorMachine) -> R) -> Option<R> {
        self.local.raft().coordinator(read)
    }

    /// Takes over when this node leads and knows all that was committed; lets go when it does not lead any more. What it proposed before
    /// may still be committed, in the same term even, and nobody would look after it: it takes over when that is decided.
    fn follow_role(&mut self) {
        let raft = self.local.raft();
        let term = raft.knows_end().then(|| raft.status_now().term);
        if term == self.term {
            return;
        }
        self.let_go();
        self.term = term.filter(|_| self.flight.is_none());
        if self.term.is_some() {
            self.take_over(Instant::now());
        }
    }

    /// Sends away all who wait.
    fn let_go(&mut self) {
        let flying = self.flight.as_mut().map(|flight| std::mem::take(&mut flight.afters)).unwrap_or_default();
        let queued = std::mem::take(&mut self.queue);
        for after in flying.into_iter().map(|(_, after)| after).chain(queued.into_iter().map(|(_, after)| after)) {
            after.deny(&Denied::NotCoordinator);
        }
        for soft in std::mem::take(&mut self.groups).into_values() {
            soft.joins.into_values().for_each(|waiting| drop(waiting.told.send(Err(Denied::NotCoordinator))));
            soft.syncs.into_values().for_each(|waiting| drop(waiting.told.send(Err(Denied::NotCoordinator))));
        }
        self.alarms = Alarms::default();
    }

    /// Takes a visit and those behind it.
    fn welcome(&mut self, first: Visit, visits: &mut mpsc::Receiver<Visit>) {
        self.take(first);
        while self.queue.len() < TURN_COMMANDS
            && let Ok(next) = visits.try_recv()
        {
            self.take(next);
        }
    }

    fn take(&mut self, visit: Visit) {
        if self.term.is_none() {
            let leads = self.local.role().is_leader;
            return visit.deny(if leads { &Denied::Loading } else { &Denied::NotCoordinator });
        }
        match visit {
            Visit::Join(joining, told) => self.take_join(joining, told),
            Visit::Sync(sync, told) => {
                let who = sync.who.clone();
                self.queue.push_back((Command::Sync(sync), After::Sync(who, told)));
            }
            Visit::Heartbeat(who, told) => {
                let answer = self.read(|machine| machine.heartbeat(&who)).unwrap_or(Err(Code::UnknownMemberId));
                if matches!(answer, Ok(()) | Err(Code::RebalanceInProgress)) {
                    self.touch(&who);
                }
                let _gone = told.send(answer.map_err(Denied::from));
            }
            Visit::Beat(beating, told) => self.take_beat(beating, told),
            Visit::Run(command @ Command::Commit(_), told) if planted::is(Bug::CommitUncommitted) => {
                let _gone = told.send(Ok(Reply::Done(Ok(()))));
                self.queue.push_back((command, After::Nothing));
            }
            Visit::Run(command, told) => {
                let who = match &command {
                    Command::Commit(commit) => Some(commit.who.clone()),
                    _ => None,
                };
                self.queue.push_back((command, After::Run(who, told)));
            }
        }
    }

    fn is_crowded(&self) -> bool {
        self.groups.values().map(|soft| soft.sessions.len()).sum::<usize>() >= MEMBERS_MAX
    }

    /// A member without an id gets one; one that comes again is known by it.
    fn take_join(&mut self, joining: Joining, told: Told<Joined>) {
        let Joining { mut join, comes_again } = joining;
        let timeout = Duration::from_millis(u64::try_from(join.member.session_timeout_ms).unwrap_or(0));
        let crowded = self.is_crowded();
        let soft = self.groups.entry(join.who.group.clone()).or_default();
        let is_known = soft.sessions.contains_key(&join.who.member);
        if crowded && !is_known {
            return drop(told.send(Err(Code::GroupMaxSizeReached.into())));
        }
        join.is_new = soft.sessions.get(&join.who.member).is_some_and(|session| session.promised);
        if join.who.member.is_empty() {
            join.who.member = member_id(join.who.instance.as_deref().unwrap_or(&join.member.client_id));
            join.is_new = true;
            if comes_again && join.who.instance.is_none() {
                let deadline = Instant::now() + timeout;
                let id = join.who.member;
                soft.sessions.insert(id.clone(), Session { deadline, timeout, promised: true });
                self.alarms.set(deadline, Alarm::Session(join.who.group, id.clone()));
                return drop(told.send(Err(Denied::MemberIdRequired(id))));
            }
        }
        let who = join.who.clone();
        self.queue.push_back((Command::Join(join), After::Join(who, told)));
    }

    /// Proposes what waits, unless a proposal is under way: meanwhile the next one gathers.
    fn propose(&mut self) {
        if self.flight.is_some() || self.queue.is_empty() || self.term.is_none() {
            return;
        }
        let (now_ms, mut bytes) = (self.context.clock.wall_ms(), 0);
        let (mut payloads, mut afters) = (Vec::new(), Vec::new());
        while payloads.len() < TURN_COMMANDS
            && bytes < TURN_BYTES
            && let Some((command, after)) = self.queue.pop_front()
        {
            let body = codec::encode(&command);
            bytes += body.len();
            payloads.push(Payload::command(Tag::Coordinator, now_ms, body));
            afters.push((group_of(command), after));
        }
        self.flight = Some(Flight { decided: self.local.raft().propose(payloads), afters });
    }

    fn decided(&mut self, outcomes: Vec<Result<Proposed, ProposeError>>) {
        let Some(Flight { afters, .. }) = self.flight.take() else { return };
        let now = Instant::now();
        // Whether more than joins came of it: then somebody who waits may have been sent away.
        let mut touched = BTreeMap::<String, bool>::new();
        for ((group, after), outcome) in afters.into_iter().zip(outcomes) {
            let only_joins = matches!(&after, After::Join(who, _) if who.instance.is_none());
            *touched.entry(group).or_insert(true) &= only_joins;
            match outcome {
                Ok(Proposed { reply: MachineReply::Coordinator(reply), .. }) => self.follow_up(after, reply, now),
                Ok(_dead) => after.deny(&Denied::Unavailable),
                Err(ProposeError::NotLeader { .. } | ProposeError::Lost { .. }) => after.deny(&Denied::NotCoordinator),
                Err(ProposeError::Busy | ProposeError::Closed(_)) => after.deny(&Denied::Unavailable),
            }
        }
        for (group, only_joined) in touched {
            self.look(&group, only_joined, now);
        }
    }

    fn follow_up(&mut self, after: After, reply: Reply, now: Instant) {
        match (after, reply) {
            (After::Join(who, told), Reply::Done(Ok(()))) => {
                self.begin_session(&who, now);
                self.await_fetch(&who, now);
                let soft = self.groups.entry(who.group.clone()).or_default();
                soft.joins.insert(who.member.clone(), Waiting { who, told });
            }
            (After::Sync(who, told), Reply::Done(Ok(()))) => {
                self.touch(&who);
                let soft = self.groups.entry(who.group.clone()).or_default();
                soft.fetching.remove(&who.member);
                soft.syncs.insert(who.member.clone(), Waiting { who, told });
            }
            (After::Beat(who, told), Reply::Beaten(beaten)) => self.follow_beat(who, told, beaten, now),
            (After::Run(who, told), reply) => {
                who.iter().filter(|_| reply == Reply::Done(Ok(()))).for_each(|who| self.touch(who));
                let _gone = told.send(Ok(reply));
            }
            (After::Join(_, told), Reply::Done(Err(code))) => drop(told.send(Err(code.into()))),
            (After::Sync(_, told), Reply::Done(Err(code))) => drop(told.send(Err(code.into()))),
            (After::Nothing, Reply::Forgotten(count)) if count > 0 => self.expire_offsets(),
            (After::Nothing, _) => {}
            (after, _) => after.deny(&Denied::Unavailable),
        }
    }
}

impl Visit {
    fn deny(self, why: &Denied) {
        match self {
            Visit::Join(_, told) => After::Join(Who::default(), told).deny(why),
            Visit::Sync(_, told) => After::Sync(Who::default(), told).deny(why),
            Visit::Heartbeat(_, told) => drop(told.send(Err(why.clone()))),
            Visit::Beat(_, told) => After::Beat(Who::default(), told).deny(why),
            Visit::Run(_, told) => After::Run(None, told).deny(why),
        }
    }
}

impl After {
    fn deny(self, why: &Denied) {
        match self {
            After::Join(_, told) => drop(told.send(Err(why.clone()))),
            After::Sync(_, told) => drop(told.send(Err(why.clone()))),
            After::Beat(_, told) => drop(told.send(Err(why.clone()))),
            After::Run(_, told) => drop(told.send(Err(why.clone()))),
            After::Nothing => {}
        }
    }
}

/// The outcomes of the proposal under way; never, without one. Cancel safe.
async fn decided(flight: &mut Option<Flight>) -> Vec<Result<Proposed, ProposeError>> {
    match flight {
        Some(flight) => (&mut flight.decided).await,
        None => std::future::pending().await,
    }
}

fn group_of(command: Command) -> String {
    match command {
        Command::Join(join) => join.who.group,
        Command::EndJoin(turn) | Command::EndSync(turn) => turn.group,
        Command::Sync(sync) => sync.who.group,
        Command::Leave { group, .. } | Command::DeleteOffsets { group, .. } | Command::Refresh { group, .. } => group,
        Command::Expire(who) => who.group,
        Command::Commit(commit) => commit.who.group,
        Command::DeleteGroup(group) | Command::Rebalance(group) => group,
        Command::Beat(beat) => beat.who.group,
        Command::ExpireOffsets(_) | Command::ForgetTopics(_) | Command::Bound(_) => String::new(),
    }
}

/// An id that nobody else has: what the client calls itself, and a random UUID.
fn member_id(client: &str) -> String {
    format!("{client}-{}", uuid())
}

fn uuid() -> String {
    let hex = format!("{:032x}", rand::random::<u128>());
    format!("{}-{}-{}-{}-{}", &hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..])
}
