//! What AMQP clients declare: exchanges, queues and bindings, by virtual host. A queue is a topic of one partition.
//! Invariant: a binding has both its ends, and a queue its topic: what goes takes with it what leads to it.
//! Never says what a queue holds: that is the partition's own machine.

mod arguments;
mod error;
mod exchanges;
mod name;
mod policies;
mod queues;
mod route;
#[cfg(test)]
mod tests;
mod vhosts;

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::check;
use crate::controller::placement::Terms;
use crate::controller::{Image, Outcome};
use crate::exchange::{Args, Binding, Destination, ExchangeKind, HashOn, Table};
use crate::ids::{GroupId, NodeId, TopicId};

pub use arguments::{Arguments, Overflow, max_rate};
pub use error::{EntityKind, TopologyError};
pub use policies::{AppliesTo, Policy};
pub(super) use queues::refuse_growth;
pub use route::{NoExchange, Route};

/// The virtual host that is always there.
pub const DEFAULT_VHOST: &str = "/";
/// Names that begin with this are the server's to give.
pub const RESERVED: &str = "amq.";

/// The command.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TopologyCommand {
    /// Of which virtual host.
    pub vhost: String,
    /// What to do.
    pub change: TopologyChange,
}

/// One change. Variants are only ever added at the end: their order is on disk.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum TopologyChange {
    /// There is to be such a queue.
    DeclareQueue(NewQueue),
    /// There is to be no such queue.
    DeleteQueue {
        /// Its name.
        name: String,
        /// Only the one of this topic, and no later one of the same name.
        topic: Option<TopicId>,
    },
    /// There is to be such an exchange.
    DeclareExchange {
        /// Its name.
        name: String,
        /// What it does.
        spec: ExchangeSpec,
    },
    /// There is to be no such exchange.
    DeleteExchange {
        /// Its name.
        name: String,
        /// Refused if it is the source of a binding.
        if_unused: bool,
    },
    /// There is to be such a binding.
    Bind(Binding),
    /// There is to be no such binding.
    Unbind(Binding),
    /// The exclusive queues of a node go, but for those of this start of its process.
    DropOwned {
        /// The node.
        node: NodeId,
        /// Whose queues stay; none if all go.
        but: Option<u64>,
    },
    /// There is to be such a virtual host.
    AddVhost,
    /// There is to be no such virtual host, nor anything in it.
    DropVhost,
    /// There is to be such a policy.
    SetPolicy {
        /// Its name.
        name: String,
        /// What it does.
        policy: Policy,
    },
    /// There is to be no such policy.
    DropPolicy {
        /// Its name.
        name: String,
    },
}

/// A queue to be made, if there is none.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NewQueue {
    /// Its name.
    pub name: String,
    /// What it does.
    pub spec: QueueSpec,
    /// The id of its topic if it is new: random, chosen by the proposer.
    pub topic: TopicId,
    /// The name is the server's: it may begin with [`RESERVED`].
    pub server_named: bool,
}

/// What a queue does. Who declares it again must say the same.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct QueueSpec {
    /// As AMQP has it. Every queue survives its nodes here, this or that.
    pub durable: bool,
    /// The one connection that may use it, and that it ends with.
    pub exclusive: Option<Owner>,
    /// It goes when its last consumer does.
    pub auto_delete: bool,
    /// The rest.
    pub arguments: Arguments,
}

/// A connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Owner {
    /// The node it is to.
    pub node: NodeId,
    /// The start of that node's process.
    pub boot: u64,
    /// Its number there.
    pub connection: u64,
}

/// A queue.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Queue {
    /// Its virtual host.
    pub vhost: String,
    /// Its name.
    pub name: String,
    /// What it does.
    pub spec: QueueSpec,
    /// Its topic.
    pub topic: TopicId,
    /// The Raft group of the topic's one partition.
    pub partition_group: GroupId,
    /// The topic was made for it, and goes with it; else it was there before.
    pub made_topic: bool,
}

/// What an exchange does. Who declares it again must say the same.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExchangeSpec {
    /// How it chooses.
    pub kind: ExchangeKind,
    /// Messages may say how long they wait before they are in a queue (`x-delayed-message`).
    pub delayed: bool,
    /// As AMQP has it. Every exchange survives its nodes here, this or that.
    pub durable: bool,
    /// It goes when its last binding does.
    pub auto_delete: bool,
    /// Clients cannot publish to it.
    pub internal: bool,
    /// The exchange that gets what this one has no place for.
    pub alternate: Option<String>,
    /// What a consistent hash is taken of.
    pub hash_on: HashOn,
}

