//! One run: the machines, their disks and the network between them, the clients and the nemesis, stepped to the end of the
//! workload. Time goes in ticks: first turmoil's hosts (kernels and clients), then every process, then whoever looks.
//! Invariant: everything that happens follows from the seed. Never reads a real clock.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::{Duration, UNIX_EPOCH};

use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};

use crate::checker;
use crate::checker::ready::EveryNodeReady;
use crate::clock::EPOCH_MS;
use crate::cluster::{Machine, View};
use crate::disk::Disks;
use crate::fault::Fault;
use crate::history::History;
use crate::lookout::Lookout;
use crate::net::Network;
use crate::probe::Probe;
use crate::schedule::Schedule;
use crate::workload::{self, Ledger};

/// Founders of the cluster.
pub const NODES: u32 = 3;
/// Machines there are: node 4 joins when told.
pub const MACHINES: u32 = 4;
/// L1 and L2: by now every batch is acknowledged and everything has been read.
const END: Duration = Duration::from_secs(60);
/// How long the world stands still for those who live in it.
const TICK: Duration = Duration::from_millis(1);
/// A node that stopped by itself is started again after a time between these, as by a service manager.
const RESTART_MS: std::ops::Range<u64> = 300..2_000;

/// The world of one run.
pub struct World {
    sim: turmoil::Sim<'static>,
    machines: Vec<Machine>,
    network: Network,
    disks: Disks,
    ledger: Ledger,
    rng: SmallRng,
    /// When nodes that stopped by themselves start again.
    restarts: BTreeMap<u32, Duration>,
}

/// Runs the world of `seed` with the faults of `schedule`, writes it into `history` and checks it.
pub fn run(seed: u64, schedule: &Schedule, history: History) -> History {
    let ledger: Ledger = Rc::new(RefCell::new(history));
    let mut world = World::new(seed, ledger.clone());
    world.sim.client("clients", workload::run(seed, NODES, ledger.clone()));
    world.go(schedule);
    drop(world);
    let mut history = ledger.take();
    check(&mut history);
    history
}

impl World {
    /// The world of `seed` with its founders running.
    fn new(seed: u64, ledger: Ledger) -> Self {
        let mut rng = SmallRng::seed_from_u64(seed);
        let disks = Disks::new(MACHINES, &mut rng);
        let network = Network::new(&mut rng);
        let mut sim = build(seed, &mut rng);
        let machines = (1..=MACHINES).map(|node| Machine::new(&mut sim, node, &network, &disks)).collect();
        let mut world = Self { sim, machines, network, disks, ledger, rng, restarts: BTreeMap::new() };
        (1..=NODES).for_each(|node| assert!(world.machine(node).start(), "a new machine is down"));
        world
    }

    /// Simulated time since the beginning.
    pub fn now(&self) -> Duration {
        self.sim.elapsed()
    }

    /// What an observer sees of the nodes, but for those that never ran.
    pub fn views(&self) -> Vec<View> {
        self.machines.iter().filter(|machine| machine.is_member()).map(Machine::view).collect()
    }

    /// Lets it run, with the faults that are due, until the clients are done or the time is up.
    fn go(&mut self, schedule: &Schedule) {
        let mut faults = schedule.steps().into_iter().peekable();
        let mut probe = Probe::default();
        let mut lookout = Lookout::new(EveryNodeReady::new(schedule, NODES, END));
        loop {
            while let Some((_, fault)) = faults.next_if(|(at, _)| *at <= self.now()) {
                let states = lookout.states(&self.views());
                let effect = self.inflict(&fault);
                self.ledger.borrow_mut().fault(self.now(), &fault, effect, &states);
                if effect {
                    probe.note(self.now(), &fault);
                }
            }
            let stepped = self.step();
            let views = self.views();
            probe.look(self.now(), &views, &self.disks, &mut self.ledger.borrow_mut());
            lookout.look(self.now(), &views, &mut self.ledger.borrow_mut());
            match stepped {
                Ok(true) if lookout.waits(self.now()) => {}
                Ok(true) => {
                    probe.finish(self.now(), &views, &self.disks, &mut self.ledger.borrow_mut());
                    break;
                }
                Ok(false) if self.now() < END => {}
                Ok(false) => {
                    self.violate(format!("L1 WorksAfterHealing: clients not done after {END:?}"));
                    break;
                }
                Err(error) => {
                    self.violate(format!("a host failed: {error}"));
                    break;
                }
            }
        }
        let (digest, chunks) = self.network.digest();
        self.tell(format!("{chunks} chunks moved, digest {digest:016x}"));
    }

