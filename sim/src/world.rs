//! One run: the machines, their disks and the network between them, the clients and the nemesis, stepped to the end of the
//! workload. Time goes in ticks: first turmoil's hosts (kernels and clients), then every process, then whoever looks.
//! Invariant: everything that happens follows from the seed. Never reads a real clock.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;
use std::time::{Duration, UNIX_EPOCH};

use model::controller::{AlterReplicas, Command, Placing, ReplicaChange, Terms, Wanted};
use model::{GroupId, NodeId};
use node::broker::Broker;
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};

use crate::checker;
use crate::checker::ready::EveryNodeReady;
use crate::clock::EPOCH_MS;
use crate::cluster::{Machine, State, View};
use crate::disk::Disks;
use crate::excuse::Excuses;
use crate::fault::Fault;
use crate::history::History;
use crate::lookout::Lookout;
use crate::nemesis::HEAL;
use crate::net::{CLIENTS, Network};
use crate::operator;
use crate::panics;
use crate::probe::Probe;
use crate::process::Order;
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
/// What [`Fault::Panic`] makes an actor say.
const TOLD_TO_PANIC: &str = "a partition was told to fail";
/// A node that stopped by itself is started again after a time between these, as by a service manager.
const RESTART_MS: std::ops::Range<u64> = 300..2_000;
/// How often operators look for what is out of order.
const ORDER: Duration = Duration::from_secs(1);

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
    /// What explains that a node stops by itself.
    excuses: Excuses,
    /// When operators next see to what is out of order.
    next_order: Duration,
}

