//! The controller machine under random commands, and its rules one by one.

mod settings;

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::image::Configs;
use super::*;
use crate::ids::{GroupId, NodeId, PartitionIndex, StoreId, TopicId};
use crate::limits;

fn apply(machine: &mut ControllerMachine, command: Command) -> Reply {
    machine.apply(At { index: 1, term: 1, leader_ts: 0 }, command, &mut Out::default())
}

fn register(id: u32, store: u64, rack: Option<&str>) -> Command {
    let listeners = BTreeMap::from([("kafka".to_owned(), Endpoint { host: "127.0.0.1".to_owned(), port: 9092 })]);
    Command::RegisterNode(Registration {
        id: NodeId(id),
        store: StoreId(store),
        listeners,
        rack: rack.map(str::to_owned),
    })
}

fn cluster(nodes: u32) -> ControllerMachine {
    let mut machine = ControllerMachine::new();
    for id in 1..=nodes {
        apply(&mut machine, register(id, id as u64, None));
    }
    machine
}

fn topic(name: &str, number: u8) -> NewTopic {
    NewTopic::named(name, TopicId([number; 16]))
}

fn create(topics: Vec<NewTopic>) -> Command {
    Command::CreateTopics(CreateTopics { topics, validate_only: false, auto: false })
}

fn codes<T>(results: &[Result<T, Error>]) -> Vec<Option<Code>> {
    results.iter().map(|result| result.as_ref().err().map(|error| error.code)).collect()
}

fn created(reply: &Reply) -> Vec<Option<Code>> {
    match &reply.outcome {
        Outcome::Created(results) => codes(results),
        other => panic!("{other:?}"),
    }
}

#[test]
fn names_follow_kafkas_rules() {
    let longest = "a".repeat(limits::TOPIC_NAME_BYTES_MAX);
    for good in ["a", "A.b_c-9", "...", longest.as_str()] {
        assert_eq!(topics::check_topic_name(good), Ok(()), "{good}");
    }
    for bad in ["", ".", "..", "a b", "ä", "a/b", "a\0", &format!("{longest}a")] {
        assert_eq!(topics::check_topic_name(bad).map_err(|e| e.code), Err(Code::InvalidTopic), "{bad:?}");
    }
}

#[test]
fn names_that_collide_in_dot_and_underscore_are_refused_also_within_one_command() {
    let mut machine = cluster(1);
    let reply = apply(&mut machine, create(vec![topic("a.b", 1), topic("a_b", 2), topic("a-b", 3), topic("ab", 4)]));
    assert_eq!(created(&reply), [None, Some(Code::InvalidTopic), None, None]);
    let reply = apply(&mut machine, create(vec![topic("a_b", 5), topic("a.b", 6), topic("x", 7), topic("x", 8)]));
    let twice = Some(Code::InvalidRequest);
    assert_eq!(created(&reply), [Some(Code::InvalidTopic), Some(Code::TopicAlreadyExists), twice, twice]);
}

#[test]
fn a_creation_that_is_repeated_has_one_effect_also_after_a_deletion() {
    let mut machine = cluster(1);
    assert_eq!(created(&apply(&mut machine, create(vec![topic("t", 1)]))), [None]);
    let before = machine.image().topic("t").cloned();
    assert_eq!(
        created(&apply(&mut machine, create(vec![topic("t", 1)]))),
        [None],
        "the same id: it is the same command"
    );
    assert_eq!(machine.image().topic("t").cloned(), before);
    assert_eq!(created(&apply(&mut machine, create(vec![topic("t", 2)]))), [Some(Code::TopicAlreadyExists)]);
    assert_eq!(created(&apply(&mut machine, create(vec![topic("u", 1)]))), [Some(Code::InvalidRequest)]);
    apply(&mut machine, Command::DeleteTopics(DeleteTopics { topics: vec![TopicRef::Name("t".to_owned())] }));
    let mut machine = ControllerMachine::restore(machine.snapshot());
    assert_eq!(created(&apply(&mut machine, create(vec![topic("t", 1)]))), [None]);
    assert!(machine.image().topic("t").is_none(), "it was made, and deleted since");
    assert_eq!(created(&apply(&mut machine, create(vec![topic("t", 3)]))), [None]);
    assert!(machine.image().topic("t").is_some());
}

