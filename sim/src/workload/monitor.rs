//! Watches the ends of all partitions as monitors of consumer lag do: asks every node, whether it leads or not, again and again. So
//! it also hears leaders that do not know yet that they are deposed, and those that have just been elected.

use std::time::Duration;

use rand::Rng;
use rand::rngs::SmallRng;
use wire::kafka::ErrorCode;

use super::client::Client;
use super::read::{EPOCH_END_VERSION, LATEST, LIST_OFFSETS_VERSION, epoch_request, offsets_request};
use super::{Ledger, now, partitions};
use crate::checker::end_linearizable::Known;
use crate::history::{History, Partition};

/// Pause between two rounds of questions to a node, milliseconds.
const PAUSE_MS: std::ops::Range<u64> = 20..100;

/// What a monitor asks for.
#[derive(Clone, Copy)]
pub enum Question {
    /// Where the logs end: answered when a quorum has been asked.
    Ends,
    /// Where the newest leader epochs end: answered at once.
    Epochs,
}

/// Asks `node` of `nodes` until `until`. It gives up soon, so that a question begun late waits for a node that stood still.
pub async fn run(question: Question, (node, nodes): (u32, u32), ledger: Ledger, mut rng: SmallRng, until: Duration) {
    let mut monitor = Monitor { node, client: Client::impatient(nodes, node), ledger };
    while now() < until {
        // An error is that of a node which is down or cut off, and the next round's matter.
        let _unheard = match question {
            Question::Ends => monitor.ask_ends().await,
            Question::Epochs => monitor.ask_epochs().await,
        };
        tokio::time::sleep(Duration::from_millis(rng.random_range(PAUSE_MS))).await;
    }
}

struct Monitor {
    node: u32,
    client: Client,
    ledger: Ledger,
}

impl Monitor {
    fn known(&self) -> Vec<(Partition, Known)> {
        let history = self.ledger.borrow();
        partitions().map(|partition| (partition, Known::of(&history, partition, now()))).collect()
    }

    async fn ask_ends(&mut self) -> anyhow::Result<()> {
        let known = self.known();
        let request = offsets_request(partitions(), LATEST);
        let answer = self.client.call_node(self.node, LIST_OFFSETS_VERSION, &request).await?;
        for (partition, known) in known {
            let mut topics = answer.topics.iter().filter(|topic| topic.name.as_str() == partition.topic);
            let found =
                topics.find_map(|topic| topic.partitions.iter().find(|found| found.partition_index == partition.index));
            let history = &mut *self.ledger.borrow_mut();
            if found.is_some_and(|found| found.error_code == ErrorCode::OffsetNotAvailable as i16) {
                history.count("end refused by a leader that does not know it yet");
            }
            let Some(found) = found.filter(|found| found.error_code == 0) else { continue };
            history.count("ends told to monitors");
            let words = known.end(history, &format!("node {}", self.node), found.offset);
            violate(history, words);
            // Confirmed by a quorum; what is said of epochs is not, and a deposed leader may not know how its own one ended.
            history.tell_epoch_end((partition, found.leader_epoch), found.offset, (self.node, now()));
        }
        Ok(())
    }

    async fn ask_epochs(&mut self) -> anyhow::Result<()> {
        let known = self.known();
        let request = epoch_request(known.iter().map(|(partition, known)| (*partition, known.epoch())), -1);
        let answer = self.client.call_node(self.node, EPOCH_END_VERSION, &request).await?;
        for (partition, known) in known {
            let mut topics = answer.topics.iter().filter(|topic| topic.topic.as_str() == partition.topic);
            let found =
                topics.find_map(|topic| topic.partitions.iter().find(|found| found.partition == partition.index));
            let Some(found) = found.filter(|found| found.error_code == 0) else { continue };
            let (epoch, end) = (found.leader_epoch, found.end_offset);
            let history = &mut *self.ledger.borrow_mut();
            let words = known.epoch_end(history, &format!("node {}", self.node), (epoch, end));
            violate(history, words);
        }
        Ok(())
    }
}

fn violate(history: &mut History, words: Option<String>) {
    if let Some(words) = words {
        history.violate(now(), format!("S5 EndLinearizable: {words}"));
    }
}
