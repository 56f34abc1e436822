//! The replicated machines of `model`, as one: an entry of the log in, a reply out.
//! Must never panic on replicated bytes: what a machine cannot take is a dead entry.

use model::command::{Payload, Tag};
use model::controller::ControllerMachine;
use model::coordinator::CoordinatorMachine;
use model::cursor::Batch;
use model::machine::DeadReason;
use model::partition::PartitionMachine;
use model::{At, Out, Reply};
use serde::de::DeserializeOwned;
use storage::codec;

use crate::types::LogId;

/// The replicated machine of a group.
#[derive(Debug)]
pub(crate) enum Machine {
    Partition(Box<PartitionMachine>),
    Controller(Box<ControllerMachine>),
    Coordinator(Box<CoordinatorMachine>),
}

impl Machine {
    /// Entry 0 is the founding membership, written by openraft before any leader: it means nothing to a machine.
    pub(crate) fn apply(&mut self, id: LogId, leader_ts: i64, payload: &Payload, out: &mut Out) -> Reply {
        let at = At { index: id.index, term: id.leader_id.term, leader_ts };
        match self {
            Machine::Partition(_) if id.index == 0 => Reply::None,
            Machine::Partition(machine) => machine.apply_decoded(at, payload, cursor_batch(payload), out),
            Machine::Controller(machine) => {
                command(payload, Tag::Controller, |command| Reply::Controller(machine.apply(at, command, out)))
            }
            Machine::Coordinator(machine) => {
                command(payload, Tag::Coordinator, |command| Reply::Coordinator(machine.apply(at, command)))
            }
        }
    }
}

/// The body of a cursor batch, if the entry is one and its body is to be understood.
fn cursor_batch(payload: &Payload) -> Option<Batch> {
    let header = payload.header().ok().filter(|header| header.tag == Tag::CursorBatch);
    match (header, payload.body.as_slice()) {
        (Some(_), [body]) => codec::decode(body, model::limits::ENTRY_BYTES_MAX).ok(),
        _ => None,
    }
}

/// Applies the command that an entry of a controller or coordinator carries.
fn command<C: DeserializeOwned>(payload: &Payload, own: Tag, apply: impl FnOnce(C) -> Reply) -> Reply {
    let header = match payload.header() {
        Ok(header) => header,
        Err(error) => return Reply::Dead(error.into()),
    };
    match (header.tag, payload.body.as_slice()) {
        (Tag::Blank | Tag::Membership, _) => Reply::None,
        (tag, [body]) if tag == own => match codec::decode(body, model::limits::ENTRY_BYTES_MAX) {
            Ok(command) => apply(command),
            Err(_) => Reply::Dead(DeadReason::Body),
        },
        (tag, _) if tag == own => Reply::Dead(DeadReason::Body),
        (tag, _) => Reply::Dead(DeadReason::Foreign(tag as u8)),
    }
}
