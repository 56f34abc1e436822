//! DescribeCluster (60): the nodes, also fenced ones if asked for (KIP-700, KIP-919, KIP-1073).
use model::NodeId;
use wire::kafka::messages::describe_cluster::DescribeClusterBroker;
use wire::kafka::messages::{DescribeClusterRequest, DescribeClusterResponse};
use wire::kafka::{ErrorCode, Str};

use super::node;
use crate::kafka::Call;
use crate::kafka::errors::Refusal;
use crate::kafka::view::{self, CLUSTER_OPERATIONS, NO_OPERATIONS};

/// Endpoint types: what the client wants addresses of.
const BROKERS: i8 = 1;
const CONTROLLERS: i8 = 2;

/// Answers every version.
pub(in crate::kafka) async fn answer(call: Call, request: DescribeClusterRequest) -> DescribeClusterResponse {
    if let Some(refusal) = refusal(request.endpoint_type) {
        return DescribeClusterResponse {
            error_code: refusal.code.code(),
            error_message: refusal.text(),
            ..Default::default()
        };
    }
    let view = view::now(call.broker());
    let fenced = |id: NodeId| !view.is_alive(id);
    let nodes = view.image.nodes.keys().copied().filter(|id| request.include_fenced_brokers || !fenced(*id));
    let brokers = nodes.filter_map(|id| {
        let (host, port, rack) = call.endpoint(id)?;
        let (rack, is_fenced) = (rack.map(Str::from), fenced(id));
        let (broker_id, host, port) = (node(id), host.into(), port.into());
        Some(DescribeClusterBroker { broker_id, host, port, rack, is_fenced, ..Default::default() })
    });
    DescribeClusterResponse {
        endpoint_type: BROKERS,
        cluster_id: call.broker().cluster_id().into(),
        controller_id: node(call.broker().controller().unwrap_or(call.broker().node_id())),
        brokers: brokers.collect(),
        cluster_authorized_operations: match request.include_cluster_authorized_operations {
            true => CLUSTER_OPERATIONS,
            false => NO_OPERATIONS,
        },
        ..Default::default()
    }
}

fn refusal(endpoint_type: i8) -> Option<Refusal> {
    match endpoint_type {
        BROKERS => None,
        CONTROLLERS => {
            let words = "the request was sent to a broker listener, not a controller";
            Some(Refusal::new(ErrorCode::MismatchedEndpointType, words))
        }
        other => Some(Refusal::new(ErrorCode::UnsupportedEndpointType, format!("unknown endpoint type {other}"))),
    }
}
