//! Operations: planned, begun, watched and steered. What is begun here goes on without whoever asked for it.

use std::convert::Infallible;
use std::time::Duration;

use axum::Json;
use axum::extract::State;
use axum::response::Sse;
use axum::response::sse::{Event, KeepAlive};
use futures::Stream;
use futures::future::join_all;
use model::controller::operations::Standing;
use model::controller::{Image, Operation, OperationKind, OperationState};
use model::{NodeId, PartitionIndex};
use serde::{Deserialize, Serialize};
use tokio::time::sleep;
use utoipa::ToSchema;

use super::problem::{InBody, InPath, Problem};
use super::views::{MoveView, PlanView};
use crate::broker::Broker;

/// How often a watched operation is told about.
const TELL: Duration = Duration::from_millis(500);

/// Long work, and how far it is.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
pub struct OperationView {
    id: u64,
    /// `rebalance`, `move`, `drain` or `decommission`.
    kind: &'static str,
    /// The node that it is about, if it is about one.
    node: Option<u32>,
    /// `running`, `paused`, `cancelled`, `finished` or `failed`.
    state: &'static str,
    /// Milliseconds since 1970.
    started_ms: i64,
    /// Milliseconds since 1970.
    changed_ms: i64,
    /// Partitions to move, or leaderships to hand over.
    total: u32,
    /// How many of them are done.
    finished: u32,
    /// Bytes to copy.
    bytes: u64,
    /// Bytes of the moves that are done.
    bytes_done: u64,
    /// What it waits for, or how it ended.
    note: String,
    /// The moves of one that has not ended; only when it is asked for by its number.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    moves: Vec<MoveView>,
}

/// What was begun.
#[derive(Debug, Serialize, ToSchema)]
pub struct Begun {
    /// Its number; none if there was nothing to do, or this was only a check.
    operation: Option<u64>,
}

/// What to level.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Levelling {
    /// Only who leads, so that no byte is copied.
    #[serde(default)]
    leaders_only: bool,
}

/// Where the replicas of a partition shall be.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Replicas {
    /// Their nodes, the preferred leader first.
    #[schema(value_type = Vec<u32>)]
    nodes: Vec<NodeId>,
}

/// Nothing to say.
#[derive(Debug, Default, Deserialize, Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Nothing {}

/// What to do with an operation.
#[derive(Clone, Copy, Debug, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Steering {
    /// Begin nothing new.
    Pause,
    /// Go on.
    Resume,
    /// End it; what is being copied goes back.
    Cancel,
}

fn view(operation: &Operation) -> OperationView {
    let kind = match operation.kind {
        OperationKind::Rebalance => "rebalance",
        OperationKind::Move => "move",
        OperationKind::Drain(_) => "drain",
        OperationKind::Decommission(_) => "decommission",
    };
    let state = match operation.state {
        OperationState::Running => "running",
        OperationState::Paused => "paused",
        OperationState::Cancelled => "cancelled",
        OperationState::Finished => "finished",
        OperationState::Failed => "failed",
    };
    OperationView {
        id: operation.id,
        kind,
        node: operation.kind.node().map(|node| node.0),
        state,
        started_ms: operation.started_ms,
        changed_ms: operation.changed_ms,
        total: operation.total,
        finished: operation.finished,
        bytes: operation.bytes,
        bytes_done: operation.bytes_done,
        note: operation.note.clone(),
        moves: Vec::new(),
    }
}

/// With its moves, and of those under way how much is copied.
async fn whole(broker: &Broker, image: &Image, operation: &Operation) -> OperationView {
    let moves = (0..).zip(&operation.moves).map(async |(place, one)| {
        let standing = if operation.done.contains(&place) { Standing::Done } else { image.standing(one) };
        let percent = match standing {
            Standing::Copying => broker.copied_percent(image, one).await,
            _ => None,
        };
        MoveView::new(one, standing, percent)
    });
    OperationView { moves: join_all(moves).await, ..view(operation) }
}

/// The operations, those that have ended lately included
#[utoipa::path(get, path = "/v1/operations", tag = "operations", responses((status = 200, description = "Oldest first", body = Vec<OperationView>)))]
pub async fn list(State(broker): State<Broker>) -> Json<Vec<OperationView>> {
    Json(broker.image().operations.values().map(|operation| view(operation)).collect())
}

/// An operation with its moves
#[utoipa::path(get, path = "/v1/operations/{id}", tag = "operations", params(("id" = u64, Path, description = "Its number")),
    responses((status = 200, description = "How far it is", body = OperationView),
        (status = "default", description = "There is none", body = Problem, content_type = "application/problem+json")))]
