//! When what waits for a log is worth an entry. Pure: the partition's actor says what it proposed and what was decided, and asks.
//! An entry costs three logs, two peers and a commit whatever it holds, so that fewer and fuller ones are faster.
//!
//! While a proposal is on its way, small appends wait for company. When it is decided, its clients are answered, and those that keep a
//! number of requests on their way send the next ones at once: all that was on its way or waited (the crowd) will soon wait together, and
//! goes as one entry instead of two halves in turns. Whether it comes is found out by waiting; in vain less and less often.
use std::ops::RangeInclusive;
use std::time::Duration;

use tokio::time::Instant;

/// So many bytes are worth an entry of their own, whatever else is on its way.
const COMPANY_BYTES: usize = 64 << 10;
/// A crowd of fewer bytes saves less than the wait costs; one of more fills entries anyway.
const CROWD_BYTES: RangeInclusive<usize> = 16 << 10..=256 << 10;
/// One part in so many of a crowd is not waited for.
const STRAGGLERS: usize = 16;
/// Nobody waits for longer than the last proposal took, nor for longer than this.
const LINGER_MAX: Duration = Duration::from_millis(4);
/// A crowd that did not come counts as much as so many that came.
const DOUBTS: u32 = 2;
/// Two to the power of this many proposals go without waiting, at most.
const DOUBT_MAX: u32 = 10;

/// What is on its way to a log, and what may come.
#[derive(Default)]
pub struct Linger {
    proposals: usize,
    /// Bytes proposed and not decided.
    flying: usize,
    /// Bytes that flew or waited when a proposal was decided last.
    crowd: usize,
    /// The crowd is waited for until then.
    until: Option<Instant>,
    /// Two to this power proposals go without waiting when the crowd does not come.
    doubt: u32,
    /// So many still do.
    rest: u32,
}

impl Linger {
    /// Bytes that have to wait at `now` before they are proposed; at least one.
    pub fn wanted(&self, now: Instant) -> usize {
        let worth = if self.waits() { self.most() } else { 1 };
        match self.proposals {
            0 if self.until.is_some_and(|until| now < until) => worth,
            0 => 1,
            _ => worth.max(COMPANY_BYTES),
        }
    }

    /// When less than that has to go.
    pub fn until(&self) -> Option<Instant> {
        self.until
    }

    /// So many bytes are proposed.
    pub fn proposed(&mut self, bytes: usize) {
        self.rest = self.rest.saturating_sub(1);
        if self.until.take().is_some() {
            if bytes >= self.most() {
                self.doubt = self.doubt.saturating_sub(1);
            } else {
                self.doubt = (self.doubt + DOUBTS).min(DOUBT_MAX);
                self.rest = 1 << self.doubt;
            }
        }
        self.proposals += 1;
        self.flying += bytes;
    }

    /// At `now` it is known what became of so many bytes, which took so long, while others waited.
    pub fn decided(&mut self, bytes: usize, took: Duration, waiting: usize, now: Instant) {
        self.crowd = self.flying + waiting;
        self.flying = self.flying.saturating_sub(bytes);
        self.proposals = self.proposals.saturating_sub(1);
        if self.proposals == 0 && self.waits() {
            self.until = Some(now + took.min(LINGER_MAX));
        }
    }

    fn waits(&self) -> bool {
        self.rest == 0 && CROWD_BYTES.contains(&self.crowd)
    }

    fn most(&self) -> usize {
        self.crowd - self.crowd / STRAGGLERS
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TOOK: Duration = Duration::from_millis(2);
    const CROWD: usize = 64 << 10;

    /// Half of the crowd is on its way and decided at `now` while the other half waits.
    fn half_decided(now: Instant) -> Linger {
        let mut linger = Linger::default();
        linger.proposed(CROWD / 2);
        linger.decided(CROWD / 2, TOOK, CROWD / 2, now);
        linger
    }

    #[test]
    fn a_crowd_is_waited_for_and_goes_together() {
        let now = Instant::now();
        assert_eq!(Linger::default().wanted(now), 1, "nobody is expected: at once");
        let mut linger = half_decided(now);
        assert_eq!((linger.wanted(now), linger.until()), (CROWD - CROWD / STRAGGLERS, Some(now + TOOK)));
        linger.proposed(CROWD);
        assert_eq!((linger.wanted(now), linger.until()), (CROWD.max(COMPANY_BYTES), None));
        linger.decided(CROWD, TOOK, 0, now);
        assert_eq!(linger.wanted(now), CROWD - CROWD / STRAGGLERS, "who is answered comes again");
        assert_eq!(linger.wanted(now + TOOK), 1, "nobody waits for longer than the last proposal took");
        linger.proposed(CROWD);
        linger.decided(CROWD, 10 * LINGER_MAX, 0, now);
        assert_eq!(linger.until(), Some(now + LINGER_MAX));
    }

    #[test]
    fn a_crowd_that_does_not_come_is_waited_for_less_and_less() {
        let now = Instant::now();
        let mut linger = Linger::default();
        let mut waits = 0;
        for _ in 0..4000 {
            linger.proposed(CROWD / 2);
            linger.decided(CROWD / 2, TOOK, CROWD / 2, now);
            waits += u32::from(linger.until().is_some());
        }
        assert!((5..12).contains(&waits), "{waits} of 4,000");
        while linger.doubt > 0 {
            linger.proposed(CROWD);
            linger.decided(CROWD, TOOK, 0, now);
        }
        assert!(linger.rest == 0 && linger.until().is_some(), "it comes again, and is waited for again");
    }

    #[test]
    fn few_bytes_and_many_are_not_waited_for() {
        let now = Instant::now();
        for bytes in [CROWD_BYTES.start() - 1, CROWD_BYTES.end() + 1] {
            let mut linger = Linger::default();
            linger.proposed(bytes);
            assert_eq!(linger.wanted(now), COMPANY_BYTES, "while one is on its way, company is");
            linger.decided(bytes, TOOK, 0, now);
            assert_eq!((linger.wanted(now), linger.until()), (1, None));
        }
    }

    #[test]
    fn with_several_on_their_way_the_rest_of_the_crowd_is_waited_for_when_the_last_is_decided() {
        let now = Instant::now();
        let mut linger = Linger::default();
        (0..2).for_each(|_| linger.proposed(COMPANY_BYTES));
        linger.decided(COMPANY_BYTES, TOOK, 0, now);
        assert_eq!((linger.wanted(now), linger.until()), (2 * COMPANY_BYTES * 15 / 16, None));
        linger.decided(COMPANY_BYTES, TOOK, COMPANY_BYTES, now);
        assert_eq!((linger.wanted(now), linger.until()), (2 * COMPANY_BYTES * 15 / 16, Some(now + TOOK)));
    }
}
