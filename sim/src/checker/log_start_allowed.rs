//! S4, for what is deleted on purpose: retention by bytes leaves at least so many bytes of the newest records (Kafka deletes a segment
//! only if the limit is met without it), and no disk lacks an entry that the log start has not passed.
//! The machine that replays the committed entries says where the log start is; no node is asked.

use std::collections::BTreeMap;

use bytes::Bytes;
use model::command::Payload;
use model::partition::PartitionMachine;
use model::{At, Out};

use super::committed_stays::Copy;

/// Each time that the log start moved and less than `least` bytes of `committed` were left: those behind the last entry that holds a
/// record below it. Entries without records of their own, as retries leave them, are bytes of the log too.
pub fn retained<'a>(committed: impl Iterator<Item = (u64, &'a Copy)>, least: u64) -> Vec<String> {
    let mut ends = BTreeMap::from([(0, 0)]);
    let (mut known, mut violations) = (0, Vec::new());
    replay(committed, |index, machine| {
        let (start, bytes) = (machine.log_start(), machine.state().log_bytes);
        ends.entry(machine.next_offset()).or_insert(bytes);
        let kept = bytes - ends.range(..=start).next_back().map_or(0, |(_, end)| *end);
        if std::mem::replace(&mut known, start) < start && kept < least {
            violations.push(format!("entry {index} leaves {kept} bytes from offset {start} on, not {least}"));
        }
    });
    violations
}

/// The last entry that the log start has passed, or whose records were moved, once all of `committed` is applied: up to there a
/// disk may lack entries.
pub fn passed<'a>(committed: impl Iterator<Item = (u64, &'a Copy)>) -> u64 {
    let mut ends = Vec::new();
    let machine = replay(committed, |index, machine| ends.push((index, machine.next_offset())));
    let first_in_place = machine.log_start().max(machine.clean().end);
    let first_moved = machine.moved().map(|row| row.index).min().unwrap_or(u64::MAX);
    let passed = |(index, end): &(u64, i64)| *end <= first_in_place && *index < first_moved;
    ends.into_iter().take_while(passed).last().map_or(0, |(index, _)| index)
}

/// Applies all of `committed`, and looks at the machine after each entry.
fn replay<'a>(
    committed: impl Iterator<Item = (u64, &'a Copy)>,
    mut look: impl FnMut(u64, &PartitionMachine),
) -> PartitionMachine {
    let mut machine = PartitionMachine::new();
    for (index, (term, bytes)) in committed.filter(|(index, _)| *index > 0) {
        let payload = Payload::from_bytes(Bytes::clone(bytes)).unwrap_or_default();
        let leader_ts = payload.header().map_or(0, |header| header.leader_ts);
        machine.apply(At { index, term: *term, leader_ts }, &payload, &mut Out::default());
        look(index, &machine);
    }
    machine
}

#[cfg(test)]
mod tests {
    use super::*;
    use wire::compression::Compression;
    use wire::kafka::batch::BatchBuilder;

    fn record() -> Payload {
        let mut builder = BatchBuilder::new(Compression::None);
        builder.push(1, None, Some(&[0; 100]));
        Payload::append(1, vec![builder.build().unwrap()])
    }

    fn copies(payloads: &[Payload]) -> Vec<Copy> {
        payloads.iter().map(|payload| (1, payload.parts().flat_map(|part| part.to_vec()).collect())).collect()
    }

    fn passed(payloads: &[Payload]) -> u64 {
        let copies = copies(payloads);
        super::passed((1..).zip(&copies))
    }

    #[test]
    fn entries_below_the_log_start_are_passed_and_no_other() {
        let mut log = vec![record(), record(), Payload::blank(1), record()];
        assert_eq!(passed(&log), 0);
        log.push(Payload::log_start(1, 2));
        assert_eq!(passed(&log), 3);
        log.push(Payload::log_start(1, -1));
        assert_eq!(passed(&log), 6);
    }

    #[test]
    fn too_little_that_is_kept_is_seen() {
        let sent = |sequence| {
            let mut builder = BatchBuilder::new(Compression::None).producer(1, 0, sequence);
            builder.push(1, None, Some(&[0; 100]));
            Payload::append(1, vec![builder.build().unwrap()])
        };
        let retained = |log: &[Payload], least| super::retained((1..).zip(&copies(log)), least).len();
        let mut log = vec![sent(0), sent(1), sent(1), sent(2), Payload::log_start(1, 2)];
        let kept = (log[2].len() + log[3].len()) as u64;
        assert_eq!(retained(&log, kept), 0, "a retry between two records is kept too");
        assert_eq!(retained(&log, kept + 1), 1);
        log.push(sent(3));
        assert_eq!(retained(&log, kept + 1), 1, "when it moved it was too early");
    }
}
