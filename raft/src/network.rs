//! openraft's network over our `Transport`: pipelined appends on one lane, heartbeats and votes on the other.
//! Invariants: appends are handed to the transport in the order openraft makes them; after the first answer that is
//! not a success the pipeline ends; every request has a deadline. Must never retry an append by itself.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::future::BoxFuture;
use futures::stream::BoxStream;
use futures::{FutureExt, Stream, StreamExt};
use model::planted::{self, Bug};
use model::{GroupId, ReplicaId};
use openraft::errors::{NetworkError, RPCError, ReplicationClosed, StreamingError, Timeout, Unreachable};
use openraft::network::{RPCOption, RPCTypes, RaftNetworkFactory, RaftNetworkV2};
use openraft::raft::{
    AppendEntriesRequest, AppendEntriesResponse, SnapshotResponse, StreamAppendError, StreamAppendResult,
    TransferLeaderError, TransferLeaderRequest, TransferLeaderResponse, VoteRequest, VoteResponse,
};

use crate::published::Published;
use crate::rest::Rest;
use crate::settings::{FRAMES_IN_FLIGHT, RPC_DEADLINE, SNAPSHOT_DEADLINE};
use crate::throttle::Throttle;
use crate::types::{Ballot, LogId, Position, SetMembers, Snapshot, TypeConfig, Vote};
use crate::wire::{self, Answer, Call, Candidacy, Refusal, Request};
use crate::{Lane, Transport, TransportError};

/// Wait before a vote is asked again of a node that has not opened the group yet: a group is founded on all its
/// nodes at once, and one of them is always first.
const NOT_OPEN_PAUSE: Duration = Duration::from_millis(25);
/// How long the news that entries are committed may wait for the next request, which brings them too. Those of the controller do not:
/// every node serves what it says.
const NEWS_WAIT: Duration = Duration::from_millis(10);

type RpcError = RPCError<TypeConfig>;
type AppendResult = Result<StreamAppendResult<TypeConfig>, RpcError>;

/// Makes the connections of one replica of one group.
pub(crate) struct Network {
    pub(crate) transport: Arc<dyn Transport>,
    pub(crate) group: GroupId,
    pub(crate) replica: ReplicaId,
    pub(crate) published: Arc<Published>,
    pub(crate) rest: Arc<Rest>,
    pub(crate) throttle: Arc<Throttle>,
}

/// The way to one other replica.
#[derive(Clone)]
pub(crate) struct Peer {
    transport: Arc<dyn Transport>,
    group: GroupId,
    from: ReplicaId,
    to: ReplicaId,
    appends: Lane,
    published: Arc<Published>,
    rest: Arc<Rest>,
    throttle: Arc<Throttle>,
}

impl Network {
    fn peer(&self, to: ReplicaId, appends: Lane) -> Peer {
        Peer {
            transport: self.transport.clone(),
            group: self.group,
            from: self.replica,
            to,
            appends,
            published: self.published.clone(),
            rest: self.rest.clone(),
            throttle: self.throttle.clone(),
        }
    }
}

impl RaftNetworkFactory<TypeConfig> for Network {
    type Network = Peer;

    async fn new_client(&mut self, target: ReplicaId, (): &()) -> Peer {
        self.peer(target, Lane::Append)
    }

    /// A heartbeat names an entry that the follower has acknowledged, so it may overtake appends.
    async fn new_heartbeat_client(&mut self, target: ReplicaId, (): &()) -> Peer {
        self.peer(target, Lane::Control)
    }
}

