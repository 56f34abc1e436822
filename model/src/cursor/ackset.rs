//! The ack-set cursor: which messages of a log are settled, one by one, and what the others wait for. Replicated and deterministic.
//! Owns floor, settled offsets, failures, priorities, due times, expiry and the dead-letter outbox; deliveries are the leader's alone.
//! `partition/cursors` holds those of a log; asked for room before offsets are given; rows go out as writes.

pub mod command;
mod dispatch;
mod outbox;
mod rows;
mod set;
mod settle;
mod times;
mod view;

use std::collections::{BTreeMap, BTreeSet};

pub use command::{Backoff, Command, Config, Fact, Place, Ranges, Reason, Refusal, Reply, Settlement, Verdict};
pub use dispatch::{ConsumerId, Delivery, Dispatch};
pub use outbox::{Dead, Inbox, Letter, Sending, Taking};
pub use rows::{Key, Row, State, Value};
pub use set::{Chunk, OffsetSet};
pub use times::{Block, Times};
pub use view::{Counts, Exception};

use crate::check;
use crate::limits;
use crate::machine::At;

/// An offset, a count, and their share of a tree's node.
const FAILURE_BYTES: usize = 32;

/// The replicated machine of one cursor over one log.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AckSet {
    config: Config,
    state: State,
    done: OffsetSet,
    failures: BTreeMap<i64, u32>,
    priorities: BTreeMap<u8, OffsetSet>,
    due: Times,
    expiry: Times,
    outbox: outbox::Outbox,
    touched: BTreeSet<Key>,
}

impl AckSet {
    /// Applies one command; `rows` gets those that changed. All that is known of time is `at.leader_ts`.
    ///
    /// # Errors
    /// Why the command changed nothing. The settlements of one command are refused one by one.
    pub fn apply(&mut self, at: At, command: Command, rows: &mut Vec<Row>) -> Result<Reply, Refusal> {
        self.wake(at.leader_ts);
        let result = self.command(at, command);
        self.raise_floor();
        self.take_rows(rows);
        result
    }

    fn command(&mut self, at: At, command: Command) -> Result<Reply, Refusal> {
        let changed = match command {
            Command::Publish { next, facts } => self.publish(at, next, &facts)?,
            Command::Settle(settlements) => {
                let each = settlements.iter().map(|settlement| self.settle(at, settlement));
                return Ok(Reply::Settled(each.collect()));
            }
            Command::Resolve { offset, targets } => return self.resolve(at, offset, &targets).map(Reply::Resolved),
            Command::Sent { target, through } => self.sent(target, through)?,
            Command::ForgetTarget(target) => self.forget_target(target),
            Command::Purge { to, keep } => self.purge(to, &keep)?,
            Command::Seek { to } => self.seek(to)?,
            Command::LogStart(start) => self.move_start(start)?,
            Command::Configure(config) => {
                self.config = config;
                0
            }
        };
        Ok(Reply::Changed(changed))
    }

    /// Forgets times that have come: what was due then is ready like any other. Not needed for delivery, which asks the clock.
    fn wake(&mut self, leader_ts: i64) {
        for offset in self.due.come(leader_ts, limits::CURSOR_WAKE_PER_APPLY_MAX) {
            self.due.remove(offset, offset + 1);
        }
    }

    /// What is settled right behind the floor is below it from now on.
    fn raise_floor(&mut self) {
        let before = self.state.floor;
        while let Some((_, end)) = self.done.next_run(self.state.floor).filter(|(from, _)| *from == self.state.floor) {
            self.done.remove(self.state.floor, end);
            self.state.floor = end;
        }
        let State { floor, next, .. } = self.state;
        check!(before <= floor && floor <= next, CursorFloor, "{before} -> {floor} of {next}");
    }
}

#[cfg(test)]
pub(crate) mod tests;
