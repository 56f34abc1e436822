//! The queues that this node leads, as rows that are taken when somebody scrapes: the rows of all nodes together are each queue's once,
//! and a queue that goes leaves the page. Bounded: `QUEUES_LABELLED_MAX` queues have a row of their own, the others share one.
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Error;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::{ConstCounter, Counter};
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::{Registry, Unit};

/// Queues that get a label of their own.
pub const QUEUES_LABELLED_MAX: usize = 200;
const OTHERS: &str = "other";

/// One queue.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct QueueRow {
    /// To be delivered.
    pub ready: u64,
    /// With consumers.
    pub unacked: u64,
    /// Waiting for their time.
    pub delayed: u64,
    /// Who consumes.
    pub consumers: u64,
    /// For how long the oldest delivery is out; 0 if none is.
    pub oldest_unacked_seconds: f64,
    /// Ever published.
    pub published: u64,
    /// Delivered by this leader.
    pub delivered: u64,
    /// Those that may have been delivered before.
    pub redelivered: u64,
    /// Ever dead, by reason.
    pub dead: [(&'static str, u64); 4],
}

impl QueueRow {
    fn add(&mut self, other: &QueueRow) {
        self.ready += other.ready;
        self.unacked += other.unacked;
        self.delayed += other.delayed;
        self.consumers += other.consumers;
        self.oldest_unacked_seconds = self.oldest_unacked_seconds.max(other.oldest_unacked_seconds);
        self.published += other.published;
        self.delivered += other.delivered;
        self.redelivered += other.redelivered;
        for ((reason, dead), (other_reason, more)) in self.dead.iter_mut().zip(other.dead) {
            (*reason, *dead) = (other_reason, *dead + more);
        }
    }
}

/// Virtual host and name of a queue.
pub type QueueLabel = (String, String);
/// By label.
type Rows = BTreeMap<QueueLabel, QueueRow>;

/// The queues led here, and what reached none.
#[derive(Default)]
pub struct Queues {
    rows: Arc<Mutex<Rows>>,
    /// Messages that no queue got.
    pub unroutable: Counter,
}

impl Queues {
    /// The queues that are led here now. Those that had a row keep it; the rest get one while there is room.
    pub fn show(&self, all: BTreeMap<QueueLabel, QueueRow>) {
        let mut rows = lock(&self.rows);
        let others = (String::new(), OTHERS.to_owned());
        let kept: BTreeSet<&QueueLabel> = all.keys().filter(|queue| rows.contains_key(*queue)).collect();
        let mut room = QUEUES_LABELLED_MAX.saturating_sub(kept.len());
        let mut next = Rows::new();
        for (queue, row) in &all {
            let has_row = kept.contains(queue) || (room > 0 && *queue != others);
            room -= usize::from(has_row && !kept.contains(queue));
            let label = if has_row { queue } else { &others };
            next.entry(label.clone()).or_default().add(row);
        }
        *rows = next;
    }

    pub(super) fn register(&self, registry: &mut Registry) {
        registry.register("unroutable", "Messages that no queue got", self.unroutable.clone());
        registry.register_collector(Box::new(Page(self.rows.clone())));
    }
}

fn lock(rows: &Mutex<Rows>) -> MutexGuard<'_, Rows> {
    rows.lock().unwrap_or_else(PoisonError::into_inner)
}

#[derive(Debug)]
struct Page(Arc<Mutex<Rows>>);

impl Collector for Page {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), Error> {
        let rows = lock(&self.0);
        let mut gauge = |name, help, of: fn(&QueueRow) -> u64| {
            let mut family = encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
            rows.iter().try_for_each(|((vhost, queue), row)| {
                let value = ConstGauge::new(i64::try_from(of(row)).unwrap_or(i64::MAX));
                value.encode(family.encode_family(&[("queue", &**queue), ("vhost", vhost)])?)
            })
        };
        gauge("queue_messages_ready", "Messages to be delivered", |row| row.ready)?;
        gauge("queue_messages_unacked", "Messages with consumers", |row| row.unacked)?;
        gauge("queue_messages_delayed", "Messages that wait for their time", |row| row.delayed)?;
        gauge("queue_consumers", "Who consumes", |row| row.consumers)?;
        let mut counter = |name, help, of: fn(&QueueRow) -> u64| {
            let mut family = encoder.encode_descriptor(name, help, None, MetricType::Counter)?;
            rows.iter().try_for_each(|((vhost, queue), row)| {
                ConstCounter::new(of(row)).encode(family.encode_family(&[("queue", &**queue), ("vhost", vhost)])?)
            })
        };
        counter("queue_published", "Messages ever published, by Kafka clients too", |row| row.published)?;
        counter("queue_delivered", "Deliveries of this leader", |row| row.delivered)?;
        counter("queue_redelivered", "Those of messages that may have been delivered before", |row| row.redelivered)?;
        let (name, help) = ("queue_oldest_unacked", "For how long the oldest delivery is out");
        let mut family = encoder.encode_descriptor(name, help, Some(&Unit::Seconds), MetricType::Gauge)?;
        rows.iter().try_for_each(|((vhost, queue), row)| {
            ConstGauge::new(row.oldest_unacked_seconds)
                .encode(family.encode_family(&[("queue", &**queue), ("vhost", vhost)])?)
        })?;
        let help = "Messages that died, by reason; without a dead-letter exchange they are dropped";
        let mut family = encoder.encode_descriptor("queue_dead", help, None, MetricType::Counter)?;
        rows.iter().try_for_each(|((vhost, queue), row)| {
            row.dead.iter().try_for_each(|(reason, count)| {
                ConstCounter::new(*count).encode(family.encode_family(&[
                    ("queue", &**queue),
                    ("vhost", vhost),
                    ("reason", reason),
                ])?)
            })
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(queue: &str) -> QueueLabel {
        ("/".to_owned(), queue.to_owned())
    }

    fn rows(queues: &Queues) -> Rows {
        lock(&queues.rows).clone()
    }

    #[test]
    fn labels_are_bounded_and_free_again_when_queues_go() {
        let queues = Queues::default();
        let row = QueueRow { ready: 2, oldest_unacked_seconds: 7.0, dead: [("a", 1); 4], ..QueueRow::default() };
        let named = |names: std::ops::Range<usize>| names.map(|name| (of(&format!("q{name:03}")), row)).collect();
        queues.show(named(0..QUEUES_LABELLED_MAX + 50));
        assert_eq!(rows(&queues).len(), QUEUES_LABELLED_MAX + 1);
        let label = (String::new(), OTHERS.to_owned());
        let others = rows(&queues)[&label];
        assert_eq!((others.ready, others.oldest_unacked_seconds, others.dead), (100, 7.0, [("a", 50); 4]));
        queues.show(named(100..QUEUES_LABELLED_MAX + 50));
        let now = rows(&queues);
        assert_eq!(
            (now.len(), now.contains_key(&label)),
            (QUEUES_LABELLED_MAX - 50, false),
            "those that went made room"
        );
        queues.show(named(0..QUEUES_LABELLED_MAX + 50));
        assert!(rows(&queues).contains_key(&of("q249")), "who has a row keeps it");
        queues.show(BTreeMap::from([(of(OTHERS), row)]));
        assert_eq!(rows(&queues)[&of(OTHERS)], row);
    }
}
