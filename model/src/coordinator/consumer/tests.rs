//! Groups of the consumer protocol under clients that behave as KIP-848 says, whose answers may be lost.
//! What must hold is judged by what the *clients* have: no partition has two readers, and in the end every one has one.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::*;
use crate::coordinator::{Command, CoordinatorMachine, Group, Reply};
use crate::ids::PartitionIndex;

const TOPICS: [(TopicId, i32); 2] = [(TopicId([1; 16]), 6), (TopicId([2; 16]), 3)];

fn at(now_ms: i64) -> At {
    At { index: 1, term: 1, leader_ts: now_ms }
}

fn spot(topic: u8, partition: i32) -> Spot {
    Spot { topic: TopicId([topic; 16]), partition: PartitionIndex(partition) }
}

fn subscription(topics: &[u8]) -> Subscription {
    let names = topics.iter().map(|topic| format!("t{topic}")).collect();
    let topics = topics.iter().map(|topic| TopicId([*topic; 16])).collect();
    Subscription { names, topics, ..Subscription::default() }
}

/// A client: its id, its epoch, what it reads now.
#[derive(Clone, Debug, Default)]
struct Client {
    id: String,
    instance: Option<String>,
    epoch: i32,
    topics: Vec<u8>,
    reads: BTreeSet<Spot>,
    /// What it was told, to be taken up at its next beat.
    told: Option<BTreeSet<Spot>>,
}

impl Client {
    fn named(id: &str, topics: &[u8]) -> Self {
        Client { id: id.to_owned(), topics: topics.to_vec(), ..Client::default() }
    }

    fn beat(&self, full: bool) -> Beat {
        let counts: BTreeMap<TopicId, i32> = TOPICS.into();
        let subscribed = subscription(&self.topics);
        let known = subscribed.topics.iter().filter_map(|topic| Some((*topic, *counts.get(topic)?)));
        Beat {
            who: Who {
                group: "g".to_owned(),
                member: self.id.clone(),
                instance: self.instance.clone(),
                generation: self.epoch,
            },
            client_id: "client".to_owned(),
            client_host: "/127.0.0.1".to_owned(),
            rebalance_timeout_ms: full.then_some(60_000),
            topics: if full { known.collect() } else { Vec::new() },
            subscription: full.then_some(subscribed),
            owned: full.then(|| self.reads.clone()),
            members_max: 8,
            classic: None,
            named: Vec::new(),
            migration: Migration::default(),
        }
    }

    /// Takes an answer: it stops to read at once, and reads what is new. A fenced client stops reading all and joins anew.
    fn hear(&mut self, answer: &Result<Beaten, Code>) {
        match answer {
            Ok(beaten) => {
                self.epoch = beaten.epoch;
                self.told = beaten.assigned.clone().or_else(|| self.told.take());
            }
            Err(_) => {
                (self.epoch, self.told) = (JOINS, None);
                self.reads.clear();
            }
        }
    }

    fn take_up(&mut self) -> bool {
        let Some(told) = self.told.take() else { return false };
        let changed = self.reads != told;
        self.reads = told;
        changed
    }
}

/// A heartbeat as the coordinator handles it: what changes nothing is answered without the log.
fn heartbeat(group: &mut Consumer, beat: Beat) -> Result<Beaten, Code> {
    let before = group.clone();
    match group.unchanged(&beat) {
        Some(answer) => {
            if answer.is_ok() {
                let mut applied = group.clone();
                assert_eq!(applied.beat(at(0), beat), answer, "answered as apply would have");
                assert_eq!(applied, before, "and nothing would have changed");
            }
            answer
        }
        None => {
            let answer = group.beat(at(0), beat);
            assert!(answer.is_ok() || *group == before, "refused and changed");
            answer
        }
    }
}

