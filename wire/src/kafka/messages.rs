//! Typed requests and responses. Owns the choice of codec (docs/adr/001): kacrab-protocol behind the guard of `bound`.
//! Invariant: a response that decodes was read to its last byte; record bytes are slices of the frame.
//! Never: lets the codec see request bytes that the guard has not walked.

use bytes::{Bytes, BytesMut};
use kacrab_protocol::generated as codec;

use super::{ApiKey, frame, schema};
use crate::{Error, Result, bound};

mod sealed {
    use super::{Bytes, BytesMut};

    /// What the codec offers for each message.
    pub trait Codec: Sized {
        fn read(buf: &mut Bytes, version: i16) -> kacrab_protocol::Result<Self>;
        fn write(&self, buf: &mut BytesMut, version: i16) -> kacrab_protocol::Result<()>;
        fn encoded_len(&self, version: i16) -> kacrab_protocol::Result<usize>;
    }
}

/// The body of a request.
pub trait RequestBody: sealed::Codec {
    /// The API it belongs to.
    const API: ApiKey;
    /// The body that answers it.
    type Response: ResponseBody;
}

/// The body of a response.
pub trait ResponseBody: sealed::Codec {
    /// The API it belongs to.
    const API: ApiKey;
}

/// Decodes the body of a request that [`frame::parse_request`] returned.
///
/// # Errors
/// [`Error::Malformed`] or [`Error::TooManyElements`] from the guard, before anything is allocated.
/// [`Error::Decode`] for a string that is not UTF-8. Bytes after the request are let be, as Kafka lets them.
pub fn decode_request<T: RequestBody>(version: i16, mut body: Bytes) -> Result<T> {
    let api = T::API.api();
    if !api.serves(version) {
        return Err(Error::UnsupportedVersion { api: api.key, version, correlation_id: 0 });
    }
    bound::check(schema::request(T::API), version, api.is_flexible(version), &body)?;
    decode(version, &mut body)
}

/// Encodes a response with its length and header. Records in it are copied: use the Fetch writer for those.
///
/// A field that a version does not have is left out, as Kafka does, but for these, which must keep their default there:
/// Metadata `topic_authorized_operations` (from 8) and `cluster_authorized_operations` (8-10), ListOffsets
/// `leader_epoch` (from 4), DescribeCluster `endpoint_type` (from 1) and `is_fenced` (from 2), InitProducerId
/// `ongoing_txn_*` (from 6), Fetch `session_id` (from 7) and `preferred_read_replica` (from 11).
///
/// # Errors
/// [`Error::Encode`] if a field is set that this version does not have and that cannot be left out.
pub fn encode_response<T: ResponseBody>(correlation_id: i32, version: i16, body: &T) -> Result<Bytes> {
    let api = T::API.api();
    let body_bytes = body.encoded_len(version).map_err(encoding)?;
    let mut buf = BytesMut::with_capacity(frame::response_head_bytes(api, version) + body_bytes);
    frame::put_response_head(&mut buf, correlation_id, api, version, body_bytes)?;
    body.write(&mut buf, version).map_err(encoding)?;
    Ok(buf.freeze())
}

/// Encodes a request with its length and header: the client's side.
///
/// # Errors
/// [`Error::Encode`] as for responses.
pub fn encode_request<T: RequestBody>(
    version: i16,
    correlation_id: i32,
    client_id: Option<&str>,
    body: &T,
) -> Result<Bytes> {
    let body_bytes = body.encoded_len(version).map_err(encoding)?;
    let mut buf = BytesMut::with_capacity(32 + client_id.map_or(0, str::len) + body_bytes);
    frame::put_request_head(&mut buf, (T::API.api(), version), correlation_id, client_id, body_bytes)?;
    body.write(&mut buf, version).map_err(encoding)?;
    Ok(buf.freeze())
}

