//! One line of operations in the history: it has one at a time, and takes a new number when it cannot know how one ended, as
//! Jepsen's processes do. Numbers: producers 0 to 99, readers from 100, admins from 200, in steps of a thousand.

use super::{Ledger, now};
use crate::history::operation::{Action, Kind};

/// Distance between the numbers of one process.
const STEP: u32 = 1_000;

/// A process.
pub struct Process {
    number: u32,
    ledger: Ledger,
}

impl Process {
    /// The process that begins as `number`.
    pub fn new(number: u32, ledger: Ledger) -> Self {
        Self { number, ledger }
    }

    /// It begins an operation.
    pub fn invoke(&self, action: Action) {
        self.record(Kind::Invoke, action, None);
    }

    /// Its operation happened.
    pub fn ok(&self, action: Action) {
        self.record(Kind::Ok, action, None);
    }

    /// Its operation was refused.
    pub fn fail(&self, action: Action, error: impl ToString) {
        self.record(Kind::Fail, action, Some(error.to_string()));
    }

    /// Nobody knows whether its operation happened.
    pub fn info(&mut self, action: Action, error: impl ToString) {
        self.record(Kind::Info, action, Some(error.to_string()));
        self.number += STEP;
    }

    fn record(&self, kind: Kind, action: Action, error: Option<String>) {
        self.ledger.borrow_mut().record(now(), self.number, kind, action, error);
    }
}