/// One round of a client: it says what it has, hears, acts on it, and says so.
fn round(group: &mut Consumer, client: &mut Client) {
    let full = client.epoch == JOINS || client.take_up();
    let answer = heartbeat(group, client.beat(full));
    client.hear(&answer);
}

fn settle(group: &mut Consumer, clients: &mut [Client]) -> usize {
    for rounds in 0..20 {
        // Of the group too: what one client says last in a round the others hear in the next.
        let state = |group: &Consumer, clients: &[Client]| {
            let clients: Vec<_> = clients.iter().map(|client| (client.epoch, client.reads.clone())).collect();
            (group.clone(), clients)
        };
        let before = state(group, clients);
        for client in clients.iter_mut() {
            round(group, client);
            client.take_up();
            // Whoever has changed what it reads says so at once.
            let answer = heartbeat(group, client.beat(true));
            client.hear(&answer);
            client.take_up();
        }
        if before == state(group, clients) {
            return rounds;
        }
    }
    panic!("does not settle: {group:#?}\n{clients:#?}");
}

fn read_once(clients: &[Client]) -> Result<(), TestCaseError> {
    let mut readers: BTreeMap<Spot, &str> = BTreeMap::new();
    for client in clients {
        for spot in &client.reads {
            if let Some(other) = readers.insert(*spot, &client.id) {
                return Err(TestCaseError::fail(format!("{spot:?} is read by {other} and {}", client.id)));
            }
        }
    }
    Ok(())
}

#[test]
fn a_member_that_comes_gets_its_share_when_the_others_have_let_go() {
    let mut group = Consumer::default();
    let mut clients = vec![Client::named("a", &[1])];
    settle(&mut group, &mut clients);
    assert_eq!(clients[0].reads.len(), 6);
    let mut b = Client::named("b", &[1]);
    let told = heartbeat(&mut group, b.beat(true)).unwrap();
    assert_eq!((told.epoch, told.assigned), (2, Some(BTreeSet::new())), "nothing is free yet");
    b.epoch = 2;
    let told = heartbeat(&mut group, clients[0].beat(false)).unwrap();
    let kept = told.assigned.clone().unwrap();
    assert_eq!((told.epoch, kept.len()), (1, 3), "it keeps three, in its epoch until it has let go");
    assert_eq!(heartbeat(&mut group, b.beat(false)).unwrap().assigned, None);
    clients[0].reads = kept.clone();
    assert_eq!(heartbeat(&mut group, clients[0].beat(true)).unwrap().epoch, 2);
    let told = heartbeat(&mut group, b.beat(false)).unwrap();
    assert!(told.assigned.is_some_and(|new| new.len() == 3 && new.is_disjoint(&kept)));
}

#[test]
fn zombies_are_fenced_and_a_lost_answer_is_not_one() {
    let mut group = Consumer::default();
    let mut a = Client::named("a", &[1]);
    let first = heartbeat(&mut group, a.beat(true));
    a.hear(&first);
    a.take_up();
    let stale = a.clone();
    let mut wider = a.clone();
    wider.topics = vec![1, 2];
    assert_eq!(heartbeat(&mut group, wider.beat(true)).unwrap().epoch, 2);
    assert_eq!(
        heartbeat(&mut group, wider.beat(true)).unwrap().epoch,
        2,
        "its answer was lost, so it comes with the epoch before"
    );
    assert_eq!(heartbeat(&mut group, stale.beat(false)), Err(Code::FencedMemberEpoch), "without saying what it has");
    let of = |generation| Who { generation, ..a.beat(false).who };
    assert_eq!(group.current(&of(9), None).err(), Some(Code::FencedMemberEpoch));
    assert_eq!(group.current(&Who { member: "x".to_owned(), ..of(2) }, None).err(), Some(Code::UnknownMemberId));
}

