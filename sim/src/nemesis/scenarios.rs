//! The scenarios: what a nemesis can play between two moments. Numbers are the cases of docs/simulation.md.
//! Owns no time: a scenario that would run past its end is cut off there.

use rand::Rng;
use rand::seq::SliceRandom;

use super::{BEGIN_MS, Scenario, Stage, operating};
use crate::fault::Fault;

/// The node that was no founder.
pub(super) const JOINER: u32 = 4;
/// Partitions that a fault may name, counted from 1 in the order in which they were made: the coordinator shards, and those of the ledger.
const PARTITIONS: u32 = 6;
/// Partitions that may be moved: the coordinator shards, and those that records are written to.
pub(super) const MOVED: u32 = 8;
/// Partitions behind those, among them all queues.
const QUEUES_AMONG: std::ops::RangeInclusive<u32> = 9..=16;
/// A copy of a disk is so old at least when its node falls: until then its peers heard of later writes.
const AGE_MS_MIN: u64 = 500;
const HOUR_MS: i64 = 3_600_000;

macro_rules! scenarios {
    ($($name:literal [$($case:literal),*] $play:path;)*) => {
        &[$(Scenario { name: $name, cases: &[$($case),*], play: $play }),*]
    };
}

/// What may be mixed at will.
pub const ALL: &[Scenario] = scenarios! {
    "a node is isolated" [1] isolate;
    "a node is not heard" [2] unheard;
    "a node does not hear" [3] deaf;
    "two nodes lose each other" [4] bridge;
    "a link flaps" [5] flap;
    "a link is slow and lossy" [6] slow;
    "connections of clients go half-open" [7] half_open;
    "clients lose a node" [8] cut_clients;
    "connections are reset" [] reset;
    "a node is killed" [9] kill;
    "all nodes are killed" [10] kill_all;
    "nodes restart one after the other" [11] rolling;
    "a node stops and returns" [11] stop;
    "all nodes stop and return" [11] stop_all;
    "a node is paused" [12] pause;
    "a node crashes while it catches up" [14] crash_loop;
    "crashes while a node joins" [15, 30] join_crashes;
    "a node joins behind a cut" [30, 32] join_cut;
    "a partition's actor panics" [16] panic_actor;
    "a raft ends by itself" [16] raft_ends;
    "all nodes lose power" [17, 19] power_all;
    "a node loses power for a moment" [18, 19] power_blink;
    "a node loses power" [18, 19] power;
    "a disk is full" [22] disk_full;
    "a sync fails" [23] sync_error;
    "a disk is slow" [24] disk_slow;
    "a clock jumps an hour" [27] clock_jump;
    "a clock drifts" [28] clock_drift;
    "a clock steps back" [29] clock_back;
    "leaders are moved about" [33] transfers;
};

/// What leaves lasting damage; `until_ms` is the moment of the blow.
pub const DAMAGE: &[Scenario] = scenarios! {
    "a bit flips" [20] bit_flip;
    "a log is cut off" [21] truncate;
    "a disk is lost" [25] disk_loss;
    "an old copy of a disk comes back" [26] restore;
};

/// No client is heard, and all nodes stop in order and return, again and again.
pub const IDLE: Scenario = Scenario { name: "an idle cluster restarts", cases: &[11], play: idle_restarts };

/// Replicas move between the founders and a node that joins, whatever else happens.
pub const MOVING: Scenario = Scenario { name: "replicas are moved about", cases: &[30, 31, 32], play: moving };

/// Operators work on the cluster, whatever else happens.
pub const OPERATING: Scenario =
    Scenario { name: "operators work on the cluster", cases: &[11, 30, 31], play: operating::play };

/// The leaders of queues change, and clients lose their nodes, whatever else happens.
pub const QUEUES: Scenario = Scenario { name: "queues lose their leaders", cases: &[7, 16, 33], play: queues };

fn isolate(stage: &mut Stage<'_>) {
    let node = stage.node();
    cut(stage, node, true, true);
    if stage.rng.random_bool(0.3) {
        stage.during(stage.from_ms, stage.until_ms, Fault::CutClients { node });
    }
}

fn unheard(stage: &mut Stage<'_>) {
    let node = stage.node();
    cut(stage, node, true, false);
}

fn deaf(stage: &mut Stage<'_>) {
    let node = stage.node();
    cut(stage, node, false, true);
}

