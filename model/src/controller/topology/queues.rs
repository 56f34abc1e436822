//! Queues: declared with their topic, deleted with what leads to them. Invariant: a queue has one topic of one partition, which no
//! other has; a topic that was there before the queue stays behind it.

use std::sync::Arc;

use super::error::quoted;
use super::name::{check_name, check_reserved, derived_topic_name, is_topic_name};
use super::{EntityKind, NewQueue, Owner, Queue, QueueSpec, TopologyError, size_of};
use crate::check;
use crate::controller::placement::Terms;
use crate::controller::topics::{CreateTopics, NewTopic};
use crate::controller::{Code, Duty, Error, Image, Topic};
use crate::exchange::{Args, Destination};
use crate::ids::{NodeId, TopicId};
use crate::limits;

impl QueueSpec {
    fn check_same(&self, wanted: &QueueSpec, name: &str, vhost: &str) -> Result<(), TopologyError> {
        if self.exclusive != wanted.exclusive && self.exclusive.is_some() {
            return Err(TopologyError::Locked { name: name.to_owned(), vhost: vhost.to_owned() });
        }
        let entity = (EntityKind::Queue, name, vhost);
        let differ = |arg: &str, has: String, wants: String| Err(TopologyError::not_equal(entity, arg, has, wants));
        let flags = |spec: &QueueSpec| {
            [("durable", spec.durable), ("exclusive", spec.exclusive.is_some()), ("auto_delete", spec.auto_delete)]
        };
        for ((arg, has), (_, wants)) in flags(self).into_iter().zip(flags(wanted)) {
            if has != wants {
                return differ(arg, format!("'{has}'"), format!("'{wants}'"));
            }
        }
        let (has, wants) = (self.arguments.named(), wanted.arguments.named());
        match has.keys().chain(wants.keys()).find(|arg| has.get(*arg) != wants.get(*arg)) {
            Some(arg) => differ(arg, quoted(has.get(arg)), quoted(wants.get(arg))),
            None => Ok(()),
        }
    }

    fn size(&self) -> usize {
        let named = self.arguments.named().into_iter();
        size_of(&named.map(|(name, value)| (name.to_owned(), value)).collect::<Args>())
    }
}

impl Image {
    pub(super) fn declare_queue(&mut self, vhost: &str, new: NewQueue, terms: &Terms) -> Result<bool, TopologyError> {
        let NewQueue { name, spec, topic, server_named } = new;
        let known = self.topology.vhost(vhost).ok_or_else(|| TopologyError::none(EntityKind::Vhost, vhost, vhost))?;
        if let Some(queue) = known.queue(&name) {
            return queue.spec.check_same(&spec, &name, vhost).map(|()| false);
        }
        check_name(&name)?;
        if name.is_empty() {
            return Err(TopologyError::Precondition("a queue needs a name".to_owned()));
        }
        if !server_named {
            check_reserved(EntityKind::Queue, &name, vhost)?;
        }
        if spec.size() > limits::ARGUMENT_BYTES_MAX {
            return Err(TopologyError::Limit(format!("arguments above {} bytes", limits::ARGUMENT_BYTES_MAX)));
        }
        // A declaration is repeated when its answer was lost: it does not bring back what was deleted since.
        if self.was_deleted(topic) {
            return Ok(false);
        }
        let (made_topic, topic) = self.topic_for(vhost, &name, topic, &spec, terms)?;
        let partition_group = topic.partitions.first().map(|partition| partition.group);
        let none = || TopologyError::Precondition(format!("topic '{}' has no partition", topic.name));
        let partition_group = partition_group.ok_or_else(none)?;
        let vhost = vhost.to_owned();
        self.put_queue(Queue { vhost, name, spec, topic: topic.id, partition_group, made_topic });
        Ok(true)
    }

    fn put_queue(&mut self, queue: Queue) {
        let topology = Arc::make_mut(&mut self.topology);
        let queue = Arc::new(queue);
        let other = Arc::make_mut(&mut topology.by_topic).insert(queue.topic, queue.clone());
        check!(other.is_none(), TopologyWhole, "{other:?} has the topic of {}", queue.name);
        if let Ok(vhost) = topology.vhost_mut(&queue.vhost) {
            Arc::make_mut(&mut vhost.queues).insert(Arc::from(queue.name.as_str()), queue);
        }
    }

