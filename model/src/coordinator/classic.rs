//! A group of the classic protocol: its members, its phase, its generation.
//! Invariants: generations only rise; from the end of a join on, the leader is a member; a group without members is Empty.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::Code;
use crate::assign::Spot;
use crate::planted::{self, Bug};

/// Where a group is in its rebalance (Kafka's names: PreparingRebalance, CompletingRebalance).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Phase {
    /// No members.
    #[default]
    Empty,
    /// Members rejoin.
    Preparing,
    /// The generation is made; its leader assigns.
    Completing,
    /// Everybody may have its assignment.
    Stable,
}

/// Who speaks, as every request of a member says it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Who {
    /// Which group.
    pub group: String,
    /// The member id; empty where an instance id is enough (LeaveGroup).
    pub member: String,
    /// `group.instance.id` of a static member (KIP-345).
    pub instance: Option<String>,
    /// The generation it believes in; -1 for none.
    pub generation: i32,
}

/// A way to assign that a member knows, and what it says to those who assign so.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Protocol {
    /// Such as `range` or `cooperative-sticky`.
    pub name: String,
    /// Opaque to us: the subscription.
    pub metadata: Vec<u8>,
}

/// A member.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Member {
    /// `group.instance.id` of a static member.
    pub instance: Option<String>,
    /// Its `client.id`.
    pub client_id: String,
    /// Where it connects from.
    pub client_host: String,
    /// Silent for longer, it is expired.
    pub session_timeout_ms: i32,
    /// How long it may take to rejoin.
    pub rebalance_timeout_ms: i32,
    /// Best first.
    pub protocols: Vec<Protocol>,
    /// Topics that it subscribes to, if its metadata is that of a consumer.
    pub topics: Vec<String>,
    /// What the leader assigned in this generation.
    pub assignment: Vec<u8>,
    /// Whether it has rejoined (Preparing), or asked for its assignment (Completing).
    pub ready: bool,
    /// What it may be reading: what it said so of when it joined last, and what it was assigned since; `None` if it does not say of
    /// itself what consumers do, or was assigned more than partitions.
    pub owns: Option<BTreeSet<Spot>>,
}

/// A group of the classic protocol.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Classic {
    /// Where it is.
    pub phase: Phase,
    /// Raised by the end of each join.
    pub generation: i32,
    /// Such as `consumer` or `connect`; `None` before the first member, and in a group that only stores offsets.
    pub protocol_type: Option<String>,
    /// The protocol of this generation.
    pub protocol: Option<String>,
    /// Who assigns.
    pub leader: Option<String>,
    /// By member id.
    pub members: BTreeMap<String, Member>,
    /// When it got into this phase, the leader's wall clock, ms since 1970.
    pub since_ms: i64,
    /// It was Empty, and more members may come within `group.initial.rebalance.delay.ms`: only EndJoin ends the join.
    pub gathers: bool,
}

impl Classic {
    pub(super) fn state(&self) -> &'static str {
        match self.phase {
            Phase::Empty => "Empty",
            Phase::Preparing => "PreparingRebalance",
            Phase::Completing => "CompletingRebalance",
            Phase::Stable => "Stable",
        }
    }

    /// The member id that the request means: by id, or by instance id alone.
    ///
    /// # Errors
    /// `UnknownMemberId`; `FencedInstanceId` when another member has the instance id.
    pub fn named(&self, who: &Who) -> Result<String, Code> {
        let Some(instance) = &who.instance else {
            return self.members.contains_key(&who.member).then(|| who.member.clone()).ok_or(Code::UnknownMemberId);
        };
        match self.instance(instance) {
            Some(holder) if who.member.is_empty() || *holder == who.member => Ok(holder.clone()),
            Some(holder) if planted::is(Bug::InstanceNotFenced) => Ok(holder.clone()),
            Some(_) => Err(Code::FencedInstanceId),
            None => Err(Code::UnknownMemberId),
        }
    }

    /// The member with this instance id.
    pub(super) fn instance(&self, instance: &str) -> Option<&String> {
        let has = |member: &Member| member.instance.as_deref() == Some(instance);
        self.members.iter().find_map(|(id, member)| has(member).then_some(id))
    }

    /// The member, if the request is of the current generation.
    ///
    /// # Errors
    /// As [`Classic::named`]; `IllegalGeneration`.
    pub fn current(&self, who: &Who) -> Result<&Member, Code> {
        let id = self.named(who)?;
        match self.members.get(&id) {
            Some(member) if who.generation == self.generation => Ok(member),
            Some(_) => Err(Code::IllegalGeneration),
            None => Err(Code::UnknownMemberId),
        }
    }

    /// Whether any member subscribes to the topic of this name.
    pub fn subscribes(&self, topic: &str) -> bool {
        self.members.values().any(|member| member.topics.iter().any(|name| name == topic))
    }

    /// How long a join may take: the longest that any member asks for, ms.
    pub fn rebalance_timeout_ms(&self) -> i32 {
        self.members.values().map(|member| member.rebalance_timeout_ms).max().unwrap_or(0)
    }
}

impl Member {
    /// Whether it knows the protocol.
    pub(super) fn knows(&self, protocol: &str) -> bool {
        self.protocols.iter().any(|known| known.name == protocol)
    }

    /// What it says of itself, in bytes.
    pub(super) fn bytes(&self) -> usize {
        let protocols = self.protocols.iter().map(|protocol| protocol.name.len() + protocol.metadata.len());
        protocols.sum::<usize>() + self.topics.iter().map(String::len).sum::<usize>()
    }

    /// What it says to those who assign by `protocol`.
    pub fn metadata(&self, protocol: &str) -> Vec<u8> {
        let of = self.protocols.iter().find(|known| known.name == protocol);
        of.map(|known| known.metadata.clone()).unwrap_or_default()
    }
}
