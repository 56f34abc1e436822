//! Topic administration over the Kafka protocol.

use wire::kafka::ErrorCode;
use wire::kafka::messages::create_partitions::CreatePartitionsTopic;
use wire::kafka::messages::create_topics::{CreatableTopic, CreatableTopicConfig};
use wire::kafka::messages::delete_topics::DeleteTopicState;
use wire::kafka::messages::describe_configs::DescribeConfigsResource;
use wire::kafka::messages::incremental_alter_configs::{AlterConfigsResource, AlterableConfig};
use wire::kafka::messages::{
    CreatePartitionsRequest, CreateTopicsRequest, DeleteTopicsRequest, DescribeConfigsRequest,
    IncrementalAlterConfigsRequest,
};

use super::{Client, Error, text};

const TIMEOUT_MS: i32 = 15_000;
const TOPIC: i8 = 2;

/// One change of a topic's configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ConfigChange {
    /// Sets a key.
    Set(String, String),
    /// Back to the default.
    Unset(String),
}

/// One key of a topic's configuration.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct ConfigEntry {
    /// Kafka's name.
    pub name: String,
    /// Its value.
    pub value: Option<String>,
    /// Set on the topic itself, not inherited.
    pub own: bool,
}

fn code(code: i16) -> ErrorCode {
    ErrorCode::from_i16(code).unwrap_or(ErrorCode::UnknownServerError)
}

impl Client {
    /// Creates a topic; -1 takes the cluster's default.
    pub async fn create_topic(
        &self,
        name: &str,
        (partitions, replication): (i32, i16),
        configs: &[(String, String)],
    ) -> Result<(), Error> {
        let config = |(name, value): &(String, String)| CreatableTopicConfig {
            name: text(name),
            value: Some(text(value)),
            ..Default::default()
        };
        let topic = CreatableTopic {
            name: text(name),
            num_partitions: partitions,
            replication_factor: replication,
            configs: configs.iter().map(config).collect(),
            ..Default::default()
        };
        let request = CreateTopicsRequest { topics: vec![topic], timeout_ms: TIMEOUT_MS, ..Default::default() };
        let first = |error: Option<i16>| code(error.unwrap_or_default());
        let response = self.call(&request, |answer| first(answer.topics.first().map(|topic| topic.error_code))).await?;
        let answer = response.topics.first().ok_or(Error::NoLeader)?;
        Error::check_with(answer.error_code, answer.error_message.as_ref().map(|message| message.as_str()))
    }

    /// Deletes a topic and its records.
    pub async fn delete_topic(&self, name: &str) -> Result<(), Error> {
        let topic = DeleteTopicState { name: Some(text(name)), ..Default::default() };
        let request = DeleteTopicsRequest { topics: vec![topic], timeout_ms: TIMEOUT_MS, ..Default::default() };
        let response = self.any().await?.call(&request).await?;
        let answer = response.responses.first().ok_or(Error::NoLeader)?;
        if code(answer.error_code) == ErrorCode::UnknownTopicOrPartition {
            return Err(Error::UnknownTopic(name.to_owned()));
        }
        Error::check_with(answer.error_code, answer.error_message.as_ref().map(|message| message.as_str()))
    }

    /// Raises the number of partitions to `count`.
    pub async fn grow_topic(&self, name: &str, count: i32) -> Result<(), Error> {
        let topic = CreatePartitionsTopic { name: text(name), count, ..Default::default() };
        let request = CreatePartitionsRequest { topics: vec![topic], timeout_ms: TIMEOUT_MS, ..Default::default() };
        let response = self.any().await?.call(&request).await?;
        let answer = response.results.first().ok_or(Error::NoLeader)?;
        Error::check_with(answer.error_code, answer.error_message.as_ref().map(|message| message.as_str()))
    }

    /// Changes a topic's configuration.
    pub async fn alter_topic(&self, name: &str, changes: &[ConfigChange]) -> Result<(), Error> {
        let change = |change: &ConfigChange| match change {
            ConfigChange::Set(name, value) => AlterableConfig {
                name: text(name),
                config_operation: 0,
                value: Some(text(value)),
                ..Default::default()
            },
            ConfigChange::Unset(name) => {
                AlterableConfig { name: text(name), config_operation: 1, value: None, ..Default::default() }
            }
        };
        let resource = AlterConfigsResource {
            resource_type: TOPIC,
            resource_name: text(name),
            configs: changes.iter().map(change).collect(),
            ..Default::default()
        };
        let request = IncrementalAlterConfigsRequest { resources: vec![resource], ..Default::default() };
        let response = self.any().await?.call(&request).await?;
        let answer = response.responses.first().ok_or(Error::NoLeader)?;
        Error::check_with(answer.error_code, answer.error_message.as_ref().map(|message| message.as_str()))
    }

    /// A topic's configuration, all keys.
    pub async fn topic_configs(&self, name: &str) -> Result<Vec<ConfigEntry>, Error> {
        const FROM_TOPIC: i8 = 1;
        let resource =
            DescribeConfigsResource { resource_type: TOPIC, resource_name: text(name), ..Default::default() };
        let request = DescribeConfigsRequest { resources: vec![resource], ..Default::default() };
        let response = self.any().await?.call(&request).await?;
        let answer = response.results.into_iter().next().ok_or(Error::NoLeader)?;
        Error::check_with(answer.error_code, answer.error_message.as_ref().map(|message| message.as_str()))?;
        let entry = |config: wire::kafka::messages::describe_configs::DescribeConfigsResourceResult| ConfigEntry {
            name: config.name.to_string(),
            value: config.value.map(|value| value.to_string()),
            own: config.config_source == FROM_TOPIC,
        };
        Ok(answer.configs.into_iter().map(entry).collect())
    }
}
