//! Clients of both protocols in one group, which leave and come back by the other one while the group changes its protocol.
//! Judged by what the clients read: no partition has two readers, and in the end every one has one.

use proptest::prelude::*;

use super::super::{Command, CoordinatorMachine, Part, Reply};
use super::*;
use crate::ids::PartitionIndex;

const PARTITIONS: i32 = 6;
const TOPIC: TopicId = TopicId([1; 16]);
const BOTH_WAYS: Migration = Migration { upgrades: true, downgrade_max: 8 };

fn spot(partition: i32) -> Spot {
    Spot { topic: TopicId([1; 16]), partition: PartitionIndex(partition) }
}

/// What a client says and assigns: the numbers of partitions.
fn bytes(spots: &BTreeSet<Spot>) -> Vec<u8> {
    spots.iter().map(|spot| spot.partition.0 as u8).collect()
}

fn spots(bytes: &[u8]) -> BTreeSet<Spot> {
    bytes.iter().map(|partition| spot(i32::from(*partition))).collect()
}

/// What a client of the classic protocol does next.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Stage {
    /// Asks to join.
    #[default]
    Joins,
    /// Waits for the generation.
    Joined,
    /// Waits for its assignment.
    Synced,
    /// Reads and beats.
    Reads,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Client {
    number: usize,
    id: String,
    classic: bool,
    /// Goes on reading while it joins.
    cooperative: bool,
    stage: Stage,
    /// Generation or epoch.
    epoch: i32,
    reads: BTreeSet<Spot>,
}

#[derive(Default)]
struct Run {
    machine: CoordinatorMachine,
    made: u32,
}

impl Run {
    fn apply(&mut self, command: Command) -> Reply {
        let before = self.machine.clone();
        let reply = self.machine.apply(At { index: 1, term: 1, leader_ts: 0 }, command);
        let refused = matches!(reply, Reply::Done(Err(_)) | Reply::Beaten(Err(_)));
        assert!(!refused || self.machine == before, "refused and changed: {reply:?}");
        reply
    }

    fn kind(&self) -> Option<&Kind> {
        self.machine.group("g").map(|group| &group.kind)
    }

    /// The generation or the epoch, while somebody knows it.
    fn epoch(&self) -> i32 {
        match self.kind() {
            Some(Kind::Classic(group)) if !group.members.is_empty() => group.generation,
            Some(Kind::Consumer(group)) if !group.members.is_empty() => group.epoch,
            _ => 0,
        }
    }

    fn round(&mut self, client: &mut Client) {
        match (client.classic, client.stage) {
            (false, _) => self.beat(client),
            (true, Stage::Joins) => self.join(client),
            (true, Stage::Joined) => self.joined(client),
            (true, Stage::Synced) => self.synced(client),
            (true, Stage::Reads) => {
                let beaten = self.machine.heartbeat(&client.who());
                client.suffers(beaten.err());
            }
        }
    }

    fn join(&mut self, client: &mut Client) {
        if !client.cooperative {
            client.reads.clear();
        }
        let is_new = client.id.is_empty();
        if is_new {
            client.id = self.name(client);
        }
        let embedded = Embedded { topics: vec![(TOPIC, PARTITIONS)], owned: client.reads.clone() };
        let protocol = Protocol { name: "even".to_owned(), metadata: bytes(&client.reads) };
        let join = Join {
            who: client.who(),
            is_new,
            member: Member { protocols: vec![protocol], topics: vec!["t".to_owned()], ..Member::default() },
            protocol_type: CONSUMER.to_owned(),
            members_max: 8,
            gathers: false,
            embedded: Some(embedded),
            migration: BOTH_WAYS,
        };
        match self.apply(Command::Join(join)) {
            Reply::Done(Ok(())) => client.stage = Stage::Joined,
            Reply::Done(Err(code)) => client.suffers(Some(code)),
            reply => panic!("{reply:?}"),
        }
    }

    fn name(&mut self, client: &Client) -> String {
        self.made += 1;
        format!("m{}-{}", client.number, self.made)
    }

