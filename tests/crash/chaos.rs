//! The mixed schedule: rounds of faults drawn from a seed, on three real nodes under real producers. After each round the
//! fault is healed and the cluster must be whole within five seconds, if this is the long run; at the end every acknowledged
//! record is read back. FLOTILLA_SEED draws another schedule. Processes are not repeatable: a seed repeats the faults, not the
//! interleaving.

use std::path::PathBuf;
use std::process::{Command, Output};
use std::time::{Duration, Instant};

use harness::{Dice, Servers, binary, count, healed_within};

use crate::faults::Fault;
use crate::power::Forgetting;
use crate::small_disk::SmallDisk;
use crate::turn;
use harness::load::Load;

const READY_WITHIN: Duration = Duration::from_secs(60);
const CALM: Duration = Duration::from_millis(500);
/// Of each of the eight producers.
const RECORDS_A_SECOND: u32 = 50;
const SMALL_DISK_MIB: u32 = 256;
/// Small memtables, so that tables, blobs and recycled logs come and go; no cache of entries worth the name; appends are
/// refused below 64 MiB of free space.
const SETTINGS: [&str; 3] =
    ["storage.memtable_bytes=1MiB", "limits.tail_cache_bytes=64KiB", "storage.disk_free_bytes_min=64MiB"];
/// Probed after each round, by six keys of six partitions.
const PROBE: &str = "probe";
const PROBE_LINES: &str = "w:0\nh:1\nb:2\nf:3\na:4\nd:5\n";
/// Known records, large enough for blob files, that every damage is held against.
const CARGO: &str = "cargo";
const CARGO_LINES: usize = 3_000;

/// The cluster of a chaos test: nodes behind the proxy on forgetting disks, one of them small.
pub struct World {
    // Dropped in this order: servers before what they stand on.
    pub servers: Servers,
    pub small: Option<SmallDisk>,
    pub dice: Dice,
}

/// The node on the small disk.
pub const SMALL: u32 = 3;

impl World {
    pub fn start(seed: u64) -> Self {
        let mut servers = Servers::new(3, &SETTINGS);
        let small = SmallDisk::new(&servers.node(SMALL).data, SMALL_DISK_MIB);
        if let Some(small) = &small {
            servers.node(SMALL).launcher = small.launcher();
        }
        if let Some(forgetting) = Forgetting::build(servers.home.path()) {
            servers.nodes.iter_mut().for_each(|node| forgetting.prepare(node));
        }
        servers.start_all();
        servers.ready_within(READY_WITHIN);
        let mut world = Self { servers, small, dice: Dice::new(seed) };
        world.ok(&["topic", "create", PROBE, "--partitions", "6", "--replication", "3"], "");
        world.ok(&["topic", "create", CARGO, "--partitions", "3", "--replication", "3"], "");
        world.ok(&["topic", "produce", CARGO, "-"], &cargo().join("\n"));
        world.healed(READY_WITHIN);
        world
    }

    /// The data of a node, as seen from here.
    pub fn data(&mut self, id: u32) -> PathBuf {
        match &self.small {
            Some(small) if id == SMALL => small.root(),
            _ => self.servers.node(id).data.clone(),
        }
    }

    /// Reads all of the cargo and holds it against what was written.
    pub fn check_cargo(&self) {
        let read = self.ok(&["topic", "consume", CARGO, "--exit"], "");
        let mut read: Vec<&str> = read.lines().collect();
        let mut written = cargo();
        read.sort_unstable();
        written.sort_unstable();
        assert!(read == written, "{} records were written, {} others read", written.len(), read.len());
    }

    /// Writes a record to each partition of the probe.
    pub fn probe(&self) -> Output {
        self.cli(&["topic", "produce", PROBE, "--key-separator", ":", "-"], PROBE_LINES)
    }

    /// Runs the CLI; it must succeed.
    pub fn ok(&self, arguments: &[&str], input: &str) -> String {
        let output = self.cli(arguments, input);
        assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).expect("UTF-8")
    }

    /// Runs the CLI against all nodes, for 20 s at most.
    pub fn cli(&self, arguments: &[&str], input: &str) -> Output {
        let mut command = Command::new("timeout");
        command.args(["-k", "1", "20"]).arg(binary()).args(arguments);
        harness::feed(command.env("FLOTILLA_BOOTSTRAP", self.servers.bootstrap()), input)
    }

    /// Waits until all nodes are ready and each partition takes a record; gives how long the nodes and the partitions took.
    pub fn healed(&mut self, limit: Duration) -> (Duration, Duration) {
        let started = Instant::now();
        let ready = self.servers.ready_within(limit);
        loop {
            let produced = self.probe();
            let took = started.elapsed();
            assert!(took < limit, "whole only after {took:?}, or never: {produced:?}");
            if produced.status.success() {
                return (ready, took);
            }
        }
    }
}

fn cargo() -> Vec<String> {
    (0..CARGO_LINES).map(|number| format!("{number:0>8}").repeat(125)).collect()
}

#[test]
fn thirty_rounds_of_mixed_faults_lose_nothing_and_heal_within_five_seconds() {
    let _turn = turn();
    let seed = std::env::var("FLOTILLA_SEED").map_or(1, |seed| seed.parse().expect("FLOTILLA_SEED is a number"));
    let mut world = World::start(seed);
    let Some(load) = Load::start(&world.servers.bootstrap(), RECORDS_A_SECOND) else { return };
    let mut worst = Duration::ZERO;
    let mut deck = Vec::new();
    for round in 1..=count(Fault::KINDS.len(), 30) {
        if deck.is_empty() {
            deck = Fault::KINDS.to_vec();
        }
        let fault = deck.swap_remove(world.dice.below(deck.len() as u64) as usize);
        let started = Instant::now();
        let story = fault.strike(&mut world);
        let lasted = started.elapsed();
        let (ready, produced) = world.healed(healed_within());
        println!(
            "seed {seed} round {round}: {story}; {:.1} s, then ready after {} ms and written after {} ms",
            lasted.as_secs_f64(),
            ready.as_millis(),
            produced.as_millis()
        );
        worst = worst.max(produced);
        std::thread::sleep(CALM);
    }
    println!("slowest healing: {} ms", worst.as_millis());
    load.finish();
    world.check_cargo();
}