fn cut(stage: &mut Stage<'_>, node: u32, outwards: bool, inwards: bool) {
    for other in stage.others(node) {
        if outwards {
            stage.during(stage.from_ms, stage.until_ms, Fault::Cut { from: node, to: other });
        }
        if inwards {
            stage.during(stage.from_ms, stage.until_ms, Fault::Cut { from: other, to: node });
        }
    }
}

fn cut_pair(stage: &mut Stage<'_>, (one, other): (u32, u32), from_ms: u64, until_ms: u64) {
    stage.during(from_ms, until_ms, Fault::Cut { from: one, to: other });
    stage.during(from_ms, until_ms, Fault::Cut { from: other, to: one });
}

fn bridge(stage: &mut Stage<'_>) {
    let pair = stage.pair();
    cut_pair(stage, pair, stage.from_ms, stage.until_ms);
}

fn flap(stage: &mut Stage<'_>) {
    let pair = stage.pair();
    let mut at = stage.from_ms;
    while at < stage.until_ms {
        cut_pair(stage, pair, at, at + 100);
        at += 200;
    }
}

fn slow(stage: &mut Stage<'_>) {
    let (delay_ms, loss) = (stage.rng.random_range(50..=500), stage.rng.random_range(0..=20));
    let (one, other) = stage.pair();
    for (from, to) in [(one, other), (other, one)] {
        stage.during(stage.from_ms, stage.until_ms, Fault::Slow { from, to, delay_ms, loss });
    }
}

fn half_open(stage: &mut Stage<'_>) {
    let node = stage.node();
    stage.once(stage.from_ms, Fault::HalfOpen { node });
}

fn cut_clients(stage: &mut Stage<'_>) {
    let node = stage.node();
    stage.during(stage.from_ms, stage.until_ms, Fault::CutClients { node });
}

fn reset(stage: &mut Stage<'_>) {
    for _ in 0..stage.rng.random_range(1..6) {
        let at = stage.rng.random_range(stage.from_ms..stage.until_ms);
        let (one, other) = stage.pair();
        stage.once(at, Fault::Reset { one, other });
    }
}

fn kill(stage: &mut Stage<'_>) {
    let node = stage.node();
    stage.during(stage.from_ms, stage.until_ms, Fault::Kill { node });
}

/// All nodes go within `spread_ms` and come back in any order.
fn all(stage: &mut Stage<'_>, spread_ms: u64, fall: impl Fn(u32) -> Fault) {
    for node in 1..=stage.nodes {
        let at = stage.from_ms + stage.rng.random_range(0..spread_ms);
        let back = stage.rng.random_range(at..at + 2_000).max(stage.until_ms);
        stage.during(at, back, fall(node));
    }
}

fn kill_all(stage: &mut Stage<'_>) {
    all(stage, 20, |node| Fault::Kill { node });
}

fn stop_all(stage: &mut Stage<'_>) {
    all(stage, 300, |node| Fault::Stop { node });
}

fn power_all(stage: &mut Stage<'_>) {
    all(stage, 3, |node| Fault::PowerLoss { node });
}

fn rolling(stage: &mut Stage<'_>) {
    let mut nodes: Vec<u32> = (1..=stage.nodes).collect();
    nodes.shuffle(stage.rng);
    let mut at = stage.from_ms;
    for node in nodes {
        let up = at + stage.rng.random_range(300..2_000);
        stage.during(at, up, Fault::Stop { node });
        at = up + stage.rng.random_range(100..2_000);
    }
}

fn stop(stage: &mut Stage<'_>) {
    let node = stage.node();
    stage.during(stage.from_ms, stage.until_ms, Fault::Stop { node });
}

/// Longer than an election timeout, so that the paused node wakes up deposed.
fn pause(stage: &mut Stage<'_>) {
    let node = stage.node();
    let least = stage.from_ms + 700;
    stage.during(stage.from_ms, stage.until_ms.max(least), Fault::Pause { node });
}

fn crash_loop(stage: &mut Stage<'_>) {
    let node = stage.node();
    let power = stage.rng.random_bool(0.5);
    let fall = |node| if power { Fault::PowerLoss { node } } else { Fault::Kill { node } };
    let mut at = stage.from_ms + stage.rng.random_range(500..2_000);
    stage.during(stage.from_ms, at, fall(node));
    for _ in 0..stage.rng.random_range(2..7) {
        at += stage.rng.random_range(20..600);
        let up = at + stage.rng.random_range(30..200);
        stage.during(at, up, fall(node));
        at = up;
    }
}

