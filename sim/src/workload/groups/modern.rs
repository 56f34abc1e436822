//! A member of a group of the consumer protocol (KIP-848): beats, gives partitions up when it is told to and says so, reads what it has,
//! commits. Its id is its own, and another one in each life. As a real one does it says all of itself only when something is new, or
//! when an answer was lost.

use std::collections::{BTreeMap, BTreeSet};

use wire::kafka::messages::consumer_group_heartbeat::{request, response};
use wire::kafka::messages::{ConsumerGroupHeartbeatRequest, ConsumerGroupHeartbeatResponse};

use super::seat::{Seat, Trouble};
use super::{Group, REBALANCE, jobs};
use crate::history::groups::{Hold, Who};
use crate::workload::{JOBS, Ledger, now};

const HEARTBEAT_VERSION: i16 = 1;
/// Epoch of one that joins, and of one that leaves.
const JOINS: i32 = 0;
const LEAVES: i32 = -1;

/// One member.
pub struct Member {
    seat: Seat,
    /// Its generation is the member epoch.
    who: Who,
    /// What it has, each with the number of its row in the history.
    held: BTreeMap<i32, usize>,
    /// The next offset of each partition that it has, where that is known.
    next: BTreeMap<i32, i64>,
    /// The topic as the group names it.
    topic: Vec<request::TopicPartitions>,
    /// Whether it has something to say, or may not have been heard.
    says_all: bool,
}

impl Member {
    /// One that has not joined yet.
    pub fn new(group: Group, id: String, nodes: u32, ledger: Ledger) -> Self {
        let who = Who { group: group.name, member: id, instance: None, generation: JOINS };
        let seat = Seat::new(group.name, nodes, ledger);
        Self { seat, who, held: BTreeMap::new(), next: BTreeMap::new(), topic: Vec::new(), says_all: true }
    }

    /// Lives for a moment: reads, may commit, and beats.
    pub async fn live(&mut self, commits: bool) {
        let lived = self.work(commits).await;
        self.suffer(lived);
    }

    async fn work(&mut self, commits: bool) -> Result<(), Trouble> {
        self.find_offsets().await?;
        self.read().await;
        if commits {
            self.commit().await?;
        }
        let begun = now();
        let beaten = self.beat().await?;
        for hold in self.held.values() {
            self.seat.ledger.borrow_mut().groups.holds[*hold].until = begun;
        }
        self.says_all = false;
        self.note_epoch(beaten.member_epoch);
        match beaten.assignment {
            Some(assignment) => self.reconcile(*assignment).await,
            None => Ok(()),
        }
    }

    fn suffer(&mut self, lived: Result<(), Trouble>) {
        let Err(trouble) = lived else { return };
        self.says_all = true;
        if matches!(trouble, Trouble::Expelled | Trouble::Fenced) {
            self.who.generation = JOINS;
            self.held.clear();
            self.next.clear();
        }
    }

    fn note_epoch(&mut self, epoch: i32) {
        if epoch != self.who.generation {
            self.seat.ledger.borrow_mut().count("epochs of members");
        }
        self.who.generation = epoch;
    }

    async fn beat(&mut self) -> Result<ConsumerGroupHeartbeatResponse, Trouble> {
        let request = ConsumerGroupHeartbeatRequest::default()
            .with_group_id(self.who.group.to_owned().into())
            .with_member_id(self.who.member.clone().into())
            .with_member_epoch(self.who.generation);
        let request = match self.says_all || self.who.generation == JOINS {
            true => request
                .with_rebalance_timeout_ms(REBALANCE.as_millis() as i32)
                .with_subscribed_topic_names(Some(vec![JOBS.0.to_owned().into()]))
                .with_topic_partitions(Some(self.owned())),
            false => request.with_rebalance_timeout_ms(-1).with_topic_partitions(None),
        };
        let beaten = self.seat.call(HEARTBEAT_VERSION, &request).await?;
        self.seat.judge(beaten.error_code)?;
        Ok(beaten)
    }

    fn owned(&self) -> Vec<request::TopicPartitions> {
        let partitions: Vec<i32> = self.held.keys().copied().collect();
        let topic = self.topic.iter().filter(|_| !partitions.is_empty());
        topic.map(|topic| topic.clone().with_partitions(partitions.clone())).collect()
    }

    /// Gives up what it should not have any more, having committed it, and takes what it should.
    async fn reconcile(&mut self, assignment: response::Assignment) -> Result<(), Trouble> {
        if let Some(topic) = assignment.topic_partitions.first() {
            self.topic = vec![request::TopicPartitions::default().with_topic_id(topic.topic_id)];
        }
        let target: BTreeSet<i32> =
            assignment.topic_partitions.into_iter().flat_map(|topic| topic.partitions).collect();
        if self.held.keys().any(|index| !target.contains(index)) {
            self.says_all = true;
            let committed = self.commit().await;
            self.held.retain(|index, _| target.contains(index));
            self.next.retain(|index, _| target.contains(index));
            self.seat.ledger.borrow_mut().count("partition given up to be reassigned");
            committed?;
        }
        for index in target {
            self.held.entry(index).or_insert_with(|| {
                self.says_all = true;
                let (cursor, member) = ((self.who.group, index), self.who.member.clone());
                let holds = &mut self.seat.ledger.borrow_mut().groups.holds;
                holds.push(Hold { cursor, member, from: now(), until: now() });
                holds.len() - 1
            });
        }
        Ok(())
    }

    /// Where to go on in what is new to it.
    async fn find_offsets(&mut self) -> Result<(), Trouble> {
        let new: Vec<i32> = self.held.keys().filter(|index| !self.next.contains_key(index)).copied().collect();
        if !new.is_empty() {
            self.next.extend(self.seat.offsets(&new).await?);
        }
        Ok(())
    }

    async fn read(&mut self) {
        for (index, next) in &mut self.next {
            jobs::go_on(&mut self.seat, *index, next).await;
        }
    }

    async fn commit(&mut self) -> Result<(), Trouble> {
        if self.next.is_empty() { Ok(()) } else { self.seat.commit(&self.who, &self.next).await }
    }

    /// Wakes after its session, and commits what it has read long ago.
    pub async fn wake(&mut self) {
        let lived = self.commit().await;
        if matches!(lived, Err(Trouble::Behind | Trouble::Expelled)) {
            self.seat.ledger.borrow_mut().count("zombie commit of the consumer protocol refused");
        }
        self.suffer(lived);
    }

    /// Commits and leaves; whether that is heard does not matter to it.
    pub async fn leave(&mut self) {
        let _too_late = self.commit().await;
        self.who.generation = LEAVES;
        let _unheard = self.beat().await;
        self.suffer(Err(Trouble::Expelled));
    }
}
