//! What the four config APIs share: Kafka's resource types, and this node's own config file as Kafka keys.
use model::NodeId;
use model::controller::image::Configs;
use model::controller::{Command, ConfigResource, Outcome};
use wire::kafka::{ErrorCode, Str};

use super::control::{self, PATIENCE, refuse_twice};
use crate::config::Config;
use crate::kafka::Call;
use crate::kafka::errors::Refusal;

/// Kafka's ConfigResource.Type on the wire.
pub(super) const TOPIC: i8 = 2;
/// A node, or all of them by the empty name.
pub(super) const BROKER: i8 = 4;
/// Log levels of a node.
pub(super) const BROKER_LOGGER: i8 = 8;
/// Telemetry subscriptions.
pub(super) const CLIENT_METRICS: i8 = 16;
/// Consumer groups.
pub(super) const GROUP: i8 = 32;

/// The resource of a request.
pub(super) fn resource(kind: i8, name: &str) -> Result<ConfigResource, Refusal> {
    match kind {
        TOPIC => Ok(ConfigResource::Topic(name.to_owned())),
        BROKER if name.is_empty() => Ok(ConfigResource::Cluster),
        BROKER => match name.parse() {
            Ok(id) => Ok(ConfigResource::Node(NodeId(id))),
            Err(_) => {
                let words = format!("Node id must be an integer, but it is: {name}");
                Err(Refusal::new(ErrorCode::InvalidRequest, words))
            }
        },
        BROKER_LOGGER | CLIENT_METRICS | GROUP => {
            let words = format!("resources of type {kind} have no configs here");
            Err(Refusal::new(ErrorCode::InvalidRequest, words))
        }
        _ => Err(Refusal::new(ErrorCode::InvalidRequest, format!("Unsupported resource type: {kind}"))),
    }
}

/// What to change, by resource type and name as sent.
pub(super) type Asked<A> = ((i8, String), A);

/// Changes several resources by one command: `change` says what each one's part of it is. Answers with type, name and
/// the refusal, if any, of each resource in its place.
pub(super) async fn alter<A, T>(
    call: &Call,
    asked: Vec<Asked<A>>,
    change: impl Fn(ConfigResource, A) -> Result<T, Refusal>,
    command: impl FnOnce(Vec<T>) -> Command,
) -> Vec<(i8, Str, Option<Refusal>)> {
    let names: Vec<(i8, Str)> = asked.iter().map(|((kind, name), _)| (*kind, name.clone().into())).collect();
    let items = refuse_twice(asked, |(kind, name)| format!("Resource '{name}' of type {kind} is there twice."));
    let items = items.into_iter().map(|item| {
        let ((kind, name), asked) = item?;
        change(resource(kind, &name)?, asked)
    });
    let results = control::each(call, PATIENCE, items.collect(), command, |outcome| match outcome {
        Outcome::Each(results) => Some(results),
        _ => None,
    });
    let results = results.await;
    names.into_iter().zip(results).map(|((kind, name), result)| (kind, name, result.err())).collect()
}

/// The settings of the node's own config file, by the names that Kafka has for them.
pub(super) fn statics(config: &Config) -> Configs {
    let kafka = &config.listeners.kafka;
    let bound = kafka.bind.to_string();
    let advertised = kafka.advertise.clone().unwrap_or_else(|| bound.clone());
    let mut statics = Configs::from([
        ("node.id".to_owned(), config.node_id.to_string()),
        ("process.roles".to_owned(), "broker,controller".to_owned()),
        ("log.dirs".to_owned(), config.data.display().to_string()),
        ("listeners".to_owned(), format!("PLAINTEXT://{bound}")),
        ("advertised.listeners".to_owned(), format!("PLAINTEXT://{advertised}")),
        ("log.retention.check.interval.ms".to_owned(), config.storage.retention_check.as_millis().to_string()),
        ("replica.lag.time.max.ms".to_owned(), config.raft.replica_lag_max.as_millis().to_string()),
    ]);
    if let Some(rack) = &config.rack {
        statics.insert("broker.rack".to_owned(), rack.clone());
    }
    if !config.auto_create.enabled {
        statics.insert("auto.create.topics.enable".to_owned(), "false".to_owned());
    }
    statics
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn resources_are_named_as_in_kafka() {
        assert_eq!(resource(TOPIC, "t"), Ok(ConfigResource::Topic("t".into())));
        assert_eq!(resource(BROKER, ""), Ok(ConfigResource::Cluster));
        assert_eq!(resource(BROKER, "2"), Ok(ConfigResource::Node(NodeId(2))));
        for (kind, name) in [(BROKER, "two"), (BROKER, "-1"), (GROUP, "g"), (BROKER_LOGGER, "1"), (0, ""), (-7, "x")] {
            assert_eq!(resource(kind, name).unwrap_err().code, ErrorCode::InvalidRequest, "{kind} {name}");
        }
    }
}