    /// One tick: whether the clients are done.
    fn step(&mut self) -> turmoil::Result<bool> {
        let done = self.sim.step()?;
        for index in 0..self.machines.len() {
            if let Some(ended) = self.machines[index].tick(TICK) {
                self.ended(self.machines[index].node, ended);
            }
        }
        let now = self.now();
        while let Some(due) = self.restarts.first_entry().filter(|due| *due.get() <= now) {
            let node = due.remove_entry().0;
            if self.machine(node).start() {
                self.tell(format!("node {node} is started again"));
            }
        }
        Ok(done)
    }

    /// A process ended by itself.
    fn ended(&mut self, node: u32, ended: Result<(), String>) {
        let how = ended.err().unwrap_or_else(|| "in order".to_owned());
        self.violate(format!("node {node} ended by itself: {how}"));
        let after = Duration::from_millis(self.rng.random_range(RESTART_MS));
        self.restarts.insert(node, self.now() + after);
    }

    /// Does it. False if it makes no sense now, and nothing was done.
    pub fn inflict(&mut self, fault: &Fault) -> bool {
        match *fault {
            Fault::PowerLoss { node } => self.power_loss(node),
            Fault::Start { node } => self.start(node),
            Fault::Cut { from, to } => self.network.cut(from, to, true),
            Fault::Heal { from, to } => self.network.cut(from, to, false),
            _ => false,
        }
    }

    /// Peers notice nothing: the machine is silent until it is back.
    fn power_loss(&mut self, node: u32) -> bool {
        if !self.network.power(node, false) {
            return false;
        }
        self.restarts.remove(&node);
        self.machine(node).kill();
        let lost = self.disks.crash(node);
        self.tell(format!("node {node} loses {lost} unsynced writes"));
        true
    }

    fn start(&mut self, node: u32) -> bool {
        self.network.power(node, true);
        self.restarts.remove(&node);
        self.machine(node).is_member() && self.machine(node).start()
    }

    fn machine(&mut self, node: u32) -> &mut Machine {
        &mut self.machines[node as usize - 1]
    }

    fn tell(&self, line: impl AsRef<str>) {
        self.ledger.borrow_mut().tell(self.now(), line);
    }

    fn violate(&self, violation: String) {
        self.ledger.borrow_mut().violate(self.now(), violation);
    }
}

fn build(seed: u64, rng: &mut SmallRng) -> turmoil::Sim<'static> {
    let mut builder = turmoil::Builder::new();
    builder
        .epoch(UNIX_EPOCH + Duration::from_millis(EPOCH_MS))
        .rng_seed(seed)
        .simulation_duration(END + Duration::from_secs(1))
        .tick_duration(TICK)
        .min_message_latency(TICK)
        .max_message_latency(Duration::from_millis(rng.random_range(2..40)))
        // Segments a connection holds before its sender waits; connections to a listener that turmoil refuses to queue.
        .tcp_capacity(1 << 16);
    builder.build()
}

fn check(history: &mut History) {
    if history.acknowledged.is_empty() {
        history.violate(END, "the workload acknowledged nothing: the run proves nothing".to_string());
    }
    if !history.violations.is_empty() {
        return;
    }
    for (name, check) in checker::ALL {
        for violation in check(history) {
            history.violate(END, format!("{name}: {violation}"));
        }
    }
}