/// Decodes a response frame from [`frame::next_response`]: the client's side. Gives the correlation id too.
///
/// # Errors
/// As for requests.
pub fn decode_response<T: ResponseBody>(version: i16, mut frame: Bytes) -> Result<(i32, T)> {
    let api = T::API.api();
    let correlation_id = frame::take_response_head(&mut frame, api, version)?;
    bound::check_response(schema::response(T::API), version, api.is_flexible(version), &frame)?;
    let message = decode(version, &mut frame)?;
    if frame.is_empty() {
        Ok((correlation_id, message))
    } else {
        Err(frame::malformed("message", "ended early", &frame))
    }
}

fn decode<T: sealed::Codec>(version: i16, body: &mut Bytes) -> Result<T> {
    T::read(body, version).map_err(|error| Error::Decode(chain(&error)))
}

fn encoding(error: kacrab_protocol::ProtocolError) -> Error {
    Error::Encode(chain(&error))
}

/// An error with all its causes: the codec's own words end at "string codec failed".
fn chain(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(error.source(), |cause| cause.source());
    causes.fold(error.to_string(), |text, cause| format!("{text}: {cause}"))
}

macro_rules! messages {
    ($($api:ident, $module:ident, $request_module:ident :: $request_data:ident as $request:ident,
       $response_module:ident :: $response_data:ident as $response:ident;)*) => {$(
        #[doc = concat!("All structs of ", stringify!($api), "; a name that is in both, through its direction.")]
        #[allow(ambiguous_glob_reexports, reason = "DescribeTopicPartitions has a Cursor in both directions")]
        pub mod $module {
            pub use kacrab_protocol::generated::$request_module as request;
            pub use kacrab_protocol::generated::$response_module as response;
            pub use {request::*, response::*};
        }
        #[doc = concat!("Request of ", stringify!($api), ".")]
        pub type $request = codec::$request_module::$request_data;
        #[doc = concat!("Response of ", stringify!($api), ".")]
        pub type $response = codec::$response_module::$response_data;

        impl RequestBody for $request {
            const API: ApiKey = ApiKey::$api;
            type Response = $response;
        }
        impl ResponseBody for $response {
            const API: ApiKey = ApiKey::$api;
        }
        messages!(@codec $request);
        messages!(@codec $response);
    )*

    /// A request of any API, for what treats them all alike: tests, fuzzing, tracing of a simulation.
    #[derive(Debug, Clone, PartialEq)]
    #[allow(missing_docs, clippy::large_enum_variant, reason = "one variant for each API, short-lived")]
    pub enum AnyRequest { $($api($request)),* }

    impl AnyRequest {
        /// [`decode_request`] of the API's type.
        ///
        /// # Errors
        /// As there.
        pub fn decode(api: ApiKey, version: i16, body: Bytes) -> Result<Self> {
            match api {
                $(ApiKey::$api => decode_request(version, body).map(Self::$api),)*
            }
        }

        /// [`encode_request`] of the API's type.
        ///
        /// # Errors
        /// As there.
        pub fn encode(&self, version: i16, correlation_id: i32, client_id: Option<&str>) -> Result<Bytes> {
            match self {
                $(Self::$api(body) => encode_request(version, correlation_id, client_id, body),)*
            }
        }
    }

    /// A response of any API.
    #[derive(Debug, Clone, PartialEq)]
    #[allow(missing_docs, clippy::large_enum_variant, reason = "one variant for each API, short-lived")]
    pub enum AnyResponse { $($api($response)),* }

    impl AnyResponse {
        /// [`decode_response`] of the API's type.
        ///
        /// # Errors
        /// As there.
        pub fn decode(api: ApiKey, version: i16, frame: Bytes) -> Result<(i32, Self)> {
            match api {
                $(ApiKey::$api => decode_response(version, frame).map(|(id, body)| (id, Self::$api(body))),)*
            }
        }

        /// [`encode_response`] of the API's type.
        ///
        /// # Errors
        /// As there.
        pub fn encode(&self, version: i16, correlation_id: i32) -> Result<Bytes> {
            match self {
                $(Self::$api(body) => encode_response(correlation_id, version, body),)*
            }
        }
    }
    };
    (@codec $message:ident) => {
        impl sealed::Codec for $message {
            fn read(buf: &mut Bytes, version: i16) -> kacrab_protocol::Result<Self> {
                Self::read(buf, version)
            }
            fn write(&self, buf: &mut BytesMut, version: i16) -> kacrab_protocol::Result<()> {
                self.write(buf, version)
            }
            fn encoded_len(&self, version: i16) -> kacrab_protocol::Result<usize> {
                self.encoded_len(version)
            }
        }
    };
}