impl Peer {
    /// Hands the request to the transport now; what is returned waits for the answer, which may be a refusal.
    fn send(
        &self,
        (lane, action): (Lane, RPCTypes),
        deadline: Duration,
        call: Call,
        body: Vec<Bytes>,
    ) -> impl Future<Output = Result<Answer, RpcError>> + Send + 'static {
        let (from, to) = (self.from, self.to);
        let frame = Request { from, to, call }.to_frame(body);
        let answer = self.transport.call(to.node(), lane, self.group, frame);
        async move {
            let frame = match tokio::time::timeout(deadline, answer).await {
                Ok(frame) => frame.map_err(|error| match error {
                    TransportError::Unreachable { .. } => RPCError::Unreachable(Unreachable::new(&error)),
                    TransportError::Broken { .. } => RPCError::Network(NetworkError::new(&error)),
                })?,
                Err(_) => return Err(RPCError::Timeout(Timeout { action, id: from, target: to, timeout: deadline })),
            };
            Answer::from_frame(&frame).map_err(|error| RPCError::Network(NetworkError::new(&error)))
        }
    }

    fn append(&self, request: AppendEntriesRequest<TypeConfig>) -> impl Future<Output = AppendResult> + Send + 'static {
        let previous = request.prev_log_id;
        let last = request.entries.last().map(|entry| entry.log_id).or(previous);
        let (head, body) = wire::append(request, self.published.seal(), !self.rest.is_awake());
        let sent = self.send((self.appends, RPCTypes::AppendEntries), RPC_DEADLINE, Call::Append(head), body);
        async move {
            match sent.await {
                Err(_) if planted::is(Bug::CommitWithoutQuorum) => Ok(Ok(last)),
                answer => append_result(answer?, previous, last),
            }
        }
    }

    /// What may go in one request: to a voter, or without a limit, anything.
    fn step_bytes(&self) -> Option<usize> {
        self.throttle.step_bytes().filter(|_| !self.published.is_voter(self.to))
    }

    /// The `nth` request of a session in as many as it takes. The first may be a probe for where the other's log ends: whatever part of it
    /// is acknowledged, openraft then sends the rest again.
    fn steps(&self, nth: usize, request: AppendEntriesRequest<TypeConfig>) -> Vec<AppendEntriesRequest<TypeConfig>> {
        match self.step_bytes() {
            Some(bytes) if nth > 0 => wire::split(request, bytes),
            _ => vec![request],
        }
    }

    async fn ask_vote(&self, call: Call, option: RPCOption) -> Result<VoteResponse<TypeConfig>, RpcError> {
        let until = tokio::time::Instant::now() + option.soft_ttl();
        loop {
            let left = until.saturating_duration_since(tokio::time::Instant::now());
            match self.send((Lane::Control, RPCTypes::Vote), left, call.clone(), Vec::new()).await? {
                Answer::Vote { vote, granted, last } => {
                    return Ok(VoteResponse::new(Vote::from(vote), last.map(LogId::from), granted));
                }
                Answer::Refused(Refusal::NotOpen) if left > NOT_OPEN_PAUSE => {
                    tokio::time::sleep(NOT_OPEN_PAUSE).await;
                }
                other => return Err(unexpected(&other)),
            }
        }
    }
}

/// Requests without entries say what is committed, and so does the next one with entries: they wait for it, up to `wait`. On their way
/// alone they cost nearly what an entry costs, and one follows each commit of a partition that has nothing else to send just then.
/// Nobody but the followers' own machines waits for the news; Kafka's followers hear them with their next fetch, after up to 500 ms.
fn with_entries<S>(input: S, wait: Duration) -> impl Stream<Item = AppendEntriesRequest<TypeConfig>>
where
    S: Stream<Item = AppendEntriesRequest<TypeConfig>> + Unpin,
{
    futures::stream::unfold(input.fuse(), move |mut input| async move {
        let mut request = input.next().await?;
        let until = tokio::time::Instant::now() + wait;
        while request.entries.is_empty()
            && let Ok(Some(next)) = tokio::time::timeout_at(until, input.next()).await
        {
            request = next;
        }
        Some((request, input))
    })
}

