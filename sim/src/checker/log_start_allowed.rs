//! S4, for what is deleted on purpose: retention by bytes leaves at least so many bytes of the newest records (Kafka deletes a segment
//! only if the limit is met without it), and no disk lacks an entry that the log start has not passed.
//! The machine that replays the committed entries says where the log start is; no node is asked.

use bytes::Bytes;
use model::command::Payload;
use model::partition::PartitionMachine;
use model::{At, Out};

use super::committed_stays::Copy;

/// What a leader's machine keeps from its log start on, if that is less than `least`.
pub fn retained(machine: &PartitionMachine, least: u64) -> Option<String> {
    let (start, state) = (machine.log_start(), machine.state());
    if start == 0 {
        return None;
    }
    let kept = machine.locate(start).map_or(0, |point| state.log_bytes - point.position);
    (kept < least)
        .then(|| format!("of {} bytes retention kept {kept} from offset {start} on, not {least}", state.log_bytes))
}

/// The last entry that the log start has passed, or whose records were moved, once all of `committed` is applied: up to there a
/// disk may lack entries.
pub fn passed<'a>(committed: impl Iterator<Item = (u64, &'a Copy)>) -> u64 {
    let mut machine = PartitionMachine::new();
    let mut ends = Vec::new();
    for (index, (term, bytes)) in committed.filter(|(index, _)| *index > 0) {
        let payload = Payload::from_bytes(Bytes::clone(bytes)).unwrap_or_default();
        let leader_ts = payload.header().map_or(0, |header| header.leader_ts);
        machine.apply(At { index, term: *term, leader_ts }, &payload, &mut Out::default());
        ends.push((index, machine.next_offset()));
    }
    let first_in_place = machine.log_start().max(machine.clean().end);
    let first_moved = machine.moved().map(|row| row.index).min().unwrap_or(u64::MAX);
    let passed = |(index, end): &(u64, i64)| *end <= first_in_place && *index < first_moved;
    ends.into_iter().take_while(passed).last().map_or(0, |(index, _)| index)
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
        let mut machine = PartitionMachine::new();
        let mut apply =
            |index, payload| machine.apply(At { index, term: 1, leader_ts: 1 }, &payload, &mut Out::default());
        (1..=4).for_each(|index| drop(apply(index, record())));
        apply(5, Payload::log_start(1, 4));
        assert!(retained(&machine, 1).is_some());
        assert!(retained(&machine, 0).is_none());
    }
}