#[test]
fn another_data_folder_never_takes_a_registered_node_id() {
    let mut machine = cluster(2);
    let conflict =
        |reply: Reply| matches!(reply.outcome, Outcome::Node(Err(e)) if e.code == Code::DuplicateRegistration);
    let before = machine.clone();
    assert!(conflict(apply(&mut machine, register(1, 77, None))), "a wiped disk");
    assert!(conflict(apply(&mut machine, register(3, 2, None))), "a copied data folder");
    assert_eq!(machine, before);
    let again = apply(&mut machine, register(2, 2, None));
    assert_eq!((again.version, again.outcome), (2, Outcome::Node(Ok(2))), "a restart changes nothing");
    let moved = apply(&mut machine, register(2, 2, Some("r9")));
    assert_eq!((moved.version, moved.outcome), (3, Outcome::Node(Ok(2))));
    let Command::RegisterNode(unknown) = register(5, 5, None) else { unreachable!() };
    let reply = apply(&mut machine, Command::UpdateNode(unknown));
    assert!(matches!(reply.outcome, Outcome::Node(Err(e)) if e.code == Code::NodeNotRegistered));
}

#[test]
fn replicas_and_leaders_are_balanced_and_racks_are_used() {
    let mut machine = ControllerMachine::new();
    for (id, rack) in [(1, "a"), (2, "a"), (3, "b"), (4, "b"), (5, "c")] {
        apply(&mut machine, register(id, id as u64, Some(rack)));
    }
    apply(&mut machine, create(vec![NewTopic { partitions: 40, replication: 3, ..topic("t", 1) }]));
    let image = machine.image();
    let racks = |node: &NodeId| image.nodes[node].rack.clone();
    let mut leaders = BTreeMap::new();
    for partition in &image.topic("t").unwrap().partitions {
        assert_eq!(partition.nodes().iter().map(racks).collect::<BTreeSet<_>>().len(), 3, "{partition:?}");
        *leaders.entry(partition.nodes()[0]).or_insert(0) += 1;
    }
    let (least, most) = (leaders.values().min().unwrap(), leaders.values().max().unwrap());
    assert!(most - least <= 1, "{leaders:?}");
}

#[test]
fn counts_and_assignments_are_checked_as_kafka_does() {
    let mut machine = cluster(3);
    let manual = |lists: &[(i32, &[u32])]| NewTopic {
        assignments: lists.iter().map(|(p, nodes)| (*p, nodes.iter().map(|n| NodeId(*n)).collect())).collect(),
        ..topic("m", 9)
    };
    let cases = [
        (NewTopic { partitions: 0, ..topic("a", 1) }, Code::InvalidPartitions),
        (NewTopic { partitions: i32::MAX, ..topic("a", 1) }, Code::InvalidPartitions),
        (NewTopic { replication: 0, ..topic("a", 1) }, Code::InvalidReplicationFactor),
        (NewTopic { replication: 4, ..topic("a", 1) }, Code::InvalidReplicationFactor),
        (NewTopic { partitions: 1, ..manual(&[(0, &[1])]) }, Code::InvalidRequest),
        (NewTopic { replication: 1, ..manual(&[(0, &[1])]) }, Code::InvalidRequest),
        (manual(&[(1, &[1])]), Code::InvalidReplicaAssignment),
        (manual(&[(0, &[1]), (2, &[1])]), Code::InvalidReplicaAssignment),
        (manual(&[(0, &[])]), Code::InvalidReplicaAssignment),
        (manual(&[(0, &[1, 1])]), Code::InvalidReplicaAssignment),
        (manual(&[(0, &[1, 4])]), Code::InvalidReplicaAssignment),
        (manual(&[(0, &[1, 2]), (1, &[1])]), Code::InvalidReplicaAssignment),
        (NewTopic { id: TopicId::ZERO, ..topic("a", 1) }, Code::InvalidRequest),
        (NewTopic { configs: Configs::from([("no.such".into(), "1".into())]), ..topic("a", 1) }, Code::InvalidConfig),
        (
            NewTopic { configs: Configs::from([("retention.ms".into(), "x".into())]), ..topic("a", 1) },
            Code::InvalidConfig,
        ),
    ];
    let before = machine.clone();
    for (new, code) in cases {
        let reply = apply(&mut machine, create(vec![new.clone()]));
        assert_eq!(created(&reply), [Some(code)], "{new:?}");
        assert_eq!(machine, before);
    }
    assert_eq!(created(&apply(&mut machine, create(vec![manual(&[(0, &[3, 1]), (1, &[2, 3])])]))), [None]);
    assert_eq!(machine.image().topic("m").unwrap().partitions[0].nodes(), [NodeId(3), NodeId(1)]);
}

