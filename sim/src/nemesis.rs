//! The one who breaks things: for each seed a schedule of scenarios, drawn from a subset that the seed enables ("swarm testing").
//! A safety phase with faults, then everything is healed and must work again.
//! Invariant (`law`): no schedule makes losing an acknowledged record legal, else a run would prove nothing.

mod law;
mod operating;
mod scenarios;

use std::time::Duration;

use rand::rngs::SmallRng;
use rand::seq::IndexedRandom;
use rand::{Rng, SeedableRng};

use crate::schedule::{Act, Schedule};
use crate::workload::queues;

use law::UNDISTURBED_MS;
use scenarios::ALL;

/// When the faults begin: the cluster has formed and the topics exist.
pub const BEGIN_MS: u64 = 6_000;
/// When the last one is healed.
pub const HEAL_MS: u64 = 26_000;
/// The same moment.
pub const HEAL: Duration = Duration::from_millis(HEAL_MS);
/// Longest pause between two scenarios of a lane.
const PAUSE_MS_MAX: u64 = 3_000;
/// Longest scenario.
const LENGTH_MS_MAX: u64 = 3_500;
/// Sets the schedule's dice apart from those of the world, so that a schedule from a file changes nothing else.
const SALT: u64 = 0x6e65_6d65_7369_7300;

/// The share of runs in which replicas move, and their dice.
const MOVING: f64 = 0.35;
const MOVING_SALT: u64 = 0x6d6f_7665;
/// The share of the others in which operators work.
const OPERATING: f64 = 0.35;

/// The share of runs with queues in which those suffer in particular, and their dice.
const QUEUEING: f64 = 0.5;
const QUEUEING_SALT: u64 = 0x7175_6575;

/// A way to break things.
pub struct Scenario {
    /// As the story and the tables call it.
    pub name: &'static str,
    /// The cases of docs/simulation.md that it shows.
    pub cases: &'static [u8],
    play: fn(&mut Stage<'_>),
}

/// Where a scenario plays: its time, its dice and the acts that it adds.
struct Stage<'a> {
    rng: &'a mut SmallRng,
    name: &'static str,
    from_ms: u64,
    until_ms: u64,
    nodes: u32,
    acts: &'a mut Vec<Act>,
}

impl Stage<'_> {
    /// Adds what begins now and ends then, at [`HEAL_MS`] at the latest.
    fn during(&mut self, at_ms: u64, until_ms: u64, fault: crate::fault::Fault) {
        let at_ms = at_ms.min(HEAL_MS - 1);
        let until_ms = Some(until_ms.clamp(at_ms + 1, HEAL_MS));
        self.acts.push(Act { scenario: self.name.to_owned(), at_ms, until_ms, fault });
    }

    /// Adds what ends by itself.
    fn once(&mut self, at_ms: u64, fault: crate::fault::Fault) {
        let at_ms = at_ms.min(HEAL_MS - 1);
        self.acts.push(Act { scenario: self.name.to_owned(), at_ms, until_ms: None, fault });
    }

    /// One of the nodes.
    fn node(&mut self) -> u32 {
        self.rng.random_range(1..=self.nodes)
    }

    /// Two of the nodes.
    fn pair(&mut self) -> (u32, u32) {
        let one = self.node();
        let other = (one - 1 + self.rng.random_range(1..self.nodes)) % self.nodes + 1;
        (one, other)
    }

    fn others(&self, node: u32) -> impl Iterator<Item = u32> + use<> {
        (1..=self.nodes).filter(move |other| *other != node)
    }
}

/// Every scenario there is.
pub fn every() -> impl Iterator<Item = &'static Scenario> {
    ALL.iter().chain(scenarios::DAMAGE).chain([
        &scenarios::IDLE,
        &scenarios::MOVING,
        &scenarios::OPERATING,
        &scenarios::QUEUES,
    ])
}