    fn joined(&mut self, client: &mut Client) {
        let told = self.machine.join_answer(&client.who()).map(|answer| {
            let assigns = |joined: Joined<'_>| (joined.generation, joined.leads().then(|| assign(&joined)));
            answer.map(assigns)
        });
        let (epoch, assignments) = match told {
            None => return,
            Some(Err(code)) => return client.suffers(Some(code)),
            Some(Ok(told)) => told,
        };
        client.epoch = epoch;
        let assignments = assignments.unwrap_or_default();
        let sync = Sync { who: client.who(), protocol_type: None, protocol: None, assignments };
        match self.apply(Command::Sync(sync)) {
            Reply::Done(Ok(())) => client.stage = Stage::Synced,
            Reply::Done(Err(code)) => client.suffers(Some(code)),
            reply => panic!("{reply:?}"),
        }
    }

    fn synced(&mut self, client: &mut Client) {
        let share = match self.machine.sync_answer(&client.who()) {
            None => return,
            Some(Err(code)) => return client.suffers(Some(code)),
            Some(Ok(Share::Bytes(bytes))) => spots(&bytes),
            Some(Ok(Share::Spots(spots))) => spots,
        };
        // A cooperative client that has to give something up says so by joining again.
        client.stage = if client.reads.is_subset(&share) { Stage::Reads } else { Stage::Joins };
        client.reads = share;
    }

    fn beat(&mut self, client: &mut Client) {
        if client.id.is_empty() {
            client.id = self.name(client);
        }
        let beat = client.beat(client.epoch);
        let unchanged = self.kind().and_then(|kind| match kind {
            Kind::Consumer(group) => group.unchanged(&beat),
            Kind::Classic(_) => None,
        });
        let beaten = unchanged.map_or_else(|| self.apply(Command::Beat(beat)), Reply::Beaten);
        match beaten {
            Reply::Beaten(Ok(beaten)) => {
                client.epoch = beaten.epoch;
                client.reads = beaten.assigned.unwrap_or_else(|| client.reads.clone());
            }
            Reply::Beaten(Err(_)) => client.forget(),
            reply => panic!("{reply:?}"),
        }
    }

    fn leave(&mut self, client: &mut Client) {
        let gone = match client.classic {
            true => Command::Leave { group: "g".to_owned(), members: vec![client.who()] },
            false => Command::Beat(client.beat(super::super::consumer::LEAVES)),
        };
        let _unknown = self.apply(gone);
        client.forget();
    }
}

/// Equal parts; of a cooperative group nobody gets what another one has not given up yet.
fn assign(joined: &Joined<'_>) -> Vec<Part> {
    let members: Vec<(String, BTreeSet<Spot>)> =
        joined.members().map(|(id, _, metadata)| (id.clone(), spots(&metadata))).collect();
    let part = |(place, (id, _)): (usize, &(String, BTreeSet<Spot>))| {
        let free = |spot: &Spot| members.iter().all(|(other, owned)| other == id || !owned.contains(spot));
        let turn = |partition: &i32| *partition as usize % members.len() == place;
        let spots: BTreeSet<Spot> = (0..PARTITIONS).filter(turn).map(spot).filter(free).collect();
        Part { member: id.clone(), bytes: bytes(&spots), spots: Some(spots) }
    };
    members.iter().enumerate().map(part).collect()
}

impl Client {
    fn who(&self) -> Who {
        Who { group: "g".to_owned(), member: self.id.clone(), instance: None, generation: self.epoch }
    }

    fn beat(&self, epoch: i32) -> Beat {
        let topics = BTreeSet::from([TOPIC]);
        let subscription = Subscription { names: vec!["t".to_owned()], topics, ..Subscription::default() };
        Beat {
            who: Who { generation: epoch, ..self.who() },
            client_id: String::new(),
            client_host: String::new(),
            rebalance_timeout_ms: Some(60_000),
            subscription: Some(subscription),
            topics: vec![(TOPIC, PARTITIONS)],
            owned: Some(self.reads.clone()),
            members_max: 8,
            classic: None,
            named: vec![("t".to_owned(), TOPIC)],
            migration: BOTH_WAYS,
        }
    }

    /// It has lost what it had and who it was.
    fn forget(&mut self) {
        (self.epoch, self.stage) = (if self.classic { -1 } else { 0 }, Stage::Joins);
        self.id.clear();
        self.reads.clear();
    }

    fn suffers(&mut self, refusal: Option<Code>) {
        match refusal {
            None => {}
            Some(Code::RebalanceInProgress) => self.stage = Stage::Joins,
            Some(Code::IllegalGeneration) => {
                (self.stage, self.epoch) = (Stage::Joins, -1);
                self.reads.clear();
            }
            Some(_) => self.forget(),
        }
    }
}

