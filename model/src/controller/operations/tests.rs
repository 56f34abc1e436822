//! Operations told one by one: what begins, counts, steers and ends them.

use super::*;
use crate::controller::{Command, ControllerMachine, CreateTopics, NewTopic, Outcome, Registration};
use crate::ids::{PartitionIndex, StoreId, TopicId};
use crate::machine::{At, Out};

/// A machine with three nodes and a topic of two partitions.
struct World(ControllerMachine, i64);

impl World {
    fn new() -> Self {
        let mut world = World(ControllerMachine::new(), 0);
        for id in 1..=3 {
            let (listeners, rack) = (BTreeMap::new(), None);
            world.apply(Command::RegisterNode(Registration {
                id: NodeId(id),
                store: StoreId(id.into()),
                listeners,
                rack,
            }));
        }
        let topic = NewTopic { partitions: 2, replication: 2, ..NewTopic::named("t", TopicId([1; 16])) };
        world.apply(Command::CreateTopics(CreateTopics { topics: vec![topic], validate_only: false, auto: false }));
        world
    }

    fn apply(&mut self, command: Command) -> Outcome {
        self.1 += 1;
        let at = At { index: self.1 as u64, term: 1, leader_ts: self.1 * 1_000 };
        self.0.apply(at, command, &mut Out::default()).outcome
    }

    fn operate(&mut self, operate: Operate) -> Result<u64, String> {
        let outcome = self.apply(Command::Operate(operate));
        let Outcome::Operation(result) = outcome else { panic!("{outcome:?}") };
        result.map_err(|error| error.message)
    }

    fn start(&mut self, token: u64, kind: OperationKind) -> Result<u64, String> {
        let one = |index| Move {
            topic: "t".to_owned(),
            index: PartitionIndex(index),
            from: vec![NodeId(1), NodeId(2)],
            to: vec![NodeId(3), NodeId(2)],
            bytes: 10,
        };
        self.operate(Operate::Start { token, kind, moves: vec![one(0), one(1)], total: 0 })
    }

    fn steer(&mut self, id: u64, to: OperationState) -> Result<u64, String> {
        self.operate(Operate::Steer { id, to, note: String::new() })
    }

    fn get(&self, id: u64) -> Operation {
        (*self.0.image().operations[&id]).clone()
    }
}

#[test]
fn an_operation_is_begun_once_counted_and_ended_once() {
    let mut world = World::new();
    assert_eq!(world.start(7, OperationKind::Rebalance), Ok(1));
    assert_eq!(world.start(7, OperationKind::Rebalance), Ok(1), "the same question");
    assert!(world.start(8, OperationKind::Rebalance).unwrap_err().contains("operation 1"));
    assert_eq!(world.start(9, OperationKind::Move), Ok(2));
    assert_eq!(world.steer(1, OperationState::Paused), Ok(1));
    let progress = |done: &[u32]| Progress { id: 1, done: done.iter().copied().collect(), ..Progress::default() };
    for done in [&[0][..], &[0], &[0, 1, 9]] {
        assert_eq!(world.operate(Operate::Progress(progress(done))), Ok(1));
    }
    let now = world.get(1);
    assert_eq!((now.finished, now.bytes_done, now.total, now.bytes), (2, 20, 2, 20));
    assert_eq!(
        (now.state, now.started_ms, now.changed_ms, now.left().count()),
        (OperationState::Paused, 5_000, 12_000, 0)
    );
    assert_eq!(world.steer(1, OperationState::Finished), Ok(1));
    assert!(world.get(1).moves.is_empty());
    for to in [OperationState::Running, OperationState::Cancelled] {
        assert_eq!(world.steer(1, to), Err("operation 1 has ended".to_owned()));
    }
    assert_eq!(world.operate(Operate::Progress(progress(&[1]))), Err("operation 1 has ended".to_owned()));
    assert_eq!(world.steer(3, OperationState::Paused), Err("there is no operation 3".to_owned()));
}

