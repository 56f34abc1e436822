//! At most so many messages a second: one after the other, a tenth of a second's worth at once (the generic cell rate algorithm, ITU-T I.371).
//! Pure: time comes in.

/// How far behind its schedule somebody may be and still catch up, ns.
const BURST_NS: i64 = 100_000_000;
/// How far ahead of its schedule somebody may get.
const DEBT_NS: i64 = 1_000_000_000;
const NS_OF_MS: i64 = 1_000_000;

/// See the file header.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pace {
    every_ns: i64,
    /// When the next message is due.
    next_ns: i64,
}

impl Pace {
    /// So many a second; a message is due at once.
    pub(super) fn new(per_second: u32) -> Self {
        Self { every_ns: 1_000 * NS_OF_MS / i64::from(per_second.max(1)), next_ns: i64::MIN }
    }

    /// Whether it is so many a second.
    pub(super) fn is(&self, per_second: u32) -> bool {
        self.every_ns == Self::new(per_second).every_ns
    }

    /// How many messages may go now.
    pub(super) fn room(&self, now_ms: i64) -> usize {
        let behind = now_ms.saturating_mul(NS_OF_MS) - self.due(now_ms);
        if behind < 0 { 0 } else { usize::try_from(behind / self.every_ns + 1).unwrap_or(usize::MAX) }
    }

    /// A message has gone. Who takes without asking for room owes a second at most.
    pub(super) fn spend(&mut self, now_ms: i64) {
        let most = now_ms.saturating_mul(NS_OF_MS).saturating_add(self.every_ns.max(DEBT_NS));
        self.next_ns = self.due(now_ms).saturating_add(self.every_ns).min(most);
    }

    /// When one may go again, ms; none if one may now.
    pub(super) fn again_at(&self, now_ms: i64) -> Option<i64> {
        (self.room(now_ms) == 0).then_some(self.next_ns / NS_OF_MS + 1)
    }

    fn due(&self, now_ms: i64) -> i64 {
        self.next_ns.max(now_ms.saturating_mul(NS_OF_MS) - BURST_NS)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// How many go in the ten seconds from `from_ms` on, by somebody who takes all that may.
    fn gone(pace: &mut Pace, from_ms: i64) -> usize {
        let mut gone = 0;
        for now in from_ms..from_ms + 10_000 {
            for _ in 0..pace.room(now) {
                pace.spend(now);
                gone += 1;
            }
        }
        gone
    }

    #[test]
    fn so_many_go_and_little_more_after_a_rest() {
        for rate in [1, 3, 10, 700, 100_000] {
            let mut pace = Pace::new(rate);
            let (fair, burst) = (10 * rate as usize, rate as usize / 10 + 2);
            for from_ms in [0, 10_000, 1_000_000] {
                let gone = gone(&mut pace, from_ms);
                assert!((fair - 1..=fair + burst).contains(&gone), "{gone} at {rate}/s");
            }
        }
    }

    #[test]
    fn who_has_had_enough_knows_when_to_ask_again() {
        let mut pace = Pace::new(2);
        assert_eq!((pace.room(7_000), pace.again_at(7_000)), (1, None));
        pace.spend(7_000);
        let at = pace.again_at(7_000).unwrap();
        assert!((7_390..=7_501).contains(&at), "{at}");
        assert_eq!((pace.room(at - 2), pace.room(at)), (0, 1));
        (0..1_000).for_each(|_| pace.spend(at));
        assert_eq!(pace.again_at(at), Some(at + 1_001), "nobody waits for what was taken without waiting");
    }
}
