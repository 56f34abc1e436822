//! The topology's rules one by one, and all of it under random commands.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;
use crate::controller::{
    Code, Command, ControllerMachine, CreatePartitions, CreateTopics, DeleteTopics, Endpoint, MorePartitions, NewTopic,
    Registration, TopicRef,
};
use crate::exchange::{ArgValue, Routed};
use crate::ids::StoreId;
use crate::limits;
use crate::machine::{At, Out};

type Refused = Result<(), TopologyError>;

struct World {
    machine: ControllerMachine,
    ids: u8,
}

impl World {
    fn new() -> Self {
        let mut world = World { machine: ControllerMachine::new(), ids: 0 };
        for id in 1..=3 {
            let listeners = BTreeMap::from([("kafka".to_owned(), Endpoint { host: "h".to_owned(), port: id })]);
            let registration = Registration { id: NodeId(id.into()), store: StoreId(id.into()), listeners, rack: None };
            world.apply(Command::RegisterNode(registration));
        }
        world
    }

    fn apply(&mut self, command: Command) -> Outcome {
        let at = At { index: 1, term: 1, leader_ts: 0 };
        self.machine.apply(at, command.on(Terms::default()), &mut Out::default()).outcome
    }

    fn change(&mut self, change: TopologyChange) -> Refused {
        self.change_in(DEFAULT_VHOST, change)
    }

    fn change_in(&mut self, vhost: &str, change: TopologyChange) -> Refused {
        let vhost = vhost.to_owned();
        match self.apply(Command::Topology(Box::new(TopologyCommand { vhost, change }))) {
            Outcome::Topology(result) => result,
            other => panic!("{other:?}"),
        }
    }

    fn id(&mut self) -> TopicId {
        self.ids += 1;
        TopicId([self.ids; 16])
    }

    fn declare(&mut self, name: &str, spec: QueueSpec) -> Refused {
        self.declare_in(DEFAULT_VHOST, name, spec)
    }

    fn declare_in(&mut self, vhost: &str, name: &str, spec: QueueSpec) -> Refused {
        let topic = self.id();
        let new = NewQueue { name: name.to_owned(), spec, topic, server_named: false };
        self.change_in(vhost, TopologyChange::DeclareQueue(new))
    }

    fn queue(&mut self, name: &str) {
        assert_eq!(self.declare(name, QueueSpec::default()), Ok(()), "{name}");
    }

    fn exchange(&mut self, name: &str, spec: ExchangeSpec) -> Refused {
        self.change(TopologyChange::DeclareExchange { name: name.to_owned(), spec })
    }

    fn bind(&mut self, source: &str, key: &str, destination: Destination) -> Refused {
        self.change(TopologyChange::Bind(binding(source, key, destination)))
    }

    fn delete(&mut self, name: &str) -> Refused {
        self.change(TopologyChange::DeleteQueue { name: name.to_owned(), topic: None })
    }

    fn topic(&mut self, name: &str, partitions: i32) -> Outcome {
        let topic = NewTopic { partitions, ..NewTopic::named(name, self.id()) };
        self.apply(Command::CreateTopics(CreateTopics { topics: vec![topic], validate_only: false, auto: false }))
    }

    fn vhost(&self) -> Arc<Vhost> {
        self.machine.image().topology.vhost(DEFAULT_VHOST).cloned().expect("always there")
    }

    fn topic_of(&self, queue: &str) -> String {
        let queue = self.vhost().queue(queue).cloned().expect("declared");
        self.machine.image().topic_by_id(queue.topic).expect("it has one").name.clone()
    }

    fn route(&self, exchange: &str, key: &str) -> Vec<String> {
        let message = Routed { key, headers: &Args::new() };
        let route = self.vhost().route(exchange, &message).expect("declared");
        route.queues.iter().map(|queue| queue.name.clone()).collect()
    }
}

fn queue(name: &str) -> Destination {
    Destination::Queue(name.to_owned())
}

fn exchange(name: &str) -> Destination {
    Destination::Exchange(name.to_owned())
}

fn binding(source: &str, key: &str, destination: Destination) -> Binding {
    Binding { source: source.to_owned(), destination, key: key.to_owned(), arguments: Args::new() }
}

fn of_kind(kind: &str) -> ExchangeSpec {
    ExchangeSpec::parse(kind, &Args::new()).expect("known")
}

