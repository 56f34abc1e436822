//! The one who breaks things, on a schedule that the seed decides: crashes that lose unsynced data, loss of all power, cut and
//! slow links. A safety phase with faults, then everything is healed and must work again.

use std::time::Duration;

use rand::Rng;
use rand::rngs::SmallRng;

use crate::fault::Fault;

/// When the faults begin: the cluster has formed and the topic exists.
pub const BEGIN: Duration = Duration::from_secs(6);
/// When the last one is healed.
pub const HEAL: Duration = Duration::from_secs(26);
/// Longest time between two faults.
const PAUSE_MS_MAX: u64 = 4_000;

/// The schedule of a run, in order of time. Whatever begins also ends, at [`HEAL`] at the latest.
pub fn schedule(rng: &mut SmallRng, nodes: u32) -> Vec<(Duration, Fault)> {
    let mut schedule = Vec::new();
    let mut at = BEGIN;
    loop {
        at += Duration::from_millis(rng.random_range(200..PAUSE_MS_MAX));
        if at >= HEAL {
            break;
        }
        let end = (at + Duration::from_millis(rng.random_range(30..3_500))).min(HEAL);
        match rng.random_range(0..10) {
            0..=5 => crash(&mut schedule, at, end, rng.random_range(1..=nodes)),
            6..=7 => (1..=nodes).for_each(|node| crash(&mut schedule, at, end, node)),
            _ => {
                let one = rng.random_range(1..=nodes);
                let other = one % nodes + 1;
                for (from, to) in [(one, other), (other, one)] {
                    schedule.push((at, Fault::Cut { from, to }));
                    schedule.push((end, Fault::Heal { from, to }));
                }
            }
        }
        at = end;
    }
    schedule.sort_by_key(|(at, _)| *at);
    schedule
}

fn crash(schedule: &mut Vec<(Duration, Fault)>, at: Duration, end: Duration, node: u32) {
    schedule.push((at, Fault::PowerLoss { node }));
    schedule.push((end, Fault::Start { node }));
}
