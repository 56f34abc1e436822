//! Exchanges, queues and bindings: declared and deleted by commands of the controller, looked up and routed on this node's image.
//! Invariant: what a caller declared is in this node's image when the answer comes, and in that of every other node that lives and
//! answers in time. Owns the names of queues that clients left nameless.
mod owners;
mod policies;
mod report;

use std::sync::Arc;

use futures::stream::{self, StreamExt, TryStreamExt};
use model::controller::topology::{
    DEFAULT_VHOST, Exchange, ExchangeSpec, NewQueue, NoExchange, Owner, Queue, QueueSpec, Route, TopologyChange,
};
use model::controller::{Command, Outcome, TopologyCommand, TopologyError};
use model::exchange::{Binding, Routed};

use super::{Broker, Error, random_topic_id};

pub use policies::{PolicyDeclaration, PolicyReport};
pub use report::{
    BindingReport, DestinationKind, ExchangeDeclaration, ExchangeReport, QueueDeclaration, QueueReport, Scalar, Values,
    VhostReport,
};

/// What a queue is named by the server: this, and what nobody can guess.
const GENERATED: &str = "amq.gen-";

/// Queues of a virtual host that are deleted at a time.
const AT_ONCE: usize = 32;

/// Why a change of the topology did not happen, or may not have.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum TopologyFailure {
    /// The controller refuses it; nothing changed.
    #[error(transparent)]
    Refused(#[from] TopologyError),
    /// The controller cannot be reached, or its answer was lost; the text says which.
    #[error("unavailable: {0}")]
    Unavailable(String),
}

impl From<Error> for TopologyFailure {
    fn from(error: Error) -> Self {
        TopologyFailure::Unavailable(error.to_string())
    }
}

impl Broker {
    /// What an exclusive queue of a connection to this node is marked with; `connection` is its number in this process.
    pub fn owner(&self, connection: u64) -> Owner {
        Owner { node: self.node_id(), boot: self.0.peers.directory().boot(), connection }
    }

    /// Declares a queue, with its topic if it is new. Without a name it gets one.
    ///
    /// # Errors
    /// Refused, or the controller cannot be reached.
    pub async fn declare_queue(&self, vhost: &str, name: &str, spec: QueueSpec) -> Result<Arc<Queue>, TopologyFailure> {
        let server_named = name.is_empty();
        let topic = random_topic_id();
        let name = if server_named { format!("{GENERATED}{topic}") } else { name.to_owned() };
        let new = NewQueue { name: name.clone(), spec, topic, server_named };
        self.change_topology(vhost, TopologyChange::DeclareQueue(new)).await?;
        let gone = || TopologyFailure::Unavailable(format!("queue '{name}' was deleted while it was declared"));
        self.queue(vhost, &name).ok_or_else(gone)
    }

    /// Deletes the queue of this name, its bindings, and its topic if that was made for it.
    ///
    /// # Errors
    /// Refused, or the controller cannot be reached.
    pub async fn delete_queue(&self, vhost: &str, name: &str) -> Result<(), TopologyFailure> {
        let name = name.to_owned();
        self.change_topology(vhost, TopologyChange::DeleteQueue { name, topic: None }).await
    }

    /// Deletes this very queue; one that was declared under its name since stays. That it is gone already is no failure.
    ///
    /// # Errors
    /// The controller cannot be reached.
    pub async fn delete_this_queue(&self, queue: &Queue) -> Result<(), TopologyFailure> {
        let change = TopologyChange::DeleteQueue { name: queue.name.clone(), topic: Some(queue.topic) };
        match self.change_topology(&queue.vhost, change).await {
            Err(TopologyFailure::Refused(TopologyError::NotFound { .. })) => Ok(()),
            other => other,
        }
    }

    /// Declares an exchange.
    ///
    /// # Errors
    /// Refused, or the controller cannot be reached.
    pub async fn declare_exchange(&self, vhost: &str, name: &str, spec: ExchangeSpec) -> Result<(), TopologyFailure> {
        self.change_topology(vhost, TopologyChange::DeclareExchange { name: name.to_owned(), spec }).await
    }