fn join_crashes(stage: &mut Stage<'_>) {
    stage.once(stage.from_ms, Fault::Join { node: JOINER });
    for _ in 0..stage.rng.random_range(1..5) {
        let at = stage.from_ms + stage.rng.random_range(0..2_500);
        let node = stage.rng.random_range(1..=JOINER);
        let up = at + stage.rng.random_range(50..1_500);
        stage.during(at, up, Fault::Kill { node });
    }
}

fn join_cut(stage: &mut Stage<'_>) {
    stage.once(stage.from_ms, Fault::Join { node: JOINER });
    let at = stage.from_ms + stage.rng.random_range(0..1_500);
    let until = stage.until_ms.max(at + 1_000);
    for node in 1..=stage.nodes {
        if stage.rng.random_bool(0.7) {
            cut_pair(stage, (JOINER, node), at, until);
        }
    }
}

/// Some partitions are moved again and again between all four nodes, while one of those, or another, is disturbed.
fn moving(stage: &mut Stage<'_>) {
    let mut at = stage.from_ms + stage.rng.random_range(100..1_500);
    stage.once(at, Fault::Join { node: JOINER });
    let moved = [stage.rng.random_range(1..=MOVED), stage.rng.random_range(1..=MOVED)];
    at += 1_500;
    while at + 1_000 < stage.until_ms {
        let mut to: Vec<u32> = (1..=JOINER).collect();
        to.shuffle(stage.rng);
        to.truncate(match stage.rng.random_range(0..10) {
            0 => 0,
            1..=2 => 4,
            _ => 3,
        });
        let nth = moved[stage.rng.random_range(0..moved.len())];
        stage.once(at, Fault::Move { nth, to });
        if stage.rng.random_bool(0.4) {
            disturb(stage, at);
        }
        at += stage.rng.random_range(300..3_000);
    }
}

/// One of the four nodes is in trouble soon, for a while.
pub(super) fn disturb(stage: &mut Stage<'_>, at: u64) {
    let (from, node) = (at + stage.rng.random_range(0..1_200), stage.rng.random_range(1..=JOINER));
    let until = from + stage.rng.random_range(100..2_000);
    let other = node % JOINER + 1;
    match stage.rng.random_range(0..5) {
        0 => stage.during(from, until, Fault::PowerLoss { node }),
        1 => stage.during(from, until, Fault::Pause { node }),
        2 => cut_pair(stage, (node, other), from, until),
        3 => stage.during(from, until, Fault::DiskSlow { node, sync_ms: 200 }),
        _ => stage.during(from, until, Fault::Kill { node }),
    }
}

fn panic_actor(stage: &mut Stage<'_>) {
    for _ in 0..stage.rng.random_range(1..4) {
        let at = stage.rng.random_range(stage.from_ms..stage.until_ms);
        let (node, nth) = (stage.node(), stage.rng.random_range(1..=PARTITIONS));
        stage.once(at, Fault::Panic { node, nth });
    }
}

fn raft_ends(stage: &mut Stage<'_>) {
    for _ in 0..stage.rng.random_range(1..4) {
        let at = stage.rng.random_range(stage.from_ms..stage.until_ms);
        let (node, nth) = (stage.node(), stage.rng.random_range(0..=PARTITIONS));
        stage.once(at, Fault::RaftEnds { node, nth });
    }
}

/// Back before anybody noticed: the node may have led, with a tail that it lost.
fn power_blink(stage: &mut Stage<'_>) {
    let node = stage.node();
    let back = stage.from_ms + stage.rng.random_range(20..350);
    stage.during(stage.from_ms, back, Fault::PowerLoss { node });
}

fn power(stage: &mut Stage<'_>) {
    let node = stage.node();
    stage.during(stage.from_ms, stage.until_ms, Fault::PowerLoss { node });
}

fn disk_full(stage: &mut Stage<'_>) {
    let node = stage.node();
    stage.during(stage.from_ms, stage.until_ms, Fault::DiskFull { node });
}

fn sync_error(stage: &mut Stage<'_>) {
    let node = stage.node();
    stage.once(stage.from_ms, Fault::SyncError { node });
}

