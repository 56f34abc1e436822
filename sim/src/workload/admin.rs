//! Clients that create, grow, change and delete topics, several at one topic, and write down what they were told: the operations
//! that must be linearizable. A topic is left alone once two outcomes on it are unknown, since what is unknown may happen at any
//! time and makes every order harder to rule out.

use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;

use rand::Rng;
use rand::rngs::SmallRng;
use wire::kafka::ErrorCode;
use wire::kafka::messages::create_partitions::CreatePartitionsTopic;
use wire::kafka::messages::create_topics::{CreatableTopic, CreatableTopicConfig};
use wire::kafka::messages::delete_topics::DeleteTopicState;
use wire::kafka::messages::incremental_alter_configs::{AlterConfigsResource, AlterableConfig};
use wire::kafka::messages::metadata::MetadataRequestTopic;
use wire::kafka::messages::{
    CreatePartitionsRequest, CreateTopicsRequest, DeleteTopicsRequest, IncrementalAlterConfigsRequest, MetadataRequest,
};

use super::client::{Client, METADATA_VERSION};
use super::process::Process;
use super::{Ledger, PAUSE, now};
use crate::history::operation::Action;

const CREATE_TOPICS_VERSION: i16 = 7;
const DELETE_TOPICS_VERSION: i16 = 6;
const CREATE_PARTITIONS_VERSION: i16 = 3;
const ALTER_CONFIGS_VERSION: i16 = 1;
/// A resource of IncrementalAlterConfigs that is a topic.
const TOPIC: i8 = 2;
/// One in so many works on a topic of its own.
const OWN_EVERY: u32 = 6;
/// Most partitions of a topic.
const PARTITIONS_MAX: i32 = 3;
/// A topic is left alone after so many operations, or so many that nobody knows about.
const OPERATIONS_MAX: u32 = 20;
const UNKNOWN_MAX: u32 = 2;

/// Creates a topic; returns when it exists.
pub async fn create(nodes: u32, topic: &'static str, partitions: i32, configs: &[(&'static str, String)]) {
    let mut client = Client::new(nodes, 0);
    loop {
        match create_topic(&mut client, topic, partitions, configs).await {
            Ok(code) if code == 0 || code == ErrorCode::TopicAlreadyExists as i16 => return,
            _ => tokio::time::sleep(PAUSE).await,
        }
    }
}

/// Which topic is worked on, by all admins.
#[derive(Clone, Default)]
pub struct Shared(Rc<Cell<Topic>>);

#[derive(Clone, Copy, Default)]
struct Topic {
    generation: u32,
    operations: u32,
    unknown: u32,
}

impl Shared {
    fn name(&self) -> String {
        format!("admin-{}", self.0.get().generation)
    }

    /// Counts an operation on the topic of `generation`. The name of the topic if that was enough of them.
    fn count(&self, generation: u32, unknown: bool) -> Option<String> {
        let (mut topic, name) = (self.0.get(), self.name());
        if topic.generation != generation {
            return None;
        }
        topic.operations += 1;
        topic.unknown += u32::from(unknown);
        let enough = topic.operations >= OPERATIONS_MAX || topic.unknown >= UNKNOWN_MAX;
        self.0.set(if enough { Topic { generation: generation + 1, ..Topic::default() } } else { topic });
        enough.then_some(name)
    }
}

/// One admin of the run.
pub struct Admin {
    number: u32,
    /// Topics of its own so far.
    owned: u32,
    client: Client,
    process: Process,
    ledger: Ledger,
    shared: Shared,
    rng: SmallRng,
}

impl Admin {
    /// Admin `number` of a cluster of `nodes`.
    pub fn new(number: u32, nodes: u32, ledger: Ledger, shared: Shared, rng: SmallRng) -> Self {
        let process = Process::new(200 + number, ledger.clone());
        Self { number, owned: 0, client: Client::new(nodes, number), process, ledger, shared, rng }
    }

    /// Works until `until`.
    pub async fn run(mut self, until: Duration) {
        while now() < until {
            tokio::time::sleep(Duration::from_millis(self.rng.random_range(200..1_200))).await;
            if self.rng.random_range(0..OWN_EVERY) == 0 {
                self.own_topic().await;
                continue;
            }
            let generation = self.shared.0.get().generation;
            let action = self.choose();
            let unknown = self.perform(action).await;
            // Whoever was last cleans up, so that the groups of old topics do not slow the world down.
            if let Some(topic) = self.shared.count(generation, unknown) {
                self.perform(Action::DeleteTopic { topic }).await;
            }
        }
    }

    /// Asks for `action` and writes down what it is told; whether that leaves the outcome unknown.
    async fn perform(&mut self, action: Action) -> bool {
        self.process.invoke(action.clone());
        match perform(&mut self.client, &action).await {
            Ok(0) => {
                self.ledger.borrow_mut().count("changes of topics");
                self.process.ok(action);
                false
            }
            Ok(code) if is_refusal(code) => {
                self.process.fail(action, code);
                false
            }
            Ok(code) => {
                self.process.info(action, code);
                true
            }
            Err(error) => {
                self.process.info(action, error);
                true
            }
        }
    }

