//! Every API and version, written by one codec and read by the other: ours and kafka-protocol 0.18.
//! The messages are random, from the schemas of the guard, so that three readings of Kafka's definitions must agree.

use bytes::{Bytes, BytesMut};
use kafka_protocol::messages as oracle;
use kafka_protocol::protocol::{Decodable, Encodable, Message};

use super::super::messages::{AnyRequest, AnyResponse};
use super::super::versions::APIS;
use super::super::{Api, ApiKey, frame, schema};
use super::rounds;
use crate::bound::generate::{Random, message};

/// Decodes and encodes again with kafka-protocol; `None` for a version it does not have.
fn through<M: Message + Decodable + Encodable>(version: i16, mut body: Bytes) -> Option<Bytes> {
    if version < M::VERSIONS.min || version > M::VERSIONS.max {
        return None;
    }
    let message = M::decode(&mut body, version).expect("the oracle reads what we write");
    assert!(body.is_empty(), "the oracle leaves {} bytes", body.len());
    let mut out = BytesMut::new();
    message.encode(&mut out, version).expect("the oracle writes what it read");
    Some(out.freeze())
}

fn request_through_oracle(api: ApiKey, version: i16, body: Bytes) -> Option<Bytes> {
    match api {
        ApiKey::Produce => through::<oracle::ProduceRequest>(version, body),
        ApiKey::Fetch => through::<oracle::FetchRequest>(version, body),
        ApiKey::ListOffsets => through::<oracle::ListOffsetsRequest>(version, body),
        ApiKey::Metadata => through::<oracle::MetadataRequest>(version, body),
        ApiKey::OffsetCommit => through::<oracle::OffsetCommitRequest>(version, body),
        ApiKey::OffsetFetch => through::<oracle::OffsetFetchRequest>(version, body),
        ApiKey::FindCoordinator => through::<oracle::FindCoordinatorRequest>(version, body),
        ApiKey::JoinGroup => through::<oracle::JoinGroupRequest>(version, body),
        ApiKey::Heartbeat => through::<oracle::HeartbeatRequest>(version, body),
        ApiKey::LeaveGroup => through::<oracle::LeaveGroupRequest>(version, body),
        ApiKey::SyncGroup => through::<oracle::SyncGroupRequest>(version, body),
        ApiKey::DescribeGroups => through::<oracle::DescribeGroupsRequest>(version, body),
        ApiKey::ListGroups => through::<oracle::ListGroupsRequest>(version, body),
        ApiKey::ApiVersions => through::<oracle::ApiVersionsRequest>(version, body),
        ApiKey::CreateTopics => through::<oracle::CreateTopicsRequest>(version, body),
        ApiKey::DeleteTopics => through::<oracle::DeleteTopicsRequest>(version, body),
        ApiKey::DeleteRecords => through::<oracle::DeleteRecordsRequest>(version, body),
        ApiKey::InitProducerId => through::<oracle::InitProducerIdRequest>(version, body),
        ApiKey::OffsetForLeaderEpoch => through::<oracle::OffsetForLeaderEpochRequest>(version, body),
        ApiKey::DescribeConfigs => through::<oracle::DescribeConfigsRequest>(version, body),
        ApiKey::AlterConfigs => through::<oracle::AlterConfigsRequest>(version, body),
        ApiKey::DescribeLogDirs => through::<oracle::DescribeLogDirsRequest>(version, body),
        ApiKey::CreatePartitions => through::<oracle::CreatePartitionsRequest>(version, body),
        ApiKey::IncrementalAlterConfigs => through::<oracle::IncrementalAlterConfigsRequest>(version, body),
        ApiKey::ElectLeaders => through::<oracle::ElectLeadersRequest>(version, body),
        ApiKey::DescribeQuorum => through::<oracle::DescribeQuorumRequest>(version, body),
        ApiKey::DescribeProducers => through::<oracle::DescribeProducersRequest>(version, body),
        ApiKey::DeleteGroups => through::<oracle::DeleteGroupsRequest>(version, body),
        ApiKey::OffsetDelete => through::<oracle::OffsetDeleteRequest>(version, body),
        ApiKey::AlterPartitionReassignments => through::<oracle::AlterPartitionReassignmentsRequest>(version, body),
        ApiKey::ListPartitionReassignments => through::<oracle::ListPartitionReassignmentsRequest>(version, body),
        ApiKey::UpdateFeatures => through::<oracle::UpdateFeaturesRequest>(version, body),
        ApiKey::DescribeCluster => through::<oracle::DescribeClusterRequest>(version, body),
        ApiKey::ConsumerGroupHeartbeat => through::<oracle::ConsumerGroupHeartbeatRequest>(version, body),
        ApiKey::ConsumerGroupDescribe => through::<oracle::ConsumerGroupDescribeRequest>(version, body),
        ApiKey::ListConfigResources => through::<oracle::ListConfigResourcesRequest>(version, body),
        ApiKey::DescribeTopicPartitions => through::<oracle::DescribeTopicPartitionsRequest>(version, body),
    }
}