/// Runs the world of `seed` with the faults of `schedule`, writes it into `history` and checks it.
pub fn run(seed: u64, schedule: &Schedule, history: History) -> History {
    let ledger: Ledger = Rc::new(RefCell::new(history));
    panics::watch();
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
        let (restarts, excuses, next_order) = (BTreeMap::new(), Excuses::default(), HEAL);
        let mut world = Self { sim, machines, network, disks, ledger, rng, restarts, excuses, next_order };
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
                    self.excuses.note(self.now(), &fault);
                    lookout.note(&fault);
                    probe.note(self.now(), &fault);
                }
            }
            self.put_in_order();
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
            let node = self.machines[index].node;
            let ended = panics::within(node, || self.machines[index].tick(TICK));
            panics::take().into_iter().for_each(|(node, words)| self.panicked(node, &words));
            if let Some(ended) = ended {
                self.ended(node, ended);
            }
        }
        let now = self.now();
        let due = |(node, at): (&u32, &Duration)| (*at <= now).then_some(*node);
        for node in self.restarts.iter().filter_map(due).collect::<Vec<_>>() {
            if self.machine(node).start() {
                self.restarts.remove(&node);
                self.ledger.borrow_mut().queues.troubles.started(now, node);
                self.tell(format!("node {node} is started again"));
            }
        }
        Ok(done)
    }

    /// A process ended without being killed. One that failed is started again, as by a service manager.
    fn ended(&mut self, node: u32, ended: Result<(), String>) {
        let Err(error) = ended else { return self.tell(format!("node {node} has stopped in order")) };
        if self.excuses.explain(self.now(), node) {
            self.tell(format!("node {node} stopped by itself: {error}"));
            self.ledger.borrow_mut().count("nodes stopped by themselves");
        } else {
            self.violate(format!("node {node} stopped by itself, and no fault explains it: {error}"));
        }
        self.ledger.borrow_mut().queues.troubles.stopped(self.now(), node);
        let after = Duration::from_millis(self.rng.random_range(RESTART_MS));
        self.restarts.insert(node, self.now() + after);
    }

    /// A task of a node panicked, which only one that was told to may do.
    fn panicked(&self, node: u32, words: &str) {
        if words.starts_with(TOLD_TO_PANIC) {
            self.ledger.borrow_mut().count("actors that panicked as told");
        } else {
            self.violate(format!("L1 NothingPanics: node {node} panicked: {words}"));
        }
    }

    /// Does it. False if it makes no sense now, and nothing was done.
    pub fn inflict(&mut self, fault: &Fault) -> bool {
        match *fault {
            Fault::Kill { node } => self.restarts.remove(&node).is_some() | self.machine(node).kill(),
            Fault::PowerLoss { node } => self.power_loss(node),
            Fault::Stop { node } => self.machine(node).stop(),
            Fault::Start { node } => self.start(node),
            Fault::Join { node } => !self.machine(node).is_member() && self.machine(node).start(),
            Fault::Pause { node } => self.machine(node).pause(true),
            Fault::Resume { node } => self.machine(node).pause(false),
            Fault::ClockJump { node, by_ms } => {
                self.machine(node).clock().jump(by_ms);
                true
            }
            Fault::ClockDrift { node, per_mille } => self.machine(node).clock().drift(per_mille),
            Fault::Panic { node, nth } => self.panic(node, nth),
            Fault::RaftEnds { node, nth } => self.end_raft(node, nth),
            Fault::Transfer { group, to } => self.transfer(group, to),
            Fault::Move { nth, ref to } => self.move_replicas(nth, to),
            _ => self.disturb(fault) || self.damage(fault) || self.operate(fault),
        }
    }

    /// Faults of the network.
    fn disturb(&self, fault: &Fault) -> bool {
        let network = &self.network;
        match *fault {
            Fault::Cut { from, to } => network.cut(from, to, true),
            Fault::Heal { from, to } => network.cut(from, to, false),
            Fault::Slow { from, to, delay_ms, loss } => network.slow(from, to, Duration::from_millis(delay_ms), loss),
            Fault::Fast { from, to } => network.slow(from, to, Duration::ZERO, 0),
            Fault::Reset { one, other } => network.reset(one, other),
            Fault::CutClients { node } => network.cut(CLIENTS, node, true) | network.cut(node, CLIENTS, true),
            Fault::HealClients { node } => network.cut(CLIENTS, node, false) | network.cut(node, CLIENTS, false),
            Fault::HalfOpen { node } => network.silence(node),
            _ => false,
        }
    }

    /// Faults of disks. What changes a disk behind the back of a process only happens while there is none.
    fn damage(&mut self, fault: &Fault) -> bool {
        let down = |world: &mut Self, node| world.machine(node).state() == State::Down;
        match *fault {
            Fault::DiskSlow { node, sync_ms } => self.disks.slow(node, Duration::from_millis(sync_ms)),
            Fault::DiskFull { node } => self.disks.full(node, true),
            Fault::DiskFree { node } => self.disks.full(node, false),
            Fault::SyncError { node } => self.disks.fail_sync(node),
            Fault::BitFlip { node } if down(self, node) => match self.disks.rot(node) {
                Some((group, index)) => self.tell(format!("node {node}: entry {index} of group {group} is damaged")),
                None => return false,
            },
            Fault::Truncate { node } if down(self, node) => {
                let gone = self.disks.cut_off(node);
                self.tell(format!("node {node}: {gone} entries at the ends of its logs are gone"));
            }
            Fault::DiskLoss { node } if down(self, node) => self.disks.wipe(node),
            Fault::Backup { node } => self.disks.backup(node),
            Fault::Restore { node } if down(self, node) && self.disks.restore(node) => {}
            _ => return false,
        }
        true
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
        if self.machine(node).is_stopping() {
            // A service manager waits for the end of the old one.
            return self.restarts.insert(node, self.now()).is_none();
        }
        self.restarts.remove(&node);
        self.machine(node).is_member() && self.machine(node).start()
    }

    fn panic(&mut self, node: u32, nth: u32) -> bool {
        self.nth_group(nth).is_some_and(|group| self.machine(node).order(Order::Panic(group)))
    }

    fn end_raft(&mut self, node: u32, nth: u32) -> bool {
        let Some(wanted) = self.group(nth) else { return false };
        let broker = self.views().into_iter().find(|view| view.node == node).and_then(|view| view.broker);
        let raft = broker.and_then(|broker| broker.rafts().into_iter().find(|raft| raft.id() == wanted));
        raft.is_some_and(|raft| self.machine(node).spawn(async move { raft.halt().await }))
    }

    /// The replica of `group` that leads hands over to the one on node `to`.
    fn transfer(&mut self, group: u32, to: u32) -> bool {
        let wanted = self.group(group);
        let leads = |raft: &raft::Group| Some(raft.id()) == wanted && raft.status_now().is_leader;
        let leaders = self.views().into_iter().filter(|view| view.state == State::Up && view.node != to);
        let leader = leaders.filter_map(|view| Some((view.node, view.broker?.rafts().into_iter().find(leads)?))).next();
        leader.is_some_and(|(node, raft)| {
            self.machine(node).spawn(async move {
                let _taken_or_not = raft.transfer_leader(NodeId(to)).await;
            })
        })
    }

    /// Asks for a change of replicas through any node that runs; nobody waits for it.
    fn move_replicas(&mut self, nth: u32, to: &[u32]) -> bool {
        let Some(group) = self.nth_group(nth) else { return false };
        let up = self.views().into_iter().filter(|view| view.state == State::Up);
        let asked = up.filter_map(|view| Some((view.node, view.broker?))).find_map(|(node, broker)| {
            let image = broker.image();
            let (topic, index) = image.partition_of_group(group)?;
            let to = match to {
                [] => Wanted::Before,
                nodes => Wanted::On(nodes.iter().copied().map(NodeId).collect()),
            };
            let change = ReplicaChange { topic: topic.name.clone(), index, revision: None, to };
            Some((node, broker, change))
        });
        asked.is_some_and(|(node, broker, change)| {
            let what = Placing::AlterReplicas(AlterReplicas { changes: vec![change], may_change_count: true });
            self.machine(node).spawn(async move {
                let _done_or_not = broker.control(Command::Place { terms: Terms::default(), what }).await;
            })
        })
    }

    /// Has an operator ask any node that runs.
    fn operate(&mut self, fault: &Fault) -> bool {
        let Some((node, broker)) = self.running() else { return false };
        let image = broker.image();
        let nth = |number| {
            let (topic, index) = image.partition_of_group(self.nth_group(number)?)?;
            Some((topic.name.clone(), index))
        };
        operator::work(fault, broker, nth).is_some_and(|work| self.machine(node).spawn(work))
    }

    /// Has an operator put in order what is left to be, once a second when all is healed.
    fn put_in_order(&mut self) {
        if self.now() < self.next_order {
            return;
        }
        self.next_order = self.now() + ORDER;
        let Some((node, broker)) = self.running() else { return };
        if let Some(work) = operator::put_in_order(self.now(), broker) {
            self.machine(node).spawn(work);
        }
    }

    /// A node that runs: at another time another one.
    fn running(&self) -> Option<(u32, Broker)> {
        let up = self.views().into_iter().filter(|view| view.state == State::Up);
        let up: Vec<_> = up.filter_map(|view| Some((view.node, view.broker?))).collect();
        let turn = self.now().as_millis() as usize % up.len().max(1);
        up.into_iter().nth(turn)
    }

    /// The controller's for 0, else that of a partition.
    fn group(&self, nth: u32) -> Option<GroupId> {
        if nth == 0 { Some(GroupId::CONTROLLER) } else { self.nth_group(nth) }
    }

    /// The group of the `nth` partition of all topics, counted from 1.
    fn nth_group(&self, nth: u32) -> Option<GroupId> {
        let images = self.views().into_iter().filter_map(|view| Some(view.broker?.image()));
        let image = images.max_by_key(|image| image.version)?;
        let groups = image.topics.values().flat_map(|topic| topic.partitions.iter().map(|partition| partition.group));
        groups.collect::<BTreeSet<_>>().into_iter().nth(nth.checked_sub(1)? as usize)
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
