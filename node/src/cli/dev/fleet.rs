//! The cluster as a state machine: nodes that are up, down or on their way, and the events that tell of it.
//! Owns the children. Invariant: every change of a node's state yields exactly one event; a child that dies unasked stays down.

use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Serialize;
use tokio::sync::mpsc;
use tokio::time::Instant;

use super::Options;
use super::child::{Child, Exit};
use super::ready;
use crate::cli::client::Client;

/// A node that does not stop when asked is killed after so long.
const STOP_PATIENCE: Duration = Duration::from_secs(15);

/// A node as the events name it.
#[derive(Clone, Debug, Serialize)]
pub struct Member {
    /// Node id.
    pub id: u32,
    /// Process id of the last start.
    pub pid: u32,
    /// Kafka address.
    pub kafka: String,
    /// HTTP address, as a URL.
    pub admin: String,
    /// Address for the other nodes.
    pub peer: String,
    /// AMQP address.
    pub amqp: String,
}

/// What happened. Its JSON form is the contract of `--plain`.
#[derive(Clone, Debug, Serialize)]
#[serde(tag = "event", rename_all = "lowercase")]
pub enum Event {
    /// All nodes serve and a record went through.
    Ready {
        /// All nodes.
        nodes: Vec<Member>,
    },
    /// Killed as asked.
    Killed {
        /// Node.
        id: u32,
    },
    /// Started again as asked, and ready.
    Restarted {
        /// Node.
        id: u32,
        /// New process.
        pid: u32,
    },
    /// Stopped as asked.
    Stopped {
        /// Node.
        id: u32,
    },
    /// Died by itself.
    Exited {
        /// Node.
        id: u32,
        /// Exit code, if it ended by itself.
        code: Option<i32>,
        /// Signal, if one ended it.
        signal: Option<i32>,
        /// Its log.
        log: PathBuf,
    },
    /// A command that cannot be followed.
    Refused {
        /// The command.
        command: String,
        /// Why.
        reason: String,
    },
}

/// What can be asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// SIGKILL a node.
    Kill(u32),
    /// Start a node that is down; one that runs is stopped first.
    Restart(u32),
    /// Stop all and end.
    Stop,
}

/// What a node is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// Not running.
    Down,
    /// Started, not ready yet.
    Starting,
    /// Serving.
    Up,
    /// SIGKILL is on its way.
    Killing,
    /// Asked to stop, then started again.
    Cycling,
    /// Asked to stop.
    Stopping,
}

struct Node {
    member: Member,
    arguments: Vec<String>,
    log: PathBuf,
    state: State,
    child: Option<Child>,
}

enum News {
    Exit(Exit),
    Ready { id: u32, pid: u32 },
}

/// The cluster.
pub struct Fleet {
    options: Options,
    home: PathBuf,
    nodes: Vec<Node>,
    exits: mpsc::UnboundedSender<Exit>,
    exited: mpsc::UnboundedReceiver<Exit>,
    readies: mpsc::UnboundedSender<(u32, u32)>,
    readied: mpsc::UnboundedReceiver<(u32, u32)>,
    stopping: Option<Instant>,
    started: Instant,
}

impl Fleet {
    /// Starts every node. `home` holds their data and logs.
    pub fn new(options: &Options, home: &Path) -> anyhow::Result<Self> {
        let (exits, exited) = mpsc::unbounded_channel();
        let (readies, readied) = mpsc::unbounded_channel();
        let nodes = (1..=options.nodes).map(|id| describe(options, home, id)).collect();
        let started = Instant::now();
        let (options, home) = (options.clone(), home.to_owned());
        let mut fleet = Self { options, home, nodes, exits, exited, readies, readied, stopping: None, started };
        for index in 0..fleet.nodes.len() {
            fleet.spawn(index)?;
        }
        Ok(fleet)
    }

    /// All nodes.
    pub fn members(&self) -> Vec<Member> {
        self.nodes.iter().map(|node| node.member.clone()).collect()
    }

    /// Node id and state, in order.
    pub fn states(&self) -> Vec<(u32, State)> {
        self.nodes.iter().map(|node| (node.member.id, node.state)).collect()
    }