fn response_through_oracle(api: ApiKey, version: i16, body: Bytes) -> Option<Bytes> {
    match api {
        ApiKey::Produce => through::<oracle::ProduceResponse>(version, body),
        ApiKey::Fetch => through::<oracle::FetchResponse>(version, body),
        ApiKey::ListOffsets => through::<oracle::ListOffsetsResponse>(version, body),
        ApiKey::Metadata => through::<oracle::MetadataResponse>(version, body),
        ApiKey::OffsetCommit => through::<oracle::OffsetCommitResponse>(version, body),
        ApiKey::OffsetFetch => through::<oracle::OffsetFetchResponse>(version, body),
        ApiKey::FindCoordinator => through::<oracle::FindCoordinatorResponse>(version, body),
        ApiKey::JoinGroup => through::<oracle::JoinGroupResponse>(version, body),
        ApiKey::Heartbeat => through::<oracle::HeartbeatResponse>(version, body),
        ApiKey::LeaveGroup => through::<oracle::LeaveGroupResponse>(version, body),
        ApiKey::SyncGroup => through::<oracle::SyncGroupResponse>(version, body),
        ApiKey::DescribeGroups => through::<oracle::DescribeGroupsResponse>(version, body),
        ApiKey::ListGroups => through::<oracle::ListGroupsResponse>(version, body),
        ApiKey::ApiVersions => through::<oracle::ApiVersionsResponse>(version, body),
        ApiKey::CreateTopics => through::<oracle::CreateTopicsResponse>(version, body),
        ApiKey::DeleteTopics => through::<oracle::DeleteTopicsResponse>(version, body),
        ApiKey::DeleteRecords => through::<oracle::DeleteRecordsResponse>(version, body),
        ApiKey::InitProducerId => through::<oracle::InitProducerIdResponse>(version, body),
        ApiKey::OffsetForLeaderEpoch => through::<oracle::OffsetForLeaderEpochResponse>(version, body),
        ApiKey::DescribeConfigs => through::<oracle::DescribeConfigsResponse>(version, body),
        ApiKey::AlterConfigs => through::<oracle::AlterConfigsResponse>(version, body),
        ApiKey::DescribeLogDirs => through::<oracle::DescribeLogDirsResponse>(version, body),
        ApiKey::CreatePartitions => through::<oracle::CreatePartitionsResponse>(version, body),
        ApiKey::IncrementalAlterConfigs => through::<oracle::IncrementalAlterConfigsResponse>(version, body),
        ApiKey::ElectLeaders => through::<oracle::ElectLeadersResponse>(version, body),
        ApiKey::DescribeQuorum => through::<oracle::DescribeQuorumResponse>(version, body),
        ApiKey::DescribeProducers => through::<oracle::DescribeProducersResponse>(version, body),
        ApiKey::DeleteGroups => through::<oracle::DeleteGroupsResponse>(version, body),
        ApiKey::OffsetDelete => through::<oracle::OffsetDeleteResponse>(version, body),
        ApiKey::AlterPartitionReassignments => through::<oracle::AlterPartitionReassignmentsResponse>(version, body),
        ApiKey::ListPartitionReassignments => through::<oracle::ListPartitionReassignmentsResponse>(version, body),
        ApiKey::UpdateFeatures => through::<oracle::UpdateFeaturesResponse>(version, body),
        ApiKey::DescribeCluster => through::<oracle::DescribeClusterResponse>(version, body),
        ApiKey::ConsumerGroupHeartbeat => through::<oracle::ConsumerGroupHeartbeatResponse>(version, body),
        ApiKey::ConsumerGroupDescribe => through::<oracle::ConsumerGroupDescribeResponse>(version, body),
        ApiKey::ListConfigResources => through::<oracle::ListConfigResourcesResponse>(version, body),
        ApiKey::DescribeTopicPartitions => through::<oracle::DescribeTopicPartitionsResponse>(version, body),
    }
}

