//! AlterConfigs and IncrementalAlterConfigs (KIP-339) of topics, nodes and the cluster's defaults.
//! Invariant: only values that `config` accepts enter the image; a resource changes wholly or not at all.

use std::collections::BTreeSet;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::check;
use crate::config::{self, Key, Kind};
use crate::controller::image::Configs;
use crate::controller::topics::unknown_topic;
use crate::controller::{Code, Error, Image, Topic};
use crate::ids::NodeId;

/// What has configs.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum ConfigResource {
    /// A topic, by name.
    Topic(String),
    /// The broker defaults of the whole cluster (Kafka: broker resource with an empty name).
    Cluster,
    /// One node.
    Node(NodeId),
}

/// The command: each resource has these values and no others afterwards.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AlterConfigs {
    /// Values by resource.
    pub changes: Vec<(ConfigResource, Configs)>,
    /// Only check.
    pub validate_only: bool,
}

/// The command: each resource is changed by these steps.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct IncrementalAlterConfigs {
    /// Steps by resource.
    pub changes: Vec<IncrementalChange>,
    /// Only check.
    pub validate_only: bool,
}

/// Steps for one resource.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct IncrementalChange {
    /// Which.
    pub resource: ConfigResource,
    /// In order.
    pub ops: Vec<ConfigOp>,
}

/// One step.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConfigOp {
    /// The key.
    pub key: String,
    /// What to do.
    pub kind: OpKind,
    /// With what; not needed to delete.
    pub value: Option<String>,
}

/// One key that was changed, or that its resource no longer sets.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConfigChange {
    /// Version of the image it made.
    pub version: u64,
    /// When, ms since 1970.
    pub at_ms: i64,
    /// Whose.
    pub resource: ConfigResource,
    /// The key.
    pub key: String,
    /// What the resource had set; none if nothing.
    pub before: Option<String>,
    /// What it has set since; none if nothing.
    pub after: Option<String>,
}

/// Changes that are remembered.
const CHANGES_MAX: usize = 256;
/// Of a value, characters that are remembered.
const REMEMBERED_MAX: usize = 256;

/// Kafka's AlterConfigOp.OpType; the numbers are those of the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[repr(i8)]
pub enum OpKind {
    /// The value is this.
    Set = 0,
    /// Back to the default.
    Delete = 1,
    /// Add words to a list.
    Append = 2,
    /// Take words from a list.
    Subtract = 3,
}

impl OpKind {
    /// The kind of this number on Kafka's wire.
    pub const fn from_kafka(number: i8) -> Option<Self> {
        match number {
            0 => Some(OpKind::Set),
            1 => Some(OpKind::Delete),
            2 => Some(OpKind::Append),
            3 => Some(OpKind::Subtract),
            _ => None,
        }
    }

    const fn word(self) -> &'static str {
        match self {
            OpKind::Set => "set",
            OpKind::Delete => "delete",
            OpKind::Append => "append",
            OpKind::Subtract => "subtract",
        }
    }
}

fn invalid(message: impl Into<String>) -> Error {
    Error::new(Code::InvalidConfig, message)
}

impl ConfigResource {
    fn key(&self, name: &str) -> Result<&'static Key, Error> {
        match self {
            ConfigResource::Topic(_) => {
                config::topic_key(name).ok_or_else(|| invalid(format!("Unknown topic config name: {name}")))
            }
            _ => config::broker_key(name).ok_or_else(|| invalid(format!("Unknown broker config name: {name}"))),
        }
    }
}

impl Image {
    pub(super) fn alter_configs(&mut self, alter: AlterConfigs, now_ms: i64) -> Vec<Result<(), Error>> {
        let replace = |(resource, configs)| self.replace_configs(&resource, configs, now_ms);
        alter.changes.into_iter().map(replace).collect()
    }

    pub(super) fn incremental_alter_configs(
        &mut self,
        alter: IncrementalAlterConfigs,
        now_ms: i64,
    ) -> Vec<Result<(), Error>> {
        alter.changes.iter().map(|change| self.step_configs(change, now_ms)).collect()
    }

    fn step_configs(&mut self, change: &IncrementalChange, now_ms: i64) -> Result<(), Error> {
        let mut configs = self.configs_of(&change.resource)?.clone();
        for op in &change.ops {
            self.step(&change.resource, op, &mut configs)?;
        }
        self.replace_configs(&change.resource, configs, now_ms)
    }