    /// Kafka addresses of all nodes.
    pub fn bootstrap(&self) -> String {
        self.nodes.iter().map(|node| node.member.kafka.clone()).collect::<Vec<_>>().join(",")
    }

    /// Log file of each node.
    pub fn logs(&self) -> Vec<PathBuf> {
        self.nodes.iter().map(|node| node.log.clone()).collect()
    }

    /// When it was started.
    pub fn started(&self) -> Instant {
        self.started
    }

    /// Waits until all nodes serve and the probe went through; a child that dies before is an error with the end of its log.
    pub async fn ready(&mut self) -> anyhow::Result<Event> {
        let client = Client::new(&self.bootstrap());
        let admins: Vec<String> = self.nodes.iter().map(|node| node.member.admin.clone()).collect();
        tokio::select! {
            result = ready::cluster(&client, &admins) => result?,
            Some(exit) = self.exited.recv() => {
                let log = self.node(exit.id).map(|node| node.log.clone()).unwrap_or_default();
                // Who stops the fleet waits for those that still run.
                self.exit(&exit);
                anyhow::bail!("node {} ended before the cluster was ready; the end of {}:\n{}", exit.id, log.display(), tail(&log));
            }
        }
        self.nodes.iter_mut().for_each(|node| node.state = State::Up);
        tracing::info!(elapsed_ms = self.started.elapsed().as_millis() as u64, "the cluster is ready");
        Ok(Event::Ready { nodes: self.members() })
    }

    /// Starts one more node, which joins the others, and waits until it serves.
    pub async fn join(&mut self) -> anyhow::Result<()> {
        let number = u16::try_from(self.nodes.len())? + 1;
        self.nodes.push(describe(&self.options, &self.home, number));
        self.spawn(self.nodes.len() - 1)?;
        match self.next().await {
            Some(Event::Restarted { id, .. }) if id == u32::from(number) => Ok(()),
            event => anyhow::bail!("node {number} did not join: {event:?}"),
        }
    }

    /// Follows an order; what comes of it is told by [`Fleet::next`].
    pub fn order(&mut self, order: Order) -> Result<(), String> {
        match order {
            Order::Stop => self.stop(),
            Order::Kill(id) => {
                let node = self.running(id)?;
                node.state = State::Killing;
                node.child.iter().for_each(Child::kill);
            }
            Order::Restart(id) => {
                let index = self.index(id)?;
                let node = &mut self.nodes[index];
                match node.state {
                    State::Down => self.spawn(index).map_err(|error| format!("{error:#}"))?,
                    State::Up | State::Starting => {
                        node.state = State::Cycling;
                        node.child.iter().for_each(Child::stop);
                    }
                    _ => return Err(format!("node {id} is on its way down; ask again")),
                }
            }
        }
        Ok(())
    }

    /// The next event; `None` once a stop is complete. Cancel safe.
    pub async fn next(&mut self) -> Option<Event> {
        loop {
            if self.stopping.is_some() && self.nodes.iter().all(|node| node.child.is_none()) {
                return None;
            }
            let deadline = self.stopping;
            let news = tokio::select! {
                Some(exit) = self.exited.recv() => News::Exit(exit),
                Some((id, pid)) = self.readied.recv() => News::Ready { id, pid },
                () = patience(deadline) => {
                    self.stopping = Some(Instant::now() + STOP_PATIENCE);
                    self.nodes.iter().filter_map(|node| node.child.as_ref()).for_each(Child::kill);
                    continue;
                }
            };
            let event = match news {
                News::Exit(exit) => self.exit(&exit),
                News::Ready { id, pid } => self.came_up(id, pid),
            };
            if event.is_some() {
                return event;
            }
        }
    }

    fn stop(&mut self) {
        self.stopping = Some(Instant::now() + STOP_PATIENCE);
        for node in &mut self.nodes {
            if let Some(child) = &node.child {
                node.state = State::Stopping;
                child.stop();
            }
        }
    }

    fn index(&self, id: u32) -> Result<usize, String> {
        self.nodes.iter().position(|node| node.member.id == id).ok_or_else(|| format!("there is no node {id}"))
    }