/// Runs `check` for every version of every API, with its own random source, `rounds` times.
fn each_version(seed: u64, mut check: impl FnMut(&'static Api, i16, &mut Random) -> bool) {
    for api in APIS {
        for version in api.min..=api.max {
            let mut random = Random(seed ^ ((api.key as u64) << 32) ^ version as u64);
            let compared = (0..rounds(30)).filter(|_| check(api, version, &mut random)).count();
            assert!(compared > 0 || is_beyond_oracle(api.key, version), "{} {version} was not compared", api.name);
        }
    }
}

/// kafka-protocol 0.18 is a Kafka 4.1 schema.
fn is_beyond_oracle(api: ApiKey, version: i16) -> bool {
    matches!(
        (api, version),
        (ApiKey::ListOffsets, 11)
            | (ApiKey::OffsetCommit | ApiKey::OffsetFetch, 10)
            | (ApiKey::InitProducerId, 6)
            | (ApiKey::DescribeLogDirs, 5)
    )
}

#[test]
fn requests_agree() {
    each_version(1, |api, version, random| {
        let body = Bytes::from(message(random, schema::request(api.key), version, api.is_flexible(version)));
        let context = format!("{} v{version} {body:02x?}", api.name);
        let request = AnyRequest::decode(api.key, version, body).expect(&context);
        let mut buf = BytesMut::from(&request.encode(version, 99, Some("me")).expect(&context)[..]);
        let frame = frame::next_request(&mut buf, 1 << 20).unwrap().unwrap();
        let mut after_header = frame.clone();
        let header = oracle::RequestHeader::decode(&mut after_header, api.request_header_version(version)).unwrap();
        assert_eq!((header.request_api_key, header.correlation_id), (api.key as i16, 99));
        let parsed = frame::parse_request(frame).unwrap();
        assert_eq!(parsed.body, after_header, "{context}");
        assert_eq!(AnyRequest::decode(api.key, version, parsed.body.clone()).unwrap(), request, "{context}");
        let oracles = request_through_oracle(api.key, version, parsed.body.clone());
        oracles.inspect(|bytes| assert_eq!(*bytes, parsed.body, "{context}")).is_some()
    });
}

#[test]
fn responses_agree() {
    each_version(2, |api, version, random| {
        let body = message(random, schema::response(api.key), version, api.is_flexible(version));
        let context = format!("{} v{version} {body:02x?}", api.name);
        let head = [&[0, 0, 0, 99][..], &vec![0; api.response_header_version(version) as usize]].concat();
        let (id, response) = AnyResponse::decode(api.key, version, [head, body].concat().into()).expect(&context);
        assert_eq!(id, 99);
        let written = response.encode(version, 99).expect(&context).slice(4..);
        let again = AnyResponse::decode(api.key, version, written.clone()).expect(&context);
        assert_eq!(again, (99, response), "{context}");
        let mut body = written;
        let header = oracle::ResponseHeader::decode(&mut body, api.response_header_version(version)).unwrap();
        assert_eq!(header.correlation_id, 99);
        let oracles = response_through_oracle(api.key, version, body.clone());
        oracles.inspect(|bytes| assert_eq!(*bytes, body, "{context}")).is_some()
    });
}
