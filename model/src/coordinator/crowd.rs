//! Ten thousand members, storms of joins, members that say too much: Kafka's codes, and a group that grows no further.

use super::*;
use crate::ids::PartitionIndex;
use crate::limits::GROUP_METADATA_BYTES_MAX;

const CROWD: u32 = 10_000;
/// Of these, so many come one by one.
const JOINING: u32 = 100;
const MEBIBYTE: usize = 1 << 20;

fn at(now_ms: i64) -> At {
    At { index: 1, term: 1, leader_ts: now_ms }
}

fn who(member: &str, generation: i32) -> Who {
    Who { group: "g".to_owned(), member: member.to_owned(), instance: None, generation }
}

fn join(member: &str, is_new: bool, metadata_bytes: usize) -> Command {
    let protocols = vec![Protocol { name: "range".to_owned(), metadata: vec![7; metadata_bytes] }];
    Command::Join(Join {
        who: who(member, -1),
        is_new,
        member: Member { protocols, ..Member::default() },
        protocol_type: "consumer".to_owned(),
        members_max: CROWD,
        gathers: true,
        embedded: None,
        migration: Migration::default(),
    })
}

fn end_join(generation: i32) -> Command {
    Command::EndJoin(Turn { group: "g".to_owned(), generation })
}

/// A member of the consumer protocol that subscribes to one topic, whose name is that long.
fn beat(member: &str, epoch: i32, name_bytes: usize, members_max: u32) -> Command {
    let topic = TopicId([1; 16]);
    let subscription =
        Subscription { names: vec!["t".repeat(name_bytes)], topics: BTreeSet::from([topic]), ..Default::default() };
    Command::Beat(Beat {
        who: who(member, epoch),
        client_id: String::new(),
        client_host: String::new(),
        rebalance_timeout_ms: Some(60_000),
        subscription: Some(subscription),
        topics: vec![(topic, 12)],
        owned: Some(BTreeSet::new()),
        members_max,
        classic: None,
        named: Vec::new(),
        migration: Migration::default(),
    })
}

const OK: Reply = Reply::Done(Ok(()));
const FULL: Reply = Reply::Done(Err(Code::GroupMaxSizeReached));
const BEATEN_FULL: Reply = Reply::Beaten(Err(Code::GroupMaxSizeReached));

#[test]
fn ten_thousand_members_share_a_group_and_a_storm_stays_outside() {
    let mut machine = CoordinatorMachine::default();
    assert_eq!(machine.apply(at(0), join("m0", true, 64)), OK);
    // Each join looks at all members, which takes a debug build minutes: most are put in as the first one was left.
    if let Some(Kind::Classic(group)) = machine.groups.get_mut("g").map(|group| &mut group.kind) {
        let first = group.members["m0"].clone();
        group.members.extend((1..CROWD - JOINING).map(|member| (format!("m{member}"), first.clone())));
    }
    for member in CROWD - JOINING..CROWD {
        assert_eq!(machine.apply(at(0), join(&format!("m{member}"), true, 64)), OK);
    }
    assert_eq!(machine.apply(at(1), end_join(0)), OK);
    let leader = machine.group("g").and_then(Group::classic).and_then(|group| group.leader.clone()).unwrap();
    let told = machine.join_answer(&who(&leader, -1)).unwrap().unwrap();
    assert_eq!(told.members().count(), CROWD as usize);
    let assignments = (0..CROWD).map(|member| Part {
        member: format!("m{member}"),
        bytes: member.to_be_bytes().to_vec(),
        spots: None,
    });
    let assignments = assignments.collect();
    let brings = Sync { who: who(&leader, 1), protocol_type: None, protocol: None, assignments };
    assert_eq!(machine.apply(at(2), Command::Sync(brings)), OK);
    let before = machine.clone();
    for round in 0..20 {
        for stranger in 0..5 {
            let name = format!("stranger{round}-{stranger}");
            assert_eq!(machine.apply(at(200 * round), join(&name, true, 64)), FULL);
            let unknown = Reply::Done(Err(Code::UnknownMemberId));
            assert_eq!(machine.apply(at(200 * round), join(&name, false, 64)), unknown);
        }
        // Followers whose answer was lost ask again: they are told what is, and begin no rebalance.
        let follower = if leader == "m1" { "m2" } else { "m1" };
        assert_eq!(machine.apply(at(200 * round), join(follower, false, 64)), OK);
    }
    assert!(machine == before, "the storm left something behind");
    assert_eq!(machine.heartbeat(&who(&leader, 1)), Ok(()));
    assert_eq!(machine.apply(at(9), Command::Expire(who("m5", -1))), OK);
    assert_eq!(machine.apply(at(9), join("late", true, 64)), OK);
    assert_eq!(machine.heartbeat(&who(&leader, 1)), Err(Code::RebalanceInProgress));
}