fn with(arguments: &[(&str, ArgValue)]) -> Result<Arguments, TopologyError> {
    Arguments::parse(&arguments.iter().map(|(name, value)| ((*name).to_owned(), value.clone())).collect())
}

fn words(refused: Refused) -> String {
    refused.expect_err("refused").to_string()
}

#[test]
fn a_queue_is_a_topic_of_one_partition_and_goes_with_it() {
    let mut world = World::new();
    world.queue("orders");
    let image = world.machine.image();
    let topic = image.topic("orders").expect("made").clone();
    let known = image.queue_of_topic(topic.id).expect("known by its topic").clone();
    assert_eq!((topic.partitions.len(), topic.partitions[0].group), (1, known.partition_group));
    assert_eq!(world.route("", "orders"), ["orders"], "the default exchange");
    assert_eq!(world.bind("amq.direct", "k", queue("orders")), Ok(()));
    assert_eq!(world.delete("orders"), Ok(()));
    let image = world.machine.image();
    assert_eq!((image.topic("orders"), image.queue_of_topic(topic.id)), (None, None));
    assert_eq!((world.route("amq.direct", "k").len(), world.vhost().bindings().count()), (0, 0));
    assert_eq!(words(world.delete("orders")), "no queue 'orders' in vhost '/'");
}

#[test]
fn a_topic_that_is_there_becomes_a_queue_and_stays_behind_it() {
    let mut world = World::new();
    world.topic("log", 1);
    world.topic("wide", 4);
    world.queue("log");
    assert_eq!(world.delete("log"), Ok(()));
    assert!(world.machine.image().topic("log").is_some());
    let words = words(world.declare("wide", QueueSpec::default()));
    assert_eq!(words, "topic 'wide' has 4 partitions: only one of a single partition can be a queue");
    world.queue("log");
    let more = MorePartitions { topic: "log".to_owned(), count: 2, assignments: None };
    match world.apply(Command::CreatePartitions(CreatePartitions { topics: vec![more], validate_only: false })) {
        Outcome::Each(results) => assert_eq!(results[0].as_ref().map_err(|e| e.code), Err(Code::InvalidPartitions)),
        other => panic!("{other:?}"),
    }
    assert_eq!(world.bind("amq.fanout", "", queue("log")), Ok(()));
    world.apply(Command::DeleteTopics(DeleteTopics { topics: vec![TopicRef::Name("log".to_owned())] }));
    assert!(world.vhost().queues.is_empty(), "without its topic there is no queue");
    assert_eq!(world.vhost().bindings().count(), 0);
}

#[test]
fn a_name_that_no_topic_can_have_is_derived() {
    let mut world = World::new();
    for name in ["a b/ü", "tasks.high", "tasks_high", &"n".repeat(255)] {
        world.queue(name);
    }
    assert_eq!(
        world.topic_of("a b/ü"),
        format!("queue-a-b---{:016x}", crate::exchange::spread_hash([b"/", &[0], "a b/ü".as_bytes()]))
    );
    assert_eq!(world.topic_of("tasks.high"), "tasks.high");
    assert!(world.topic_of("tasks_high").starts_with("queue-tasks-high-"), "Kafka's names collide, these do not");
    assert!(world.topic_of(&"n".repeat(255)).len() <= limits::TOPIC_NAME_BYTES_MAX);
    assert!(world.declare(&"n".repeat(256), QueueSpec::default()).is_err());
    assert!(world.declare("amq.gen-mine", QueueSpec::default()).is_err());
    assert!(
        world
            .declare("__consumer_offsets", QueueSpec::default())
            .is_ok_and(|()| world.topic_of("__consumer_offsets") != "__consumer_offsets")
    );
}

#[test]
fn who_declares_again_says_the_same() {
    let mut world = World::new();
    let arguments = with(&[("x-message-ttl", ArgValue::Int(60_000))]).expect("legal");
    let spec = QueueSpec { durable: true, arguments, ..QueueSpec::default() };
    assert_eq!(world.declare("q", spec.clone()), Ok(()));
    let version = world.machine.image().version;
    assert_eq!(world.declare("q", spec.clone()), Ok(()));
    assert_eq!(world.machine.image().version, version, "nothing changed");
    let other = QueueSpec { durable: false, ..spec.clone() };
    assert_eq!(
        words(world.declare("q", other)),
        "inequivalent arg 'durable' for queue 'q' in vhost '/': received 'false' but current is 'true'"
    );
    let other = QueueSpec { arguments: Arguments::default(), ..spec.clone() };
    assert_eq!(
        words(world.declare("q", other)),
        "inequivalent arg 'x-message-ttl' for queue 'q' in vhost '/': received none but current is the value '60000'"
    );
    assert_eq!(
        words(world.exchange("amq.topic", of_kind("direct"))),
        "inequivalent arg 'type' for exchange 'amq.topic' in vhost '/': received the value 'direct' but current is the value 'topic'"
    );
}