    /// Deletes an exchange and its bindings; with `if_unused` only one that is the source of none.
    ///
    /// # Errors
    /// Refused, or the controller cannot be reached.
    pub async fn delete_exchange(&self, vhost: &str, name: &str, if_unused: bool) -> Result<(), TopologyFailure> {
        let name = name.to_owned();
        self.change_topology(vhost, TopologyChange::DeleteExchange { name, if_unused }).await
    }

    /// Binds a queue or an exchange to an exchange.
    ///
    /// # Errors
    /// Refused, or the controller cannot be reached.
    pub async fn bind(&self, vhost: &str, binding: Binding) -> Result<(), TopologyFailure> {
        self.change_topology(vhost, TopologyChange::Bind(binding)).await
    }

    /// Removes a binding. That it is not there is no failure.
    ///
    /// # Errors
    /// Refused, or the controller cannot be reached.
    pub async fn unbind(&self, vhost: &str, binding: Binding) -> Result<(), TopologyFailure> {
        self.change_topology(vhost, TopologyChange::Unbind(binding)).await
    }

    async fn change_topology(&self, vhost: &str, change: TopologyChange) -> Result<(), TopologyFailure> {
        let command = Command::Topology(Box::new(TopologyCommand { vhost: vhost.to_owned(), change }));
        let reply = self.control(command).await?;
        match reply.outcome {
            Outcome::Topology(result) => {
                result?;
                self.spread(reply.version).await;
                Ok(())
            }
            other => Err(TopologyFailure::Unavailable(format!("unexpected outcome {other:?}"))),
        }
    }

    /// The queue of this name, in this node's image.
    pub fn queue(&self, vhost: &str, name: &str) -> Option<Arc<Queue>> {
        self.0.image.borrow().topology.vhost(vhost)?.queue(name).cloned()
    }

    /// The exchange of this name, in this node's image; the default one, whose name is empty, is none of them.
    pub fn exchange(&self, vhost: &str, name: &str) -> Option<Arc<Exchange>> {
        self.0.image.borrow().topology.vhost(vhost)?.exchange(name).cloned()
    }

    /// Makes a virtual host. That it is there is no failure.
    ///
    /// # Errors
    /// Refused, or the controller cannot be reached.
    pub async fn add_vhost(&self, name: &str) -> Result<(), TopologyFailure> {
        self.change_topology(name, TopologyChange::AddVhost).await
    }

    /// Deletes a virtual host with its queues and exchanges; its connections end soon. Queues go one by one before: the controller
    /// applies nothing that takes long. If it fails in the middle some are gone.
    ///
    /// # Errors
    /// Refused, or the controller cannot be reached.
    pub async fn drop_vhost(&self, name: &str) -> Result<(), TopologyFailure> {
        let vhost = self.image().topology.vhost(name).filter(|_| name != DEFAULT_VHOST).cloned();
        let queues: Vec<_> = vhost.map(|vhost| vhost.queues.values().cloned().collect()).unwrap_or_default();
        let deleted = queues.into_iter().map(async |queue: Arc<Queue>| self.delete_this_queue(&queue).await);
        stream::iter(deleted).buffer_unordered(AT_ONCE).try_collect::<()>().await?;
        self.change_topology(name, TopologyChange::DropVhost).await
    }

    /// The virtual hosts, by name.
    pub fn vhosts(&self) -> Vec<String> {
        self.0.image.borrow().topology.vhosts.keys().map(ToString::to_string).collect()
    }

    /// Whether there is such a virtual host.
    pub fn has_vhost(&self, vhost: &str) -> bool {
        self.0.image.borrow().topology.vhost(vhost).is_some()
    }

    /// Where a message goes that is published to `exchange`, by this node's image.
    ///
    /// # Errors
    /// There is no such exchange.
    pub fn route(&self, vhost: &str, exchange: &str, message: &Routed<'_>) -> Result<Route, NoExchange> {
        let topology = self.0.image.borrow().topology.clone();
        topology.vhost(vhost).ok_or(NoExchange)?.route(exchange, message)
    }
}
