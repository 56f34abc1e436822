//! What a config value is, and where it comes from: Kafka's DescribeConfigs and every reader of a setting.
//! Order of sources: topic, node, cluster default, the table's default; of a read-only key the node's config file.
//! Invariant: what is described is what is in force.

use crate::compaction;
use crate::config::{self, BROKER_KEYS, Key, TOPIC_KEYS};
use crate::controller::image::Configs;
use crate::controller::{Image, Topic};
use crate::ids::NodeId;
use crate::retention::Rules;

/// Kafka's ConfigSource; the numbers are those of the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(i8)]
pub enum Source {
    /// Set on the topic.
    Topic = 1,
    /// Set on the node by a command.
    Node = 2,
    /// Set for all nodes by a command.
    Cluster = 3,
    /// In the node's own config file.
    Static = 4,
    /// Nobody set it.
    Default = 5,
}

/// One value that stands behind another.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Synonym {
    /// The key it is set by.
    pub name: &'static str,
    /// The value; none if it must not be shown.
    pub value: Option<String>,
    /// Where it is set.
    pub source: Source,
}

/// One key of a resource.
#[derive(Clone, Debug, PartialEq)]
pub struct Described {
    /// Name, type, documentation.
    pub key: &'static Key,
    /// The value in force; none if null or not to be shown.
    pub value: Option<String>,
    /// Where the value in force is set.
    pub source: Source,
    /// All values, the one in force first.
    pub synonyms: Vec<Synonym>,
}

impl Image {
    /// Every key of a topic. `node` and `statics` are the answering node and its config file's values.
    pub fn describe_topic(&self, topic: &Topic, node: Option<NodeId>, statics: &Configs) -> Vec<Described> {
        let describe = |key: &'static Key| {
            let mut synonyms = Vec::new();
            push(&mut synonyms, key.name, topic.configs.get(key.name), Source::Topic, false);
            let broker = config::broker_key(key.broker_name);
            match broker {
                Some(broker) => self.push_broker(&mut synonyms, broker, node, statics),
                None => push(&mut synonyms, key.name, key.default, Source::Default, false),
            }
            described(key, synonyms)
        };
        TOPIC_KEYS.iter().map(describe).collect()
    }

    /// Every broker key; of the cluster's defaults without a `node`.
    pub fn describe_broker(&self, node: Option<NodeId>, statics: &Configs) -> Vec<Described> {
        let describe = |key: &'static Key| {
            let mut synonyms = Vec::new();
            self.push_broker(&mut synonyms, key, node, statics);
            described(key, synonyms)
        };
        BROKER_KEYS.iter().map(describe).collect()
    }

    fn push_broker(&self, to: &mut Vec<Synonym>, key: &'static Key, node: Option<NodeId>, statics: &Configs) {
        let hidden = key.is_sensitive();
        let of_node = node.and_then(|node| self.settings.nodes.get(&node)).and_then(|configs| configs.get(key.name));
        push(to, key.name, of_node, Source::Node, hidden);
        push(to, key.name, self.settings.cluster.get(key.name), Source::Cluster, hidden);
        let from_file = statics.get(key.name).filter(|_| key.is_read_only());
        push(to, key.name, from_file, Source::Static, hidden);
        push(to, key.name, key.default, Source::Default, hidden);
    }

    /// The value of a broker key on `node`, or for the whole cluster; empty where Kafka has null.
    pub fn broker_value(&self, name: &str, node: Option<NodeId>) -> &str {
        let of_node = node.and_then(|node| self.settings.nodes.get(&node)).and_then(|configs| configs.get(name));
        let set = of_node.or_else(|| self.settings.cluster.get(name)).map(String::as_str);
        set.or_else(|| config::broker_key(name).and_then(|key| key.default)).unwrap_or_default()
    }

    /// The value of a topic key on `node`; empty for a key that does not exist.
    pub fn topic_value<'a>(&'a self, topic: &'a Topic, name: &str, node: Option<NodeId>) -> &'a str {
        if let Some(value) = topic.configs.get(name) {
            return value;
        }
        match config::topic_key(name) {
            Some(key) if !key.broker_name.is_empty() => self.broker_value(key.broker_name, node),
            Some(key) => key.default.unwrap_or_default(),
            None => "",
        }
    }

    /// `max.message.bytes` of a topic.
    pub fn max_message_bytes(&self, topic: &Topic, node: Option<NodeId>) -> usize {
        self.topic_value(topic, "max.message.bytes", node).parse().unwrap_or(0)
    }

    /// Whether records of a topic get the time of append.
    pub fn is_log_append_time(&self, topic: &Topic, node: Option<NodeId>) -> bool {
        self.topic_value(topic, "message.timestamp.type", node) == "LogAppendTime"
    }

    /// Whether `cleanup.policy` of a topic names `policy`.
    pub fn cleans_up_by(&self, policy: &str, topic: &Topic, node: Option<NodeId>) -> bool {
        self.topic_value(topic, "cleanup.policy", node).split(',').any(|word| word.trim() == policy)
    }

    /// How long a topic keeps records.
    pub fn retention(&self, topic: &Topic, node: Option<NodeId>) -> Rules {
        let number = |name| self.topic_value(topic, name, node).parse().unwrap_or(-1);
        let limit = |name| if self.cleans_up_by("delete", topic, node) { number(name) } else { -1 };
        let lag_ms = self.compaction(topic, node).map_or(i64::MAX, |rules| rules.lag_ms_max / 4);
        let segment_ms = number("segment.ms").min(lag_ms);
        Rules::new(limit("retention.ms"), limit("retention.bytes"), segment_ms, number("segment.bytes"))
    }

    /// How a topic is compacted, if it is.
    pub fn compaction(&self, topic: &Topic, node: Option<NodeId>) -> Option<compaction::Rules> {
        let number = |name| self.topic_value(topic, name, node).parse().unwrap_or(0);
        self.cleans_up_by("compact", topic, node).then(|| compaction::Rules {
            dirty_ratio_min: self.topic_value(topic, "min.cleanable.dirty.ratio", node).parse().unwrap_or(0.5),
            lag_ms_min: number("min.compaction.lag.ms"),
            lag_ms_max: number("max.compaction.lag.ms"),
            tombstone_ms: number("delete.retention.ms"),
        })
    }

    /// Whether naming a topic makes it.
    pub fn auto_creates_topics(&self, node: Option<NodeId>) -> bool {
        self.broker_value("auto.create.topics.enable", node) == "true"
    }
}

fn push(to: &mut Vec<Synonym>, name: &'static str, value: Option<impl Into<String>>, source: Source, hidden: bool) {
    if let Some(value) = value {
        to.push(Synonym { name, value: (!hidden).then(|| value.into()), source });
    }
}

fn described(key: &'static Key, synonyms: Vec<Synonym>) -> Described {
    let value = synonyms.first().and_then(|first| first.value.clone());
    let source = synonyms.first().map_or(Source::Default, |first| first.source);
    Described { key, value, source, synonyms }
}
