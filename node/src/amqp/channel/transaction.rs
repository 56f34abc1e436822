//! Class tx: what a channel publishes and acknowledges waits until it is committed. Bound: `MESSAGES_MAX` messages, `BYTES_MAX` bytes.
//! A commit is answered when a majority of each queue has all messages; acknowledgements follow. Over several queues it is
//! not atomic: if a node fails in the middle, some queues may have their messages and others not, as in RabbitMQ.

use model::cursor::ackset::Verdict;
use wire::amqp::method::tx;

use super::acknowledge::Held;
use super::publish::Publication;
use super::{Channel, Mode};
use crate::amqp::failure::{Result, failure};

/// Messages of one transaction.
const MESSAGES_MAX: usize = 8192;
/// Their bytes: less than the channels of a node may hold together, so that a commit can be read.
const BYTES_MAX: usize = 4 << 20;

/// What waits for the commit.
#[derive(Default)]
pub(super) struct Transaction {
    publications: Vec<Publication>,
    bytes: usize,
    settled: Vec<(Vec<(u64, Held)>, Verdict)>,
}

impl Transaction {
    pub(super) fn publish(&mut self, publication: Publication) -> Result<()> {
        self.bytes += publication.bytes();
        self.publications.push(publication);
        if self.bytes > BYTES_MAX || self.publications.len() > MESSAGES_MAX {
            return Err(failure!(
                PreconditionFailed,
                "a transaction holds at most {MESSAGES_MAX} messages of {BYTES_MAX} bytes"
            ));
        }
        Ok(())
    }

    pub(super) fn settle(&mut self, held: Vec<(u64, Held)>, verdict: Verdict) {
        self.settled.push((held, verdict));
    }
}

impl Channel {
    pub(super) fn select_transactions(&mut self) -> Result<()> {
        match self.mode {
            Mode::Confirming => return Err(failure!(PreconditionFailed, "cannot switch from confirm to tx mode")),
            Mode::Plain => self.mode = Mode::Transacting(Transaction::default()),
            Mode::Transacting(_) => {}
        }
        self.put(tx::SelectOk {});
        Ok(())
    }

    pub(super) async fn commit(&mut self) -> Result<()> {
        let Transaction { publications, settled, .. } = self.take_transaction()?;
        for publication in publications {
            self.send(publication, None)?;
        }
        let mut is_safe = true;
        while !self.confirms.is_empty() {
            let sent = self.confirms.next().await;
            is_safe &= sent.iter().all(|sent| sent.is_safe);
            sent.iter().filter_map(|sent| sent.returned.as_ref()).for_each(|content| self.give_back(content));
        }
        if !is_safe {
            return Err(failure!(PreconditionFailed, "not every message of the transaction was taken"));
        }
        for (held, verdict) in settled {
            held.into_iter().for_each(|(_, held)| held.settle(verdict));
        }
        self.put(tx::CommitOk {});
        Ok(())
    }

    pub(super) fn roll_back(&mut self) -> Result<()> {
        let transaction = self.take_transaction()?;
        transaction.settled.into_iter().for_each(|(held, _)| self.unacked.put_back(held));
        self.put(tx::RollbackOk {});
        Ok(())
    }

    fn take_transaction(&mut self) -> Result<Transaction> {
        match &mut self.mode {
            Mode::Transacting(transaction) => Ok(std::mem::take(transaction)),
            Mode::Plain | Mode::Confirming => Err(failure!(PreconditionFailed, "channel is not transactional")),
        }
    }
}
