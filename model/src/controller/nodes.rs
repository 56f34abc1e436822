//! RegisterNode, UpdateNode and the founding of the cluster.
//! Invariant: a node id belongs to one data folder, and a data folder to one node id. A lost one is replaced by an empty one only
//! when its node is dead and no partition loses its majority; it never comes back.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::check;
use crate::controller::placement::Terms;
use crate::controller::{Code, Error, Image, Node, Outcome, Topic};
use crate::ids::{NodeId, StoreId};
use crate::limits;
use crate::planted::{self, Bug};

/// Where one listener of a node is reached.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Endpoint {
    /// Host name or address; empty: the address a client itself connected to.
    pub host: String,
    /// TCP port.
    pub port: u16,
}

/// What a node says of itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Registration {
    /// Its number, from 1.
    pub id: NodeId,
    /// Its data folder.
    pub store: StoreId,
    /// By listener name.
    pub listeners: BTreeMap<String, Endpoint>,
    /// Its rack.
    pub rack: Option<String>,
}

impl Registration {
    fn validate(&self) -> Result<(), Error> {
        let refuse = |message: String| Err(Error::new(Code::InvalidRequest, message));
        if self.id.0 == 0 || i32::try_from(self.id.0).is_err() {
            return refuse(format!("node id {} is not from 1 to {}", self.id, i32::MAX));
        }
        if self.listeners.len() > limits::LISTENERS_PER_NODE_MAX {
            return refuse(format!("node {} has more than {} listeners", self.id, limits::LISTENERS_PER_NODE_MAX));
        }
        let hosts = self.listeners.iter().flat_map(|(name, endpoint)| [name, &endpoint.host]);
        match hosts.chain(&self.rack).find(|name| name.len() > limits::NAME_BYTES_MAX) {
            Some(name) => refuse(format!("a name of node {} has {} bytes", self.id, name.len())),
            None => Ok(()),
        }
    }
}

impl Image {
    pub(super) fn found(&mut self, cluster_id: String, founders: u32) -> (bool, String) {
        let first = self.cluster_id.is_empty() && !cluster_id.is_empty() && cluster_id.len() <= limits::NAME_BYTES_MAX;
        if first {
            self.cluster_id = cluster_id;
            self.founders = founders;
        }
        (first, self.cluster_id.clone())
    }

    pub(super) fn register_node(&mut self, registration: Registration) -> (bool, Outcome) {
        let result = self.try_register(registration);
        let changed = matches!(result, Ok((true, _)));
        (changed, Outcome::Node(result.map(|(_, epoch)| epoch)))
    }

    pub(super) fn update_node(&mut self, registration: Registration) -> (bool, Outcome) {
        let result = match self.nodes.contains_key(&registration.id) {
            true => self.try_register(registration),
            false => Err(Error::new(Code::NodeNotRegistered, format!("node {} is not registered", registration.id))),
        };
        let changed = matches!(result, Ok((true, _)));
        (changed, Outcome::Node(result.map(|(_, epoch)| epoch)))
    }

    /// A registered node whose data folder is lost comes back with an empty one: it gets new replicas for all it had.
    pub(super) fn replace_store(&mut self, registration: Registration, terms: &Terms) -> (bool, Outcome) {
        let result = self.try_replace(registration, terms);
        (result.is_ok(), Outcome::Node(result))
    }

    fn try_replace(&mut self, registration: Registration, terms: &Terms) -> Result<u64, Error> {
        registration.validate()?;
        let (id, store) = (registration.id, registration.store);
        let refuse = |message: String| Err(Error::new(Code::DuplicateRegistration, message));
        let Some(known) = self.nodes.get(&id).cloned() else {
            return Err(Error::new(Code::NodeNotRegistered, format!("node {id} is not registered")));
        };
        if known.store == store {
            return Ok(known.epoch);
        }
        if let Some(other) = self.nodes.values().find(|node| node.store == store) {
            return refuse(format!("store {store} belongs to node {}: was the data folder copied?", other.id));
        }
        if !terms.dead.contains(&id) {
            return refuse(format!("node {id} runs with store {}: every node needs its own id", known.store));
        }
        let on_it = |topic: &&Arc<Topic>| topic.partitions.iter().any(|partition| partition.is_on(id));
        let topics: Vec<Arc<Topic>> = self.topics.values().filter(on_it).cloned().collect();
        for topic in &topics {
            if let Some(index) = topic.partitions.iter().position(|p| p.is_on(id) && !p.outlives(id)) {
                return refuse(format!(
                    "without its data folder partition {index} of topic '{}' has no majority",
                    topic.name
                ));
            }
        }
        for topic in topics {
            let mut changed = Topic::clone(&topic);
            for partition in &mut changed.partitions {
                partition.renew(id);
            }
            self.put_topic(changed);
        }
        let Registration { id, store, listeners, rack } = registration;
        let (epoch, incarnation) = (self.version + 1, known.incarnation + 1);
        self.nodes.insert(id, Arc::new(Node { id, store, listeners, rack, epoch, incarnation }));
        Ok(epoch)
    }

    fn try_register(&mut self, registration: Registration) -> Result<(bool, u64), Error> {
        registration.validate()?;
        let Registration { id, store, listeners, rack } = registration;
        if let Some(other) = self.nodes.values().find(|node| node.store == store && node.id != id) {
            let message = format!("store {store} belongs to node {}: was the data folder copied?", other.id);
            return Err(Error::new(Code::DuplicateRegistration, message));
        }
        if self.retired.has(id, store) {
            let message =
                format!("node {id} was removed from the cluster: with an empty data folder it may join again");
            return Err(Error::new(Code::DuplicateRegistration, message));
        }
        let known = self.nodes.get(&id);
        let same = |known: &Node| known.store == store || planted::is(Bug::WipedDiskVotes);
        if let Some(known) = known.filter(|known| !same(known)) {
            let message = format!("node {id} is registered with store {}, not {store}", known.store);
            return Err(Error::new(Code::DuplicateRegistration, message));
        }
        if known.is_none() && self.nodes.len() >= limits::NODES_MAX {
            return Err(Error::new(Code::PolicyViolation, format!("the cluster has {} nodes", limits::NODES_MAX)));
        }
        let epoch = known.map_or(self.version + 1, |known| known.epoch);
        let incarnation = known.map_or_else(|| self.retired.next_incarnation(id), |known| known.incarnation);
        let node = Node { id, store, listeners, rack, epoch, incarnation };
        if known.is_some_and(|known| **known == node) {
            return Ok((false, epoch));
        }
        let old = self.nodes.insert(id, Arc::new(node));
        check!(old.is_none_or(|old| same(&old)), StoreNeverChanges, "node {id}");
        Ok((true, epoch))
    }
}
