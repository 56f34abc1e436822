//! What the leader of a queue shows of itself to whoever looks on: its loop writes down what only it knows each turn, and rates are
//! taken from one look to the next. Looking costs the loop nothing, and does not count as using the queue.
use std::time::Duration;

use model::cursor::ackset::{AckSet, Reason};
use tokio::time::Instant;

use super::{Handle, Now};
use crate::peer::queues::{Deaths, QueueCounts, QueueStanding, QueueTraffic};

/// Rates are those of so long at least.
const RATE_OVER: Duration = Duration::from_secs(5);

/// What the loop alone knows, as of its last turn.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Shown {
    /// With consumers, or settled and not committed yet.
    pub(super) taken: u64,
    /// With consumers.
    pub(super) unacked: u64,
    /// Who consumes.
    pub(super) consumers: u64,
    /// Since when the oldest delivery lasts, by the steady clock.
    pub(super) oldest_since: Option<i64>,
    /// Deliveries of this leader.
    pub(super) delivered: u64,
    /// Those of messages that may have been delivered before.
    pub(super) redelivered: u64,
}

impl Shown {
    /// How many messages are what.
    pub(super) fn counts(&self, cursor: &AckSet, now: Now) -> QueueCounts {
        let counts = cursor.counts(now.wall);
        QueueCounts {
            ready: counts.ready.saturating_sub(self.taken),
            unacked: self.unacked,
            delayed: counts.delayed,
            dead_pending: counts.dead_pending,
            consumers: self.consumers,
            oldest_unacked_ms: self.oldest_since.map(|since| u64::try_from(now.steady - since).unwrap_or(0)),
        }
    }
}

/// Counters at the last look, and how fast they grew up to it.
#[derive(Debug, Default)]
pub(super) struct Meter {
    looked: Option<(Instant, QueueTraffic)>,
    rates: (f64, f64),
}

impl Meter {
    fn look(&mut self, now: Instant, traffic: QueueTraffic) {
        let Some((at, before)) = self.looked else {
            self.looked = Some((now, traffic));
            return;
        };
        let seconds = now.duration_since(at).as_secs_f64();
        if seconds >= RATE_OVER.as_secs_f64() {
            let rate = |before: u64, now: u64| now.saturating_sub(before) as f64 / seconds;
            self.rates = (rate(before.published, traffic.published), rate(before.delivered, traffic.delivered));
            self.looked = Some((now, traffic));
        }
    }
}

impl Handle {
    /// The queue as its leader knows it; none where it does not lead.
    pub(in crate::broker::queues) fn standing(&self, now: Now) -> Option<QueueStanding> {
        let shown = *self.shown();
        let (counts, dead) = self.cursor(|cursor| (shown.counts(cursor, now), cursor.state().dead))?;
        let [rejected, expired, delivery_limit, maxlen] = dead;
        const { assert!(matches!(Reason::ALL, [Reason::Rejected, Reason::Expired, Reason::Failed, Reason::Overflow])) }
        let dead = Deaths { rejected, expired, delivery_limit, maxlen };
        let (publish_rate, deliver_rate) = self.meter().rates;
        let traffic = QueueTraffic { publish_rate, deliver_rate, ..self.traffic()? };
        self.is_open().then_some(QueueStanding { counts, dead, traffic })
    }

    /// Takes the rates, if it is time.
    pub(in crate::broker::queues) fn measure(&self) {
        if let Some(traffic) = self.traffic().filter(|_| self.is_open()) {
            self.meter().look(Instant::now(), traffic);
        }
    }

    /// The counters: an offset was given to every message that was ever published, whoever led.
    fn traffic(&self) -> Option<QueueTraffic> {
        let end = self.local.raft().partition(|machine| machine.high_watermark())?;
        let shown = *self.shown();
        let (published, delivered, redelivered) = (u64::try_from(end).unwrap_or(0), shown.delivered, shown.redelivered);
        Some(QueueTraffic { published, delivered, redelivered, ..QueueTraffic::default() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn rates_are_those_between_two_looks_far_enough_apart() {
        let (mut meter, start) = (Meter::default(), Instant::now());
        let at = |published, delivered| QueueTraffic { published, delivered, ..QueueTraffic::default() };
        meter.look(start, at(1_000, 7));
        assert_eq!(meter.rates, (0.0, 0.0), "nobody knows how long the first thousand took");
        meter.look(start + RATE_OVER / 2, at(2_000, 7));
        assert_eq!(meter.rates, (0.0, 0.0));
        meter.look(start + RATE_OVER * 2, at(2_000, 27));
        assert_eq!(meter.rates, (100.0, 2.0));
        // A new leader begins to count deliveries anew.
        meter.look(start + RATE_OVER * 4, at(2_000, 0));
        assert_eq!(meter.rates, (0.0, 0.0));
    }
}