#[test]
fn what_members_of_the_classic_protocol_say_is_bounded() {
    let mut machine = CoordinatorMachine::default();
    let fit = (GROUP_METADATA_BYTES_MAX / (MEBIBYTE + 5)) as u32;
    for member in 0..fit {
        assert_eq!(machine.apply(at(0), join(&format!("m{member}"), true, MEBIBYTE)), OK);
    }
    let before = machine.clone();
    assert_eq!(machine.apply(at(0), join("more", true, MEBIBYTE)), FULL);
    assert_eq!(machine.apply(at(0), join("m0", false, 3 * MEBIBYTE)), FULL);
    assert!(machine == before, "refused and changed");
    assert_eq!(machine.apply(at(0), join("m0", false, 10)), OK);
    assert_eq!(machine.apply(at(0), join("more", true, MEBIBYTE)), OK);
}

#[test]
fn what_members_of_the_consumer_protocol_say_is_bounded() {
    let mut machine = CoordinatorMachine::default();
    let fit = (GROUP_METADATA_BYTES_MAX / MEBIBYTE) as u32;
    for member in 0..fit {
        let reply = machine.apply(at(0), beat(&format!("m{member}"), consumer::JOINS, MEBIBYTE, CROWD));
        assert!(matches!(reply, Reply::Beaten(Ok(_))), "{reply:?}");
    }
    let before = machine.clone();
    let epoch = machine.group("g").and_then(Group::consumer).map_or(0, |group| group.members["m0"].epoch);
    assert_eq!(machine.apply(at(0), beat("more", consumer::JOINS, 1, CROWD)), BEATEN_FULL);
    assert_eq!(machine.apply(at(0), beat("m0", epoch, MEBIBYTE + 1, CROWD)), BEATEN_FULL);
    assert_eq!(machine.apply(at(0), beat("m0", 99, 1, CROWD)), Reply::Beaten(Err(Code::FencedMemberEpoch)));
    assert!(machine == before, "refused and changed");
    assert!(matches!(machine.apply(at(0), beat("m0", epoch, 10, CROWD)), Reply::Beaten(Ok(_))));
    assert!(matches!(machine.apply(at(0), beat("more", consumer::JOINS, 100, CROWD)), Reply::Beaten(Ok(_))));
}

#[test]
fn a_storm_of_the_consumer_protocol_stays_outside_too() {
    let (mut machine, size) = (CoordinatorMachine::default(), 100);
    for member in 0..size {
        let reply = machine.apply(at(0), beat(&format!("m{member}"), consumer::JOINS, 1, size));
        assert!(matches!(reply, Reply::Beaten(Ok(_))), "{reply:?}");
    }
    let before = machine.clone();
    for stranger in 0..CROWD {
        assert_eq!(machine.apply(at(0), beat(&format!("s{stranger}"), consumer::JOINS, 1, size)), BEATEN_FULL);
    }
    assert!(machine == before, "the storm left something behind");
    let owners = &before.group("g").and_then(Group::consumer).unwrap().owners;
    assert!(
        (0..12).all(|index| owners.contains_key(&Spot { topic: TopicId([1; 16]), partition: PartitionIndex(index) }))
    );
}

