//! The cluster's own settings: what each broker key is, who set it, and the changes that were made, for operators.
//! Kafka's config APIs describe and change the same.
use std::collections::BTreeMap;

use model::NodeId;
use model::controller::image::Configs;
use model::controller::{
    self, Code, Command, ConfigOp, ConfigResource, Described, IncrementalAlterConfigs, IncrementalChange, OpKind,
    Outcome, Source,
};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{Broker, Error};

/// One setting of the cluster.
#[derive(Clone, Debug, Deserialize, Serialize, ToSchema)]
pub struct Setting {
    /// Its name, as in Kafka.
    pub key: String,
    /// What holds on nodes that set nothing of their own.
    pub value: Option<String>,
    /// What holds where nobody set anything; nothing for what stands in a node's config file.
    pub default: Option<String>,
    /// Somebody set it for the whole cluster.
    pub set: bool,
    /// What nodes have set for themselves alone.
    pub nodes: BTreeMap<u32, String>,
    /// It stands in the config file of each node and cannot be changed here.
    pub read_only: bool,
    /// What it does.
    pub documentation: String,
}

/// Keys to change, together or not at all.
#[derive(Clone, Debug, Default, Deserialize, Serialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
pub struct SettingsChange {
    /// On this node alone.
    pub node: Option<u32>,
    /// Values by key.
    pub set: BTreeMap<String, String>,
    /// Keys that go back to what holds without them.
    pub unset: Vec<String>,
    /// Only say what would change.
    pub dry_run: bool,
}

/// A key that was changed.
#[derive(Clone, Debug, Deserialize, Serialize, ToSchema)]
pub struct SettingChanged {
    /// When, milliseconds since 1970.
    pub at_ms: i64,
    /// `cluster`, `node N` or `topic NAME`.
    pub of: String,
    /// The key.
    pub key: String,
    /// What was set; nothing if the default held.
    pub before: Option<String>,
    /// What is set since.
    pub after: Option<String>,
}

/// Why settings stay as they are.
#[derive(Debug)]
pub enum NotSet {
    /// The controller refuses.
    Refused(controller::Error),
    /// Nobody could be asked.
    Broker(Error),
}

impl Broker {
    /// Every broker key, by name.
    pub fn settings(&self) -> Vec<Setting> {
        let image = self.image();
        let described = image.describe_broker(None, &Configs::new());
        let of_nodes = |key: &str| {
            let of_node = |(node, configs): (&NodeId, &Configs)| Some((node.0, configs.get(key)?.clone()));
            image.settings.nodes.iter().filter_map(of_node).collect()
        };
        described
            .into_iter()
            .map(|Described { key, value, source, .. }| Setting {
                key: key.name.to_owned(),
                value,
                default: key.default.map(str::to_owned),
                set: source == Source::Cluster,
                nodes: of_nodes(key.name),
                read_only: key.is_read_only(),
                documentation: key.documentation(),
            })
            .collect()
    }

    /// The changes that are remembered, of topics too; the latest first.
    pub fn settings_changes(&self) -> Vec<SettingChanged> {
        let told = |change: &controller::ConfigChange| SettingChanged {
            at_ms: change.at_ms,
            of: match &change.resource {
                ConfigResource::Cluster => "cluster".to_owned(),
                ConfigResource::Node(node) => format!("node {node}"),
                ConfigResource::Topic(name) => format!("topic {name}"),
            },
            key: change.key.clone(),
            before: change.before.clone(),
            after: change.after.clone(),
        };
        self.image().settings.changes.iter().rev().map(told).collect()
    }

    /// Changes settings; tells which are not what they were.
    ///
    /// # Errors
    /// A key or a value is refused, or the controller cannot be reached; then nothing is changed.
    pub async fn change_settings(&self, change: SettingsChange) -> Result<Vec<SettingChanged>, NotSet> {
        if let Some(key) = change.unset.iter().find(|key| change.set.contains_key(*key)) {
            let message = format!("{key} is to be set and unset");
            return Err(NotSet::Refused(controller::Error { code: Code::InvalidRequest, message }));
        }
        let resource = change.node.map_or(ConfigResource::Cluster, |node| ConfigResource::Node(NodeId(node)));
        let set = |(key, value): (&String, &String)| ConfigOp {
            key: key.clone(),
            kind: OpKind::Set,
            value: Some(value.clone()),
        };
        let unset = |key: &String| ConfigOp { key: key.clone(), kind: OpKind::Delete, value: None };
        let ops: Vec<_> = change.set.iter().map(set).chain(change.unset.iter().map(unset)).collect();
        let before = self.image().configs_of(&resource).map_err(NotSet::Refused)?.clone();
        let changed: Vec<_> = ops.iter().filter(|op| before.get(&op.key) != op.value.as_ref()).cloned().collect();
        let changes = vec![IncrementalChange { resource: resource.clone(), ops }];
        let command = IncrementalAlterConfigs { changes, validate_only: change.dry_run };
        let reply = self.control(Command::IncrementalAlterConfigs(command)).await.map_err(NotSet::Broker)?;
        match reply.outcome {
            Outcome::Each(mut each) if each.len() == 1 => each.remove(0).map_err(NotSet::Refused)?,
            other => return Err(NotSet::Broker(Error::Unavailable(format!("unexpected outcome {other:?}")))),
        }
        let of = change.node.map_or_else(|| "cluster".to_owned(), |node| format!("node {node}"));
        let at_ms = self.0.clock.wall_ms();
        let told = |op: ConfigOp| SettingChanged {
            at_ms,
            of: of.clone(),
            before: before.get(&op.key).cloned(),
            key: op.key,
            after: op.value,
        };
        Ok(changed.into_iter().map(told).collect())
    }
}
