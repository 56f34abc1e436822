//! The scenario of operators: they level, move, drain, decommission, restart by turns, pause and cancel, all while nodes fall.
//! Nothing long is begun shortly before the end, so that it can be over soon after.

use rand::Rng;
use rand::seq::SliceRandom;

use super::Stage;
use super::scenarios::{JOINER, MOVED, disturb};
use crate::fault::Fault;

/// Nothing is begun any more so long before the end.
const LAST_MS: u64 = 3_000;
/// What a restart by turns takes for each node, at least.
const TURN_MS: u64 = 1_000;

/// One thing after the other, in a cluster of three nodes or four.
pub(super) fn play(stage: &mut Stage<'_>) {
    let mut at = stage.from_ms + stage.rng.random_range(100..1_500);
    if stage.rng.random_bool(0.7) {
        stage.once(at, Fault::Join { node: JOINER });
        at += 1_500;
    }
    while at + LAST_MS < stage.until_ms {
        let until = begin(stage, at);
        if stage.rng.random_bool(0.4) {
            disturb(stage, at);
        }
        at = until + stage.rng.random_range(300..2_000);
    }
}

/// Begins something; when the next may begin.
fn begin(stage: &mut Stage<'_>, at: u64) -> u64 {
    let node = stage.rng.random_range(1..=JOINER);
    let until = at + stage.rng.random_range(500..4_000);
    match stage.rng.random_range(0..12) {
        0..=2 => stage.once(at, Fault::Rebalance),
        3..=4 => {
            let mut to: Vec<u32> = (1..=JOINER).collect();
            to.shuffle(stage.rng);
            to.truncate(3);
            let nth = stage.rng.random_range(1..=MOVED);
            stage.once(at, Fault::Relocate { nth, to });
        }
        5 => stage.during(at, until, Fault::Drain { node }),
        // Until all is over.
        6..=7 => stage.once(at, Fault::Drain { node }),
        8 => stage.during(at, until, Fault::Decommission { node }),
        9 => stage.during(at, until, Fault::Halt),
        10 => stage.once(at, Fault::Cancel),
        _ => return restart_by_turns(stage, at),
    }
    at
}

/// As somebody does who is careful: drain, stop, start, and let it serve again.
fn restart_by_turns(stage: &mut Stage<'_>, mut at: u64) -> u64 {
    for node in 1..=stage.nodes {
        let down = at + TURN_MS;
        let up = down + stage.rng.random_range(100..1_000);
        let over = up + stage.rng.random_range(500..1_500);
        stage.during(at, over, Fault::Drain { node });
        stage.during(down, up, Fault::Stop { node });
        at = over;
    }
    at
}