fn without(dead: &[u32], command: Command) -> Command {
    command.on(Terms { dead: dead.iter().map(|id| NodeId(*id)).collect(), ..Terms::default() })
}

#[test]
fn dead_nodes_get_replicas_only_when_the_living_do_not_suffice_and_never_lead() {
    let mut machine = cluster(5);
    let asked = |name, number, replication| NewTopic { partitions: 6, replication, ..topic(name, number) };
    let replicas_of = |machine: &ControllerMachine, name: &str| -> Vec<Vec<u32>> {
        let image = machine.image();
        let partitions = &image.topic(name).unwrap().partitions;
        partitions.iter().map(|partition| partition.nodes().iter().map(|node| node.0).collect()).collect()
    };
    let reply = apply(&mut machine, without(&[2, 4], create(vec![asked("three", 1, 3)])));
    assert_eq!(created(&reply), [None]);
    assert!(replicas_of(&machine, "three").iter().flatten().all(|node| [1, 3, 5].contains(node)));
    let reply = apply(&mut machine, without(&[2, 4], create(vec![asked("four", 2, 4)])));
    assert_eq!(created(&reply), [None], "one of the dead takes part: three of four live");
    for replicas in replicas_of(&machine, "four") {
        assert_eq!(replicas.iter().filter(|node| [2, 4].contains(node)).count(), 1, "{replicas:?}");
        assert!(![2, 4].contains(&replicas[0]), "a dead leader: {replicas:?}");
    }
    let reply = apply(&mut machine, without(&[2, 3, 4], create(vec![asked("five", 3, 5), asked("two", 4, 2)])));
    assert_eq!(created(&reply), [Some(Code::InvalidReplicationFactor), None], "two of five are no majority");
    let grow = MorePartitions { topic: "two".into(), count: 9, assignments: None };
    let grow = Command::CreatePartitions(CreatePartitions { topics: vec![grow], validate_only: false });
    apply(&mut machine, without(&[1, 2], grow));
    assert!(replicas_of(&machine, "two")[6..].iter().flatten().all(|node| [3, 4, 5].contains(node)));
}

#[test]
fn no_node_gets_more_replicas_than_the_proposing_leader_allows() {
    let mut machine = cluster(2);
    let limited = |command: Command| command.on(Terms { replicas_per_node_max: 5, ..Terms::default() });
    let asked = |name, number, partitions| NewTopic { partitions, replication: 1, ..topic(name, number) };
    let topics = vec![asked("a", 1, 9), asked("b", 2, 2), asked("c", 3, 1)];
    let over = Some(Code::PolicyViolation);
    assert_eq!(created(&apply(&mut machine, limited(create(topics)))), [None, over, None]);
    assert!((1..=2).all(|node| machine.image().groups_of_node(NodeId(node)).count() == 5));
    let before = machine.clone();
    let manual = NewTopic { assignments: BTreeMap::from([(0, vec![NodeId(1)])]), ..topic("d", 4) };
    let reply = apply(&mut machine, limited(create(vec![asked("e", 5, 1), manual])));
    let Outcome::Created(results) = reply.outcome else { panic!("another outcome") };
    assert_eq!(codes(&results), [over, over]);
    assert!(results.iter().all(|result| result.as_ref().unwrap_err().message.contains("limits.partitions_max")));
    let more = MorePartitions { topic: "a".into(), count: 10, assignments: None };
    let grow = Command::CreatePartitions(CreatePartitions { topics: vec![more], validate_only: false });
    let Outcome::Each(results) = apply(&mut machine, limited(grow)).outcome else { panic!("another outcome") };
    assert_eq!((codes(&results), machine), (vec![over], before));
}