    /// The topic that the queue gets, and whether it was made for it.
    fn topic_for(
        &mut self,
        vhost: &str,
        queue: &str,
        id: TopicId,
        spec: &QueueSpec,
        terms: &Terms,
    ) -> Result<(bool, Arc<Topic>), TopologyError> {
        let own = is_topic_name(vhost, queue);
        if let Some(topic) = self.topic(queue).filter(|_| own) {
            return self.check_topic(topic).map(|()| (false, topic.clone()));
        }
        let named = if own { queue.to_owned() } else { derived_topic_name(vhost, queue) };
        match self.make_topic(named, id, spec, terms) {
            // Another topic differs in '.' and '_' only: for queues these are two names.
            Err(error) if own && error.code == Code::InvalidTopic => {
                self.make_topic(derived_topic_name(vhost, queue), id, spec, terms)
            }
            made => made,
        }
        .map(|topic| (true, topic))
        .map_err(|error| TopologyError::Limit(format!("queue '{queue}' in vhost '{vhost}': {error}")))
    }

    /// Whether a topic that is there can be a queue.
    fn check_topic(&self, topic: &Topic) -> Result<(), TopologyError> {
        let name = &topic.name;
        if topic.partitions.len() != 1 {
            let count = topic.partitions.len();
            let why = format!("topic '{name}' has {count} partitions: only one of a single partition can be a queue");
            return Err(TopologyError::Precondition(why));
        }
        match self.queue_of_topic(topic.id) {
            Some(other) => Err(TopologyError::Precondition(format!("topic '{name}' is of queue '{}'", other.name))),
            None => Ok(()),
        }
    }

    /// What ends with its connection, and so with the connection's node, has its one replica there.
    fn make_topic(&mut self, name: String, id: TopicId, spec: &QueueSpec, terms: &Terms) -> Result<Arc<Topic>, Error> {
        let mut topic = NewTopic::named(name, id);
        let here = spec.exclusive.map(|owner| owner.node);
        match here.filter(|node| self.nodes.contains_key(node) && self.duty(*node) != Some(Duty::Leaving)) {
            Some(node) => drop(topic.assignments.insert(0, vec![node])),
            None => topic.partitions = 1,
        }
        let create = CreateTopics { topics: vec![topic], validate_only: false, auto: false };
        self.create_topics(create, terms).into_iter().next().transpose()?;
        let lost = || Error::new(Code::InvalidRequest, "the topic was not made");
        self.topic_by_id(id).cloned().ok_or_else(lost)
    }

    /// Only the queue of `topic`, if one is named.
    pub(super) fn delete_queue(
        &mut self,
        vhost: &str,
        name: &str,
        topic: Option<TopicId>,
    ) -> Result<bool, TopologyError> {
        let none = |kind| TopologyError::none(kind, name, vhost);
        let known = self.topology.vhost(vhost).ok_or_else(|| TopologyError::none(EntityKind::Vhost, vhost, vhost))?;
        let queue = known.queue(name).filter(|queue| topic.is_none_or(|topic| topic == queue.topic));
        let queue = queue.cloned().ok_or_else(|| none(EntityKind::Queue))?;
        let made = self.topic_by_id(queue.topic).filter(|_| queue.made_topic).cloned();
        self.forget_queue(&queue);
        if let Some(topic) = made {
            self.remove_topic(&topic);
        }
        Ok(true)
    }

    /// Takes a queue out, with what leads to it; its topic stays.
    fn forget_queue(&mut self, queue: &Queue) {
        let topology = Arc::make_mut(&mut self.topology);
        Arc::make_mut(&mut topology.by_topic).remove(&queue.topic);
        if let Ok(vhost) = topology.vhost_mut(&queue.vhost) {
            Arc::make_mut(&mut vhost.queues).remove(queue.name.as_str());
            vhost.remove_bindings_to(&Destination::Queue(queue.name.clone()));
        }
    }

    /// A topic goes, and with it the queue that lives in it.
    pub(in crate::controller) fn forget_queue_of(&mut self, topic: TopicId) {
        if let Some(queue) = self.queue_of_topic(topic).cloned() {
            self.forget_queue(&queue);
            self.check_topology(&queue.vhost);
        }
    }

    pub(super) fn drop_owned(&mut self, vhost: &str, node: NodeId, but: Option<u64>) -> Result<bool, TopologyError> {
        let known = self.topology.vhost(vhost).ok_or_else(|| TopologyError::none(EntityKind::Vhost, vhost, vhost))?;
        let goes = |owner: Owner| owner.node == node && but != Some(owner.boot);
        let gone: Vec<_> =
            known.queues.values().filter(|queue| queue.spec.exclusive.is_some_and(goes)).cloned().collect();
        for queue in &gone {
            self.delete_queue(vhost, &queue.name, Some(queue.topic))?;
        }
        Ok(!gone.is_empty())
    }
}

/// A queue has one partition for ever.
pub(in crate::controller) fn refuse_growth(image: &Image, topic: &Topic) -> Result<(), Error> {
    match image.queue_of_topic(topic.id) {
        Some(queue) => {
            let message = format!("Topic '{}' is of queue '{}', which has one partition.", topic.name, queue.name);
            Err(Error::new(Code::InvalidPartitions, message))
        }
        None => Ok(()),
    }
}
