//! The one place where an API key meets the code that answers it. Versions and names come from `wire::kafka::versions`.
//! Invariant: the match is exhaustive, so an API is advertised only with code behind it.
//! Never: decides what an answer means.
use std::future::ready;
use std::sync::Arc;

use bytes::Bytes;
use wire::kafka::messages::{self, RequestBody};
use wire::kafka::{ApiKey, frame, produce_legacy};

use super::api;
use super::connection::{Answer, Error};
use super::{Call, Client, Shared};

/// A request whose header was read.
pub(super) enum Request {
    /// One that is served.
    Served(ApiKey, Call, Bytes),
    /// One that is answered with a refusal.
    Refused(ApiKey, Bytes),
}

impl Request {
    /// What it asks for.
    pub(super) fn api(&self) -> ApiKey {
        match self {
            Request::Served(api, ..) | Request::Refused(api, _) => *api,
        }
    }

    /// Begins it: a produce is handed to its logs before this returns, everything else when its answer is polled.
    pub(super) fn begin(self) -> Answer {
        match self {
            Request::Served(api, call, body) => answer(api, call, body),
            Request::Refused(_, refusal) => Box::pin(ready(Ok(Some(refusal.into())))),
        }
    }
}

/// Reads the header of a frame.
///
/// # Errors
/// The frame is no request that is served: the connection is to be closed.
pub(super) fn read(shared: &Arc<Shared>, client: &Arc<Client>, frame: Bytes) -> Result<Request, Error> {
    let request = match frame::parse_request(frame.clone()) {
        Ok(request) => request,
        Err(refused) => return refuse(refused, frame),
    };
    let call = Call {
        shared: shared.clone(),
        client: client.clone(),
        version: request.version,
        correlation_id: request.correlation_id,
        client_id: request.client_id.unwrap_or_default(),
    };
    Ok(Request::Served(request.api, call, request.body))
}

/// Versions we do not serve but answer: ApiVersions (KIP-511) and the Produce versions that are only advertised.
fn refuse(error: wire::Error, frame: Bytes) -> Result<Request, Error> {
    let wire::Error::UnsupportedVersion { api, version, correlation_id } = error else { return Err(error.into()) };
    let refusal = match api {
        ApiKey::ApiVersions => api::api_versions::unsupported(correlation_id)?,
        ApiKey::Produce if (0..=2).contains(&version) => match produce_legacy::refuse(frame)? {
            Some(refusal) => refusal,
            None => return Err(Error::Refused("a produce of an old version without acks cannot be answered")),
        },
        _ => return Err(error.into()),
    };
    Ok(Request::Refused(api, refusal))
}

fn answer(api: ApiKey, call: Call, body: Bytes) -> Answer {
    match api {
        ApiKey::Produce => api::produce::begin(call, body).unwrap_or_else(|error| Box::pin(ready(Err(error)))),
        ApiKey::Fetch => Box::pin(api::fetch::answer(call, body)),
        ApiKey::ApiVersions => typed(call, body, api::api_versions::answer),
        ApiKey::Metadata => typed(call, body, api::metadata::answer),
        ApiKey::ListOffsets => typed(call, body, api::list_offsets::answer),
        ApiKey::OffsetForLeaderEpoch => typed(call, body, api::offset_for_leader_epoch::answer),
        ApiKey::OffsetCommit => typed(call, body, api::offset_commit::answer),
        ApiKey::OffsetFetch => typed(call, body, api::offset_fetch::answer),
        ApiKey::FindCoordinator => typed(call, body, api::find_coordinator::answer),
        ApiKey::JoinGroup => typed(call, body, api::join_group::answer),
        ApiKey::Heartbeat => typed(call, body, api::heartbeat::answer),
        ApiKey::LeaveGroup => typed(call, body, api::leave_group::answer),
        ApiKey::SyncGroup => typed(call, body, api::sync_group::answer),
        ApiKey::DescribeGroups => typed(call, body, api::describe_groups::answer),
        ApiKey::ListGroups => typed(call, body, api::list_groups::answer),
        ApiKey::DeleteGroups => typed(call, body, api::delete_groups::answer),
        ApiKey::OffsetDelete => typed(call, body, api::offset_delete::answer),
        ApiKey::InitProducerId => typed(call, body, api::init_producer_id::answer),
        ApiKey::CreateTopics => typed(call, body, api::create_topics::answer),
        ApiKey::DeleteTopics => typed(call, body, api::delete_topics::answer),
        ApiKey::CreatePartitions => typed(call, body, api::create_partitions::answer),
        ApiKey::DeleteRecords => typed(call, body, api::delete_records::answer),
        ApiKey::DescribeConfigs => typed(call, body, api::describe_configs::answer),
        ApiKey::AlterConfigs => typed(call, body, api::alter_configs::answer),
        ApiKey::IncrementalAlterConfigs => typed(call, body, api::incremental_alter_configs::answer),
        ApiKey::ConsumerGroupHeartbeat => typed(call, body, api::consumer_group_heartbeat::answer),
        ApiKey::ConsumerGroupDescribe => typed(call, body, api::consumer_group_describe::answer),
        ApiKey::ListConfigResources => typed(call, body, api::list_config_resources::answer),
        ApiKey::ElectLeaders => typed(call, body, api::elect_leaders::answer),
        ApiKey::UpdateFeatures => typed(call, body, api::update_features::answer),
        ApiKey::DescribeQuorum => typed(call, body, api::describe_quorum::answer),
        ApiKey::DescribeProducers => typed(call, body, api::describe_producers::answer),
        ApiKey::AlterPartitionReassignments => typed(call, body, api::alter_partition_reassignments::answer),
        ApiKey::ListPartitionReassignments => typed(call, body, api::list_partition_reassignments::answer),
        ApiKey::DescribeCluster => typed(call, body, api::describe_cluster::answer),
        ApiKey::DescribeTopicPartitions => typed(call, body, api::describe_topic_partitions::answer),
        ApiKey::DescribeLogDirs => typed(call, body, api::describe_log_dirs::answer),
    }
}

/// Decodes the body, answers it, encodes the answer: all of it in its turn.
fn typed<Q, A, F>(call: Call, body: Bytes, answer: A) -> Answer
where
    Q: RequestBody + Send + 'static,
    Q::Response: Send,
    A: FnOnce(Call, Q) -> F + Send + 'static,
    F: Future<Output = Q::Response> + Send,
{
    Box::pin(async move {
        let (version, correlation_id) = (call.version, call.correlation_id);
        let request = messages::decode_request::<Q>(version, body)?;
        let response = answer(call, request).await;
        Ok(Some(messages::encode_response(correlation_id, version, &response)?.into()))
    })
}
