//! Every version of every API that is advertised answers, decodes to its last byte, and reports no error.
use wire::kafka::messages::alter_configs::{AlterConfigsResource, AlterableConfig};
use wire::kafka::messages::alter_partition_reassignments::{ReassignablePartition, ReassignableTopic};
use wire::kafka::messages::create_partitions::CreatePartitionsTopic;
use wire::kafka::messages::create_topics::CreatableTopic;
use wire::kafka::messages::delete_records::{DeleteRecordsPartition, DeleteRecordsTopic};
use wire::kafka::messages::delete_topics::DeleteTopicState;
use wire::kafka::messages::describe_configs::DescribeConfigsResource;
use wire::kafka::messages::describe_producers::TopicRequest;
use wire::kafka::messages::describe_quorum;
use wire::kafka::messages::fetch::{FetchPartition, FetchTopic};
use wire::kafka::messages::list_offsets::{ListOffsetsPartition, ListOffsetsTopic};
use wire::kafka::messages::metadata::MetadataRequestTopic;
use wire::kafka::messages::offset_for_leader_epoch::{OffsetForLeaderPartition, OffsetForLeaderTopic};
use wire::kafka::messages::update_features::FeatureUpdateKey;
use wire::kafka::messages::{self, AnyRequest, AnyResponse};
use wire::kafka::versions::{self, Api};
use wire::kafka::{ApiKey, Str, Uuid};

use crate::node::{batch, produce, start};

const TOPIC: &str = "every-version";

/// Asked in every version by `groups`, since each needs the one before.
const GROUP_APIS: &[ApiKey] = &[
    ApiKey::OffsetCommit,
    ApiKey::OffsetFetch,
    ApiKey::FindCoordinator,
    ApiKey::JoinGroup,
    ApiKey::Heartbeat,
    ApiKey::LeaveGroup,
    ApiKey::SyncGroup,
    ApiKey::DescribeGroups,
    ApiKey::ListGroups,
    ApiKey::DeleteGroups,
    ApiKey::OffsetDelete,
    ApiKey::ConsumerGroupHeartbeat,
    ApiKey::ConsumerGroupDescribe,
];

fn name() -> Str {
    Str::from_static(TOPIC)
}

fn data_request(api: ApiKey, version: i16, id: Uuid) -> AnyRequest {
    let topic_id = if version >= 13 { id } else { Uuid::ZERO };
    match api {
        ApiKey::Produce => {
            let mut request = produce(TOPIC, 0, batch(&["a", "b"]));
            request.topic_data[0].topic_id = topic_id;
            if version >= 13 {
                request.topic_data[0].name = Str::default();
            }
            AnyRequest::Produce(request)
        }
        ApiKey::Fetch => {
            let partition = FetchPartition { partition_max_bytes: 1 << 20, ..Default::default() };
            let topic = if version >= 13 { Str::default() } else { name() };
            let topic = FetchTopic { topic, topic_id, partitions: vec![partition], ..Default::default() };
            let topics = vec![topic];
            AnyRequest::Fetch(messages::FetchRequest { max_bytes: 1 << 20, topics, ..Default::default() })
        }
        ApiKey::ListOffsets => {
            let partitions = vec![ListOffsetsPartition { timestamp: -1, ..Default::default() }];
            let topics = vec![ListOffsetsTopic { name: name(), partitions, ..Default::default() }];
            AnyRequest::ListOffsets(messages::ListOffsetsRequest { replica_id: -1, topics, ..Default::default() })
        }
        ApiKey::OffsetForLeaderEpoch => {
            let partitions = vec![OffsetForLeaderPartition { current_leader_epoch: -1, ..Default::default() }];
            let topics = vec![OffsetForLeaderTopic { topic: name(), partitions, ..Default::default() }];
            AnyRequest::OffsetForLeaderEpoch(messages::OffsetForLeaderEpochRequest { topics, ..Default::default() })
        }
        ApiKey::DeleteRecords => {
            let partitions = vec![DeleteRecordsPartition { offset: 0, ..Default::default() }];
            let topics = vec![DeleteRecordsTopic { name: name(), partitions, ..Default::default() }];
            let timeout_ms = 10_000;
            AnyRequest::DeleteRecords(messages::DeleteRecordsRequest { topics, timeout_ms, ..Default::default() })
        }
        ApiKey::InitProducerId => AnyRequest::InitProducerId(messages::InitProducerIdRequest {
            producer_id: -1,
            producer_epoch: -1,
            ..Default::default()
        }),
        other => panic!("{other:?} is no API for data"),
    }
}