#[test]
fn an_exclusive_queue_is_one_connections_and_lives_with_its_node() {
    let mut world = World::new();
    let owner = |boot, connection| Some(Owner { node: NodeId(2), boot, connection });
    let spec = |exclusive| QueueSpec { exclusive, ..QueueSpec::default() };
    assert_eq!(world.declare("mine", spec(owner(7, 1))), Ok(()));
    assert_eq!(world.declare("mine", spec(owner(7, 1))), Ok(()));
    let locked = words(world.declare("mine", spec(owner(7, 2))));
    assert_eq!(locked, "cannot obtain exclusive access to locked queue 'mine' in vhost '/'");
    assert_eq!(words(world.declare("mine", spec(None))), locked);
    let replicas = world.machine.image().topic("mine").expect("made").partitions[0].nodes();
    assert_eq!(replicas, [NodeId(2)]);
    assert_eq!(world.declare("theirs", spec(owner(8, 1))), Ok(()));
    world.queue("all");
    assert_eq!(world.change(TopologyChange::DropOwned { node: NodeId(2), but: Some(8) }), Ok(()));
    assert_eq!(world.vhost().queues.keys().map(|name| &**name).collect::<Vec<_>>(), ["all", "theirs"]);
    assert_eq!(world.change(TopologyChange::DropOwned { node: NodeId(2), but: None }), Ok(()));
    assert_eq!(world.vhost().queues.len(), 1);
}

#[test]
fn a_declaration_that_is_repeated_does_not_bring_back_what_was_deleted() {
    let mut world = World::new();
    let new =
        NewQueue { name: "q".to_owned(), spec: QueueSpec::default(), topic: TopicId([77; 16]), server_named: false };
    let declare = TopologyChange::DeclareQueue(new);
    assert_eq!(world.change(declare.clone()), Ok(()));
    let other = TopologyChange::DeleteQueue { name: "q".to_owned(), topic: Some(TopicId([1; 16])) };
    assert!(world.change(other).is_err(), "of another incarnation");
    assert_eq!(world.delete("q"), Ok(()));
    assert_eq!(world.change(declare), Ok(()));
    assert!(world.vhost().queues.is_empty());
}

#[test]
fn the_servers_exchanges_are_the_servers() {
    let mut world = World::new();
    let delete = |name: &str| TopologyChange::DeleteExchange { name: name.to_owned(), if_unused: false };
    let default = "operation not permitted on the default exchange";
    world.queue("q");
    assert_eq!(words(world.exchange("", of_kind("direct"))), default);
    assert_eq!(words(world.change(delete(""))), default);
    assert_eq!(words(world.bind("", "k", queue("q"))), default);
    assert_eq!(words(world.change(TopologyChange::Unbind(binding("", "k", queue("q"))))), default);
    assert!(matches!(world.change(delete("amq.topic")), Err(TopologyError::AccessRefused(_))));
    assert!(matches!(world.exchange("amq.mine", of_kind("direct")), Err(TopologyError::AccessRefused(_))));
    assert_eq!(words(world.change(delete("none"))), "no exchange 'none' in vhost '/'");
    assert_eq!(words(world.bind("none", "k", queue("q"))), "no exchange 'none' in vhost '/'");
    assert_eq!(words(world.bind("amq.topic", "k", queue("none"))), "no queue 'none' in vhost '/'");
}

