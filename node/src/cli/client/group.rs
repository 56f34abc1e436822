//! Consumer groups over the Kafka protocol: their coordinator, committed offsets, members.

use std::collections::BTreeMap;
use std::sync::Arc;

use wire::kafka::messages::leave_group::MemberIdentity;
use wire::kafka::messages::offset_commit::{OffsetCommitRequestPartition, OffsetCommitRequestTopic};
use wire::kafka::messages::offset_fetch::{OffsetFetchRequestGroup, OffsetFetchRequestTopics};
use wire::kafka::messages::{
    DeleteGroupsRequest, DeleteGroupsResponse, FindCoordinatorRequest, LeaveGroupRequest, LeaveGroupResponse,
    OffsetCommitRequest, OffsetCommitResponse, OffsetFetchRequest, OffsetFetchResponse, RequestBody,
};

use super::{Client, Connection, Error, PATIENCE, Patience, text};

/// Offsets of one topic by partition.
pub type Offsets = BTreeMap<i32, i64>;

impl Client {
    /// A connection to the node that coordinates a group.
    pub async fn coordinator(&self, group: &str) -> Result<Arc<Connection>, Error> {
        let request = FindCoordinatorRequest { coordinator_keys: vec![text(group)], ..Default::default() };
        let mut patience = Patience::new(PATIENCE);
        loop {
            let found = async {
                self.metadata(Some(&[]), false).await?;
                let answer = self.any().await?.call(&request).await?;
                let found = answer.coordinators.into_iter().next().ok_or(Error::NoLeader)?;
                let message = found.error_message.as_ref().map(|message| message.as_str());
                Error::check_with(found.error_code, message)?;
                self.broker(found.node_id).await
            };
            match found.await {
                Err(error) if error.passes() => patience.pause(error).await?,
                outcome => return outcome,
            }
        }
    }

    /// Asks the coordinator of a group, again if it says that it cannot answer yet, or is none any more.
    async fn ask_coordinator<Q: RequestBody, T>(
        &self,
        group: &str,
        request: &Q,
        read: impl Fn(Q::Response) -> Result<T, Error>,
    ) -> Result<T, Error> {
        let mut patience = Patience::new(PATIENCE);
        loop {
            match read(self.coordinator(group).await?.call(request).await?) {
                Err(error @ Error::Code { .. }) if error.passes() => patience.pause(error).await?,
                outcome => return outcome,
            }
        }
    }

    /// What a group has committed of a topic; partitions without a commit are missing.
    pub async fn committed(&self, group: &str, topic: &str, partitions: &[i32]) -> Result<Offsets, Error> {
        let topics = OffsetFetchRequestTopics {
            name: text(topic),
            topic_id: self.topic_id(topic).await?,
            partition_indexes: partitions.to_vec(),
            ..Default::default()
        };
        let asked = OffsetFetchRequestGroup { group_id: text(group), topics: Some(vec![topics]), ..Default::default() };
        let request = OffsetFetchRequest { groups: vec![asked], ..Default::default() };
        let read = |answer: OffsetFetchResponse| {
            let answer = answer.groups.into_iter().next().ok_or(Error::NoLeader)?;
            Error::check(answer.error_code)?;
            let mut offsets = Offsets::new();
            for partition in answer.topics.into_iter().flat_map(|topic| topic.partitions) {
                Error::check(partition.error_code)?;
                let committed = (partition.committed_offset >= 0).then_some(partition.committed_offset);
                offsets.extend(committed.map(|offset| (partition.partition_index, offset)));
            }
            Ok(offsets)
        };
        self.ask_coordinator(group, &request, read).await
    }

    /// Commits offsets of a group without members.
    pub async fn commit(&self, group: &str, topic: &str, offsets: &Offsets) -> Result<(), Error> {
        let partition = |(index, offset): (&i32, &i64)| OffsetCommitRequestPartition {
            partition_index: *index,
            committed_offset: *offset,
            committed_leader_epoch: -1,
            ..Default::default()
        };
        let topics = OffsetCommitRequestTopic {
            name: text(topic),
            topic_id: self.topic_id(topic).await?,
            partitions: offsets.iter().map(partition).collect(),
            ..Default::default()
        };
        let request = OffsetCommitRequest {
            group_id: text(group),
            generation_id_or_member_epoch: -1,
            topics: vec![topics],
            ..Default::default()
        };
        let read = |answer: OffsetCommitResponse| {
            let partitions = answer.topics.into_iter().flat_map(|topic| topic.partitions);
            partitions.map(|partition| partition.error_code).try_for_each(Error::check)
        };
        self.ask_coordinator(group, &request, read).await
    }

    /// Makes a member leave its group.
    pub async fn remove_member(&self, group: &str, member: &str) -> Result<(), Error> {
        let member = MemberIdentity {
            member_id: text(member),
            reason: Some(text("removed by an administrator")),
            ..Default::default()
        };
        let request = LeaveGroupRequest { group_id: text(group), members: vec![member], ..Default::default() };
        let read = |answer: LeaveGroupResponse| {
            Error::check(answer.error_code)?;
            answer.members.iter().map(|member| member.error_code).try_for_each(Error::check)
        };
        self.ask_coordinator(group, &request, read).await
    }

    /// Deletes a group without members, and what it has committed.
    pub async fn delete_group(&self, group: &str) -> Result<(), Error> {
        let request = DeleteGroupsRequest { groups_names: vec![text(group)], ..Default::default() };
        let read = |answer: DeleteGroupsResponse| {
            answer.results.iter().map(|result| result.error_code).try_for_each(Error::check)
        };
        self.ask_coordinator(group, &request, read).await
    }

    /// Offsets are committed by topic ids from some version on.
    async fn topic_id(&self, topic: &str) -> Result<wire::kafka::Uuid, Error> {
        let answer = self.metadata(Some(&[topic]), false).await?;
        let answer = answer.topics.into_iter().next().ok_or_else(|| Error::UnknownTopic(topic.to_owned()))?;
        Error::check(answer.error_code)?;
        Ok(answer.topic_id)
    }
}