pub async fn get(State(broker): State<Broker>, InPath(id): InPath<u64>) -> Result<Json<OperationView>, Problem> {
    let image = broker.image();
    let operation = image.operations.get(&id).ok_or_else(|| unknown(id))?;
    Ok(Json(whole(&broker, &image, operation).await))
}

/// An operation as it goes on: one event for each change, the last when it has ended
#[utoipa::path(get, path = "/v1/operations/{id}/events", tag = "operations", params(("id" = u64, Path, description = "Its number")),
    responses((status = 200, description = "Events with an operation each", body = String, content_type = "text/event-stream"),
        (status = "default", description = "There is none", body = Problem, content_type = "application/problem+json")))]
pub async fn watch(
    State(broker): State<Broker>,
    InPath(id): InPath<u64>,
) -> Result<Sse<impl Stream<Item = Result<Event, Infallible>>>, Problem> {
    if !broker.image().operations.contains_key(&id) {
        return Err(unknown(id));
    }
    let events = futures::stream::unfold((broker, None, false), move |(broker, told, ended)| async move {
        if ended {
            return None;
        }
        loop {
            let image = broker.image();
            let operation = image.operations.get(&id)?.clone();
            let now = whole(&broker, &image, &operation).await;
            let ended = operation.state.is_end();
            if told.as_ref() != Some(&now) {
                let event = Event::default().json_data(&now).unwrap_or_default();
                return Some((Ok(event), (broker, Some(now), ended)));
            }
            sleep(TELL).await;
        }
    });
    Ok(Sse::new(events).keep_alive(KeepAlive::default()))
}

/// Pauses, resumes or cancels an operation
#[utoipa::path(post, path = "/v1/operations/{id}/{verb}", tag = "operations",
    params(("id" = u64, Path, description = "Its number"), ("verb" = Steering, Path, description = "What to do with it")),
    request_body = Nothing,
    responses((status = 200, description = "Done", body = Nothing),
        (status = "default", description = "It has ended, or there is none", body = Problem, content_type = "application/problem+json")))]
pub async fn steer(
    State(broker): State<Broker>,
    InPath((id, verb)): InPath<(u64, Steering)>,
    InBody(Nothing {}): InBody<Nothing>,
) -> Result<Json<Nothing>, Problem> {
    if !broker.image().operations.contains_key(&id) {
        return Err(unknown(id));
    }
    let to = match verb {
        Steering::Pause => OperationState::Paused,
        Steering::Resume => OperationState::Running,
        Steering::Cancel => OperationState::Cancelled,
    };
    broker.steer(id, to).await?;
    Ok(Json(Nothing {}))
}

/// What a rebalance would do; nothing is begun
#[utoipa::path(post, path = "/v1/rebalance/plan", tag = "operations", request_body = Levelling,
    responses((status = 200, description = "The moves, what does not move and why, and loads before and after", body = PlanView),
        (status = "default", description = "Not understood", body = Problem, content_type = "application/problem+json")))]
pub async fn plan(State(broker): State<Broker>, InBody(what): InBody<Levelling>) -> Result<Json<PlanView>, Problem> {
    Ok(Json(PlanView::new(broker.plan_rebalance(what.leaders_only).await)))
}

/// Plans and begins
#[utoipa::path(post, path = "/v1/rebalance", tag = "operations", request_body = Levelling,
    responses((status = 200, description = "No operation if all is level", body = Begun),
        (status = "default", description = "Another has not ended", body = Problem, content_type = "application/problem+json")))]
pub async fn rebalance(State(broker): State<Broker>, InBody(what): InBody<Levelling>) -> Result<Json<Begun>, Problem> {
    Ok(Json(Begun { operation: broker.rebalance(what.leaders_only).await? }))
}

/// Moves the replicas of a partition
#[utoipa::path(post, path = "/v1/topics/{topic}/partitions/{partition}/replicas", tag = "operations",
    params(("topic" = String, Path, description = "Its name"), ("partition" = i32, Path, description = "From 0")),
    request_body = Replicas,
    responses((status = 200, description = "It is begun", body = Begun),
        (status = "default", description = "They cannot go there", body = Problem, content_type = "application/problem+json")))]
pub async fn move_partition(
    State(broker): State<Broker>,
    InPath((topic, partition)): InPath<(String, i32)>,
    InBody(to): InBody<Replicas>,
) -> Result<Json<Begun>, Problem> {
    let operation = broker.move_partition(&topic, PartitionIndex(partition), to.nodes).await?;
    Ok(Json(Begun { operation: Some(operation) }))
}

fn unknown(id: u64) -> Problem {
    Problem::not_found(format!("there is no operation {id}"))
}

impl Begun {
    /// This one.
    pub fn new(operation: Option<u64>) -> Self {
        Self { operation }
    }
}