#[test]
fn exchanges_lead_to_exchanges_and_cycles_end() {
    let mut world = World::new();
    for name in ["a", "b", "c"] {
        assert_eq!(world.exchange(name, of_kind("topic")), Ok(()));
    }
    world.queue("q");
    world.queue("r");
    for (source, key, destination) in [
        ("a", "#", exchange("b")),
        ("b", "#", exchange("a")),
        ("b", "x.#", exchange("c")),
        ("a", "x.y", queue("q")),
        ("c", "*.y", queue("q")),
        ("c", "#", queue("r")),
    ] {
        assert_eq!(world.bind(source, key, destination), Ok(()));
    }
    assert_eq!(world.route("a", "x.y"), ["q", "r"], "each once");
    assert_eq!(world.route("a", "z"), Vec::<String>::new());
    assert_eq!(world.vhost().route("none", &Routed { key: "", headers: &Args::new() }), Err(NoExchange));
    let unused = TopologyChange::DeleteExchange { name: "b".to_owned(), if_unused: true };
    assert_eq!(words(world.change(unused)), "exchange 'b' in vhost '/' in use");
    assert_eq!(world.change(TopologyChange::DeleteExchange { name: "b".to_owned(), if_unused: false }), Ok(()));
    assert_eq!(world.route("a", "x.y"), ["q"]);
}

#[test]
fn what_has_no_place_goes_to_the_alternate_exchange() {
    let mut world = World::new();
    let first = ExchangeSpec { alternate: Some("rest".to_owned()), ..of_kind("direct") };
    assert_eq!(world.exchange("first", first), Ok(()));
    world.queue("known");
    world.queue("unknown");
    assert_eq!(world.bind("first", "k", queue("known")), Ok(()));
    assert_eq!(world.route("first", "z"), Vec::<String>::new(), "an alternate exchange that is not there");
    assert_eq!(world.exchange("rest", ExchangeSpec { delayed: true, ..of_kind("fanout") }), Ok(()));
    assert_eq!(world.bind("rest", "", queue("unknown")), Ok(()));
    assert_eq!((world.route("first", "k"), world.route("first", "z")), (vec!["known".into()], vec!["unknown".into()]));
    let delayed = |key| world.vhost().route("first", &Routed { key, headers: &Args::new() }).expect("there").delayed;
    assert_eq!((delayed("k"), delayed("z")), (false, true));
}

#[test]
fn exchanges_that_delete_themselves_go_with_their_last_binding() {
    let mut world = World::new();
    let auto = || ExchangeSpec { auto_delete: true, ..of_kind("fanout") };
    for name in ["a", "b", "c"] {
        assert_eq!(world.exchange(name, auto()), Ok(()));
    }
    world.queue("q");
    assert_eq!(world.bind("a", "", exchange("b")), Ok(()));
    assert_eq!(world.bind("b", "", queue("q")), Ok(()));
    assert_eq!(world.bind("c", "", queue("q")), Ok(()));
    assert_eq!(world.bind("c", "k", exchange("c")), Ok(()));
    assert_eq!(world.delete("q"), Ok(()));
    let left: Vec<_> = world.vhost().exchanges.keys().filter(|name| !name.starts_with("amq.")).cloned().collect();
    assert_eq!(left, [Arc::from("c")], "c is bound to itself");
    let loops = binding("c", "k", exchange("c"));
    assert_eq!(world.change(TopologyChange::Unbind(loops.clone())), Ok(()));
    assert_eq!(world.vhost().exchanges.len(), 5);
    assert_eq!(world.change(TopologyChange::Unbind(loops)), Ok(()), "of what is not there nothing has to go");
}

#[test]
fn bindings_of_a_hash_have_a_weight_and_those_of_headers_a_match() {
    let mut world = World::new();
    world.queue("q");
    assert_eq!(world.exchange("hash", of_kind("x-consistent-hash")), Ok(()));
    assert_eq!(world.bind("hash", "3", queue("q")), Ok(()));
    for key in ["", "0", "-1", "many"] {
        assert!(matches!(world.bind("hash", key, queue("q")), Err(TopologyError::Precondition(_))), "{key}");
    }
    let mut binding = binding("amq.headers", "", queue("q"));
    binding.arguments.insert("x-match".to_owned(), ArgValue::text("most"));
    assert!(matches!(world.change(TopologyChange::Bind(binding)), Err(TopologyError::Precondition(_))));
}

