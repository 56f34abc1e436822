//! From waiting appends to Raft entries and back: small jobs share an entry, each job gets the replies to its batches.
//! Pure. Invariant: jobs keep their order, and a job is never split over two entries.
use bytes::Bytes;
use model::command::{Flags, Payload};
use model::cursor::Note;
use model::machine::{AppendReply, Reply};
use raft::{ProposeError, Proposed};

use crate::router::{AppendJob, Committed, Refused};

/// Bytes and batches in one entry, unless a single job has more.
const ENTRY_BYTES: usize = 1 << 20;
const ENTRY_BATCHES: usize = 256;
const _: () = assert!(ENTRY_BATCHES <= model::limits::BATCHES_PER_ENTRY_MAX);

/// The jobs of one entry.
#[derive(Default)]
pub struct Packed(Vec<PackedJob>);

/// An entry in the making.
#[derive(Default)]
struct Open {
    packed: Packed,
    batches: Vec<Bytes>,
    notes: Vec<Note>,
    bytes: usize,
}

struct PackedJob {
    job: AppendJob,
    batches: usize,
    stamped_ms: Option<i64>,
}

impl Packed {
    /// Batches in the entry.
    pub fn batches(&self) -> usize {
        self.0.iter().map(|packed| packed.batches).sum()
    }
}

impl Open {
    fn has_room(&self, job: &AppendJob) -> bool {
        let fits = self.bytes + job.bytes <= ENTRY_BYTES && self.batches.len() + job.batches.len() <= ENTRY_BATCHES;
        fits || self.batches.is_empty()
    }

    fn add(&mut self, mut job: AppendJob, now_ms: i64) {
        let stamped_ms = stamp(&mut job, now_ms);
        let ordinal = u16::try_from(self.batches.len()).unwrap_or(u16::MAX);
        self.notes.extend(job.note.map(|note| Note { ordinal, ..note }));
        self.bytes += job.bytes;
        let own = std::mem::take(&mut job.batches);
        self.packed.0.push(PackedJob { job, batches: own.len(), stamped_ms });
        self.batches.extend(own);
    }

    /// The entry, if there is anything in it.
    fn close(self, now_ms: i64) -> Option<(Payload, Packed)> {
        let payload = match self.notes.is_empty() {
            true => Payload::append(now_ms, self.batches),
            false => Payload::append_queue(now_ms, Flags::AMQP, self.batches, &self.notes),
        };
        (!self.packed.0.is_empty()).then_some((payload, self.packed))
    }
}

/// Puts jobs into entries of the time `now_ms`.
pub fn pack(jobs: Vec<AppendJob>, now_ms: i64) -> Vec<(Payload, Packed)> {
    let mut entries = Vec::new();
    let mut open = Open::default();
    for job in jobs {
        if !open.has_room(&job) {
            entries.extend(std::mem::take(&mut open).close(now_ms));
        }
        open.add(job, now_ms);
    }
    entries.extend(open.close(now_ms));
    entries
}

/// Writes the leader's time into the batches of a topic with LogAppendTime.
fn stamp(job: &mut AppendJob, now_ms: i64) -> Option<i64> {
    if !job.stamp {
        return None;
    }
    let stamped = |batch: &Bytes| match wire::kafka::Batch::take(&mut batch.clone()) {
        Ok(view) => view.with_log_append_time(now_ms).bytes().clone(),
        Err(_unverified) => batch.clone(),
    };
    job.batches = job.batches.iter().map(stamped).collect();
    Some(now_ms)
}

/// Tells every job of an entry what became of it.
pub fn answer(jobs: Packed, outcome: Result<Proposed, ProposeError>) {
    let replies = match outcome.map(|proposed| proposed.reply) {
        Ok(Reply::Append(replies)) => Ok(replies),
        Ok(other) => Err(Refused::Stopped(format!("the entry is dead: {other:?}"))),
        Err(ProposeError::NotLeader { leader }) => Err(Refused::NotLeader(leader)),
        Err(ProposeError::Lost { leader }) => Err(Refused::Unknown(leader)),
        Err(ProposeError::Busy) => Err(Refused::Busy),
        Err(ProposeError::Closed(why)) => Err(Refused::Stopped(why)),
    };
    let mut next = 0;
    for PackedJob { job, batches, stamped_ms } in jobs.0 {
        let own = replies.as_ref().map(|replies| replies.get(next..next + batches).unwrap_or_default());
        next += batches;
        let outcome = own.map_err(Refused::clone).and_then(|own| verdict(own, stamped_ms));
        let _gone = job.reply.send(outcome);
    }
}

