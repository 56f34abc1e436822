//! An impatient producer without idempotence that sends each batch once: what is not acknowledged is unknown, and may be in the log or not,
//! now or later, but never in part.

use std::time::Duration;

use wire::compression::Compression;
use wire::kafka::batch::BatchBuilder;

use super::client::Client;
use super::process::Process;
use super::produce::{PRODUCE_VERSION, encode, outcome, request, sending};
use super::{AUDIT, Ledger, PAUSE, TOPICS, now};
use crate::history::{Partition, Serial};

/// Records in a batch: 1 to this.
const BATCH_RECORDS_MAX: u64 = 4;
/// These producers are slower than the idempotent ones.
const PAUSES: u32 = 3;

/// One producer of the run.
pub struct Producer {
    number: u32,
    client: Client,
    process: Process,
    ledger: Ledger,
    begun: u64,
}

impl Producer {
    /// Producer `number` of a cluster of `nodes`.
    pub fn new(number: u32, nodes: u32, ledger: Ledger) -> Self {
        let process = Process::new(number * 8, ledger.clone());
        Self { number, client: Client::impatient(nodes, number), process, ledger, begun: 0 }
    }

    /// Produces until `until` of simulated time.
    pub async fn run(mut self, until: Duration) {
        while now() < until {
            let index = (self.begun % TOPICS[1].1 as u64) as i32;
            self.batch(Partition { topic: AUDIT, index }).await;
            tokio::time::sleep(PAUSES * PAUSE).await;
        }
    }

    async fn batch(&mut self, partition: Partition) {
        let Ok(leader) = self.client.leader(partition).await else { return };
        let records = 1 + (self.begun / 3) % BATCH_RECORDS_MAX;
        let serials: Vec<Serial> =
            (self.begun..self.begun + records).map(|number| Serial { producer: self.number, number }).collect();
        self.begun += records;
        self.ledger.borrow_mut().loose.insert(serials[0], records);
        let request = request(partition, encode(BatchBuilder::new(Compression::None), &serials));
        self.process.invoke(sending(partition, &serials, None));
        let error =
            match self.client.call_leader(leader, PRODUCE_VERSION, &request).await.map(|answer| outcome(&answer)) {
                Ok((0, base)) => {
                    self.ledger.borrow_mut().acknowledge(now(), partition, base, &serials);
                    return self.process.ok(sending(partition, &serials, Some(base)));
                }
                Ok((code, _)) => format!("error {code}"),
                Err(error) => error.to_string(),
            };
        self.ledger.borrow_mut().count("produces of unknown outcome");
        self.process.info(sending(partition, &serials, None), error);
        self.client.forget_leaders();
    }
}