    fn node(&mut self, id: u32) -> Option<&mut Node> {
        self.nodes.iter_mut().find(|node| node.member.id == id)
    }

    fn running(&mut self, id: u32) -> Result<&mut Node, String> {
        let index = self.index(id)?;
        let node = &mut self.nodes[index];
        if node.child.is_some() { Ok(node) } else { Err(format!("node {id} is down")) }
    }

    fn spawn(&mut self, index: usize) -> anyhow::Result<()> {
        let node = &mut self.nodes[index];
        let id = node.member.id;
        let child = Child::spawn(id, &node.arguments, &node.log, self.exits.clone())?;
        node.member.pid = child.pid;
        node.state = State::Starting;
        let (pid, admin, readies) = (child.pid, node.member.admin.clone(), self.readies.clone());
        node.child = Some(child);
        tokio::spawn(async move {
            ready::node(&admin).await;
            readies.send((id, pid)).ok();
        });
        Ok(())
    }

    fn came_up(&mut self, id: u32, pid: u32) -> Option<Event> {
        let node = self.node(id)?;
        if node.member.pid != pid || node.state != State::Starting {
            return None;
        }
        node.state = State::Up;
        Some(Event::Restarted { id, pid })
    }

    fn exit(&mut self, exit: &Exit) -> Option<Event> {
        let index = self.index(exit.id).ok()?;
        let node = &mut self.nodes[index];
        if node.member.pid != exit.pid {
            return None;
        }
        let (id, was) = (exit.id, std::mem::replace(&mut node.state, State::Down));
        node.child = None;
        match was {
            State::Killing => Some(Event::Killed { id }),
            State::Stopping => Some(Event::Stopped { id }),
            State::Cycling => self
                .spawn(index)
                .err()
                .map(|error| Event::Refused { command: format!("restart {id}"), reason: format!("{error:#}") }),
            State::Up | State::Starting | State::Down => {
                let status = exit.status.as_ref().ok();
                let (code, signal) = (status.and_then(|s| s.code()), status.and_then(ExitStatusExt::signal));
                Some(Event::Exited { id, code, signal, log: node.log.clone() })
            }
        }
    }
}

async fn patience(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => tokio::time::sleep_until(deadline).await,
        None => std::future::pending().await,
    }
}

fn describe(options: &Options, home: &Path, number: u16) -> Node {
    let address = |first: u16, number: u16| format!("127.0.0.1:{}", first + number - 1);
    let kafka = address(options.kafka_port, number);
    let admin = address(options.admin_port, number);
    let peer = address(options.peer_port, number);
    let amqp = address(options.amqp_port, number);
    let seeds: Vec<String> = (1..=options.nodes).map(|other| address(options.peer_port, other)).collect();
    let joins = number > options.nodes;
    let seeds = if options.nodes == 1 && !joins { String::new() } else { seeds.join(",") };
    // 1 with seeds means: found nothing, only join.
    let expected = if joins { 1 } else { options.nodes };
    let data = home.join(format!("node-{number}"));
    let flags = [
        ("--node-id", number.to_string()),
        ("--data", data.display().to_string()),
        ("--kafka", kafka.clone()),
        ("--admin", admin.clone()),
        ("--peer", peer.clone()),
        ("--amqp", amqp.clone()),
        ("--seeds", seeds),
        ("--bootstrap-expect", expected.to_string()),
    ];
    let mut arguments = vec!["server".to_owned(), "--parent-pipe".to_owned()];
    arguments.extend(flags.into_iter().flat_map(|(flag, value)| [flag.to_owned(), value]));
    arguments.extend(options.set.iter().flat_map(|setting| ["--set".to_owned(), setting.clone()]));
    let member = Member { id: number.into(), pid: 0, kafka, admin: format!("http://{admin}"), peer, amqp };
    Node { member, arguments, log: home.join(format!("node-{number}.log")), state: State::Down, child: None }
}

/// The last lines of a log.
pub fn tail(log: &Path) -> String {
    const LINES: usize = 20;
    let text = std::fs::read(log).unwrap_or_default();
    let text = String::from_utf8_lossy(&text[text.len().saturating_sub(16 << 10)..]).into_owned();
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(LINES)..].join("\n")
}
