//! CreatePartitions: a topic only grows, and its records stay where they are.

use serde::{Deserialize, Serialize};

use crate::check;
use crate::controller::internal::refuse_change;
use crate::controller::placement::{Loads, Terms};
use crate::controller::topics::{check_partition_count, unknown_topic};
use crate::controller::topology::refuse_growth;
use crate::controller::{Code, Error, Image, Topic};
use crate::ids::NodeId;

/// The command.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CreatePartitions {
    /// Which topics grow.
    pub topics: Vec<MorePartitions>,
    /// Only check.
    pub validate_only: bool,
}

/// A topic to grow.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MorePartitions {
    /// Its name.
    pub topic: String,
    /// Partitions afterwards.
    pub count: i32,
    /// Replicas of each new partition, chosen by the client; none: the cluster chooses.
    pub assignments: Option<Vec<Vec<NodeId>>>,
}

impl Image {
    pub(super) fn create_partitions(&mut self, create: CreatePartitions, terms: &Terms) -> Vec<Result<(), Error>> {
        let mut loads = Loads::of(self, terms);
        create.topics.iter().map(|more| self.grow_topic(more, &mut loads)).collect()
    }

    fn grow_topic(&mut self, more: &MorePartitions, loads: &mut Loads) -> Result<(), Error> {
        let topic = self.topic(&more.topic).ok_or_else(|| unknown_topic(&more.topic))?.clone();
        refuse_change(&topic)?;
        refuse_growth(self, &topic)?;
        let known = topic.partitions.len();
        let added = check_growth(known as i32, more.count)?;
        let replication = topic.partitions.first().map_or(1, |partition| partition.wanted().count());
        let placed = match &more.assignments {
            None => {
                let mut draft = loads.clone();
                let placed = draft.place(added, replication)?;
                *loads = draft;
                placed
            }
            Some(chosen) => {
                check_chosen(chosen, added, replication, loads)?;
                chosen.iter().for_each(|replicas| loads.add(replicas));
                chosen.clone()
            }
        };
        let more = self.number(placed, known)?;
        let mut grown = Topic::clone(&topic);
        grown.partitions.extend(more);
        check!(grown.partitions.len() == known + added, TopicIndexesAgree, "{} grew by another number", topic.name);
        self.put_topic(grown);
        Ok(())
    }
}

fn check_growth(known: i32, asked: i32) -> Result<usize, Error> {
    let refuse = |message| Err(Error::new(Code::InvalidPartitions, message));
    check_partition_count(asked)?;
    match asked - known {
        added @ 1.. => Ok(added as usize),
        0 => refuse(format!("Topic already has {known} partition(s).")),
        _ => refuse(format!("The topic currently has {known} partition(s); {asked} would not be an increase.")),
    }
}

fn check_chosen(chosen: &[Vec<NodeId>], added: usize, replication: usize, loads: &Loads) -> Result<(), Error> {
    if chosen.len() != added {
        let message = format!(
            "Attempted to add {added} additional partition(s), but {} assignment(s) were specified.",
            chosen.len()
        );
        return Err(Error::new(Code::InvalidReplicaAssignment, message));
    }
    chosen.iter().try_for_each(|replicas| loads.check_manual(replicas, replication))
}