#[test]
fn types_and_arguments_of_exchanges_are_read() {
    let parse = |kind: &str, arguments: &[(&str, &str)]| {
        let arguments = arguments.iter().map(|(name, value)| ((*name).to_owned(), ArgValue::text(value)));
        ExchangeSpec::parse(kind, &arguments.collect())
    };
    let delayed =
        parse("x-delayed-message", &[("x-delayed-type", "topic"), ("alternate-exchange", "ae")]).expect("legal");
    assert_eq!((delayed.kind, delayed.delayed, delayed.type_name()), (ExchangeKind::Topic, true, "x-delayed-message"));
    assert_eq!(ExchangeSpec::parse("x-delayed-message", &delayed.named()), Ok(delayed));
    let hash = parse("x-consistent-hash", &[("hash-property", "message_id")]).expect("legal");
    assert_eq!(hash.hash_on, HashOn::Property("message_id".to_owned()));
    assert!(parse("x-consistent-hash", &[("hash-property", "body")]).is_err());
    assert!(parse("x-consistent-hash", &[("hash-property", "message_id"), ("hash-header", "h")]).is_err());
    for kind in ["", "x-delayed-message", "x-random", "Direct"] {
        assert!(matches!(parse(kind, &[]), Err(TopologyError::Precondition(_))), "{kind}");
    }
}

#[test]
fn virtual_hosts_have_names_of_their_own_and_go_with_all_that_is_in_them() {
    let mut world = World::new();
    assert_eq!(words(world.declare_in("b", "q", QueueSpec::default())), "vhost 'b' not found");
    world.change_in("b", TopologyChange::AddVhost).expect("a name");
    world.change_in("b", TopologyChange::AddVhost).expect("there already");
    for (vhost, topics) in [("/", 1), ("b", 2)] {
        world.declare_in(vhost, "q", QueueSpec::default()).expect("a queue");
        assert_eq!(world.machine.image().topics.len(), topics, "each has its own topic");
    }
    let bound = binding("amq.direct", "k", queue("q"));
    world.change_in("b", TopologyChange::Bind(bound)).expect("bound");
    assert_eq!(world.machine.image().topology.vhost("b").expect("there").bindings().count(), 1);
    let policy = Policy {
        pattern: "^q".to_owned(),
        applies_to: AppliesTo::All,
        priority: 1,
        definition: with(&[("x-expires", ArgValue::Int(1))]).expect("legal"),
    };
    let set = |name: &str| TopologyChange::SetPolicy { name: name.to_owned(), policy: policy.clone() };
    world.change_in("b", set("p")).expect("there");
    let version = world.machine.image().version;
    world.change_in("b", set("p")).expect("there");
    assert_eq!(world.machine.image().version, version, "nothing changed");
    assert_eq!(words(world.change_in("b", set(""))), "a policy needs a name");
    let drop = |name: &str| TopologyChange::DropPolicy { name: name.to_owned() };
    assert_eq!(words(world.change_in("/", drop("p"))), "no policy 'p' in vhost '/'");
    let image = world.machine.image().topology.clone();
    assert_eq!(Topology::restore(image.snapshot()), *image);
    world.change_in("b", drop("p")).expect("there");
    world.change_in("b", set("p")).expect("and again");
    assert_eq!(words(world.change_in("/", TopologyChange::DropVhost)), "virtual host '/' cannot be deleted");
    world.change_in("b", TopologyChange::DropVhost).expect("goes");
    assert_eq!(words(world.change_in("b", TopologyChange::DropVhost)), "vhost 'b' not found");
    assert_eq!(world.machine.image().topics.len(), 1, "and its queue's topic");
    assert_eq!(words(world.change_in("", TopologyChange::AddVhost)), "a virtual host needs a name");
    world.change_in(&"x".repeat(256), TopologyChange::AddVhost).expect_err("too long");
}

