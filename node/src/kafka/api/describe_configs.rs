//! DescribeConfigs (32): every key with its value, source and type, so that read-modify-write of configs loses nothing.
use model::config::Kind;
use model::controller::image::Configs;
use model::controller::{ConfigResource, Described, Image};
use wire::kafka::messages::describe_configs::{
    DescribeConfigsResource, DescribeConfigsResourceResult, DescribeConfigsResult, DescribeConfigsSynonym,
};
use wire::kafka::messages::{DescribeConfigsRequest, DescribeConfigsResponse};
use wire::kafka::{ErrorCode, Str};

use super::configs::{resource, statics};
use crate::broker::Broker;
use crate::kafka::Call;
use crate::kafka::errors::Refusal;

/// What the client wants to see of each key.
#[derive(Clone, Copy)]
struct Detail {
    synonyms: bool,
    documentation: bool,
}

/// Answers every version.
pub(in crate::kafka) async fn answer(call: Call, request: DescribeConfigsRequest) -> DescribeConfigsResponse {
    let (image, statics) = (call.broker().image(), statics(call.broker().config()));
    let detail = Detail { synonyms: request.include_synonyms, documentation: request.include_documentation };
    let describe = |asked: DescribeConfigsResource| {
        let found = find(call.broker(), &image, &statics, &asked);
        result(asked, found, detail)
    };
    DescribeConfigsResponse { results: request.resources.into_iter().map(describe).collect(), ..Default::default() }
}

fn find(
    broker: &Broker,
    image: &Image,
    statics: &Configs,
    asked: &DescribeConfigsResource,
) -> Result<Vec<Described>, Refusal> {
    let this = broker.node_id();
    match resource(asked.resource_type, asked.resource_name.as_str())? {
        ConfigResource::Topic(name) => match image.topic(&name) {
            Some(topic) => Ok(image.describe_topic(topic, Some(this), statics)),
            None => Err(unknown_topic(&name)),
        },
        ConfigResource::Cluster => Ok(image.describe_broker(None, &Configs::new())),
        ConfigResource::Node(id) if id == this => Ok(image.describe_broker(Some(id), statics)),
        ConfigResource::Node(id) => {
            let words = format!("Unexpected broker id, expected {this} or empty string, but received {id}");
            Err(Refusal::new(ErrorCode::InvalidRequest, words))
        }
    }
}

fn unknown_topic(name: &str) -> Refusal {
    match model::controller::topics::check_topic_name(name) {
        Ok(()) => Refusal::new(ErrorCode::UnknownTopicOrPartition, format!("The topic '{name}' does not exist.")),
        Err(error) => Refusal::new(ErrorCode::InvalidTopic, error.message),
    }
}

fn result(
    asked: DescribeConfigsResource,
    found: Result<Vec<Described>, Refusal>,
    detail: Detail,
) -> DescribeConfigsResult {
    let mut result = DescribeConfigsResult {
        resource_type: asked.resource_type,
        resource_name: asked.resource_name,
        ..Default::default()
    };
    match found {
        Ok(described) => {
            let keys = asked.configuration_keys.filter(|keys| !keys.is_empty());
            let wanted = |name: &str| keys.as_ref().is_none_or(|keys| keys.iter().any(|key| key.as_str() == name));
            let described = described.into_iter().filter(|described| wanted(described.key.name));
            result.configs = described.map(|described| entry(described, detail)).collect();
        }
        Err(refusal) => {
            result.error_code = refusal.code.code();
            result.error_message = refusal.text();
        }
    }
    result
}

fn entry(described: Described, detail: Detail) -> DescribeConfigsResourceResult {
    let key = described.key;
    let synonym = |synonym: model::controller::Synonym| DescribeConfigsSynonym {
        name: Str::from_static(synonym.name),
        value: synonym.value.map(Str::from),
        source: synonym.source as i8,
        ..Default::default()
    };
    DescribeConfigsResourceResult {
        name: Str::from_static(key.name),
        value: described.value.map(Str::from),
        read_only: key.is_read_only(),
        config_source: described.source as i8,
        is_sensitive: key.is_sensitive(),
        synonyms: if detail.synonyms { described.synonyms.into_iter().map(synonym).collect() } else { Vec::new() },
        config_type: kind(key.kind),
        documentation: detail.documentation.then(|| key.documentation().into()),
        ..Default::default()
    }
}

/// Kafka's ConfigEntry.ConfigType on the wire.
fn kind(kind: Kind) -> i8 {
    match kind {
        Kind::Boolean => 1,
        Kind::String => 2,
        Kind::Int => 3,
        Kind::Long => 5,
        Kind::Double => 6,
        Kind::List => 7,
        Kind::Class => 8,
        Kind::Password => 9,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use model::controller::Topic;

    const PLAIN: Detail = Detail { synonyms: false, documentation: false };

    fn asked(keys: Option<&[&'static str]>) -> DescribeConfigsResource {
        let configuration_keys = keys.map(|keys| keys.iter().map(|key| Str::from_static(key)).collect());
        DescribeConfigsResource { resource_type: 2, configuration_keys, ..Default::default() }
    }

    fn described() -> Vec<Described> {
        let configs = Configs::from([("max.message.bytes".to_owned(), "77".to_owned())]);
        let topic = Topic { id: model::TopicId([1; 16]), name: "t".into(), configs, partitions: Vec::new() };
        Image::default().describe_topic(&topic, None, &Configs::new())
    }

    #[test]
    fn all_keys_come_unless_some_are_named() {
        let all = result(asked(None), Ok(described()), PLAIN).configs.len();
        assert_eq!(all, model::config::TOPIC_KEYS.len());
        assert_eq!(result(asked(Some(&[])), Ok(described()), PLAIN).configs.len(), all);
        let one = result(asked(Some(&["retention.ms", "no.such.key"])), Ok(described()), PLAIN).configs;
        assert_eq!(one.iter().map(|entry| entry.name.as_str()).collect::<Vec<_>>(), ["retention.ms"]);
    }

    #[test]
    fn a_value_says_where_it_comes_from() {
        let detail = Detail { synonyms: true, documentation: true };
        let configs = result(asked(Some(&["max.message.bytes"])), Ok(described()), detail).configs;
        let [entry] = configs.as_slice() else { panic!("one key") };
        assert_eq!(entry.value.as_ref().map(Str::as_str), Some("77"));
        assert_eq!((entry.config_source, entry.config_type), (1, 3));
        let synonyms: Vec<_> = entry.synonyms.iter().map(|s| (s.name.as_str(), s.source)).collect();
        assert_eq!(synonyms, [("max.message.bytes", 1), ("message.max.bytes", 5)]);
        assert!(entry.documentation.is_some());
    }
}