messages! {
    Produce, produce, produce_request::ProduceRequestData as ProduceRequest, produce_response::ProduceResponseData as ProduceResponse;
    Fetch, fetch, fetch_request::FetchRequestData as FetchRequest, fetch_response::FetchResponseData as FetchResponse;
    ListOffsets, list_offsets, list_offsets_request::ListOffsetsRequestData as ListOffsetsRequest, list_offsets_response::ListOffsetsResponseData as ListOffsetsResponse;
    Metadata, metadata, metadata_request::MetadataRequestData as MetadataRequest, metadata_response::MetadataResponseData as MetadataResponse;
    OffsetCommit, offset_commit, offset_commit_request::OffsetCommitRequestData as OffsetCommitRequest, offset_commit_response::OffsetCommitResponseData as OffsetCommitResponse;
    OffsetFetch, offset_fetch, offset_fetch_request::OffsetFetchRequestData as OffsetFetchRequest, offset_fetch_response::OffsetFetchResponseData as OffsetFetchResponse;
    FindCoordinator, find_coordinator, find_coordinator_request::FindCoordinatorRequestData as FindCoordinatorRequest, find_coordinator_response::FindCoordinatorResponseData as FindCoordinatorResponse;
    JoinGroup, join_group, join_group_request::JoinGroupRequestData as JoinGroupRequest, join_group_response::JoinGroupResponseData as JoinGroupResponse;
    Heartbeat, heartbeat, heartbeat_request::HeartbeatRequestData as HeartbeatRequest, heartbeat_response::HeartbeatResponseData as HeartbeatResponse;
    LeaveGroup, leave_group, leave_group_request::LeaveGroupRequestData as LeaveGroupRequest, leave_group_response::LeaveGroupResponseData as LeaveGroupResponse;
    SyncGroup, sync_group, sync_group_request::SyncGroupRequestData as SyncGroupRequest, sync_group_response::SyncGroupResponseData as SyncGroupResponse;
    DescribeGroups, describe_groups, describe_groups_request::DescribeGroupsRequestData as DescribeGroupsRequest, describe_groups_response::DescribeGroupsResponseData as DescribeGroupsResponse;
    ListGroups, list_groups, list_groups_request::ListGroupsRequestData as ListGroupsRequest, list_groups_response::ListGroupsResponseData as ListGroupsResponse;
    ApiVersions, api_versions, api_versions_request::ApiVersionsRequestData as ApiVersionsRequest, api_versions_response::ApiVersionsResponseData as ApiVersionsResponse;
    CreateTopics, create_topics, create_topics_request::CreateTopicsRequestData as CreateTopicsRequest, create_topics_response::CreateTopicsResponseData as CreateTopicsResponse;
    DeleteTopics, delete_topics, delete_topics_request::DeleteTopicsRequestData as DeleteTopicsRequest, delete_topics_response::DeleteTopicsResponseData as DeleteTopicsResponse;
    DeleteRecords, delete_records, delete_records_request::DeleteRecordsRequestData as DeleteRecordsRequest, delete_records_response::DeleteRecordsResponseData as DeleteRecordsResponse;
    InitProducerId, init_producer_id, init_producer_id_request::InitProducerIdRequestData as InitProducerIdRequest, init_producer_id_response::InitProducerIdResponseData as InitProducerIdResponse;
    OffsetForLeaderEpoch, offset_for_leader_epoch, offset_for_leader_epoch_request::OffsetForLeaderEpochRequestData as OffsetForLeaderEpochRequest, offset_for_leader_epoch_response::OffsetForLeaderEpochResponseData as OffsetForLeaderEpochResponse;
    DescribeConfigs, describe_configs, describe_configs_request::DescribeConfigsRequestData as DescribeConfigsRequest, describe_configs_response::DescribeConfigsResponseData as DescribeConfigsResponse;
    AlterConfigs, alter_configs, alter_configs_request::AlterConfigsRequestData as AlterConfigsRequest, alter_configs_response::AlterConfigsResponseData as AlterConfigsResponse;
    DescribeLogDirs, describe_log_dirs, describe_log_dirs_request::DescribeLogDirsRequestData as DescribeLogDirsRequest, describe_log_dirs_response::DescribeLogDirsResponseData as DescribeLogDirsResponse;
    CreatePartitions, create_partitions, create_partitions_request::CreatePartitionsRequestData as CreatePartitionsRequest, create_partitions_response::CreatePartitionsResponseData as CreatePartitionsResponse;
    DeleteGroups, delete_groups, delete_groups_request::DeleteGroupsRequestData as DeleteGroupsRequest, delete_groups_response::DeleteGroupsResponseData as DeleteGroupsResponse;
    ElectLeaders, elect_leaders, elect_leaders_request::ElectLeadersRequestData as ElectLeadersRequest, elect_leaders_response::ElectLeadersResponseData as ElectLeadersResponse;
    IncrementalAlterConfigs, incremental_alter_configs, incremental_alter_configs_request::IncrementalAlterConfigsRequestData as IncrementalAlterConfigsRequest, incremental_alter_configs_response::IncrementalAlterConfigsResponseData as IncrementalAlterConfigsResponse;
    AlterPartitionReassignments, alter_partition_reassignments, alter_partition_reassignments_request::AlterPartitionReassignmentsRequestData as AlterPartitionReassignmentsRequest, alter_partition_reassignments_response::AlterPartitionReassignmentsResponseData as AlterPartitionReassignmentsResponse;
    ListPartitionReassignments, list_partition_reassignments, list_partition_reassignments_request::ListPartitionReassignmentsRequestData as ListPartitionReassignmentsRequest, list_partition_reassignments_response::ListPartitionReassignmentsResponseData as ListPartitionReassignmentsResponse;
    OffsetDelete, offset_delete, offset_delete_request::OffsetDeleteRequestData as OffsetDeleteRequest, offset_delete_response::OffsetDeleteResponseData as OffsetDeleteResponse;
    DescribeQuorum, describe_quorum, describe_quorum_request::DescribeQuorumRequestData as DescribeQuorumRequest, describe_quorum_response::DescribeQuorumResponseData as DescribeQuorumResponse;
    UpdateFeatures, update_features, update_features_request::UpdateFeaturesRequestData as UpdateFeaturesRequest, update_features_response::UpdateFeaturesResponseData as UpdateFeaturesResponse;
    DescribeCluster, describe_cluster, describe_cluster_request::DescribeClusterRequestData as DescribeClusterRequest, describe_cluster_response::DescribeClusterResponseData as DescribeClusterResponse;
    DescribeProducers, describe_producers, describe_producers_request::DescribeProducersRequestData as DescribeProducersRequest, describe_producers_response::DescribeProducersResponseData as DescribeProducersResponse;
    ConsumerGroupHeartbeat, consumer_group_heartbeat, consumer_group_heartbeat_request::ConsumerGroupHeartbeatRequestData as ConsumerGroupHeartbeatRequest, consumer_group_heartbeat_response::ConsumerGroupHeartbeatResponseData as ConsumerGroupHeartbeatResponse;
    ConsumerGroupDescribe, consumer_group_describe, consumer_group_describe_request::ConsumerGroupDescribeRequestData as ConsumerGroupDescribeRequest, consumer_group_describe_response::ConsumerGroupDescribeResponseData as ConsumerGroupDescribeResponse;
    ListConfigResources, list_config_resources, list_config_resources_request::ListConfigResourcesRequestData as ListConfigResourcesRequest, list_config_resources_response::ListConfigResourcesResponseData as ListConfigResourcesResponse;
    DescribeTopicPartitions, describe_topic_partitions, describe_topic_partitions_request::DescribeTopicPartitionsRequestData as DescribeTopicPartitionsRequest, describe_topic_partitions_response::DescribeTopicPartitionsResponseData as DescribeTopicPartitionsResponse;
}