#[test]
fn moves_may_change_their_goal_and_more_may_come() {
    let mut world = World::new();
    world.start(1, OperationKind::Rebalance).unwrap();
    let to = vec![NodeId(2), NodeId(1)];
    let more = vec![world.get(1).moves[0].clone()];
    let changed = BTreeMap::from([(1, to.clone()), (5, to.clone())]);
    world.operate(Operate::Progress(Progress { id: 1, changed, more, ..Progress::default() })).unwrap();
    let now = world.get(1);
    assert_eq!((&now.moves[1].to, now.total, now.bytes, now.left().count()), (&to, 3, 30, 3));
}

#[test]
fn a_node_is_drained_or_leaves_until_it_is_restored() {
    let mut world = World::new();
    let (drain, leave) = (OperationKind::Drain(NodeId(2)), OperationKind::Decommission(NodeId(2)));
    assert_eq!(world.operate(Operate::Restore(NodeId(2))), Err("node 2 serves already".to_owned()));
    assert_eq!(world.start(1, OperationKind::Drain(NodeId(9))), Err("node 9 is not registered".to_owned()));
    let id = world.start(2, drain).unwrap();
    assert_eq!(world.0.image().duty(NodeId(2)), Some(Duty::Drained));
    world.steer(id, OperationState::Finished).unwrap();
    assert_eq!(world.0.image().duty(NodeId(2)), Some(Duty::Drained), "it stays so");
    let id = world.start(3, leave).unwrap();
    assert_eq!(world.0.image().duty(NodeId(2)), Some(Duty::Leaving));
    assert!(world.start(4, drain).unwrap_err().contains("includes"));
    assert_eq!(world.operate(Operate::Restore(NodeId(2))), Ok(id));
    assert_eq!((world.0.image().duty(NodeId(2)), world.get(id).state), (None, OperationState::Cancelled));
}

#[test]
fn somebody_is_left_to_lead() {
    let mut world = World::new();
    let placed = world.0.image().topic("t").unwrap().partitions[0].nodes();
    world.start(1, OperationKind::Drain(placed[0])).unwrap();
    assert!(world.start(2, OperationKind::Drain(placed[1])).unwrap_err().contains("nobody would be left"));
    assert_eq!(world.0.image().duty(placed[1]), None);
    world.operate(Operate::Restore(placed[0])).unwrap();
    assert_eq!(world.start(3, OperationKind::Drain(placed[1])), Ok(2));
}

#[test]
fn who_leaves_gets_no_replica_while_others_suffice() {
    let mut world = World::new();
    world.start(1, OperationKind::Decommission(NodeId(3))).unwrap();
    let topic = NewTopic { partitions: 4, replication: 2, ..NewTopic::named("u", TopicId([2; 16])) };
    world.apply(Command::CreateTopics(CreateTopics { topics: vec![topic], validate_only: false, auto: false }));
    let image = world.0.image();
    assert!(image.topic("u").unwrap().partitions.iter().all(|partition| !partition.is_on(NodeId(3))));
}

#[test]
fn what_has_ended_is_forgotten_in_time_and_a_snapshot_keeps_the_rest() {
    let mut world = World::new();
    let count = limits::OPERATIONS_KEPT as u64 + 9;
    for token in 1..=count {
        let id = world.start(token, OperationKind::Move).unwrap();
        world.steer(id, OperationState::Finished).unwrap();
    }
    assert_eq!(world.start(0, OperationKind::Drain(NodeId(1))), Ok(count + 1));
    let image = world.0.image();
    assert_eq!(image.operations.len(), limits::OPERATIONS_KEPT + 1);
    let restored = ControllerMachine::restore(world.0.snapshot());
    assert_eq!(restored, world.0);
}

#[test]
fn a_move_stands_where_the_image_says() {
    let world = World::new();
    let image = world.0.image();
    let placed: Vec<NodeId> = image.topic("t").unwrap().partitions[0].nodes();
    let third = (1..=3).map(NodeId).find(|node| !placed.contains(node)).unwrap();
    let standing = |from: &[NodeId], to: &[NodeId]| {
        let (topic, index) = ("t".to_owned(), PartitionIndex(0));
        image.standing(&Move { topic, index, from: from.to_vec(), to: to.to_vec(), bytes: 0 })
    };
    let other = [third, placed[1]];
    assert_eq!(standing(&placed, &other), Standing::Waiting);
    assert_eq!(standing(&other, &placed), Standing::Done);
    assert_eq!(standing(&other, &[third, placed[0]]), Standing::Overtaken);
}