#[test]
fn what_the_leader_assigns_is_bounded() {
    let mut machine = CoordinatorMachine::default();
    assert_eq!(machine.apply(at(0), join("m0", true, 1)), OK);
    assert_eq!(machine.apply(at(0), end_join(0)), OK);
    let before = machine.clone();
    let brings = |bytes: usize| {
        let part = |member: &str, bytes| Part { member: member.to_owned(), bytes, spots: None };
        let assignments = vec![part("m0", vec![1]), part("gone", vec![7; bytes - 1])];
        Command::Sync(Sync { who: who("m0", 1), protocol_type: None, protocol: None, assignments })
    };
    assert_eq!(machine.apply(at(0), brings(GROUP_METADATA_BYTES_MAX + 1)), FULL);
    assert!(machine == before, "refused and changed");
    assert_eq!(machine.apply(at(0), brings(GROUP_METADATA_BYTES_MAX)), OK);
}

/// A commit of offsets of `partitions` partitions, by a client outside of the group.
fn commit(group: &str, partitions: i32) -> Command {
    let spot = |index| Spot { topic: TopicId([1; 16]), partition: PartitionIndex(index) };
    let offset = Offset {
        offset: 1,
        leader_epoch: -1,
        metadata: String::new(),
        retention_ms: None,
        committed_ms: 0,
        name: "t".to_owned(),
    };
    let who = Who { group: group.to_owned(), generation: -1, ..Who::default() };
    Command::Commit(Commit { who, offsets: (0..partitions).map(|index| (spot(index), offset.clone())).collect() })
}

#[test]
fn a_shard_holds_so_many_groups_and_offsets_and_goes_on_with_those() {
    let full = Reply::Done(Err(Code::InvalidCommitOffsetSize));
    let bound = |groups, offsets| Command::Bound(Bounds { groups, offsets });
    let mut machine = CoordinatorMachine::default();
    assert_eq!(machine.apply(at(0), bound(2, 5)), OK);
    assert_eq!(machine.apply(at(0), commit("a", 3)), OK);
    assert_eq!(machine.apply(at(0), commit("b", 3)), full, "six offsets");
    assert_eq!(machine.apply(at(0), commit("b", 2)), OK);
    let before = machine.clone();
    assert_eq!(machine.apply(at(0), commit("a", 4)), full);
    assert_eq!(machine.apply(at(0), commit("c", 0)), full, "a third group");
    assert_eq!(machine.apply(at(0), join("m0", true, 1)), FULL);
    assert_eq!(machine.apply(at(0), beat("m0", consumer::JOINS, 1, CROWD)), BEATEN_FULL);
    assert!(machine == before, "refused and changed");
    assert_eq!(machine.apply(at(0), bound(1, 1)), OK);
    assert_eq!(machine.apply(at(7), commit("a", 3)), OK, "whoever is in it goes on");
    assert_eq!(machine.apply(at(8), Command::DeleteGroup("b".to_owned())), OK);
    assert_eq!(machine.apply(at(8), bound(2, 5)), OK);
    let spots = (0..2).map(|index| Spot { topic: TopicId([1; 16]), partition: PartitionIndex(index) });
    let spots = spots.map(|spot| (spot, "t".to_owned())).collect();
    let removed = machine.apply(at(8), Command::DeleteOffsets { group: "a".to_owned(), spots });
    assert_eq!(removed, Reply::Each(vec![Ok(()), Ok(())]));
    assert_eq!(machine.apply(at(8), commit("b", 4)), OK, "what was deleted counts no more");
    assert_eq!(machine.apply(at(8), commit("b", 5)), full);
    assert_eq!(machine.apply(at(8), Command::ForgetTopics(vec![TopicId([1; 16])])), Reply::Forgotten(5));
    assert_eq!(machine.apply(at(8), commit("b", 5)), OK);
}
