//! A look at messages without taking any: which there are from an offset on, and what each waits for.
use model::cursor::ackset::AckSet;

use super::soft::{Now, Soft};
use crate::peer::queues::{PeekState, Peeked};

impl Soft {
    /// Up to `count` messages from `from` on, in the order of the log.
    pub(super) fn peek(&self, cursor: &AckSet, from: i64, count: usize, now: Now) -> Vec<Peeked> {
        let there = cursor.pinned(from, cursor.state().next).flat_map(|(from, to)| from..to);
        let peeked = |offset| {
            let exception = cursor.exception(offset);
            let state = match exception.not_before {
                _ if exception.dead.is_some() => PeekState::Dead,
                _ if self.is_taken(offset) => PeekState::Unacked,
                Some(time) if time > now.wall => PeekState::Delayed,
                _ => PeekState::Ready,
            };
            let expires_at = cursor.expires_at(offset);
            let (failures, not_before) = (exception.failures, exception.not_before);
            Peeked { offset, state, failures, not_before, expires_at, part: 0 }
        };
        there.take(count).map(peeked).collect()
    }
}
