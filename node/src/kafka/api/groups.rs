//! Shared by the group APIs: who speaks, Kafka's codes for a coordinator's refusals, and the partitions of offsets.
use model::PartitionIndex;
use model::assign::Spot;
use model::controller::{Image, Topic};
use model::coordinator::{Code, Migration, Who};
use wire::kafka::subscription::Partitions;
use wire::kafka::{ErrorCode, Str};

use crate::broker::Denied;
use crate::kafka::Call;

/// Kafka's bit set of operations on a group when everything is allowed: read, delete, describe.
pub(super) const GROUP_OPERATIONS: i32 = 1 << 3 | 1 << 6 | 1 << 8;

/// The code for a refusal.
pub(super) fn code(denied: &Denied) -> ErrorCode {
    match denied {
        Denied::NotCoordinator => ErrorCode::NotCoordinator,
        Denied::Loading => ErrorCode::CoordinatorLoadInProgress,
        Denied::Unavailable => ErrorCode::CoordinatorNotAvailable,
        Denied::MemberIdRequired(_) => ErrorCode::MemberIdRequired,
        Denied::BadPattern(_) => ErrorCode::InvalidRegularExpression,
        Denied::Refused(code) => refusal(*code),
    }
}

/// The code for a group's own refusal.
pub(super) fn refusal(code: Code) -> ErrorCode {
    ErrorCode::from_i16(code.kafka()).unwrap_or(ErrorCode::UnknownServerError)
}

/// Who a request speaks for; a group must have a name.
pub(super) fn who(group: &Str, member: &Str, instance: Option<&Str>, generation: i32) -> Result<Who, ErrorCode> {
    if group.is_empty() {
        return Err(ErrorCode::InvalidGroupId);
    }
    let instance = instance.map(ToString::to_string);
    Ok(Who { group: group.to_string(), member: member.to_string(), instance, generation })
}

/// What may become of a group in which both protocols meet, by the node's `group.consumer.migration.policy`.
pub(super) fn migration(call: &Call) -> Migration {
    let image = call.broker().image();
    let value = |key| image.broker_value(key, Some(call.broker().node_id()));
    let policy = value("group.consumer.migration.policy").to_ascii_lowercase();
    let allows = |way: &str| policy == way || policy == "bidirectional";
    let size_max = value("group.max.size").parse().unwrap_or(0);
    Migration { upgrades: allows("upgrade"), downgrade_max: if allows("downgrade") { size_max } else { 0 } }
}

/// The partitions that exist of those that consumers name to each other.
pub(super) fn spots(image: &Image, named: Partitions) -> std::collections::BTreeSet<Spot> {
    let of = |(name, indexes): (String, Vec<i32>)| {
        let topic = image.topic(&name);
        indexes.into_iter().filter_map(move |index| spot(topic?, index).ok())
    };
    named.into_iter().flat_map(of).collect()
}

/// A partition that offsets are kept of.
pub(super) fn spot(topic: &Topic, index: i32) -> Result<Spot, ErrorCode> {
    let partition = super::partition(topic, index)?;
    Ok(Spot { topic: topic.id, partition: partition.index })
}

/// The same by the topic's name.
pub(super) fn spot_of(image: &Image, name: &Str, index: i32) -> Result<Spot, ErrorCode> {
    let partition = super::partition_of(image, name, index)?;
    Ok(Spot { topic: partition.topic, partition: PartitionIndex(index) })
}
