//! A member of a group of the classic protocol: joins, assigns if it is told to, reads what it is assigned, beats and commits.
//! What it processed counts as consumed before it is committed: a group delivers at least once.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use wire::kafka::messages::join_group::{JoinGroupRequestProtocol, JoinGroupResponseMember};
use wire::kafka::messages::leave_group::MemberIdentity;
use wire::kafka::messages::sync_group::SyncGroupRequestAssignment;
use wire::kafka::messages::{
    HeartbeatRequest, JoinGroupRequest, JoinGroupResponse, LeaveGroupRequest, SyncGroupRequest,
};
use wire::kafka::{ErrorCode, Str};

use super::seat::{Seat, Trouble};
use super::{Group, REBALANCE, SESSION, jobs};
use crate::history::groups::{Join, Share, Who};
use crate::workload::{JOBS, Ledger, now};

const JOIN_VERSION: i16 = 7;
const SYNC_VERSION: i16 = 5;
const HEARTBEAT_VERSION: i16 = 4;
const LEAVE_VERSION: i16 = 4;
/// What members here are, and how they assign.
const TYPE: Str = Str::from_static("consumer");
const PROTOCOL: Str = Str::from_static("by turns");
/// A subscription to `jobs`, as consumers write it.
const SUBSCRIPTION: &[u8] = b"\0\x01\0\0\0\x01\0\x04jobs\xff\xff\xff\xff";

/// One member.
pub struct Member {
    seat: Seat,
    who: Who,
    /// The next offset of each partition that it has, in this generation.
    next: BTreeMap<i32, i64>,
    /// Whether it is in a generation, as far as it knows.
    joined: bool,
    /// The coordinator that it asked first to join.
    asked: Option<u32>,
}

impl Member {
    /// One that has not joined yet.
    pub fn new(group: Group, instance: Option<String>, nodes: u32, ledger: Ledger) -> Self {
        let who = Who { group: group.name, member: String::new(), instance, generation: -1 };
        let seat = Seat::new(group.name, nodes, ledger);
        Self { seat, who, next: BTreeMap::new(), joined: false, asked: None }
    }

    /// Lives for a moment: joins, or reads and beats. `falls` dies if it is told to assign, and says so by its error.
    pub async fn live(&mut self, falls: bool, commits: bool) -> Result<(), Fallen> {
        let lived = match self.joined {
            true => self.work(commits).await,
            false => match self.join().await {
                Ok(joined) => self.enter(joined, falls).await?,
                Err(trouble) => Err(trouble),
            },
        };
        self.suffer(lived);
        Ok(())
    }

    fn suffer(&mut self, lived: Result<(), Trouble>) {
        match lived {
            Ok(()) | Err(Trouble::Lost) => {}
            Err(Trouble::Behind) => self.joined = false,
            Err(Trouble::Named(id)) => self.who.member = id.to_string(),
            Err(Trouble::Expelled | Trouble::Fenced) => {
                self.joined = false;
                self.who.member.clear();
            }
        }
    }

    async fn join(&mut self) -> Result<JoinGroupResponse, Trouble> {
        let protocol = JoinGroupRequestProtocol::default().with_name(PROTOCOL);
        let request = JoinGroupRequest::default()
            .with_group_id(self.who.group.to_owned().into())
            .with_session_timeout_ms(SESSION.as_millis() as i32)
            .with_rebalance_timeout_ms(REBALANCE.as_millis() as i32)
            .with_member_id(self.who.member.clone().into())
            .with_group_instance_id(self.instance())
            .with_protocol_type(TYPE)
            .with_protocols(vec![protocol.with_metadata(Bytes::from_static(SUBSCRIPTION))]);
        let answer = self.seat.call(JOIN_VERSION, &request).await;
        self.asked = self.asked.or(self.seat.coordinator());
        let joined = answer?;
        if joined.error_code == ErrorCode::MemberIdRequired.code() {
            return Err(Trouble::Named(joined.member_id));
        }
        self.seat.judge(joined.error_code)?;
        Ok(joined)
    }

    /// It is in a generation: assigns if it leads, asks for its part, and where to go on.
    async fn enter(&mut self, joined: JoinGroupResponse, falls: bool) -> Result<Result<(), Trouble>, Fallen> {
        let leads = joined.leader == joined.member_id;
        self.note_join(&joined, leads);
        if leads && falls {
            self.seat.ledger.borrow_mut().count("group leader died between join and sync");
            return Err(Fallen);
        }
        let assignments = if leads { self.assign(&joined.members) } else { Vec::new() };
        Ok(self.sync(assignments).await)
    }