fn disk_slow(stage: &mut Stage<'_>) {
    let node = stage.node();
    let sync_ms = [100, 500, 2_000][stage.rng.random_range(0..3)];
    stage.during(stage.from_ms, stage.until_ms, Fault::DiskSlow { node, sync_ms });
}

fn clock_jump(stage: &mut Stage<'_>) {
    let node = stage.node();
    let by_ms = if stage.rng.random_bool(0.5) { HOUR_MS } else { -HOUR_MS };
    stage.once(stage.from_ms, Fault::ClockJump { node, by_ms });
    if stage.rng.random_bool(0.5) {
        stage.once(stage.until_ms, Fault::ClockJump { node, by_ms: -by_ms });
    }
}

fn clock_drift(stage: &mut Stage<'_>) {
    let node = stage.node();
    let per_mille = if stage.rng.random_bool(0.5) { 50 } else { -50 };
    stage.during(stage.from_ms, stage.until_ms, Fault::ClockDrift { node, per_mille });
}

fn clock_back(stage: &mut Stage<'_>) {
    let (node, by_ms) = (stage.node(), -stage.rng.random_range(1..5_000));
    stage.once(stage.from_ms, Fault::ClockJump { node, by_ms });
}

fn transfers(stage: &mut Stage<'_>) {
    let mut at = stage.from_ms;
    while at < stage.until_ms {
        let (group, to) = (stage.rng.random_range(0..=PARTITIONS), stage.node());
        stage.once(at, Fault::Transfer { group, to });
        at += stage.rng.random_range(50..400);
    }
}

/// Takes the node down for the blow, and back up a little later.
fn struck(stage: &mut Stage<'_>, node: u32) {
    let fall = if stage.rng.random_bool(0.5) { Fault::PowerLoss { node } } else { Fault::Kill { node } };
    let up = stage.until_ms + stage.rng.random_range(1..1_000);
    stage.during(stage.from_ms, up, fall);
}

fn bit_flip(stage: &mut Stage<'_>) {
    let node = stage.node();
    struck(stage, node);
    stage.once(stage.until_ms, Fault::BitFlip { node });
}

fn truncate(stage: &mut Stage<'_>) {
    let node = stage.node();
    struck(stage, node);
    stage.once(stage.until_ms, Fault::Truncate { node });
}

fn disk_loss(stage: &mut Stage<'_>) {
    let node = stage.node();
    struck(stage, node);
    stage.once(stage.until_ms, Fault::DiskLoss { node });
}

fn restore(stage: &mut Stage<'_>) {
    let node = stage.node();
    let copied = stage.rng.random_range(BEGIN_MS..stage.from_ms - AGE_MS_MIN);
    stage.once(copied, Fault::Backup { node });
    struck(stage, node);
    stage.once(stage.until_ms, Fault::Restore { node });
}

fn idle_restarts(stage: &mut Stage<'_>) {
    for node in 1..=stage.nodes {
        stage.during(stage.from_ms, stage.until_ms, Fault::CutClients { node });
    }
    let mut at = stage.from_ms + stage.rng.random_range(500..2_000);
    while at + 2_500 < stage.until_ms {
        let spread = [1, 50, 400][stage.rng.random_range(0..3)];
        for node in 1..=stage.nodes {
            let down = at + stage.rng.random_range(0..spread);
            // A clean stop takes up to 0.8 s: sometimes the start follows at once, sometimes later.
            let up = down + stage.rng.random_range(50..1_000);
            stage.during(down, up, Fault::Stop { node });
        }
        at += stage.rng.random_range(1_500..6_000);
    }
}

fn queues(stage: &mut Stage<'_>) {
    let mut at = stage.from_ms + stage.rng.random_range(100..1_500);
    while at < stage.until_ms {
        let (node, nth) = (stage.node(), stage.rng.random_range(QUEUES_AMONG));
        match stage.rng.random_range(0..10) {
            0..5 => stage.once(at, Fault::Transfer { group: nth, to: node }),
            5..7 => stage.once(at, Fault::Panic { node, nth }),
            7..9 => stage.once(at, Fault::RaftEnds { node, nth }),
            _ => stage.once(at, Fault::HalfOpen { node }),
        }
        at += stage.rng.random_range(50..1_500);
    }
}