    /// Creates a topic that nobody else touches, looks for it on the node that answered, and deletes it: what one is told there
    /// is in that node's metadata already.
    async fn own_topic(&mut self) {
        self.owned += 1;
        let topic = format!("own-{}-{}", self.number, self.owned);
        let create = Action::CreateTopic { topic: topic.clone(), partitions: 1 };
        if self.perform(create).await {
            return;
        }
        self.process.invoke(Action::DescribeTopic { topic: topic.clone(), found: None });
        match describe(&mut self.client, &topic).await {
            Ok(found) => self.process.ok(Action::DescribeTopic { topic: topic.clone(), found }),
            Err(error) => self.process.info(Action::DescribeTopic { topic: topic.clone(), found: None }, error),
        }
        self.perform(Action::DeleteTopic { topic }).await;
    }

    fn choose(&mut self) -> Action {
        let topic = self.shared.name();
        match self.rng.random_range(0..10) {
            0..=3 => Action::CreateTopic { topic, partitions: self.rng.random_range(1..PARTITIONS_MAX) },
            4..=5 => Action::DeleteTopic { topic },
            6..=7 => Action::CreatePartitions { topic, partitions: self.rng.random_range(2..=PARTITIONS_MAX) },
            _ => Action::AlterConfig { topic, retention_ms: self.rng.random_range(1_000_000..9_000_000) },
        }
    }
}

/// Whether an error says that nothing was done and never will.
fn is_refusal(code: i16) -> bool {
    let refusals = [ErrorCode::TopicAlreadyExists, ErrorCode::UnknownTopicOrPartition, ErrorCode::InvalidPartitions];
    refusals.map(|refusal| refusal as i16).contains(&code)
}

/// Asks for `action`; the error code.
async fn perform(client: &mut Client, action: &Action) -> anyhow::Result<i16> {
    match action {
        Action::CreateTopic { topic, partitions } => create_topic(client, topic, *partitions, &[]).await,
        Action::DeleteTopic { topic } => {
            let topic = DeleteTopicState::default().with_name(Some(topic.clone().into()));
            let request = DeleteTopicsRequest::default().with_topics(vec![topic]).with_timeout_ms(2_000);
            let answer = client.call_any(DELETE_TOPICS_VERSION, &request).await?;
            code(answer.responses.first().map(|topic| topic.error_code))
        }
        Action::CreatePartitions { topic, partitions } => {
            let topic = CreatePartitionsTopic::default().with_name(topic.clone().into()).with_count(*partitions);
            let request = CreatePartitionsRequest::default().with_topics(vec![topic]).with_timeout_ms(2_000);
            let answer = client.call_any(CREATE_PARTITIONS_VERSION, &request).await?;
            code(answer.results.first().map(|topic| topic.error_code))
        }
        Action::AlterConfig { topic, retention_ms } => {
            let value = Some(retention_ms.to_string().into());
            let config = AlterableConfig::default().with_name("retention.ms".to_owned().into()).with_value(value);
            let resource = AlterConfigsResource::default()
                .with_resource_type(TOPIC)
                .with_resource_name(topic.clone().into())
                .with_configs(vec![config]);
            let request = IncrementalAlterConfigsRequest::default().with_resources(vec![resource]);
            let answer = client.call_any(ALTER_CONFIGS_VERSION, &request).await?;
            code(answer.responses.first().map(|resource| resource.error_code))
        }
        other => anyhow::bail!("not an admin's: {other:?}"),
    }
}

async fn create_topic(
    client: &mut Client,
    topic: &str,
    partitions: i32,
    configs: &[(&'static str, String)],
) -> anyhow::Result<i16> {
    let config = |(name, value): &(&str, String)| {
        CreatableTopicConfig::default().with_name((*name).to_owned().into()).with_value(Some(value.clone().into()))
    };
    let topic = CreatableTopic::default()
        .with_name(topic.to_owned().into())
        .with_num_partitions(partitions)
        .with_replication_factor(3)
        .with_configs(configs.iter().map(config).collect());
    let request = CreateTopicsRequest::default().with_topics(vec![topic]).with_timeout_ms(2_000);
    let answer = client.call_any(CREATE_TOPICS_VERSION, &request).await?;
    code(answer.topics.first().map(|topic| topic.error_code))
}

/// Partitions of a topic in the metadata of the node that answered last; its configs are not asked for.
async fn describe(client: &mut Client, topic: &str) -> anyhow::Result<Option<(i32, Option<i64>)>> {
    let wanted = MetadataRequestTopic::default().with_name(Some(topic.to_owned().into()));
    let request = MetadataRequest::default().with_topics(Some(vec![wanted])).with_allow_auto_topic_creation(false);
    let answer = client.call_same(METADATA_VERSION, &request).await?;
    let found = answer.topics.first().ok_or_else(|| anyhow::anyhow!("metadata without the topic"))?;
    let exists = found.error_code != ErrorCode::UnknownTopicOrPartition as i16;
    Ok(exists.then_some((found.partitions.len() as i32, None)))
}

fn code(code: Option<i16>) -> anyhow::Result<i16> {
    code.ok_or_else(|| anyhow::anyhow!("an answer without the topic"))
}