/// An exchange.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Exchange {
    /// Its name.
    pub name: String,
    /// What it does.
    pub spec: ExchangeSpec,
    /// Where it leads.
    pub bindings: Table,
}

/// One virtual host.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Vhost {
    /// Queues by name. Shared with other versions: a binding more or less copies none of them.
    pub queues: Arc<BTreeMap<Arc<str>, Arc<Queue>>>,
    /// Exchanges by name, without the default one, which is every queue by its name.
    pub exchanges: BTreeMap<Arc<str>, Arc<Exchange>>,
    /// Policies by name.
    pub policies: BTreeMap<Arc<str>, Arc<Policy>>,
    /// Of all exchanges together.
    bindings: usize,
}

/// All of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Topology {
    /// Virtual hosts by name.
    pub vhosts: BTreeMap<Arc<str>, Arc<Vhost>>,
    by_topic: Arc<BTreeMap<TopicId, Arc<Queue>>>,
}

/// As stored in a Raft snapshot.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct VhostSnapshot {
    /// Its name.
    pub name: String,
    /// Its queues.
    pub queues: Vec<Queue>,
    /// Its exchanges.
    pub exchanges: Vec<(String, ExchangeSpec)>,
    /// Their bindings.
    pub bindings: Vec<Binding>,
    /// Its policies.
    pub policies: Vec<(String, Policy)>,
}

impl Default for Topology {
    fn default() -> Self {
        let vhosts = BTreeMap::from([(Arc::from(DEFAULT_VHOST), Arc::new(Vhost::founded()))]);
        Topology { vhosts, by_topic: Arc::default() }
    }
}

impl Vhost {
    /// With the exchanges that every virtual host has.
    fn founded() -> Self {
        let predeclared = [
            ("amq.direct", ExchangeKind::Direct),
            ("amq.topic", ExchangeKind::Topic),
            ("amq.fanout", ExchangeKind::Fanout),
            ("amq.headers", ExchangeKind::Headers),
            ("amq.match", ExchangeKind::Headers),
        ];
        let mut vhost = Vhost::default();
        for (name, kind) in predeclared {
            vhost.put_exchange(name, ExchangeSpec { kind, durable: true, ..ExchangeSpec::default() });
        }
        vhost
    }

    /// The queue of this name.
    pub fn queue(&self, name: &str) -> Option<&Arc<Queue>> {
        self.queues.get(name)
    }

    /// The exchange of this name; the default one is none of them.
    pub fn exchange(&self, name: &str) -> Option<&Arc<Exchange>> {
        self.exchanges.get(name)
    }

    /// All bindings, without the default exchange's.
    pub fn bindings(&self) -> impl Iterator<Item = Binding> {
        self.exchanges.values().flat_map(|exchange| {
            exchange.bindings.iter().map(|(key, destination, arguments)| Binding {
                source: exchange.name.clone(),
                destination: destination.clone(),
                key: key.to_owned(),
                arguments: arguments.clone(),
            })
        })
    }

    fn put_exchange(&mut self, name: &str, spec: ExchangeSpec) {
        let bindings = Table::new(spec.kind, spec.hash_on.clone());
        self.exchanges.insert(Arc::from(name), Arc::new(Exchange { name: name.to_owned(), spec, bindings }));
    }

    fn has(&self, destination: &Destination) -> bool {
        match destination {
            Destination::Queue(name) => self.queues.contains_key(name.as_str()),
            Destination::Exchange(name) => self.exchanges.contains_key(name.as_str()),
        }
    }

    fn snapshot(&self, name: &str) -> VhostSnapshot {
        VhostSnapshot {
            name: name.to_owned(),
            queues: self.queues.values().map(|queue| (**queue).clone()).collect(),
            exchanges: self.exchanges.values().map(|known| (known.name.clone(), known.spec.clone())).collect(),
            bindings: self.bindings().collect(),
            policies: self.policies.iter().map(|(name, policy)| (name.to_string(), (**policy).clone())).collect(),
        }
    }