/// The schedule of a seed for a cluster that `nodes` founded.
pub fn schedule(seed: u64, nodes: u32) -> Schedule {
    let mut rng = SmallRng::seed_from_u64(seed ^ SALT);
    let mut acts = Vec::new();
    if rng.random_bool(0.05) {
        play(&scenarios::IDLE, BEGIN_MS, HEAL_MS, nodes, &mut rng, &mut acts);
    } else {
        let enabled = rng.random_range(2..=ALL.len() / 2);
        let enabled: Vec<&Scenario> = ALL.choose_multiple(&mut rng, enabled).collect();
        for _ in 0..rng.random_range(1..=2) {
            lane(&enabled, nodes, &mut rng, &mut acts);
        }
        if rng.random_bool(0.3) {
            damage(nodes, &mut rng, &mut acts);
        }
    }
    // With dice of its own, so that all else of a seed is as it would be without.
    let mut rng = SmallRng::seed_from_u64(seed ^ SALT ^ MOVING_SALT);
    if acts.iter().all(|act| act.fault.damages().is_none()) {
        if rng.random_bool(MOVING) {
            play(&scenarios::MOVING, BEGIN_MS, HEAL_MS, nodes, &mut rng, &mut acts);
        } else if rng.random_bool(OPERATING) {
            play(&scenarios::OPERATING, BEGIN_MS, HEAL_MS, nodes, &mut rng, &mut acts);
        }
    }
    let mut rng = SmallRng::seed_from_u64(seed ^ SALT ^ QUEUEING_SALT);
    let damaged = acts.iter().any(|act| act.fault.damages().is_some());
    if queues::plays(seed) && !damaged && rng.random_bool(QUEUEING) {
        play(&scenarios::QUEUES, BEGIN_MS, HEAL_MS, nodes, &mut rng, &mut acts);
    }
    let schedule = Schedule::new(acts);
    if let Err(broken) = law::check(&schedule) {
        panic!("the nemesis breaks its own law in seed {seed}: {broken}");
    }
    schedule
}

/// One scenario after the other, with pauses.
fn lane(enabled: &[&Scenario], nodes: u32, rng: &mut SmallRng, acts: &mut Vec<Act>) {
    let mut at = BEGIN_MS;
    loop {
        at += rng.random_range(100..PAUSE_MS_MAX);
        let Some(scenario) = enabled.choose(rng).filter(|_| at < HEAL_MS) else { return };
        let until = (at + rng.random_range(30..LENGTH_MS_MAX)).min(HEAL_MS);
        play(scenario, at, until, nodes, rng, acts);
        at = until;
    }
}

fn play(scenario: &Scenario, from_ms: u64, until_ms: u64, nodes: u32, rng: &mut SmallRng, acts: &mut Vec<Act>) {
    let mut stage = Stage { rng, name: scenario.name, from_ms, until_ms, nodes, acts };
    (scenario.play)(&mut stage);
}

/// Lets one node suffer lasting damage, in peace: nothing else goes wrong from its fall to the blow.
fn damage(nodes: u32, rng: &mut SmallRng, acts: &mut Vec<Act>) {
    let from = BEGIN_MS + rng.random_range(1_000..HEAL_MS - BEGIN_MS - UNDISTURBED_MS - 2_000);
    let strike = from + UNDISTURBED_MS + rng.random_range(1..1_000);
    acts.retain(|act| act.over_ms() < from || act.at_ms > strike);
    let Some(scenario) = scenarios::DAMAGE.choose(rng) else { return };
    play(scenario, from, strike, nodes, rng, acts);
    let blows: Vec<Act> = acts.iter().filter(|act| act.fault.damages().is_some()).cloned().collect();
    acts.retain(|act| act.over_ms() < from || !blows.iter().any(|blow| law::forgets(blow, act)));
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn many_seeds_keep_the_law_and_choose_everything() {
        let mut played = BTreeSet::new();
        for seed in 0..2_000 {
            let schedule = schedule(seed, 3);
            assert_eq!(schedule, super::schedule(seed, 3));
            assert!(schedule.acts.iter().all(|act| (BEGIN_MS..HEAL_MS).contains(&act.at_ms)));
            assert!(schedule.acts.iter().all(|act| act.until_ms.is_none_or(|until| until <= HEAL_MS)));
            played.extend(schedule.acts.into_iter().map(|act| act.scenario));
        }
        let missing: Vec<_> = every().filter(|scenario| !played.contains(scenario.name)).map(|one| one.name).collect();
        assert!(missing.is_empty(), "never played: {missing:?}");
    }

    #[test]
    fn every_case_has_a_scenario_or_is_named_as_open() {
        let shown: BTreeSet<u8> = every().flat_map(|scenario| scenario.cases.iter().copied()).collect();
        let missing: Vec<u8> = (1..=33).filter(|case| !shown.contains(case)).collect();
        // A consumer past its session timeout, which is in the workload.
        assert_eq!(missing, [13]);
    }
}