    fn note_join(&mut self, joined: &JoinGroupResponse, leads: bool) {
        let (member, generation) = (joined.member_id.to_string(), joined.generation_id);
        self.who = Who { member, generation, ..self.who.clone() };
        let mut ledger = self.seat.ledger.borrow_mut();
        let group = self.who.group;
        let replaced = |join: &Join| {
            let other = join.who.member != self.who.member && join.who.instance == self.who.instance;
            join.who.group == group && other && join.who.generation == generation
        };
        if self.who.instance.is_some() && ledger.groups.joins.iter().any(replaced) {
            ledger.count("static member replaced without a rebalance");
        }
        let asked = self.asked.take();
        if asked.is_some() && asked != self.seat.coordinator() {
            ledger.count("rebalance went on at another coordinator");
        }
        if leads {
            ledger.count("generations of groups");
            let (members, label) = (joined.members.len(), self.who.label());
            let words = format!("GROUP {group} is in generation {generation}, {members} members, {label} assigns");
            ledger.tell(now(), words);
        }
        ledger.groups.joins.push(Join { at: now(), who: self.who.clone(), leads });
    }

    /// Every partition to one member, by turns, and in each generation to another one.
    fn assign(&self, members: &[JoinGroupResponseMember]) -> Vec<SyncGroupRequestAssignment> {
        let label = |member: &JoinGroupResponseMember| {
            member.group_instance_id.as_ref().unwrap_or(&member.member_id).to_string()
        };
        let of = |place: usize| -> BTreeSet<i32> {
            let turn = |index: &i32| (index + self.who.generation) as usize % members.len() == place;
            (0..JOBS.1).filter(turn).collect()
        };
        let assigned = members.iter().enumerate().map(|(place, member)| (label(member), of(place))).collect();
        let groups = &mut self.seat.ledger.borrow_mut().groups;
        groups.assigned.entry((self.who.group, self.who.generation)).or_default().push(assigned);
        let assignment = |(place, member): (usize, &JoinGroupResponseMember)| {
            let partitions: Vec<u8> = of(place).into_iter().map(|index| index as u8).collect();
            SyncGroupRequestAssignment::default()
                .with_member_id(member.member_id.clone())
                .with_assignment(partitions.into())
        };
        members.iter().enumerate().map(assignment).collect()
    }

    async fn sync(&mut self, assignments: Vec<SyncGroupRequestAssignment>) -> Result<(), Trouble> {
        let request = SyncGroupRequest::default()
            .with_group_id(self.who.group.to_owned().into())
            .with_generation_id(self.who.generation)
            .with_member_id(self.who.member.clone().into())
            .with_group_instance_id(self.instance())
            .with_protocol_type(Some(TYPE))
            .with_protocol_name(Some(PROTOCOL))
            .with_assignments(assignments);
        let synced = self.seat.call(SYNC_VERSION, &request).await?;
        self.seat.judge(synced.error_code)?;
        let partitions: Vec<i32> = synced.assignment.iter().map(|index| i32::from(*index)).collect();
        let share = Share { at: now(), who: self.who.clone(), partitions: partitions.iter().copied().collect() };
        self.seat.ledger.borrow_mut().groups.shares.push(share);
        self.next = self.seat.offsets(&partitions).await?;
        self.joined = true;
        Ok(())
    }

    /// Reads a little of everything it has, commits and beats. Whoever hears of a rebalance commits before it joins again.
    async fn work(&mut self, commits: bool) -> Result<(), Trouble> {
        self.read().await;
        let beaten = self.heartbeat().await;
        if commits || matches!(beaten, Err(Trouble::Behind)) {
            self.commit().await?;
        }
        beaten
    }

    async fn read(&mut self) {
        for (index, next) in &mut self.next {
            jobs::go_on(&mut self.seat, *index, next).await;
        }
    }

    async fn heartbeat(&mut self) -> Result<(), Trouble> {
        let request = HeartbeatRequest::default()
            .with_group_id(self.who.group.to_owned().into())
            .with_generation_id(self.who.generation)
            .with_member_id(self.who.member.clone().into())
            .with_group_instance_id(self.instance());
        let beaten = self.seat.call(HEARTBEAT_VERSION, &request).await?;
        self.seat.judge(beaten.error_code)
    }

    async fn commit(&mut self) -> Result<(), Trouble> {
        if self.next.is_empty() {
            return Ok(());
        }
        self.seat.commit(&self.who, &self.next).await
    }

    /// Wakes after its session, and commits what it has read long ago.
    pub async fn wake(&mut self) {
        if !self.joined || self.next.is_empty() {
            return;
        }
        let lived = self.commit().await;
        let mut ledger = self.seat.ledger.borrow_mut();
        match &lived {
            Err(Trouble::Fenced) => ledger.count("old life of a static member refused"),
            Err(Trouble::Behind | Trouble::Expelled) => ledger.count("zombie commit refused"),
            _ => {}
        }
        drop(ledger);
        self.suffer(lived);
    }

    /// Commits and leaves; whether that is heard does not matter to it.
    pub async fn leave(&mut self) {
        if self.joined {
            let _too_late = self.commit().await;
        }
        let member = MemberIdentity::default().with_member_id(self.who.member.clone().into());
        let request = LeaveGroupRequest::default().with_group_id(self.who.group.to_owned().into());
        let request = request.with_members(vec![member.with_group_instance_id(self.instance())]);
        let _unheard = self.seat.call(LEAVE_VERSION, &request).await;
        self.joined = false;
    }

    fn instance(&self) -> Option<Str> {
        self.who.instance.clone().map(Str::from)
    }
}

/// It has died as it was told to.
pub struct Fallen;