fn admin_request(api: ApiKey, version: i16, made: &mut i32) -> AnyRequest {
    let (timeout_ms, validate_only) = (10_000, true);
    match api {
        ApiKey::CreateTopics => {
            *made += 1;
            let name = format!("made-{made}").into();
            let topics = vec![CreatableTopic { name, num_partitions: 1, replication_factor: 1, ..Default::default() }];
            AnyRequest::CreateTopics(messages::CreateTopicsRequest { topics, timeout_ms, ..Default::default() })
        }
        ApiKey::DeleteTopics => {
            let name: Str = format!("made-{made}").into();
            *made -= 1;
            let mut request = messages::DeleteTopicsRequest { timeout_ms, ..Default::default() };
            if version >= 6 {
                request.topics = vec![DeleteTopicState { name: Some(name), ..Default::default() }];
            } else {
                request.topic_names = vec![name];
            }
            AnyRequest::DeleteTopics(request)
        }
        ApiKey::CreatePartitions => {
            let topics = vec![CreatePartitionsTopic { name: name(), count: 9, ..Default::default() }];
            AnyRequest::CreatePartitions(messages::CreatePartitionsRequest {
                topics,
                timeout_ms,
                validate_only,
                ..Default::default()
            })
        }
        ApiKey::DescribeConfigs => {
            let resource = DescribeConfigsResource { resource_type: 2, resource_name: name(), ..Default::default() };
            let (include_synonyms, include_documentation) = (true, version >= 3);
            AnyRequest::DescribeConfigs(messages::DescribeConfigsRequest {
                resources: vec![resource],
                include_synonyms,
                include_documentation,
                ..Default::default()
            })
        }
        ApiKey::AlterConfigs => {
            let name_of = Str::from_static("retention.ms");
            let configs =
                vec![AlterableConfig { name: name_of, value: Some(Str::from_static("9")), ..Default::default() }];
            let resource =
                AlterConfigsResource { resource_type: 2, resource_name: name(), configs, ..Default::default() };
            let resources = vec![resource];
            AnyRequest::AlterConfigs(messages::AlterConfigsRequest { resources, validate_only, ..Default::default() })
        }
        ApiKey::IncrementalAlterConfigs => {
            use wire::kafka::messages::incremental_alter_configs as incremental;
            let name_of = Str::from_static("retention.ms");
            let value = Some(Str::from_static("9"));
            let configs = vec![incremental::AlterableConfig { name: name_of, value, ..Default::default() }];
            let resource = incremental::AlterConfigsResource {
                resource_type: 2,
                resource_name: name(),
                configs,
                ..Default::default()
            };
            AnyRequest::IncrementalAlterConfigs(messages::IncrementalAlterConfigsRequest {
                resources: vec![resource],
                validate_only,
                ..Default::default()
            })
        }
        // One node leads everything, so that nothing is told of any partition.
        ApiKey::ElectLeaders => {
            AnyRequest::ElectLeaders(messages::ElectLeadersRequest { timeout_ms, ..Default::default() })
        }
        other => panic!("{other:?} changes nothing"),
    }
}

