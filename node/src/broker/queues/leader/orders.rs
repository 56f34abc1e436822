//! What a queue's leader wants to be committed: gathered while the entry before is on its way, then proposed as one.
//! Invariant: whoever waits for something is told once that is committed, or that it may not be. What is not committed though its leader
//! leads on is proposed again: nothing of it may be delivered meanwhile.
use std::collections::BTreeSet;

use futures::future::BoxFuture;
use model::Reply as MachineReply;
use model::command::{Payload, Tag};
use model::cursor::ackset::{Command, Ranges, Reply, Settlement, Verdict};
use model::cursor::{Batch, CursorCommand, CursorRefusal};
use model::planted::{self, Bug};
use raft::{ProposeError, Proposed};
use storage::codec;

use super::{CURSOR, Teller};
use crate::peer::queues::Heard;

/// Messages settled in one entry: one command may release so many.
const SETTLED_MAX: usize = model::limits::CURSOR_SETTLE_MAX / 2;

/// See the file header.
#[derive(Default)]
pub(super) struct Orders {
    settlements: Vec<(Verdict, BTreeSet<i64>)>,
    count: usize,
    tellers: Vec<Teller>,
    commands: Vec<CursorCommand>,
    purges: Vec<Teller>,
}

/// A proposal under way.
pub(super) struct Flight {
    decided: BoxFuture<'static, Result<Vec<Result<Reply, CursorRefusal>>, String>>,
    orders: Orders,
    /// Which command is the first purge.
    first_purge: usize,
}

/// What became of a proposal.
pub(super) enum Decided {
    /// It is committed: what is settled, or refused.
    Committed(Vec<(i64, i64)>),
    /// It is not committed, as far as this leader knows: what it wanted, and why not.
    Failed(Orders, String),
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
        if self.count == 0 && self.tellers.is_empty() || planted::is(Bug::SettledBeforeCommit) {
            let _gone = told.send(Heard::Done);
        } else {
            self.tellers.push(told);
        }
    }

    /// Orders anything.
    pub(super) fn add(&mut self, command: CursorCommand) {
        self.commands.push(command);
    }

    /// Forgets what is ready when this is proposed.
    pub(super) fn purge(&mut self, told: Teller) {
        self.purges.push(told);
    }

    /// Puts what was wanted before these in front of them.
    pub(super) fn put_back(&mut self, before: Orders) {
        let later = std::mem::replace(self, before);
        for (verdict, offsets) in later.settlements {
            offsets.into_iter().for_each(|offset| self.settle(offset, verdict));
        }
        self.tellers.extend(later.tellers);
        self.commands.extend(later.commands);
        self.purges.extend(later.purges);
    }

    /// Sends away all who wait. What is settled stays wanted.
    pub(super) fn dismiss(&mut self) {
        self.tellers.drain(..).chain(self.purges.drain(..)).for_each(|told| drop(told.send(Heard::NotHere)));
    }

    /// Proposes it as one entry; what is too much for one stays. A purge goes to `end` and keeps some.
    pub(super) fn propose(mut self, raft: &raft::Group, now_ms: i64, (end, keep): (i64, Ranges)) -> (Flight, Orders) {
        let rest = self.split();
        let run = |command| CursorCommand::Run { cursor: CURSOR, command };
        let settlement = |(verdict, offsets): &(Verdict, BTreeSet<i64>)| Settlement {
            verdict: *verdict,
            ranges: Ranges::of(offsets.iter().map(|offset| (*offset, offset + 1))),
        };
        let settlements: Vec<Settlement> = self.settlements.iter().map(settlement).collect();
        // An open cursor can be told things; one that is being opened comes first.
        let is_open = |command: &CursorCommand| matches!(command, CursorCommand::Open { .. });
        let (mut commands, others): (Vec<_>, Vec<_>) = self.commands.iter().cloned().partition(is_open);
        commands.extend((!settlements.is_empty()).then(|| run(Command::Settle(settlements))));
        let first_purge = commands.len();
        commands.extend(self.purges.iter().map(|_| run(Command::Purge { to: end, keep: keep.clone() })));
        commands.extend(others);
        let payload = Payload::command(Tag::CursorBatch, now_ms, codec::encode(&Batch(commands)));
        let decided = Box::pin(commit(raft.clone(), payload));
        (Flight { decided, orders: self, first_purge }, rest)
    }

    /// Tells all who wait that it is done; `purged` are the answers to the purges. What was settled, or refused.
    fn committed(self, purged: impl Iterator<Item = Result<Reply, CursorRefusal>>) -> Vec<(i64, i64)> {
        self.tellers.into_iter().for_each(|told| drop(told.send(Heard::Done)));
        for (told, reply) in self.purges.into_iter().zip(purged) {
            let heard = match reply {
                Ok(Reply::Changed(count)) => Heard::Purged(count),
                _ => Heard::NotHere,
            };
            let _gone = told.send(heard);
        }
        let offsets = self.settlements.into_iter().flat_map(|(_, offsets)| offsets);
        offsets.map(|offset| (offset, offset + 1)).collect()
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
    let Some(Flight { orders, first_purge, .. }) = flight.take() else { return std::future::pending().await };
    match outcome {
        Ok(replies) => Decided::Committed(orders.committed(replies.into_iter().skip(first_purge))),
        Err(why) => Decided::Failed(orders, why),
    }
}

impl Flight {
    /// Whether messages are being settled so.
    pub(super) fn settles(&self, verdict: impl Fn(Verdict) -> bool) -> bool {
        self.orders.settles(verdict)
    }

    /// Tells when it is committed.
    pub(super) fn tell(&mut self, told: Teller) {
        self.orders.tellers.push(told);
    }

    /// Sends away all who wait.
    pub(super) fn refuse(mut self) {
        self.orders.dismiss();
    }
}

/// The offsets of ranges that the leader made itself.
pub(super) fn offsets(ranges: &Ranges) -> Vec<i64> {
    ranges.within(i64::MAX).unwrap_or_default().into_iter().flat_map(|(from, to)| from..to).collect()
}

#[cfg(test)]
mod tests {
    use tokio::sync::oneshot;

    use super::*;

    #[test]
    fn what_was_not_committed_is_wanted_again_with_those_who_wait_for_it() {
        let (told, mut answer) = oneshot::channel();
        let (mut failed, mut later) = (Orders::default(), Orders::default());
        failed.settle(3, Verdict::Accept);
        failed.tell(told);
        later.settle(5, Verdict::Accept);
        later.put_back(failed);
        assert_eq!(later.settlements(), 2);
        assert!(answer.try_recv().is_err(), "nothing is committed yet");
        later.dismiss();
        assert_eq!(answer.try_recv(), Ok(Heard::NotHere));
        assert_eq!(later.committed(std::iter::empty()), [(3, 4), (5, 6)]);
    }
}