fn unexpected(answer: &Answer) -> RpcError {
    match answer {
        Answer::Refused(refusal) => RPCError::Unreachable(Unreachable::new(refusal)),
        other => RPCError::Network(NetworkError::from_string(format!("an answer to another question: {other:?}"))),
    }
}

fn append_result(answer: Answer, previous: Option<LogId>, last: Option<LogId>) -> AppendResult {
    match (answer, previous) {
        (Answer::Appended, _) => Ok(Ok(last)),
        (Answer::Conflict, Some(previous)) => Ok(Err(StreamAppendError::Conflict(previous))),
        (Answer::HigherVote(vote), _) => Ok(Err(StreamAppendError::HigherVote(vote.into()))),
        (other, _) => Err(unexpected(&other)),
    }
}

impl RaftNetworkV2<TypeConfig> for Peer {
    type SnapshotData = Bytes;

    async fn append_entries(
        &mut self,
        request: AppendEntriesRequest<TypeConfig>,
        _option: RPCOption,
    ) -> Result<AppendEntriesResponse<TypeConfig>, RpcError> {
        self.append(request).await.map(AppendEntriesResponse::from)
    }

    fn stream_append<'s, S>(
        &'s mut self,
        input: S,
        _option: RPCOption,
    ) -> BoxFuture<'s, Result<BoxStream<'s, AppendResult>, RpcError>>
    where
        S: Stream<Item = AppendEntriesRequest<TypeConfig>> + Send + Unpin + 'static,
    {
        let wait = if self.group == GroupId::CONTROLLER { Duration::ZERO } else { NEWS_WAIT };
        let input = with_entries(input, wait).enumerate();
        let steps = input.flat_map(|(nth, request)| futures::stream::iter(self.steps(nth, request)));
        let paced = steps.then(|request| async {
            if self.step_bytes().is_some() {
                self.throttle.pass(wire::entry_bytes(&request)).await;
            }
            request
        });
        let answers = paced.map(|request| self.append(request)).buffered(FRAMES_IN_FLIGHT).boxed();
        let until_failure = futures::stream::unfold(Some(answers), |answers| async move {
            let mut answers = answers?;
            let answer = answers.next().await?;
            let goes_on = matches!(answer, Ok(Ok(_)));
            Some((answer, goes_on.then_some(answers)))
        });
        futures::future::ready(Ok(until_failure.boxed())).boxed()
    }

    async fn vote(
        &mut self,
        request: VoteRequest<TypeConfig>,
        option: RPCOption,
    ) -> Result<VoteResponse<TypeConfig>, RpcError> {
        self.ask_vote(Call::Vote(Candidacy::from(&request)), option).await
    }

    async fn pre_vote(
        &mut self,
        request: VoteRequest<TypeConfig>,
        option: RPCOption,
    ) -> Result<VoteResponse<TypeConfig>, RpcError> {
        self.ask_vote(Call::PreVote(Candidacy::from(&request)), option).await
    }

    async fn full_snapshot(
        &mut self,
        vote: Vote,
        snapshot: Snapshot,
        cancel: impl Future<Output = ReplicationClosed> + Send + 'static,
        _option: RPCOption,
    ) -> Result<SnapshotResponse<TypeConfig>, StreamingError<TypeConfig>> {
        let call = Call::Snapshot {
            leader: Ballot::from(&vote),
            last: snapshot.meta.last_log_id.as_ref().map(Position::from),
            members: SetMembers::from(&snapshot.meta.last_membership),
        };
        let answer =
            self.send((Lane::Append, RPCTypes::InstallSnapshot), SNAPSHOT_DEADLINE, call, vec![snapshot.snapshot]);
        tokio::select! {
            biased;
            closed = cancel => Err(StreamingError::Closed(closed)),
            answer = answer => match answer {
                Ok(Answer::Snapshot(vote)) => Ok(SnapshotResponse::new(vote.into())),
                Ok(other) => Err(streaming(unexpected(&other))),
                Err(error) => Err(streaming(error)),
            },
        }
    }

    async fn transfer_leader(
        &mut self,
        request: TransferLeaderRequest<TypeConfig>,
        option: RPCOption,
    ) -> Result<TransferLeaderResponse<TypeConfig>, RpcError> {
        let call = Call::Transfer {
            leader: Ballot::from(request.from_leader()),
            target: *request.to_node_id(),
            last: request.last_log_id().map(Position::from),
        };
        match self.send((Lane::Control, RPCTypes::TransferLeader), option.soft_ttl(), call, Vec::new()).await? {
            Answer::Transferred => Ok(Ok(())),
            Answer::NotTransferred(reason) => {
                tracing::info!(group = %self.group, to = %self.to, reason, "leadership was not taken over");
                Ok(Err(TransferLeaderError::LogNotFlushed { expected: request.last_log_id().copied(), actual: None }))
            }
            other => Err(unexpected(&other)),
        }
    }
}