    fn step(&self, resource: &ConfigResource, op: &ConfigOp, configs: &mut Configs) -> Result<(), Error> {
        let key = resource.key(&op.key)?;
        if op.kind == OpKind::Delete {
            configs.remove(&op.key);
            return Ok(());
        }
        let value = op.value.as_deref().ok_or_else(|| invalid(format!("No value was given for {}", op.key)))?;
        if op.kind != OpKind::Set && key.kind != Kind::List {
            let message = format!("Config value {} is not allowed for config key: {}", op.kind.word(), op.key);
            return Err(invalid(message));
        }
        let changed = match op.kind {
            OpKind::Append | OpKind::Subtract => {
                let current = configs.get(&op.key).cloned().unwrap_or_else(|| self.inherited(resource, key));
                let mut words: Vec<&str> = config::split(&current).collect();
                for word in config::split(value) {
                    words.retain(|known| *known != word);
                    words.extend((op.kind == OpKind::Append).then_some(word));
                }
                words.join(",")
            }
            _ => value.to_owned(),
        };
        configs.insert(op.key.clone(), changed);
        Ok(())
    }

    /// The value that a list has before it is appended to, when the resource itself sets none.
    fn inherited(&self, resource: &ConfigResource, key: &Key) -> String {
        let broker_name = if matches!(resource, ConfigResource::Topic(_)) { key.broker_name } else { key.name };
        match broker_name {
            "" => key.default.unwrap_or_default().to_owned(),
            name => self.broker_value(name, None).to_owned(),
        }
    }

    /// What a resource sets itself.
    ///
    /// # Errors
    /// There is no such resource.
    pub fn configs_of(&self, resource: &ConfigResource) -> Result<&Configs, Error> {
        static NONE: Configs = Configs::new();
        match resource {
            ConfigResource::Topic(name) => Ok(&self.topic(name).ok_or_else(|| unknown_topic(name))?.configs),
            ConfigResource::Cluster => Ok(&self.settings.cluster),
            ConfigResource::Node(id) if self.nodes.contains_key(id) => Ok(self.settings.nodes.get(id).unwrap_or(&NONE)),
            ConfigResource::Node(id) => {
                Err(Error::new(Code::NodeNotRegistered, format!("No broker with id {id} found.")))
            }
        }
    }

    fn replace_configs(&mut self, resource: &ConfigResource, configs: Configs, now_ms: i64) -> Result<(), Error> {
        let current = self.configs_of(resource)?;
        for (name, value) in &configs {
            let key = resource.key(name)?;
            if current.get(name) != Some(value) {
                key.check(value).map_err(invalid)?;
            }
        }
        let current = current.clone();
        self.remember_changes(resource, &current, &configs, now_ms);
        match resource {
            ConfigResource::Topic(name) => {
                let topic = self.topic(name).ok_or_else(|| unknown_topic(name))?;
                let changed = Topic { configs, ..Topic::clone(topic) };
                self.put_topic(changed);
            }
            ConfigResource::Cluster => Arc::make_mut(&mut self.settings).cluster = configs,
            ConfigResource::Node(id) => drop(Arc::make_mut(&mut self.settings).nodes.insert(*id, configs)),
        }
        check!(self.configs_of(resource).is_ok(), TopicIndexesAgree, "{resource:?} vanished");
        Ok(())
    }

    /// Notes each key that is not what it was; the oldest notes go.
    fn remember_changes(&mut self, resource: &ConfigResource, before: &Configs, after: &Configs, now_ms: i64) {
        let version = self.version + 1;
        let changes = &mut Arc::make_mut(&mut self.settings).changes;
        let keys: BTreeSet<&String> = before.keys().chain(after.keys()).collect();
        for name in keys.into_iter().filter(|name| before.get(*name) != after.get(*name)) {
            let shown = |configs: &Configs| match resource.key(name) {
                Ok(key) if key.is_sensitive() => configs.get(name).map(|_| "[hidden]".to_owned()),
                _ => configs.get(name).map(|value| value.chars().take(REMEMBERED_MAX).collect()),
            };
            let (before, after) = (shown(before), shown(after));
            let (resource, key) = (resource.clone(), name.clone());
            changes.push_back(ConfigChange { version, at_ms: now_ms, resource, key, before, after });
        }
        let excess = changes.len().saturating_sub(CHANGES_MAX);
        changes.drain(..excess);
    }
}
