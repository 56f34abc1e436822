//! The machines of the cluster: each a kernel (on its turmoil host), a disk, clocks, and a process that comes and goes.
//! Owns who runs. Never decides what goes wrong: `world` does.

use std::cell::RefCell;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use node::broker::Broker;
use node::config::units::{Raw, Setting};
use node::config::users::Users;
use node::config::{Amqp, AutoCreate, Config, Limits, Listener, Listeners, Raft, Storage};
use node::seams::Seams;
use tokio::sync::mpsc;

use crate::clock::SimClock;
use crate::disk::Disks;
use crate::kernel::{self, Call, SimNet};
use crate::net::Network;
use crate::process::{Order, Process};
use crate::workload::queues::client::{PORT, USER};
use crate::workload::{KAFKA_PORT, host};
use crate::world::NODES;

const PEER_PORT: u16 = 9740;
const ADMIN_PORT: u16 = 9640;
/// So short that partitions fall asleep between two batches, and wake for them.
const QUIESCE_AFTER: Duration = Duration::from_millis(150);
/// Calls of a process that its kernel has not heard yet; more wait.
const CALLS: usize = 64;

/// So slow that leaders change while they compact.
const COMPACTION_RATE: u64 = 32 << 10;

/// Whether a node's process runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// It does.
    Up,
    /// It exists and does not run.
    Paused,
    /// There is none.
    Down,
}

/// A node as an observer sees it.
pub struct View {
    /// Its number.
    pub node: u32,
    /// Whether it runs.
    pub state: State,
    /// Its facade, once it has started; for looking only.
    pub broker: Option<Broker>,
}

/// One machine.
pub struct Machine {
    /// Its node's number.
    pub node: u32,
    seams: Seams,
    clock: SimClock,
    process: Option<Process>,
    paused: bool,
    /// What passed on its clock while it was paused.
    missed: Duration,
    /// It was told to stop.
    stopping: bool,
    /// Whether it ever ran.
    member: bool,
}

impl Machine {
    /// Machine `node` with its kernel on a host of `sim`; no process runs yet.
    pub fn new(sim: &mut turmoil::Sim<'static>, node: u32, network: &Network, disks: &Disks) -> Self {
        let (calls, receiver) = mpsc::channel::<Call>(CALLS);
        let (receiver, served) = (RefCell::new(Some(receiver)), network.clone());
        sim.host(host(node), move || {
            let receiver = receiver.borrow_mut().take().expect("hosts never crash: machines do, in `world`");
            kernel::run(node, served.clone(), receiver)
        });
        network.name(sim.lookup(host(node)), node);
        let clock = SimClock::default();
        let seams = Seams { net: Arc::new(SimNet(calls)), clock: Arc::new(clock.clone()), engine: disks.of(node) };
        Self {
            node,
            seams,
            clock,
            process: None,
            paused: false,
            missed: Duration::ZERO,
            stopping: false,
            member: false,
        }
    }

    /// Whether its node ever ran: one that joins later has not.
    pub fn is_member(&self) -> bool {
        self.member
    }

    /// Whether it runs.
    pub fn state(&self) -> State {
        match &self.process {
            None => State::Down,
            Some(_) if self.paused => State::Paused,
            Some(_) => State::Up,
        }
    }

    /// What an observer sees.
    pub fn view(&self) -> View {
        let broker = self.process.as_ref().and_then(Process::broker);
        View { node: self.node, state: self.state(), broker }
    }

    /// Starts the process. False if there is one.
    pub fn start(&mut self) -> bool {
        let start = self.process.is_none();
        if start {
            self.member = true;
            self.process = Some(Process::start(config(self.node), self.seams.clone()));
        }
        start
    }

    /// Ends the process at once. False if there is none.
    pub fn kill(&mut self) -> bool {
        (self.paused, self.stopping) = (false, false);
        self.missed = Duration::ZERO;
        self.process.take().is_some()
    }

    /// The process does not run, or runs again. False if that was so, or there is none.
    pub fn pause(&mut self, paused: bool) -> bool {
        self.process.is_some() && std::mem::replace(&mut self.paused, paused) != paused
    }

    /// Tells the process to stop. False if there is none that hears, or it was told.
    pub fn stop(&mut self) -> bool {
        let told = !self.stopping && self.order(Order::Stop);
        self.stopping |= told;
        told
    }

    /// Whether the process stops.
    pub fn is_stopping(&self) -> bool {
        self.stopping
    }

    /// Tells the process something. False if there is none that hears.
    pub fn order(&self, order: Order) -> bool {
        self.process.as_ref().is_some_and(|process| process.order(order))
    }

    /// Does something within the process. False if there is none that runs.
    pub fn spawn(&self, work: impl Future<Output = ()> + Send + 'static) -> bool {
        let process = self.process.as_ref().filter(|_| !self.paused);
        process.map(|process| process.spawn(work)).is_some()
    }

    /// Its clocks.
    pub fn clock(&self) -> &SimClock {
        &self.clock
    }

    /// Lets time pass; says how the process ended, if it ended by itself.
    pub fn tick(&mut self, world: Duration) -> Option<Result<(), String>> {
        let passed = self.clock.tick(world);
        let process = self.process.as_mut()?;
        if self.paused {
            self.missed += passed;
            return None;
        }
        if !self.missed.is_zero() {
            process.wake(std::mem::take(&mut self.missed));
        }
        process.tick(passed);
        let ended = process.ended();
        if ended.is_some() {
            self.kill();
        }
        ended
    }
}

/// Runs are short: what is too old or too much is looked for often.
const RETENTION_CHECK: Duration = Duration::from_secs(1);

fn users() -> Users {
    Users::read(&Raw::Text(USER.to_owned())).expect("a name and a password")
}

fn config(id: u32) -> Config {
    let listener = |port, advertise| Listener { bind: SocketAddr::from((Ipv4Addr::UNSPECIFIED, port)), advertise };
    Config {
        node_id: id,
        cluster_id: None,
        data: PathBuf::from("/simulated"),
        listeners: Listeners {
            kafka: listener(KAFKA_PORT, None),
            peer: listener(PEER_PORT, Some(format!("{}:{PEER_PORT}", host(id)))),
            admin: listener(ADMIN_PORT, None),
            amqp: Amqp { bind: Some(SocketAddr::from((Ipv4Addr::UNSPECIFIED, PORT))), advertise: None, users: users() },
        },
        seeds: (1..=NODES).map(|node| format!("{}:{PEER_PORT}", host(node))).collect(),
        bootstrap_expect: if id <= NODES { NODES } else { 1 },
        rack: None,
        limits: Limits::default(),
        storage: Storage {
            retention_check: RETENTION_CHECK,
            compaction_bytes_per_second: COMPACTION_RATE,
            ..Storage::default()
        },
        // So slow that faults meet replicas that catch up.
        raft: Raft { quiesce_after: QUIESCE_AFTER, catch_up_bytes_per_second: 256 << 10, ..Raft::default() },
        insecure: true,
        auto_create: AutoCreate::default(),
    }
}