    fn restore(snapshot: VhostSnapshot) -> Self {
        let queues = snapshot.queues.into_iter().map(|one| (Arc::from(one.name.as_str()), Arc::new(one))).collect();
        let policies = snapshot.policies.into_iter().map(|(name, one)| (Arc::from(name), Arc::new(one))).collect();
        let mut vhost = Vhost { queues: Arc::new(queues), policies, ..Vhost::default() };
        snapshot.exchanges.into_iter().for_each(|(name, spec)| vhost.put_exchange(&name, spec));
        snapshot.bindings.iter().for_each(|binding| _ = vhost.bind(binding));
        vhost
    }
}

impl Topology {
    /// The virtual host of this name.
    pub fn vhost(&self, name: &str) -> Option<&Arc<Vhost>> {
        self.vhosts.get(name)
    }

    /// The queue that lives in a topic.
    pub fn queue_of_topic(&self, topic: TopicId) -> Option<&Arc<Queue>> {
        self.by_topic.get(&topic)
    }

    pub(super) fn snapshot(&self) -> Vec<VhostSnapshot> {
        self.vhosts.iter().map(|(name, vhost)| vhost.snapshot(name)).collect()
    }

    pub(super) fn restore(snapshot: Vec<VhostSnapshot>) -> Self {
        let restored = |one: VhostSnapshot| (Arc::from(one.name.as_str()), Arc::new(Vhost::restore(one)));
        let vhosts: BTreeMap<Arc<str>, Arc<Vhost>> = snapshot.into_iter().map(restored).collect();
        let queues = vhosts.values().flat_map(|vhost| vhost.queues.values());
        let by_topic = queues.map(|queue| (queue.topic, queue.clone())).collect();
        Topology { vhosts, by_topic: Arc::new(by_topic) }
    }

    fn vhost_mut(&mut self, name: &str) -> Result<&mut Vhost, TopologyError> {
        let none = || TopologyError::none(EntityKind::Vhost, name, name);
        self.vhosts.get_mut(name).map(Arc::make_mut).ok_or_else(none)
    }
}

impl Image {
    /// The queue that lives in a topic, if one does.
    pub fn queue_of_topic(&self, topic: TopicId) -> Option<&Arc<Queue>> {
        self.topology.queue_of_topic(topic)
    }

    /// Applies a change; tells whether there was anything to change.
    pub(super) fn change_topology(&mut self, command: TopologyCommand, terms: &Terms) -> (bool, Outcome) {
        let TopologyCommand { vhost, change } = command;
        let result = match change {
            TopologyChange::DeclareQueue(new) => self.declare_queue(&vhost, new, terms),
            TopologyChange::DeleteQueue { name, topic } => self.delete_queue(&vhost, &name, topic),
            TopologyChange::DeclareExchange { name, spec } => self.declare_exchange(&vhost, &name, spec),
            TopologyChange::DeleteExchange { name, if_unused } => self.delete_exchange(&vhost, &name, if_unused),
            TopologyChange::Bind(binding) => self.bind(&vhost, &binding),
            TopologyChange::Unbind(binding) => self.unbind(&vhost, &binding),
            TopologyChange::DropOwned { node, but } => self.drop_owned(&vhost, node, but),
            TopologyChange::AddVhost => self.add_vhost(&vhost),
            TopologyChange::DropVhost => self.drop_vhost(&vhost),
            TopologyChange::SetPolicy { name, policy } => self.set_policy(&vhost, &name, policy),
            TopologyChange::DropPolicy { name } => self.drop_policy(&vhost, &name),
        };
        self.check_topology(&vhost);
        (matches!(result, Ok(true)), Outcome::Topology(result.map(drop)))
    }

    /// Asserts that nothing leads nowhere; in production only the counts, which cost nothing.
    pub(super) fn check_topology(&self, vhost: &str) {
        let Some(vhost) = self.topology.vhost(vhost) else { return };
        let counted: usize = vhost.exchanges.values().map(|exchange| exchange.bindings.len()).sum();
        let whole = || {
            vhost.bindings().all(|binding| vhost.has(&binding.destination))
                && vhost.queues.values().all(|queue| {
                    let topic = self.topic_by_id(queue.topic).and_then(|topic| topic.partitions.first());
                    topic.is_some_and(|partition| partition.group == queue.partition_group)
                        && self.topology.queue_of_topic(queue.topic) == Some(queue)
                })
        };
        let agree = counted == vhost.bindings && (cfg!(not(debug_assertions)) || whole());
        check!(agree, TopologyWhole, "{counted} bindings of {}", vhost.bindings);
    }
}

/// Bytes that arguments take, about.
fn size_of(arguments: &Args) -> usize {
    arguments.iter().map(|(name, value)| name.len() + value.size()).sum()
}
