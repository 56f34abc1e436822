//! What a queue's leader wants to be committed: gathered while the entry before is on its way, then proposed as one.
//! Invariant: whoever waits for something is told once that is committed, or that it may not be. What is not committed though its leader
//! leads on is proposed again: nothing of it may be delivered meanwhile.
use std::collections::BTreeSet;

use futures::future::BoxFuture;
use model::Reply as MachineReply;
use model::command::{Payload, Tag};
use model::cursor::ackset::{Command, Config, Ranges, Refusal, Reply, Settlement, Verdict};
use model::cursor::{Batch, CursorCommand, CursorRefusal};
use model::planted::{self, Bug};
use raft::{ProposeError, Proposed};
use storage::codec;

use super::{CURSOR, Teller};
use crate::peer::queues::Heard;

/// Messages settled in one entry: one command may release so many.
const SETTLED_MAX: usize = model::limits::CURSOR_SETTLE_MAX / 2;

/// What somebody waits for, to hear how many messages it changed.
pub(super) enum Change {
    /// Forgets what is ready when it is proposed.
    Purge,
    /// Goes on from this offset.
    Seek(i64),
}

/// See the file header.
#[derive(Default)]
pub(super) struct Orders {
    settlements: Vec<(Verdict, BTreeSet<i64>)>,
    count: usize,
    tellers: Vec<Teller>,
    commands: Vec<CursorCommand>,
    changes: Vec<(Change, Teller)>,
}

/// A proposal under way.
pub(super) struct Flight {
    decided: BoxFuture<'static, Result<Vec<Result<Reply, CursorRefusal>>, String>>,
    orders: Orders,
    /// Which command is the first change.
    first_change: usize,
}

/// What became of a proposal.
pub(super) enum Decided {
    /// It is committed.
    Committed {
        /// What is settled, or refused.
        ranges: Vec<(i64, i64)>,
        /// What is to be delivered again begins here, if anything is.
        rewind: Option<i64>,
        /// What the cursor has no room for: to be wanted again in a while.
        refused: Orders,
        /// Something else was refused: not to be tried again at once.
        strained: bool,
    },
    /// It is not committed, as far as this leader knows: what it wanted, and why not.
    Failed(Orders, String),
}

impl Orders {
    /// Whether nothing waits.
    pub(super) fn is_empty(&self) -> bool {
        let settles = self.count > 0 || !self.tellers.is_empty();
        !settles && self.commands.is_empty() && self.changes.is_empty()
    }

    /// How many messages are to be settled.
    pub(super) fn settlements(&self) -> usize {
        self.count
    }

    /// Whether messages are to be settled so.
    pub(super) fn settles(&self, verdict: impl Fn(Verdict) -> bool) -> bool {
        self.settlements.iter().any(|(ordered, _)| verdict(*ordered))
    }

    /// Gives the cursor these rules, whatever was to be given before.
    pub(super) fn open(&mut self, config: Config) {
        self.commands.retain(|command| !matches!(command, CursorCommand::Open { .. }));
        self.commands.push(CursorCommand::Open { cursor: CURSOR, config });
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

    /// Orders a change, and tells what it did.
    pub(super) fn change(&mut self, change: Change, told: Teller) {
        self.changes.push((change, told));
    }

    /// Puts what was wanted before these in front of them.
    pub(super) fn put_back(&mut self, before: Orders) {
        let later = std::mem::replace(self, before);
        for (verdict, offsets) in later.settlements {
            offsets.into_iter().for_each(|offset| self.settle(offset, verdict));
        }
        self.tellers.extend(later.tellers);
        self.commands.extend(later.commands);
        self.changes.extend(later.changes);
    }

    /// Sends away all who wait. What is settled stays wanted.
    pub(super) fn dismiss(&mut self) {
        let changes = self.changes.drain(..).map(|(_, told)| told);
        self.tellers.drain(..).chain(changes).for_each(|told| drop(told.send(Heard::NotHere)));
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
        let first_change = commands.len();
        commands.extend(self.changes.iter().map(|(change, _)| {
            run(match change {
                Change::Purge => Command::Purge { to: end, keep: keep.clone() },
                Change::Seek(to) => Command::Seek { to: *to },
            })
        }));
        commands.extend(others);
        let payload = Payload::command(Tag::CursorBatch, now_ms, codec::encode(&Batch(commands)));
        let decided = Box::pin(commit(raft.clone(), payload));
        (Flight { decided, orders: self, first_change }, rest)
    }

    /// Tells all who wait that it is done; the answers to the changes begin at `first_change`.
    /// Nobody waits for what was refused: it gives messages back, or buries them, and a leader that dies first leaves them unsettled.
    fn committed(mut self, mut replies: Vec<Result<Reply, CursorRefusal>>, first_change: usize) -> Decided {
        let changed = replies.split_off(first_change.min(replies.len()));
        let strained = changed.iter().skip(self.changes.len()).any(Result::is_err);
        let mut refused = Orders::default();
        if let Some(Ok(Reply::Settled(each))) = replies.last() {
            let mut each = each.iter();
            let full = |_: &mut (Verdict, BTreeSet<i64>)| matches!(each.next(), Some(Err(Refusal::Full)));
            for (verdict, offsets) in self.settlements.extract_if(.., full) {
                offsets.into_iter().for_each(|offset| refused.settle(offset, verdict));
            }
        }
        self.tellers.into_iter().for_each(|told| drop(told.send(Heard::Done)));
        let mut rewind = None;
        for ((change, told), reply) in self.changes.into_iter().zip(changed) {
            let heard = match (change, reply) {
                (Change::Purge, Ok(Reply::Changed(count))) => Heard::Purged(count),
                (Change::Seek(to), Ok(Reply::Changed(count))) => {
                    rewind = rewind.into_iter().chain([to]).min();
                    Heard::Sought(count)
                }
                _ => Heard::NotHere,
            };
            let _gone = told.send(heard);
        }
        let offsets = self.settlements.into_iter().flat_map(|(_, offsets)| offsets);
        Decided::Committed { ranges: offsets.map(|offset| (offset, offset + 1)).collect(), rewind, refused, strained }
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
    let Some(Flight { orders, first_change, .. }) = flight.take() else { return std::future::pending().await };
    match outcome {
        Ok(replies) => orders.committed(replies, first_change),
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
        let Decided::Committed { ranges, .. } = later.committed(Vec::new(), 0) else { panic!("it is committed") };
        assert_eq!(ranges, [(3, 4), (5, 6)]);
    }

    #[test]
    fn what_there_is_no_room_for_is_wanted_again() {
        let mut orders = Orders::default();
        orders.settle(3, Verdict::Accept);
        orders.settle(5, Verdict::Expire);
        let replies = vec![Ok(Reply::Settled(vec![Ok(1), Err(Refusal::Full)]))];
        let Decided::Committed { ranges, refused, .. } = orders.committed(replies, 1) else {
            panic!("it is committed")
        };
        assert_eq!(ranges, [(3, 4)]);
        assert!(refused.settles(|verdict| verdict == Verdict::Expire) && refused.settlements() == 1);
    }
}