#[test]
fn a_chosen_assignment_needs_one_living_node_as_in_kafka() {
    let mut machine = cluster(3);
    let chosen = |name, number, nodes: &[u32]| NewTopic {
        assignments: BTreeMap::from([(0, nodes.iter().map(|node| NodeId(*node)).collect())]),
        ..topic(name, number)
    };
    let reply = apply(&mut machine, without(&[2, 3], create(vec![chosen("a", 1, &[2, 3]), chosen("b", 2, &[2, 1])])));
    assert_eq!(created(&reply), [Some(Code::InvalidReplicaAssignment), None]);
}

#[test]
fn a_topic_only_grows() {
    let mut machine = cluster(3);
    apply(&mut machine, create(vec![NewTopic { partitions: 3, replication: 2, ..topic("t", 1) }, topic("u", 2)]));
    let mut grow = |count, assignments: Option<&[&[u32]]>| {
        let chosen = |lists: &[&[u32]]| lists.iter().map(|l| l.iter().map(|n| NodeId(*n)).collect()).collect();
        let more = MorePartitions { topic: "t".into(), count, assignments: assignments.map(chosen) };
        let reply = apply(
            &mut machine,
            Command::CreatePartitions(CreatePartitions { topics: vec![more], validate_only: false }),
        );
        match reply.outcome {
            Outcome::Each(results) => codes(&results)[0],
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(grow(3, None), Some(Code::InvalidPartitions));
    assert_eq!(grow(1, None), Some(Code::InvalidPartitions));
    assert_eq!(grow(-1, None), Some(Code::InvalidPartitions));
    assert_eq!(grow(5, Some(&[&[1, 2]])), Some(Code::InvalidReplicaAssignment));
    assert_eq!(grow(4, Some(&[&[1, 2, 3]])), Some(Code::InvalidReplicaAssignment));
    assert_eq!(grow(4, Some(&[&[3, 2]])), None);
    assert_eq!(grow(6, None), None);
    let image = machine.image();
    let grown = image.topic("t").unwrap();
    assert!(grown.partitions.iter().all(|partition| partition.replicas.len() == 2));
    let found: Vec<_> = grown.partitions.iter().map(|p| image.partition_of_group(p.group).unwrap().1.0).collect();
    assert_eq!(found, [0, 1, 2, 3, 4, 5]);
    let all: usize = (1..=3).map(|node| image.groups_of_node(NodeId(node)).count()).sum();
    assert_eq!(all, 6 * 2 + 4 * 3);
    assert_eq!(ControllerMachine::restore(machine.snapshot()), machine);
}

#[test]
fn auto_creation_is_bounded() {
    let mut machine = cluster(1);
    let topics = (0..100).map(|number| topic(&format!("t{number}"), number + 1)).collect();
    let reply = apply(&mut machine, Command::CreateTopics(CreateTopics { topics, validate_only: false, auto: true }));
    let codes = created(&reply);
    assert_eq!(codes.iter().filter(|code| code.is_none()).count(), limits::AUTO_CREATED_PER_ENTRY_MAX);
    assert_eq!(codes[64..], [Some(Code::PolicyViolation); 36]);
    assert_eq!(machine.image().topic("t0").unwrap().partitions.len(), limits::DEFAULT_PARTITIONS as usize);
}

#[test]
fn an_image_once_taken_stays_as_it_is() {
    let mut machine = cluster(1);
    let (old, copy) = (machine.image(), (*machine.image()).clone());
    apply(&mut machine, create(vec![topic("t", 1)]));
    assert_eq!(*old, copy);
    assert!(old.topic("t").is_none() && machine.image().topic("t").is_some());
}

#[test]
fn every_key_is_described_with_its_source() {
    let mut machine = cluster(1);
    apply(&mut machine, create(vec![topic("t", 1)]));
    let set = |resource, key: &str, value: &str| {
        Command::AlterConfigs(AlterConfigs {
            changes: vec![(resource, Configs::from([(key.to_owned(), value.to_owned())]))],
            validate_only: false,
        })
    };
    apply(&mut machine, set(ConfigResource::Cluster, "message.max.bytes", "2000"));
    apply(&mut machine, set(ConfigResource::Topic("t".into()), "retention.ms", "1000"));
    apply(&mut machine, set(ConfigResource::Node(NodeId(1)), "log.retention.ms", "5000"));
    let image = machine.image();
    let statics = Configs::from([("node.id".to_owned(), "1".to_owned())]);
    let all = image.describe_topic(image.topic("t").unwrap(), Some(NodeId(1)), &statics);
    assert_eq!(all.len(), crate::config::TOPIC_KEYS.len());
    let one = |name| all.iter().find(|described| described.key.name == name).unwrap();
    assert_eq!(
        (one("max.message.bytes").value.as_deref(), one("max.message.bytes").source),
        (Some("2000"), Source::Cluster)
    );
    let sources: Vec<_> = one("retention.ms").synonyms.iter().map(|s| (s.name, s.source)).collect();
    let (own, broker) = ("retention.ms", "log.retention.ms");
    assert_eq!(sources, [(own, Source::Topic), (broker, Source::Node), (broker, Source::Default)]);
    assert_eq!(one("retention.ms").value.as_deref(), Some("1000"));
    assert_eq!(one("remote.storage.enable").source, Source::Default);
    assert_eq!(image.max_message_bytes(image.topic("t").unwrap(), Some(NodeId(1))), 2000);
    for described in &all {
        let effective = image.topic_value(image.topic("t").unwrap(), described.key.name, Some(NodeId(1)));
        assert_eq!(described.value.as_deref(), Some(effective), "{}", described.key.name);
    }
    let node = image.describe_broker(Some(NodeId(1)), &statics);
    let id = node.iter().find(|described| described.key.name == "node.id").unwrap();
    assert_eq!((id.value.as_deref(), id.source), (Some("1"), Source::Static));
}

fn resource() -> impl Strategy<Value = ConfigResource> {
    prop_oneof![
        4 => name().prop_map(ConfigResource::Topic),
        1 => Just(ConfigResource::Cluster),
        1 => (0u32..6).prop_map(|id| ConfigResource::Node(NodeId(id))),
    ]
}

fn name() -> impl Strategy<Value = String> {
    prop_oneof![Just("a.b"), Just("a_b"), Just("c"), Just("d"), Just("e"), Just("bad name")].prop_map(str::to_owned)
}

fn config() -> impl Strategy<Value = (String, String)> {
    let keys =
        ["retention.ms", "max.message.bytes", "cleanup.policy", "message.max.bytes", "num.partitions", "no.such"];
    let values = ["1", "2", "-7", "delete", "compact"];
    (proptest::sample::select(keys.to_vec()), proptest::sample::select(values.to_vec()))
        .prop_map(|(key, value)| (key.to_owned(), value.to_owned()))
}

fn new_topic() -> impl Strategy<Value = NewTopic> {
    let assignments = prop_oneof![
        4 => Just(BTreeMap::new()),
        1 => proptest::collection::btree_map(0i32..3, proptest::collection::vec((0u32..6).prop_map(NodeId), 0..3), 0..3),
    ];
    let configs = prop_oneof![3 => Just(Configs::new()), 1 => proptest::collection::btree_map(Just("retention.ms".into()), Just("5".into()), 1)];
    (name(), 0u8..30, -1i32..6, -1i16..5, assignments, configs).prop_map(
        |(name, id, partitions, replication, assignments, configs)| {
            let manual = !assignments.is_empty();
            let (partitions, replication) = if manual { (-1, -1) } else { (partitions, replication) };
            NewTopic { name, id: TopicId([id; 16]), partitions, replication, assignments, configs }
        },
    )
}

fn operate() -> impl Strategy<Value = Operate> {
    let kind = prop_oneof![
        Just(OperationKind::Rebalance),
        Just(OperationKind::Move),
        (0u32..6).prop_map(|node| OperationKind::Drain(NodeId(node))),
        (0u32..6).prop_map(|node| OperationKind::Decommission(NodeId(node))),
    ];
    let state = prop_oneof![
        Just(OperationState::Running),
        Just(OperationState::Paused),
        Just(OperationState::Cancelled),
        Just(OperationState::Finished)
    ];
    let done = proptest::collection::btree_set(0u32..4, 0..3);
    prop_oneof![
        2 => (any::<u64>(), kind, 0u32..5).prop_map(|(token, kind, total)| {
            Operate::Start { token, kind, moves: Vec::new(), total }
        }),
        1 => (0u64..9, state).prop_map(|(id, to)| Operate::Steer { id, to, note: String::new() }),
        1 => (0u64..9, done, proptest::option::of(0u32..9)).prop_map(|(id, done, handed_over)| {
            Operate::Progress(Progress { id, done, handed_over, ..Progress::default() })
        }),
        1 => (0u32..6).prop_map(|node| Operate::Restore(NodeId(node))),
    ]
}

fn command() -> impl Strategy<Value = Command> {
    let registration = (0u32..6, 0u64..8).prop_map(|(id, store)| match store {
        0..6 => register(id, id as u64, None),
        _ => register(id, store, None),
    });
    let topics = (proptest::collection::vec(new_topic(), 1..4), any::<bool>(), any::<bool>());
    let named = prop_oneof![name().prop_map(TopicRef::Name), (0u8..30).prop_map(|id| TopicRef::Id(TopicId([id; 16])))];
    let more = (name(), 0i32..12).prop_map(|(topic, count)| MorePartitions { topic, count, assignments: None });
    let op = (config(), 0i8..4).prop_map(|((key, value), kind)| ConfigOp {
        key,
        kind: OpKind::from_kafka(kind).unwrap(),
        value: Some(value),
    });
    let step = (resource(), proptest::collection::vec(op, 0..3))
        .prop_map(|(resource, ops)| IncrementalChange { resource, ops });
    let change =
        (resource(), proptest::collection::btree_map(config().prop_map(|c| c.0), config().prop_map(|c| c.1), 0..3));
    prop_oneof![
        3 => registration,
        6 => topics.prop_map(|(topics, dry, auto)| Command::CreateTopics(CreateTopics { topics, validate_only: dry, auto })),
        2 => proptest::collection::vec(named, 1..3).prop_map(|topics| Command::DeleteTopics(DeleteTopics { topics })),
        2 => (proptest::collection::vec(more, 1..3), any::<bool>()).prop_map(|(topics, validate_only)| Command::CreatePartitions(CreatePartitions { topics, validate_only })),
        2 => (proptest::collection::vec(change, 1..3), any::<bool>()).prop_map(|(changes, validate_only)| Command::AlterConfigs(AlterConfigs { changes, validate_only })),
        2 => (proptest::collection::vec(step, 1..3), any::<bool>()).prop_map(|(changes, validate_only)| Command::IncrementalAlterConfigs(IncrementalAlterConfigs { changes, validate_only })),
        1 => operate().prop_map(Command::Operate),
        1 => (0u32..6, -1i64..3000).prop_map(|(node, count)| Command::AllocateProducerIds(AllocateProducerIds { node: NodeId(node), count })),
        1 => "[a-c]{0,2}".prop_map(|cluster_id| Command::Found { cluster_id, founders: 2 }),
    ]
}

fn wet(command: &Command) -> Command {
    let mut command = command.clone();
    match &mut command {
        Command::CreateTopics(create) => create.validate_only = false,
        Command::CreatePartitions(create) => create.validate_only = false,
        Command::AlterConfigs(alter) => alter.validate_only = false,
        Command::IncrementalAlterConfigs(alter) => alter.validate_only = false,
        _ => {}
    }
    command
}

/// What must stay true of any image, whatever led to it.
fn sound(image: &Image, groups: &mut BTreeMap<GroupId, (TopicId, i32)>) -> Result<(), TestCaseError> {
    let mut names = BTreeSet::new();
    for (name, topic) in image.topics.iter() {
        prop_assert_eq!(&**name, &topic.name);
        prop_assert_eq!(image.topic_by_id(topic.id), Some(topic));
        prop_assert!(names.insert(name.replace('.', "_")), "collision of {}", name);
        for (index, partition) in topic.partitions.iter().enumerate() {
            let place = (topic.id, index as i32);
            prop_assert_eq!(*groups.entry(partition.group).or_insert(place), place, "a group has one owner for ever");
            prop_assert!(partition.group < image.next_group && partition.group.is_partition());
            let by_group = image.partition_of_group(partition.group);
            prop_assert_eq!(by_group, Some((topic, PartitionIndex(index as i32))));
            let distinct: BTreeSet<_> = partition.replicas.iter().collect();
            prop_assert_eq!(distinct.len(), partition.replicas.len());
            prop_assert!(partition.replicas.iter().all(|replica| replica.revision() <= partition.revision));
            prop_assert!(partition.wanted().count() > 0 && partition.before().count() > 0);
            let distinct: BTreeSet<_> = partition.nodes().into_iter().collect();
            prop_assert!(distinct.iter().all(|node| image.nodes.contains_key(node)));
        }
    }
    let living = image.topics.values().flat_map(|topic| &topic.partitions).count();
    let found = groups.keys().filter(|group| image.partition_of_group(**group).is_some()).count();
    prop_assert_eq!(found, living, "groups of deleted topics are found no more");
    prop_assert_eq!(image.partition_of_group(image.next_group), None);
    for node in image.nodes.keys() {
        let held = image.topics.values().flat_map(|t| &t.partitions).filter(|p| p.is_on(*node)).count();
        prop_assert_eq!(image.groups_of_node(*node).count(), held);
        for first in [0, image.next_group.0 / 2, image.next_group.0].map(GroupId) {
            let of = |(_, _, partition): (_, _, &Partition)| partition.group;
            let expected: Vec<_> = image.groups_of_node(*node).map(of).filter(|group| *group >= first).collect();
            prop_assert_eq!(image.groups_of_node_from(*node, first).map(of).collect::<Vec<_>>(), expected);
        }
    }
    Ok(())
}

proptest! {
    #![proptest_config(crate::testing::config())]

    #[test]
    fn any_commands_leave_a_sound_image(commands in proptest::collection::vec(command(), 1..60)) {
        let mut machine = cluster(2);
        let mut groups = BTreeMap::new();
        let mut producer_ids = 0;
        for command in commands {
            let before = machine.clone();
            let mut out = Out::default();
            let reply = machine.apply(At { index: 1, term: 1, leader_ts: 0 }, command.clone(), &mut out);
            prop_assert_eq!(reply.version, machine.image().version);
            let changed = reply.version != before.image().version;
            prop_assert_eq!(out.effects.len(), usize::from(changed));
            if !changed {
                prop_assert_eq!(&machine, &before, "what is refused or only checked changes nothing");
            }
            if command.is_dry() {
                prop_assert!(!changed);
                prop_assert_eq!(reply.outcome, apply(&mut before.clone(), wet(&command)).outcome, "the check is honest");
            } else if let Outcome::ProducerIds(Ok(block)) = reply.outcome {
                prop_assert_eq!(block.first, producer_ids);
                producer_ids += block.count;
            }
            sound(&machine.image(), &mut groups)?;
            prop_assert_eq!(&ControllerMachine::restore(machine.snapshot()), &machine);
        }
    }
}
