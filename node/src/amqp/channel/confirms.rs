//! Messages on their way to queues, and what the publisher hears of them. Bound: `ON_THEIR_WAY_MAX` messages and `BYTES_MAX` bytes a
//! channel; at that, its commands wait. Invariant: a number is confirmed once, and not before all queues have the message.

use std::collections::BTreeSet;

use futures::future::{BoxFuture, FutureExt};
use futures::stream::{FuturesUnordered, StreamExt};
use tokio::time::Instant;
use wire::amqp::method::basic;

use super::Channel;
use crate::amqp::LISTENER;
use crate::broker::queues::message::Content;
use crate::metrics::ApiLabel;

/// Messages of one channel that no majority has yet.
const ON_THEIR_WAY_MAX: usize = 8192;
/// Their bytes.
const BYTES_MAX: usize = 16 << 20;
/// The label of publishing, for the metrics.
const PUBLISH: ApiLabel = ApiLabel { protocol: LISTENER.listener, api: "basic.publish" };

/// What became of a message.
pub struct Sent {
    /// Its number, if the channel confirms.
    pub number: Option<u64>,
    pub bytes: usize,
    /// Since when it was on its way.
    pub since: Instant,
    /// All its queues have it, on a majority.
    pub is_safe: bool,
    /// The message, if nobody was there and it is mandatory.
    pub returned: Option<Content>,
}

/// A message on its way.
pub type Sending = BoxFuture<'static, Sent>;

/// Those of one channel.
#[derive(Default)]
pub struct Confirms {
    on_their_way: FuturesUnordered<Sending>,
    bytes: usize,
    unconfirmed: BTreeSet<u64>,
    numbers: u64,
}

impl Confirms {
    /// The number of the next message of a channel that confirms.
    pub fn number(&mut self) -> u64 {
        self.numbers += 1;
        self.unconfirmed.insert(self.numbers);
        self.numbers
    }

    /// Waits for this one, too.
    pub fn push(&mut self, bytes: usize, sending: Sending) {
        self.bytes += bytes;
        self.on_their_way.push(sending);
    }

    pub fn is_empty(&self) -> bool {
        self.on_their_way.is_empty()
    }

    pub fn has_room(&self) -> bool {
        self.on_their_way.len() < ON_THEIR_WAY_MAX && self.bytes < BYTES_MAX
    }

    /// All that have arrived, one at least. Cancel safe.
    pub async fn next(&mut self) -> Vec<Sent> {
        let Some(first) = self.on_their_way.next().await else { return std::future::pending().await };
        let mut all = vec![first];
        while let Some(Some(sent)) = self.on_their_way.next().now_or_never() {
            all.push(sent);
        }
        self.bytes -= all.iter().map(|sent| sent.bytes).sum::<usize>();
        all
    }

    /// Takes these numbers as done; how many of the acknowledged, from the front, one acknowledgement can say.
    fn done(&mut self, numbers: &[u64], acknowledged: &mut [u64]) -> usize {
        for number in numbers {
            let was_open = self.unconfirmed.remove(number);
            debug_assert!(was_open, "message {number} is confirmed twice");
        }
        acknowledged.sort_unstable();
        let oldest_open = self.unconfirmed.first().copied().unwrap_or(u64::MAX);
        acknowledged.partition_point(|number| *number < oldest_open)
    }
}

impl Channel {
    /// Waits until all that was published on this channel has arrived: what is asked behind it sees it.
    pub(super) async fn all_arrived(&mut self) {
        while !self.confirms.is_empty() {
            let sent = self.confirms.next().await;
            self.confirm(sent);
        }
    }

    /// Tells the publisher what became of these.
    pub(super) fn confirm(&mut self, sent: Vec<Sent>) {
        let metrics = &self.session.shared.metrics;
        let (latency, errors) =
            (metrics.requests.get_or_create_owned(&PUBLISH), metrics.request_errors.get_or_create_owned(&PUBLISH));
        let (mut acknowledged, mut all) = (Vec::new(), Vec::new());
        for Sent { number, since, is_safe, returned, .. } in sent {
            returned.iter().for_each(|content| self.give_back(content));
            latency.observe(since.elapsed().as_secs_f64());
            all.extend(number);
            match number {
                _ if !is_safe => {
                    errors.inc();
                    if let Some(delivery_tag) = number {
                        self.put(basic::Nack { delivery_tag, multiple: false, requeue: false });
                    }
                }
                Some(number) => acknowledged.push(number),
                None => {}
            }
        }
        let together = self.confirms.done(&all, &mut acknowledged);
        let (front, rest) = acknowledged.split_at(together);
        if let Some(last) = front.last() {
            self.put(basic::Ack { delivery_tag: *last, multiple: front.len() > 1 });
        }
        for delivery_tag in rest {
            self.put(basic::Ack { delivery_tag: *delivery_tag, multiple: false });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_acknowledgement_says_all_below_the_oldest_that_is_open() {
        let mut confirms = Confirms::default();
        let numbers: Vec<u64> = (0..5).map(|_| confirms.number()).collect();
        assert_eq!(numbers, [1, 2, 3, 4, 5]);
        let mut acknowledged = [4, 1, 2];
        assert_eq!(confirms.done(&[4, 1, 2], &mut acknowledged), 2, "3 is open");
        assert_eq!(acknowledged, [1, 2, 4]);
        assert_eq!(confirms.done(&[3], &mut []), 0, "3 was refused");
        assert_eq!(confirms.done(&[5], &mut [5]), 1);
    }

    #[tokio::test]
    async fn a_channel_waits_when_too_much_is_on_its_way() {
        let mut confirms = Confirms::default();
        let sent = |bytes| Sent { number: None, bytes, since: Instant::now(), is_safe: true, returned: None };
        let (tell, told) = tokio::sync::oneshot::channel::<()>();
        confirms.push(BYTES_MAX, async move { told.await.map(|()| sent(BYTES_MAX)).expect("told") }.boxed());
        assert!(!confirms.has_room());
        assert!(confirms.next().now_or_never().is_none());
        confirms.push(1, async move { sent(1) }.boxed());
        assert_eq!(confirms.next().await.len(), 1);
        tell.send(()).expect("somebody listens");
        assert_eq!(confirms.next().await.len(), 1);
        assert!(confirms.has_room());
    }
}
