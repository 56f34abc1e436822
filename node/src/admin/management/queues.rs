//! Queues with their counts, as KEDA and rabbitmqadmin read them. Of a queue whose leader does not answer there are no counts.

use axum::Json;
use axum::extract::{Path, Query, State};
use model::{GroupId, NodeId};
use serde_json::{Value, json};

use super::listing::Paging;
use super::{Refusal, node_name};
use crate::broker::queues::{QueueStanding, QueueTraffic};
use crate::broker::{Broker, QueueReport, Scalar};

/// All queues.
pub async fn all(State(broker): State<Broker>, Query(paging): Query<Paging>) -> Result<Json<Value>, Refusal> {
    paging.of(broker.queue_reports().await.iter().map(|queue| view(&broker, queue)).collect())
}

/// Those of a virtual host.
pub async fn of_vhost(
    State(broker): State<Broker>,
    Path(vhost): Path<String>,
    Query(paging): Query<Paging>,
) -> Result<Json<Value>, Refusal> {
    if !broker.has_vhost(&vhost) {
        return Err(Refusal::not_found());
    }
    let queues = broker.queue_reports().await;
    let of_vhost = queues.iter().filter(|queue| queue.vhost == vhost);
    paging.of(of_vhost.map(|queue| view(&broker, queue)).collect())
}

/// One queue.
pub async fn one(
    State(broker): State<Broker>,
    Path((vhost, name)): Path<(String, String)>,
) -> Result<Json<Value>, Refusal> {
    let queue = broker.queue(&vhost, &name).ok_or_else(Refusal::not_found)?;
    Ok(Json(view(&broker, &broker.queue_report(&queue).await)))
}

fn view(broker: &Broker, queue: &QueueReport) -> Value {
    let image = broker.image();
    let partition = image.partition_of_group(GroupId(queue.group));
    let partition = partition.and_then(|(topic, index)| topic.partition(index));
    let members = partition.map(|partition| partition.nodes()).unwrap_or_default();
    let online = members.iter().copied().filter(|node| broker.is_alive(*node));
    let online: Vec<String> = online.map(node_name).collect();
    let members: Vec<String> = members.into_iter().map(node_name).collect();
    let kind = match queue.arguments.get("x-queue-type") {
        Some(Scalar::Text(kind)) => kind,
        _ => "quorum",
    };
    let mut view = json!({
        "name": queue.name, "vhost": queue.vhost, "type": kind, "durable": queue.durable, "auto_delete": queue.auto_delete,
        "exclusive": queue.exclusive, "arguments": queue.arguments, "members": members, "online": online,
        "state": if queue.standing.is_some() { "running" } else { "down" },
    });
    if let Some(policy) = &queue.policy {
        view["policy"] = policy.as_str().into();
        view["effective_policy_definition"] = json!(queue.policy_definition);
    }
    if let Some(leader) = queue.leader {
        view["node"] = node_name(NodeId(leader)).into();
        view["leader"] = view["node"].clone();
    }
    if let (Some(standing), Some(fields)) = (&queue.standing, view.as_object_mut()) {
        fields.extend(counts(standing));
    }
    view
}

/// Messages that wait for their time are not among `messages`: nobody could take them.
fn counts(standing: &QueueStanding) -> impl Iterator<Item = (String, Value)> {
    let QueueStanding { counts, traffic, .. } = standing;
    let fields = [
        ("messages", (counts.ready + counts.unacked).into()),
        ("messages_ready", counts.ready.into()),
        ("messages_unacknowledged", counts.unacked.into()),
        ("consumers", counts.consumers.into()),
        ("message_stats", stats(traffic)),
    ];
    fields.into_iter().map(|(name, value)| (name.to_owned(), value))
}

/// What came and went, with the names that RabbitMQ has for it.
pub fn stats(traffic: &QueueTraffic) -> Value {
    json!({
        "publish": traffic.published, "publish_details": { "rate": traffic.publish_rate },
        "deliver_get": traffic.delivered, "deliver_get_details": { "rate": traffic.deliver_rate },
        "redeliver": traffic.redelivered,
    })
}