#[test]
fn arguments_of_queues_are_read_and_none_is_forgotten() {
    let (int, text) = (ArgValue::Int, ArgValue::text);
    let all = [
        ("x-message-ttl", int(0)),
        ("x-expires", int(limits::QUEUE_MS_MAX)),
        ("x-max-length", int(5)),
        ("x-max-length-bytes", int(6)),
        ("x-overflow", text("reject-publish-dlx")),
        ("x-dead-letter-exchange", text("")),
        ("x-dead-letter-routing-key", text("k")),
        ("x-max-priority", int(255)),
        ("x-single-active-consumer", ArgValue::Bool(true)),
        ("x-queue-type", text("quorum")),
        ("x-delivery-limit", int(-1)),
        ("x-consumer-timeout", int(9)),
        ("x-delayed-retry-min", int(10)),
        ("x-delayed-retry-max", int(20)),
        ("x-max-rate", int(1_000_000)),
        ("x-dedup-window", int(30)),
    ];
    let read = with(&all).expect("legal");
    assert_eq!(read.named().into_iter().collect::<Vec<_>>(), BTreeMap::from(all).into_iter().collect::<Vec<_>>());
    assert_eq!(with(&[("x-queue-mode", text("lazy")), ("mine", int(1))]), Ok(Arguments::default()));
    for (name, value) in [
        ("x-max-rate-of-nothing", int(1)),
        ("x-message-ttl", int(-1)),
        ("x-message-ttl", int(limits::QUEUE_MS_MAX + 1)),
        ("x-message-ttl", text("60")),
        ("x-expires", int(0)),
        ("x-max-priority", int(256)),
        ("x-overflow", text("drop-tail")),
        ("x-queue-type", text("rope")),
        ("x-dead-letter-routing-key", text("k")),
        ("x-delayed-retry-max", int(5)),
        ("x-delivery-limit", int(-2)),
        ("x-max-rate", int(0)),
        ("x-max-rate", text("9")),
        ("x-dedup-window", int(0)),
        ("x-single-active-consumer", text("true")),
    ] {
        let words = with(&[(name, value)]).expect_err(name).to_string();
        assert!(words.contains(name), "{words}");
    }
}

#[test]
fn a_message_dies_of_one_failure_more_than_the_limit() {
    let limit = |limit: Option<i32>| Arguments { delivery_limit: limit, ..Arguments::default() }.cursor().failures_max;
    assert_eq!(
        (limit(None), limit(Some(0)), limit(Some(3)), limit(Some(-1)), limit(Some(i32::MAX))),
        (21, 1, 4, 0, 1 << 31)
    );
}

fn change() -> impl Strategy<Value = TopologyChange> {
    let name = || proptest::sample::select(&["a", "b", "c", "d.e", "d_e"][..]).prop_map(str::to_owned);
    let destination = prop_oneof![name().prop_map(Destination::Queue), name().prop_map(Destination::Exchange)];
    let bound =
        (name(), name(), destination).prop_map(|(source, key, destination)| binding(&source, &key, destination));
    let spec = (any::<bool>(), 0..4usize).prop_map(|(auto_delete, kind)| ExchangeSpec {
        kind: ExchangeKind::ALL[kind].1,
        auto_delete,
        ..ExchangeSpec::default()
    });
    let new = (name(), any::<[u8; 2]>(), any::<bool>()).prop_map(|(name, id, owned)| NewQueue {
        name,
        spec: QueueSpec {
            exclusive: owned.then_some(Owner { node: NodeId(1), boot: 1, connection: 1 }),
            ..QueueSpec::default()
        },
        topic: TopicId(std::array::from_fn(|place| id[place % 2] | 1)),
        server_named: false,
    });
    prop_oneof![
        4 => new.prop_map(TopologyChange::DeclareQueue),
        2 => name().prop_map(|name| TopologyChange::DeleteQueue { name, topic: None }),
        4 => (name(), spec).prop_map(|(name, spec)| TopologyChange::DeclareExchange { name, spec }),
        2 => (name(), any::<bool>()).prop_map(|(name, if_unused)| TopologyChange::DeleteExchange { name, if_unused }),
        8 => bound.clone().prop_map(TopologyChange::Bind),
        2 => bound.prop_map(TopologyChange::Unbind),
        1 => Just(TopologyChange::DropOwned { node: NodeId(1), but: None }),
    ]
}

proptest! {
    #![proptest_config(crate::testing::config())]

    /// Each apply checks that nothing leads nowhere (`TopologyWhole`).
    #[test]
    fn whatever_is_declared_and_deleted_the_topology_is_whole(
        changes in proptest::collection::vec(change(), 1..60),
        topics in proptest::collection::vec(0..60usize, 0..4),
    ) {
        let mut world = World::new();
        for (place, change) in changes.into_iter().enumerate() {
            let before = world.machine.image();
            let refused = world.change(change).is_err();
            prop_assert!(!refused || *before == *world.machine.image(), "a refused change changes nothing");
            if topics.contains(&place) {
                let topics = ["a", "b"].map(|name| TopicRef::Name(name.to_owned())).to_vec();
                world.apply(Command::DeleteTopics(DeleteTopics { topics }));
                world.topic("c", 1);
            }
        }
        let restored = ControllerMachine::restore(world.machine.snapshot());
        prop_assert_eq!(restored, world.machine);
    }
}