fn describe_request(api: ApiKey, version: i16, id: Uuid) -> AnyRequest {
    match api {
        ApiKey::Metadata => {
            let by_id = version >= 12 && version % 2 == 0;
            let topic = MetadataRequestTopic {
                topic_id: if by_id { id } else { Uuid::ZERO },
                name: (!by_id).then(name),
                ..Default::default()
            };
            AnyRequest::Metadata(messages::MetadataRequest { topics: Some(vec![topic]), ..Default::default() })
        }
        ApiKey::ApiVersions if version >= 3 => AnyRequest::ApiVersions(messages::ApiVersionsRequest {
            client_software_name: Str::from_static("test"),
            client_software_version: Str::from_static("1.0"),
            ..Default::default()
        }),
        ApiKey::ApiVersions => AnyRequest::ApiVersions(messages::ApiVersionsRequest::default()),
        ApiKey::DescribeCluster => AnyRequest::DescribeCluster(messages::DescribeClusterRequest::default()),
        ApiKey::DescribeTopicPartitions => {
            AnyRequest::DescribeTopicPartitions(messages::DescribeTopicPartitionsRequest::default())
        }
        ApiKey::DescribeLogDirs => {
            AnyRequest::DescribeLogDirs(messages::DescribeLogDirsRequest { topics: None, ..Default::default() })
        }
        ApiKey::ListConfigResources => AnyRequest::ListConfigResources(messages::ListConfigResourcesRequest::default()),
        ApiKey::DescribeQuorum => {
            let partitions = vec![describe_quorum::request::PartitionData::default()];
            let topic_name = Str::from_static("__cluster_metadata");
            let topics = vec![describe_quorum::request::TopicData { topic_name, partitions, ..Default::default() }];
            AnyRequest::DescribeQuorum(messages::DescribeQuorumRequest { topics, ..Default::default() })
        }
        ApiKey::DescribeProducers => {
            let topics = vec![TopicRequest { name: name(), partition_indexes: vec![0, 1], ..Default::default() }];
            AnyRequest::DescribeProducers(messages::DescribeProducersRequest { topics, ..Default::default() })
        }
        ApiKey::ListPartitionReassignments => {
            AnyRequest::ListPartitionReassignments(messages::ListPartitionReassignmentsRequest::default())
        }
        other => panic!("{other:?} describes nothing"),
    }
}

/// To the level that it has: nothing happens. Version 0 cannot ask for a check only.
fn features_request(version: i16) -> AnyRequest {
    let feature = Str::from_static("metadata.version");
    let feature_updates = vec![FeatureUpdateKey { feature, max_version_level: 25, ..Default::default() }];
    let validate_only = version > 0;
    let request = messages::UpdateFeaturesRequest { feature_updates, validate_only, ..Default::default() };
    AnyRequest::UpdateFeatures(request)
}

/// Where it is already: nothing happens.
fn reassign_request() -> AnyRequest {
    let partition = ReassignablePartition { partition_index: 0, replicas: Some(vec![1]), ..Default::default() };
    let topics = vec![ReassignableTopic { name: name(), partitions: vec![partition], ..Default::default() }];
    let request = messages::AlterPartitionReassignmentsRequest { topics, timeout_ms: 10_000, ..Default::default() };
    AnyRequest::AlterPartitionReassignments(request)
}

fn request(api: &Api, version: i16, id: Uuid, made: &mut i32) -> AnyRequest {
    match api.key {
        ApiKey::Produce
        | ApiKey::Fetch
        | ApiKey::ListOffsets
        | ApiKey::OffsetForLeaderEpoch
        | ApiKey::DeleteRecords
        | ApiKey::InitProducerId => data_request(api.key, version, id),
        ApiKey::CreateTopics
        | ApiKey::DeleteTopics
        | ApiKey::CreatePartitions
        | ApiKey::DescribeConfigs
        | ApiKey::AlterConfigs
        | ApiKey::ElectLeaders
        | ApiKey::IncrementalAlterConfigs => admin_request(api.key, version, made),
        ApiKey::AlterPartitionReassignments => reassign_request(),
        ApiKey::UpdateFeatures => features_request(version),
        _ => describe_request(api.key, version, id),
    }
}

