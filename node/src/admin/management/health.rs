//! Health checks: 200 if all is well, 503 with why if not.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use model::NodeId;
use serde_json::{Value, json};

use super::node_name;
use crate::broker::Broker;

type Answer = (StatusCode, Json<Value>);

fn answer(failed: Option<Value>) -> Answer {
    match failed {
        None => (StatusCode::OK, Json(json!({ "status": "ok" }))),
        Some(mut why) => {
            why["status"] = "failed".into();
            (StatusCode::SERVICE_UNAVAILABLE, Json(why))
        }
    }
}

fn alarmed(nodes: &[NodeId]) -> Answer {
    let alarms = nodes.iter().map(|node| json!({ "node": node_name(*node), "resource": "disk" }));
    let why = json!({ "reason": "there are alarms in effect", "alarms": alarms.collect::<Vec<_>>() });
    answer((!nodes.is_empty()).then_some(why))
}

/// Whether no node refuses appends because of its disk.
pub async fn alarms(State(broker): State<Broker>) -> Answer {
    alarmed(&broker.disk_alarms())
}

/// The same of this node alone.
pub async fn local_alarms(State(broker): State<Broker>) -> Answer {
    let mut nodes = broker.disk_alarms();
    nodes.retain(|node| *node == broker.node_id());
    alarmed(&nodes)
}

/// Whether this node serves its virtual hosts: it is caught up on all that it holds a replica of.
pub async fn virtual_hosts(State(broker): State<Broker>) -> Answer {
    let readiness = broker.readiness();
    let why = json!({ "reason": readiness.reason, "virtual-hosts": broker.vhosts() });
    answer((!readiness.ready).then_some(why))
}

/// The same, as newer clients of the API ask for it.
pub async fn ready(State(broker): State<Broker>) -> Answer {
    let readiness = broker.readiness();
    answer((!readiness.ready).then(|| json!({ "reason": readiness.reason })))
}

/// Whether no partition would lose its majority if this node stopped.
pub async fn quorum_critical(State(broker): State<Broker>) -> Answer {
    let risks = broker.stop_risks(broker.node_id()).await;
    let queue = |topic: &str| {
        let image = broker.image();
        let queue = image.topic(topic).and_then(|topic| image.queue_of_topic(topic.id).cloned());
        queue.map_or_else(|| (topic.to_owned(), None), |queue| (queue.name.clone(), Some(queue.vhost.clone())))
    };
    let rows = risks.iter().map(|risk| {
        let (name, vhost) = queue(&risk.topic);
        json!({ "name": name, "virtual_host": vhost, "partition": risk.index.0, "type": "quorum" })
    });
    let reason = "there are queues or partitions that would lose their quorum if the target node is shut down";
    let why = json!({ "reason": reason, "queues": rows.collect::<Vec<_>>() });
    answer((!risks.is_empty()).then_some(why))
}
