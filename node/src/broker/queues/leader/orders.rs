//! What a queue's leader wants to be committed: gathered while the entry before is on its way, then proposed as one.
//! Invariant: whoever waits for something is told once that is committed, or that it may not be.
use std::collections::BTreeSet;

use futures::future::BoxFuture;
use model::Reply as MachineReply;
use model::command::{Payload, Tag};
use model::cursor::ackset::{Command, Ranges, Reply, Settlement, Verdict};
use model::cursor::{Batch, CursorCommand, CursorRefusal};
use raft::{ProposeError, Proposed};
use storage::codec;

use super::{CURSOR, Teller};
use crate::peer::queues::Heard;

/// Messages settled in one entry: one command may release so many.
const SETTLED_MAX: usize = model::limits::CURSOR_SETTLE_MAX / 2;

/// What follows once a command is decided.
pub(super) enum After {
    /// Nobody waits.
    Nothing,
    /// A purge.
    Purge(Teller),
    /// A seek, to this offset.
    Seek(i64, Teller),
}

/// See the file header.
#[derive(Default)]
pub(super) struct Orders {
    settlements: Vec<(Verdict, BTreeSet<i64>)>,
    count: usize,
    tellers: Vec<Teller>,
    commands: Vec<(CursorCommand, After)>,
    purges: Vec<Teller>,
}

/// A proposal under way.
pub(super) struct Flight {
    decided: BoxFuture<'static, Result<Vec<Result<Reply, CursorRefusal>>, String>>,
    verdicts: Vec<Verdict>,
    ranges: Vec<(i64, i64)>,
    tellers: Vec<Teller>,
    /// Of each command.
    afters: Vec<After>,
}

/// What a proposal has changed.
pub(super) struct Decided {
    /// Settled, or refused.
    pub(super) ranges: Vec<(i64, i64)>,
    /// What is to be delivered again begins here, if anything is.
    pub(super) rewind: Option<i64>,
    /// Why it may not be committed.
    pub(super) failed: Option<String>,
}

impl Orders {
    /// Whether nothing waits.
    pub(super) fn is_empty(&self) -> bool {
        let settles = self.count > 0 || !self.tellers.is_empty();
        !settles && self.commands.is_empty() && self.purges.is_empty()
    }

    /// How many messages are to be settled.
    pub(super) fn settlements(&self) -> usize {
        self.count
    }

    /// Whether messages are to be settled so.
    pub(super) fn settles(&self, verdict: impl Fn(Verdict) -> bool) -> bool {
        self.settlements.iter().any(|(ordered, _)| verdict(*ordered))
    }

    /// Settles a message.
    pub(super) fn settle(&mut self, offset: i64, verdict: Verdict) {
        let place = self.settlements.iter().position(|(ordered, _)| *ordered == verdict).unwrap_or_else(|| {
            self.settlements.push((verdict, BTreeSet::new()));
            self.settlements.len() - 1
        });
        self.count += usize::from(self.settlements[place].1.insert(offset));
    }

    /// Tells when all that is settled so far is committed.
    pub(super) fn tell(&mut self, told: Teller) {
        if self.count == 0 && self.tellers.is_empty() {
            let _gone = told.send(Heard::Done);
        } else {
            self.tellers.push(told);
        }
    }

    /// Orders anything.
    pub(super) fn add(&mut self, command: CursorCommand, after: After) {
        self.commands.push((command, after));
    }

    /// Forgets what is ready when this is proposed.
    pub(super) fn purge(&mut self, told: Teller) {
        self.purges.push(told);
    }

    /// Sends away all who wait.
    pub(super) fn refuse(self) {
        let afters = self.commands.into_iter().map(|(_, after)| after);
        afters.for_each(|after| after.tell(None));
        self.tellers.into_iter().chain(self.purges).for_each(|told| drop(told.send(Heard::NotHere)));
    }

    /// Proposes it as one entry; what is too much for one stays. A purge goes to `end` and keeps some.
    pub(super) fn propose(mut self, raft: &raft::Group, now_ms: i64, (end, keep): (i64, Ranges)) -> (Flight, Orders) {
        let rest = self.split();
        let (mut settlements, mut ranges) = (Vec::new(), Vec::new());
        for (verdict, offsets) in &self.settlements {
            let each = offsets.iter().map(|offset| (*offset, offset + 1));
            settlements.push(Settlement { verdict: *verdict, ranges: Ranges::of(each.clone()) });
            ranges.extend(each);
        }
        let run = |command| CursorCommand::Run { cursor: CURSOR, command };
        let (mut commands, mut afters) = (Vec::new(), Vec::new());
        if !settlements.is_empty() {
            commands.push(run(Command::Settle(settlements)));
            afters.push(After::Nothing);
        }
        for told in self.purges {
            commands.push(run(Command::Purge { to: end, keep: keep.clone() }));
            afters.push(After::Purge(told));
        }
        for (command, after) in self.commands {
            // An open cursor can be told things; one that is being opened comes first.
            let place = if matches!(command, CursorCommand::Open { .. }) { 0 } else { commands.len() };
            commands.insert(place, command);
            afters.insert(place, after);
        }
        let payload = Payload::command(Tag::CursorBatch, now_ms, codec::encode(&Batch(commands)));
        let verdicts = self.settlements.iter().map(|(verdict, _)| *verdict).collect();
        let decided = Box::pin(commit(raft.clone(), payload));
        (Flight { decided, verdicts, ranges, tellers: self.tellers, afters }, rest)
    }