#[test]
fn a_static_member_comes_back_to_what_it_had() {
    let mut group = Consumer::default();
    let fixed = |id: &str| Client { instance: Some("one".to_owned()), ..Client::named(id, &[1]) };
    let mut clients = vec![fixed("a"), Client::named("b", &[1])];
    settle(&mut group, &mut clients);
    let (had, epoch) = (clients[0].reads.clone(), group.epoch);
    assert_eq!(heartbeat(&mut group, fixed("a2").beat(true)).err(), Some(Code::UnreleasedInstanceId));
    let leaving = Client { epoch: LEAVES_FOR_NOW, ..clients[0].clone() };
    assert_eq!(heartbeat(&mut group, leaving.beat(false)).unwrap().epoch, LEAVES_FOR_NOW);
    clients[0] = fixed("a2");
    settle(&mut group, &mut clients);
    assert_eq!((clients[0].reads.clone(), group.epoch), (had, epoch), "nobody else noticed");
    let leaving = Client { epoch: LEAVES, ..clients[0].clone() };
    heartbeat(&mut group, leaving.beat(false)).unwrap();
    clients.remove(0);
    settle(&mut group, &mut clients);
    assert_eq!(clients[0].reads.len(), 6);
}

#[test]
fn a_rolling_restart_moves_nothing_that_need_not_move() {
    let mut group = Consumer::default();
    let mut clients: Vec<_> = (0..3).map(|number| Client::named(&format!("m{number}"), &[1, 2])).collect();
    settle(&mut group, &mut clients);
    for restarted in 0..3 {
        let kept: Vec<_> = (0..3).filter(|number| *number != restarted).collect();
        let before: Vec<_> = clients.iter().map(|client| client.reads.clone()).collect();
        let leaving = Client { epoch: LEAVES, ..clients[restarted].clone() };
        heartbeat(&mut group, leaving.beat(false)).unwrap();
        clients[restarted] = Client::named(&format!("n{restarted}"), &[1, 2]);
        settle(&mut group, &mut clients);
        for number in kept {
            let gained = clients[number].reads.difference(&before[number]);
            assert!(gained.clone().all(|spot| before[restarted].contains(spot)), "m{number} got {gained:?}");
            assert_eq!(clients[number].reads.len(), 3);
        }
    }
}

#[test]
fn a_rebalance_on_demand_is_a_new_epoch_in_which_nothing_moves_that_need_not() {
    let mut machine = CoordinatorMachine::default();
    let demand = |machine: &mut CoordinatorMachine| machine.apply(at(0), Command::Rebalance("g".to_owned()));
    assert_eq!(demand(&mut machine), Reply::Done(Err(Code::GroupIdNotFound)));
    let mut a = Client::named("a", &[1]);
    machine.apply(at(0), Command::Beat(a.beat(true)));
    let before = machine.group("g").and_then(Group::consumer).cloned().unwrap();
    a.epoch = before.epoch;
    assert_eq!(demand(&mut machine), Reply::Done(Ok(())));
    let group = machine.group("g").and_then(Group::consumer).unwrap();
    assert_eq!((group.epoch, &group.target), (before.epoch + 1, &before.target));
    let Reply::Beaten(Ok(beaten)) = machine.apply(at(0), Command::Beat(a.beat(false))) else { panic!("refused") };
    assert_eq!((beaten.epoch, beaten.assigned), (before.epoch + 1, None));
    machine.apply(at(0), Command::Beat(Client { epoch: LEAVES, ..a }.beat(false)));
    assert_eq!(demand(&mut machine), Reply::Done(Err(Code::UnknownMemberId)), "nobody is there");
}

#[test]
fn new_partitions_and_deleted_topics_change_the_target() {
    let mut group = Consumer::default();
    let mut clients = vec![Client::named("a", &[1, 2])];
    settle(&mut group, &mut clients);
    assert_eq!(clients[0].reads.len(), 9);
    group.refresh(&[(TopicId([1; 16]), 8)], vec![("a".to_owned(), BTreeSet::from([TopicId([1; 16])]))]);
    clients[0].topics = vec![1];
    let answer = heartbeat(&mut group, clients[0].beat(false));
    clients[0].hear(&answer);
    clients[0].take_up();
    let answer = heartbeat(&mut group, Beat { subscription: None, topics: Vec::new(), ..clients[0].beat(true) });
    assert_eq!(answer.unwrap().assigned, Some((0..8).map(|partition| spot(1, partition)).collect()));
}