fn read_once(clients: &[Client]) -> Result<(), TestCaseError> {
    let mut readers: BTreeMap<Spot, usize> = BTreeMap::new();
    for client in clients {
        for spot in &client.reads {
            let other = readers.insert(*spot, client.number);
            prop_assert!(other.is_none(), "{spot:?} is read by {other:?} and {}", client.number);
        }
    }
    Ok(())
}

#[derive(Clone, Debug)]
enum Step {
    Round(usize),
    /// Leaves; comes back by the other protocol, or the same.
    Leave(usize, bool),
    /// It is dead, and its session over.
    Expire(usize),
}

fn step() -> impl Strategy<Value = Step> {
    let client = || 0..4usize;
    prop_oneof![
        12 => client().prop_map(Step::Round),
        2 => (client(), any::<bool>()).prop_map(|(client, other)| Step::Leave(client, other)),
        1 => client().prop_map(Step::Expire),
    ]
}

fn take(run: &mut Run, clients: &mut [Client], step: &Step) {
    match *step {
        Step::Round(client) => run.round(&mut clients[client]),
        Step::Leave(client, other) => {
            run.leave(&mut clients[client]);
            clients[client].classic ^= other;
            clients[client].forget();
        }
        Step::Expire(client) => {
            let _unknown = run.apply(Command::Expire(clients[client].who()));
            clients[client].forget();
        }
    }
}

fn settle(run: &mut Run, clients: &mut [Client]) -> Result<(), TestCaseError> {
    for _ in 0..60 {
        let before = (run.machine.clone(), clients.to_vec());
        for client in clients.iter_mut() {
            run.round(client);
        }
        read_once(clients)?;
        if before == (run.machine.clone(), clients.to_vec()) {
            return Ok(());
        }
    }
    Err(TestCaseError::fail(format!("does not settle: {:#?}\n{clients:#?}", run.machine)))
}

fn has_all(clients: &[Client]) -> bool {
    clients.iter().map(|client| client.reads.len()).sum::<usize>() == PARTITIONS as usize
}

proptest! {
    #![proptest_config(crate::testing::config())]

    #[test]
    fn no_partition_has_two_readers_of_either_protocol(cooperative: bool, steps in proptest::collection::vec(step(), 1..160)) {
        let mut run = Run::default();
        let client = |number| Client { number, classic: number % 2 == 0, cooperative, epoch: if number % 2 == 0 { -1 } else { 0 }, ..Client::default() };
        let mut clients: Vec<_> = (0..4).map(client).collect();
        for step in &steps {
            let before = run.epoch();
            take(&mut run, &mut clients, step);
            read_once(&clients)?;
            prop_assert!(run.epoch() >= before || run.epoch() <= 1, "the epoch went back");
        }
        settle(&mut run, &mut clients)?;
        prop_assert!(has_all(&clients), "{clients:#?}");
        let consumers = clients.iter().any(|client| !client.classic);
        prop_assert_eq!(matches!(run.kind(), Some(Kind::Consumer(_))), consumers);
    }
}

/// Rolls three members one by one; what those read that stay may only grow while one is away.
fn roll(run: &mut Run, clients: &mut [Client]) {
    for number in 0..clients.len() {
        run.leave(&mut clients[number]);
        clients[number].classic ^= true;
        clients[number].forget();
        settle(run, clients).unwrap();
        assert!(has_all(clients), "{clients:#?}");
    }
}

#[test]
fn a_group_is_rolled_to_the_consumer_protocol_and_back() {
    for cooperative in [false, true] {
        let mut run = Run::default();
        let client = |number| Client { number, classic: true, cooperative, epoch: -1, ..Client::default() };
        let mut clients: Vec<_> = (0..3).map(client).collect();
        settle(&mut run, &mut clients).unwrap();
        let generation = run.epoch();
        roll(&mut run, &mut clients);
        assert!(matches!(run.kind(), Some(Kind::Consumer(_))));
        let epoch = run.epoch();
        assert!(epoch > generation);
        roll(&mut run, &mut clients);
        assert!(matches!(run.kind(), Some(Kind::Classic(_))));
        assert!(run.epoch() > epoch, "the generation goes on from the epoch");
    }
}