    /// Keeps what fits into one entry; who waits for any of the rest waits for all of it.
    fn split(&mut self) -> Orders {
        let mut rest = Orders::default();
        if self.count <= SETTLED_MAX {
            return rest;
        }
        let mut room = SETTLED_MAX;
        for (verdict, offsets) in std::mem::take(&mut self.settlements) {
            let (now, later): (Vec<i64>, Vec<i64>) = {
                let mut offsets = offsets.into_iter();
                (offsets.by_ref().take(room).collect(), offsets.collect())
            };
            room -= now.len();
            if !now.is_empty() {
                self.settlements.push((verdict, now.into_iter().collect()));
            }
            later.into_iter().for_each(|offset| rest.settle(offset, verdict));
        }
        self.count -= rest.count;
        rest.tellers = std::mem::take(&mut self.tellers);
        rest
    }
}

async fn commit(raft: raft::Group, payload: Payload) -> Result<Vec<Result<Reply, CursorRefusal>>, String> {
    if !raft.is_roused() {
        raft.rouse().await.map_err(|error| error.to_string())?;
    }
    let outcome: Option<Result<Proposed, ProposeError>> = raft.propose(vec![payload]).await.pop();
    match outcome {
        Some(Ok(Proposed { reply: MachineReply::Cursors(replies), .. })) => Ok(replies),
        Some(Ok(Proposed { reply, .. })) => Err(format!("the entry is dead: {reply:?}")),
        Some(Err(error)) => Err(error.to_string()),
        None => Err("no outcome".to_owned()),
    }
}

/// Waits for the proposal that is under way.
pub(super) async fn decided(flight: &mut Option<Flight>) -> Decided {
    let Some(under_way) = flight else { return std::future::pending().await };
    let outcome = (&mut under_way.decided).await;
    let Some(Flight { ranges, tellers, afters, .. }) = flight.take() else { return std::future::pending().await };
    let (replies, failed) = match outcome {
        Ok(replies) => (replies, None),
        Err(why) => (Vec::new(), Some(why)),
    };
    let heard = if failed.is_none() { Heard::Done } else { Heard::NotHere };
    tellers.into_iter().for_each(|told| drop(told.send(heard.clone())));
    let rewind = afters.iter().filter_map(After::rewinds_to).min();
    let mut replies = replies.into_iter();
    for after in afters {
        after.tell(replies.next());
    }
    Decided { ranges, rewind, failed }
}

impl Flight {
    /// Whether messages are being settled so.
    pub(super) fn settles(&self, verdict: impl Fn(Verdict) -> bool) -> bool {
        self.verdicts.iter().any(|settled| verdict(*settled))
    }

    /// Tells when it is committed.
    pub(super) fn tell(&mut self, told: Teller) {
        self.tellers.push(told);
    }

    /// Sends away all who wait.
    pub(super) fn refuse(self) {
        self.afters.into_iter().for_each(|after| after.tell(None));
        self.tellers.into_iter().for_each(|told| drop(told.send(Heard::NotHere)));
    }
}

impl After {
    fn tell(self, reply: Option<Result<Reply, CursorRefusal>>) {
        let changed = match reply {
            Some(Ok(Reply::Changed(count))) => Some(count),
            _ => None,
        };
        match self {
            After::Nothing => {}
            After::Purge(told) => drop(told.send(changed.map_or(Heard::NotHere, Heard::Purged))),
            After::Seek(_, told) => drop(told.send(changed.map_or(Heard::NotHere, Heard::Sought))),
        }
    }

    fn rewinds_to(&self) -> Option<i64> {
        if let After::Seek(to, _) = self { Some(*to) } else { None }
    }
}

/// The offsets of ranges that the leader made itself.
pub(super) fn offsets(ranges: &Ranges) -> Vec<i64> {
    ranges.within(i64::MAX).unwrap_or_default().into_iter().flat_map(|(from, to)| from..to).collect()
}