/// One job's outcome from the replies to its batches: the first refusal, else the first offset.
fn verdict(replies: &[AppendReply], stamped_ms: Option<i64>) -> Result<Committed, Refused> {
    let mut first = None;
    for reply in replies {
        match *reply {
            AppendReply::Ok { base_offset } | AppendReply::Duplicate { base_offset } => {
                first.get_or_insert(base_offset);
            }
            AppendReply::Err(error) => return Err(Refused::Rejected(error)),
        }
    }
    let base_offset = first.ok_or_else(|| Refused::Stopped("no reply for this job's batches".to_owned()))?;
    Ok(Committed { base_offset, stamped_ms })
}

#[cfg(test)]
mod tests {
    use model::machine::AppendError;
    use tokio::sync::oneshot;

    use super::*;
    use crate::router::AppendBudget;

    type Outcome = oneshot::Receiver<Result<Committed, Refused>>;

    fn job(batches: usize, bytes_each: usize) -> (AppendJob, Outcome) {
        let (reply, outcome) = oneshot::channel();
        let admission = AppendBudget::new(1 << 20).admit(1).unwrap();
        let bytes = batches * bytes_each;
        let batches = vec![Bytes::from(vec![7; bytes_each]); batches];
        (AppendJob { batches, note: None, stamp: false, bytes, admission, reply }, outcome)
    }

    fn proposed(replies: Vec<AppendReply>) -> Result<Proposed, ProposeError> {
        Ok(Proposed { index: 1, term: 1, reply: Reply::Append(replies) })
    }

    #[test]
    fn small_jobs_share_an_entry_and_large_ones_do_not() {
        let jobs = [(1, 100), (2, 100), (1, 1 << 20), (1, 50), (255, 1), (2, 1)];
        let entries = pack(jobs.map(|(batches, bytes)| job(batches, bytes).0).into(), 5);
        let shape: Vec<_> = entries.iter().map(|(payload, packed)| (payload.body.len(), packed.0.len())).collect();
        assert_eq!(shape, [(3, 2), (1, 1), (256, 2), (2, 1)]);
        assert!(pack(Vec::new(), 5).is_empty());
    }

    #[test]
    fn notes_are_of_their_batches() {
        let note = |priority| Some(Note { priority: Some(priority), ..Note::default() });
        let said = |note, batches| AppendJob { note, ..job(batches, 10).0 };
        let (payload, _) = pack(vec![said(None, 2), said(note(7), 1), said(note(9), 1)], 5).remove(0);
        let at = |ordinal, note: Option<Note>| Note { ordinal, ..note.unwrap() };
        let expected =
            Payload::append_queue(5, Flags::AMQP, vec![Bytes::from(vec![7; 10]); 4], &[at(2, note(7)), at(3, note(9))]);
        assert_eq!(payload, expected);
    }

    #[test]
    fn every_job_gets_its_own_replies() {
        let (first, mut first_outcome) = job(1, 10);
        let (second, mut second_outcome) = job(2, 10);
        let (third, mut third_outcome) = job(1, 10);
        let (_, packed) = pack(vec![first, second, third], 5).remove(0);
        let refused = AppendError::OutOfOrderSequence { first: 9, last: 3 };
        answer(
            packed,
            proposed(vec![
                AppendReply::Duplicate { base_offset: 3 },
                AppendReply::Ok { base_offset: 10 },
                AppendReply::Ok { base_offset: 12 },
                AppendReply::Err(refused),
            ]),
        );
        let committed = |base_offset| Ok(Ok(Committed { base_offset, stamped_ms: None }));
        assert_eq!(first_outcome.try_recv(), committed(3));
        assert_eq!(second_outcome.try_recv(), committed(10));
        assert_eq!(third_outcome.try_recv(), Ok(Err(Refused::Rejected(refused))));
    }

    #[test]
    fn a_lost_entry_is_not_a_refused_one() {
        for (error, expected) in [
            (ProposeError::Lost { leader: None }, Refused::Unknown(None)),
            (ProposeError::NotLeader { leader: None }, Refused::NotLeader(None)),
            (ProposeError::Busy, Refused::Busy),
        ] {
            let (one, mut outcome) = job(1, 10);
            answer(pack(vec![one], 5).remove(0).1, Err(error));
            assert_eq!(outcome.try_recv(), Ok(Err(expected)));
        }
    }
}