/// What a proptest does.
#[derive(Clone, Debug)]
enum Step {
    /// A client beats; its answer is lost or not; it says all or what has changed only.
    Beat {
        client: usize,
        lost: bool,
        full: bool,
    },
    /// A client does what it was told.
    TakeUp(usize),
    Subscribe(usize, Vec<u8>),
    Leave(usize),
    /// Its session is over: it reads no more, since its own timer is shorter.
    Expire(usize),
    /// An operator wants it.
    Rebalance,
}

fn step() -> impl Strategy<Value = Step> {
    let client = || 0usize..4;
    prop_oneof![
        10 => (client(), proptest::bool::weighted(0.2), any::<bool>()).prop_map(|(client, lost, full)| Step::Beat { client, lost, full }),
        6 => client().prop_map(Step::TakeUp),
        2 => (client(), proptest::collection::vec(1u8..3, 0..3)).prop_map(|(client, topics)| Step::Subscribe(client, topics)),
        1 => client().prop_map(Step::Leave),
        1 => client().prop_map(Step::Expire),
        1 => Just(Step::Rebalance),
    ]
}

fn take(group: &mut Consumer, clients: &mut [Client], step: &Step) {
    match step {
        Step::Beat { client, lost, full } => {
            let client = &mut clients[*client];
            let full = *full || client.epoch == JOINS;
            // What it says that it has is what it has: nothing that it was told before is taken up later.
            if full {
                client.take_up();
            }
            let answer = heartbeat(group, client.beat(full));
            if !lost || answer.is_err() {
                client.hear(&answer);
            }
        }
        Step::Rebalance => group.retarget(),
        Step::TakeUp(client) => drop(clients[*client].take_up()),
        Step::Subscribe(client, topics) => clients[*client].topics.clone_from(topics),
        Step::Leave(client) => {
            let client = &mut clients[*client];
            let _unknown = heartbeat(group, Client { epoch: LEAVES, ..client.clone() }.beat(false));
            *client = Client::named(&client.id, &client.topics);
        }
        Step::Expire(client) => {
            let client = &mut clients[*client];
            if group.members.contains_key(&client.id) {
                group.remove(at(0), &client.id);
            }
            client.reads.clear();
            client.told = None;
        }
    }
}

proptest! {
    #![proptest_config(crate::testing::config())]

    #[test]
    fn no_partition_has_two_readers_and_every_one_gets_one(steps in proptest::collection::vec(step(), 1..120)) {
        let mut group = Consumer::default();
        let mut clients: Vec<_> = (0..4).map(|number| Client::named(&format!("m{number}"), &[1])).collect();
        for step in &steps {
            let epoch = group.epoch;
            take(&mut group, &mut clients, step);
            read_once(&clients)?;
            prop_assert!(group.epoch >= epoch, "the epoch went back");
        }
        settle(&mut group, &mut clients);
        read_once(&clients)?;
        let read: BTreeSet<Spot> = clients.iter().flat_map(|client| client.reads.iter().copied()).collect();
        let subscribed = |topic: u8| clients.iter().any(|client| client.topics.contains(&topic));
        let all = TOPICS.iter().zip(1u8..).filter(|(_, topic)| subscribed(*topic));
        let wanted: BTreeSet<Spot> = all.flat_map(|((_, count), topic)| (0..*count).map(move |partition| spot(topic, partition))).collect();
        prop_assert_eq!(read, wanted);
        prop_assert!(clients.iter().all(|client| client.epoch == group.epoch));
    }
}