/// All error codes in the answer.
fn codes(response: &AnyResponse) -> Vec<i16> {
    match response {
        AnyResponse::Produce(r) => {
            r.responses.iter().flat_map(|t| &t.partition_responses).map(|p| p.error_code).collect()
        }
        AnyResponse::Fetch(r) => {
            let partitions = r.responses.iter().flat_map(|t| &t.partitions).map(|p| p.error_code);
            partitions.chain([r.error_code]).collect()
        }
        AnyResponse::ListOffsets(r) => r.topics.iter().flat_map(|t| &t.partitions).map(|p| p.error_code).collect(),
        AnyResponse::OffsetForLeaderEpoch(r) => {
            r.topics.iter().flat_map(|t| &t.partitions).map(|p| p.error_code).collect()
        }
        AnyResponse::DeleteRecords(r) => r.topics.iter().flat_map(|t| &t.partitions).map(|p| p.error_code).collect(),
        AnyResponse::InitProducerId(r) => vec![r.error_code],
        AnyResponse::CreateTopics(r) => r.topics.iter().map(|t| t.error_code).collect(),
        AnyResponse::DeleteTopics(r) => r.responses.iter().map(|t| t.error_code).collect(),
        AnyResponse::CreatePartitions(r) => r.results.iter().map(|t| t.error_code).collect(),
        AnyResponse::AlterPartitionReassignments(r) => {
            r.responses.iter().flat_map(|t| &t.partitions).map(|p| p.error_code).chain([r.error_code]).collect()
        }
        AnyResponse::ListPartitionReassignments(r) => vec![r.error_code],
        AnyResponse::DescribeConfigs(r) => r.results.iter().map(|t| t.error_code).collect(),
        AnyResponse::AlterConfigs(r) => r.responses.iter().map(|t| t.error_code).collect(),
        AnyResponse::IncrementalAlterConfigs(r) => r.responses.iter().map(|t| t.error_code).collect(),
        AnyResponse::Metadata(r) => {
            let partitions = r.topics.iter().flat_map(|t| &t.partitions).map(|p| p.error_code);
            partitions.chain(r.topics.iter().map(|t| t.error_code)).chain([r.error_code]).collect()
        }
        AnyResponse::ApiVersions(r) => vec![r.error_code],
        AnyResponse::ElectLeaders(r) => {
            let results = r.replica_election_results.iter().flat_map(|t| &t.partition_result).map(|p| p.error_code);
            results.chain([r.error_code]).collect()
        }
        AnyResponse::UpdateFeatures(r) => r.results.iter().map(|f| f.error_code).chain([r.error_code]).collect(),
        AnyResponse::DescribeQuorum(r) => {
            r.topics.iter().flat_map(|t| &t.partitions).map(|p| p.error_code).chain([r.error_code]).collect()
        }
        AnyResponse::DescribeProducers(r) => {
            r.topics.iter().flat_map(|t| &t.partitions).map(|p| p.error_code).collect()
        }
        AnyResponse::DescribeCluster(r) => vec![r.error_code],
        AnyResponse::DescribeTopicPartitions(r) => r.topics.iter().map(|t| t.error_code).collect(),
        AnyResponse::DescribeLogDirs(r) => r.results.iter().map(|d| d.error_code).chain([r.error_code]).collect(),
        AnyResponse::ListConfigResources(r) => vec![r.error_code],
        of_a_group => panic!("{of_a_group:?}"),
    }
}

#[tokio::test]
async fn every_version_of_every_api_answers_without_error() {
    let node = start().await;
    let id = node.topic(TOPIC, 2).await;
    let mut client = node.client().await;
    let mut made = 0;
    for api in versions::APIS.iter().filter(|api| !GROUP_APIS.contains(&api.key)) {
        for version in api.min..=api.max {
            let request = request(api, version, id, &mut made);
            let response = client.call_any(api.key, version, &request).await;
            let codes = codes(&response);
            assert!(!codes.is_empty(), "{} v{version} said nothing: {response:?}", api.name);
            assert!(codes.iter().all(|code| *code == 0), "{} v{version}: {response:?}", api.name);
        }
    }
    assert_eq!(made, 0, "as many versions create as delete, so nothing is left over");
}