fn streaming(error: RpcError) -> StreamingError<TypeConfig> {
    match error {
        RPCError::Timeout(error) => StreamingError::Timeout(error),
        RPCError::Unreachable(error) => StreamingError::Unreachable(error),
        RPCError::Network(error) => StreamingError::Network(error),
        RPCError::RemoteError(error) => match error.source {},
    }
}

#[cfg(test)]
mod tests {
    use futures::stream;
    use tokio::sync::mpsc;
    use tokio::time::{Instant, advance};

    use super::*;
    use crate::types::{Ballot, Entry, EntryPayload};

    fn at(index: u64) -> LogId {
        LogId::from(Position { term: 7, index })
    }

    /// A request with an entry after `previous`, or none.
    fn request(previous: u64, has_entry: bool, committed: u64) -> AppendEntriesRequest<TypeConfig> {
        let leader = Ballot { term: 7, replica: ReplicaId::new(model::NodeId(1), 1), committed: true };
        let entries = has_entry.then(|| Entry { log_id: at(previous + 1), payload: EntryPayload::Blank });
        AppendEntriesRequest {
            vote: Vote::from(leader),
            prev_log_id: Some(at(previous)),
            entries: entries.into_iter().collect(),
            leader_commit: Some(at(committed)),
        }
    }

    fn seen(request: Option<AppendEntriesRequest<TypeConfig>>) -> Option<(usize, u64)> {
        request.and_then(|request| Some((request.entries.len(), request.leader_commit?.index)))
    }

    #[tokio::test(start_paused = true)]
    async fn news_of_a_commit_go_with_the_next_entries_or_a_moment_later() {
        let (sender, mut receiver) = mpsc::unbounded_channel();
        let input = stream::poll_fn(move |context| receiver.poll_recv(context));
        let mut sent = Box::pin(with_entries(input, NEWS_WAIT));
        let start = Instant::now();
        let send = |request| sender.send(request).unwrap();
        send(request(4, true, 4));
        assert_eq!((seen(sent.next().await), start.elapsed()), (Some((1, 4)), Duration::ZERO));
        send(request(5, false, 5));
        assert!(sent.next().now_or_never().is_none(), "nothing to go with yet");
        advance(NEWS_WAIT / 2).await;
        send(request(5, true, 5));
        assert_eq!((seen(sent.next().await), start.elapsed()), (Some((1, 5)), NEWS_WAIT / 2));
        send(request(6, false, 6));
        assert!(sent.next().now_or_never().is_none());
        advance(NEWS_WAIT / 2).await;
        send(request(6, false, 7));
        assert_eq!((seen(sent.next().await), start.elapsed()), (Some((0, 7)), NEWS_WAIT * 3 / 2), "not put off anew");
        send(request(7, false, 8));
        drop(sender);
        assert_eq!(seen(sent.next().await), Some((0, 8)), "the last is sent at once");
        assert!(sent.next().await.is_none());
    }
}
