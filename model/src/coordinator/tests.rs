//! A coordinator shard: its rules as a transcript, and any order of commands against what must always hold.

use proptest::prelude::*;

use super::*;
use crate::ids::PartitionIndex;
use crate::transcripts::{Words, replay};

fn who(group: &str, member: &str, instance: Option<&str>, generation: i32) -> Who {
    Who { group: group.to_owned(), member: member.to_owned(), instance: instance.map(str::to_owned), generation }
}

fn protocols(names: &str) -> Vec<Protocol> {
    names.split(',').map(|name| Protocol { name: name.to_owned(), metadata: name.as_bytes().to_vec() }).collect()
}

fn join(who: Who, is_new: bool, names: &str) -> Join {
    let member = Member {
        instance: who.instance.clone(),
        protocols: protocols(names),
        topics: vec!["t".to_owned()],
        ..Member::default()
    };
    Join {
        who,
        is_new,
        member,
        protocol_type: "consumer".to_owned(),
        members_max: 5,
        gathers: false,
        embedded: None,
        migration: Migration::default(),
    }
}

fn spot(partition: i32) -> Spot {
    Spot { topic: TopicId([1; 16]), partition: PartitionIndex(partition) }
}

/// `p0+p2` are partitions.
fn spots(words: &str) -> BTreeSet<Spot> {
    words.split('+').filter_map(|word| word.strip_prefix('p')?.parse().ok()).map(spot).collect()
}

fn shown(spots: &BTreeSet<Spot>) -> String {
    spots.iter().map(|spot| format!("p{}", spot.partition)).collect::<Vec<_>>().join("+")
}

fn part(member: &str, bytes: &str) -> Part {
    Part { member: member.to_owned(), bytes: bytes.as_bytes().to_vec(), spots: Some(spots(bytes)) }
}

fn offset(offset: i64, name: &str) -> Offset {
    Offset {
        offset,
        leader_epoch: 3,
        metadata: String::new(),
        retention_ms: None,
        committed_ms: 0,
        name: name.to_owned(),
    }
}

#[derive(Default)]
struct Run {
    machine: CoordinatorMachine,
    index: u64,
    now_ms: i64,
}

impl Run {
    fn apply(&mut self, command: Command) -> Reply {
        self.index += 1;
        self.machine.apply(At { index: self.index, term: 1, leader_ts: self.now_ms }, command)
    }

    fn step(&mut self, line: &str) -> Vec<String> {
        let words = Words::of(line);
        let plain = words.plain();
        let (verb, group) = (plain[0], plain.get(1).copied().unwrap_or_default());
        let member = plain.get(2).copied().filter(|member| *member != "-").unwrap_or_default();
        let who = who(group, member, words.get("instance"), words.number("gen", -1));
        if verb == "wait" {
            self.now_ms += words.number("ms", 0);
            return vec![];
        }
        if verb == "show" {
            return self.show(group);
        }
        if verb == "ask" {
            return self.ask(&who);
        }
        let reply = match command(verb, &words, who) {
            Some(command) => self.apply(command),
            None => panic!("{line}"),
        };
        let mut trace = match reply {
            Reply::Done(result) => vec![told(result)],
            Reply::Each(results) => results.into_iter().map(told).collect(),
            Reply::Forgotten(count) => vec![format!("{count} forgotten")],
            Reply::Beaten(result) => vec![format!("{result:?}")],
        };
        trace.extend(self.show(group));
        trace
    }

    fn show(&self, id: &str) -> Vec<String> {
        let Some(shown) = self.machine.group(id) else { return vec!["no group".to_owned()] };
        let group = match &shown.kind {
            Kind::Classic(group) => group,
            Kind::Consumer(group) => return vec![show_consumer(group)],
        };
        let member = |(id, member): (&String, &Member)| {
            let star = if group.leader.as_ref() == Some(id) { "*" } else { "" };
            let ready = if member.ready { "+" } else { "" };
            format!(" {id}{star}{ready}={}", String::from_utf8_lossy(&member.assignment))
        };
        let members: String = group.members.iter().map(member).collect();
        let protocol = group.protocol.as_deref().unwrap_or("-");
        let mut trace = vec![format!("{:?} {} {protocol}{members}", group.phase, group.generation)];
        trace.extend(shown.offsets.iter().map(|(spot, offset)| format!("{} {}", spot.partition, offset.offset)));
        trace
    }

    fn ask(&self, who: &Who) -> Vec<String> {
        let join = self.machine.join_answer(who).map(|answer| {
            answer.map(|joined| {
                let all: Vec<_> = joined.members().map(|(id, ..)| id.as_str()).collect();
                let members = if joined.leads() { all.join(",") } else { String::new() };
                format!("generation {} [{members}] skip {}", joined.generation, joined.skip_assignment())
            })
        });
        let sync = self.machine.sync_answer(who).map(|answer| {
            answer.map(|share| match share {
                Share::Bytes(bytes) => String::from_utf8_lossy(&bytes).into_owned(),
                Share::Spots(spots) => shown(&spots),
            })
        });
        vec![format!("join {join:?}"), format!("sync {sync:?}"), format!("heartbeat {:?}", self.machine.heartbeat(who))]
    }
}

/// Epochs of the group and of its members, with what they read; ~ speaks the classic protocol, - is to be given up.
fn show_consumer(group: &Consumer) -> String {
    let member = |(id, member): (&String, &ConsumerMember)| {
        let tilde = if member.classic.is_some() { "~" } else { "" };
        let revoking = if member.revoking.is_empty() { String::new() } else { format!("-{}", shown(&member.revoking)) };
        format!(" {id}{tilde}@{}={}{revoking}", member.epoch, shown(&member.assigned))
    };
    format!("{} {}{}", group.state(), group.epoch, group.members.iter().map(member).collect::<String>())
}

/// Of two partitions of the one topic that there is.
fn beat(words: &Words<'_>, who: Who) -> Beat {
    let topics = BTreeSet::from([spot(0).topic]);
    let subscription = Subscription { names: vec!["t".to_owned()], topics, ..Subscription::default() };
    let full = who.generation == consumer::JOINS || words.get("owned").is_some();
    Beat {
        client_id: String::new(),
        client_host: String::new(),
        rebalance_timeout_ms: full.then_some(1_000),
        subscription: full.then_some(subscription),
        topics: if full { vec![(spot(0).topic, 2)] } else { Vec::new() },
        owned: full.then(|| spots(words.get("owned").unwrap_or_default())),
        members_max: words.number("max", 5),
        classic: None,
        named: vec![("t".to_owned(), spot(0).topic)],
        migration: migration(words),
        who,
    }
}

fn migration(words: &Words<'_>) -> Migration {
    let policy = words.get("policy").unwrap_or("bidirectional");
    let allows = |way: &str| policy == way || policy == "bidirectional";
    Migration { upgrades: allows("upgrade"), downgrade_max: if allows("downgrade") { 5 } else { 0 } }
}

fn told(result: Result<(), Code>) -> String {
    result.map_or_else(|code| format!("{code:?} ({})", code.kafka()), |()| "ok".to_owned())
}

fn command(verb: &str, words: &Words<'_>, who: Who) -> Option<Command> {
    let plain = words.plain();
    let turn = Turn { group: who.group.clone(), generation: who.generation };
    let numbered = || (0..words.number("partitions", 1)).map(spot);
    let topic = words.get("topic").unwrap_or("t");
    Some(match verb {
        "join" => Command::Join(Join {
            protocol_type: words.get("type").unwrap_or("consumer").to_owned(),
            gathers: plain.contains(&"gathers"),
            embedded: (!plain.contains(&"opaque")).then(|| Embedded {
                topics: vec![(spot(0).topic, 2)],
                owned: spots(words.get("owned").unwrap_or_default()),
            }),
            migration: migration(words),
            ..join(who, plain.contains(&"new"), words.get("protocols").unwrap_or("range"))
        }),
        "end-join" => Command::EndJoin(turn),
        "end-sync" => Command::EndSync(turn),
        "sync" => {
            let pairs = words.get("assign").unwrap_or_default().split(',').filter_map(|pair| pair.split_once(':'));
            let assignments = pairs.map(|(id, bytes)| part(id, bytes)).collect();
            let protocol = words.get("protocol").map(str::to_owned);
            Command::Sync(Sync { who, protocol_type: None, protocol, assignments })
        }
        "beat" => Command::Beat(beat(words, who)),
        "leave" => Command::Leave { group: who.group.clone(), members: vec![who] },
        "expire" => Command::Expire(who),
        "commit" => {
            let retention_ms = words.get("retention").map(|ms| ms.parse().unwrap());
            let of = |spot| (spot, Offset { retention_ms, ..offset(words.number("offset", 0), topic) });
            let offsets = numbered().map(of).collect();
            Command::Commit(Commit { who, offsets })
        }
        "delete" => Command::DeleteGroup(who.group),
        "rebalance" => Command::Rebalance(who.group),
        "bound" => Command::Bound(Bounds { groups: words.number("groups", 9), offsets: words.number("offsets", 9) }),
        "delete-offsets" => Command::DeleteOffsets {
            group: who.group,
            spots: numbered().map(|spot| (spot, topic.to_owned())).collect(),
        },
        "expire-offsets" => {
            Command::ExpireOffsets(Retention { ms: words.number("ms", 0), offsets_max: words.number("max", 1_000) })
        }
        "forget-topics" => Command::ForgetTopics(vec![TopicId([1; 16])]),
        _ => return None,
    })
}

#[test]
fn transcript() {
    let mut run = Run::default();
    replay("coordinator.txt", |line| run.step(line));
}

/// What a proptest does to a group of up to six clients.
#[derive(Clone, Debug)]
enum Step {
    Join { client: u8, like: u8 },
    Sync(u8),
    EndJoin,
    EndSync,
    Leave(u8),
    Commit { client: u8, stale: bool },
    Rebalance,
}

/// A client as the protocol has it: its id and what it was told last.
#[derive(Clone, Debug, Default)]
struct Client {
    id: String,
    generation: i32,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => (0u8..6, 0u8..3).prop_map(|(client, like)| Step::Join { client, like }),
        6 => (0u8..6).prop_map(Step::Sync),
        1 => Just(Step::EndJoin),
        1 => Just(Step::EndSync),
        2 => (0u8..6).prop_map(Step::Leave),
        3 => (0u8..6, any::<bool>()).prop_map(|(client, stale)| Step::Commit { client, stale }),
        1 => Just(Step::Rebalance),
    ]
}

/// Clients 4 and 5 are static.
fn speaks(client: u8, state: &Client) -> Who {
    let instance = ["i4", "i5"].get((client as usize).wrapping_sub(4)).copied();
    who("g", &state.id, instance, state.generation)
}

fn take(run: &mut Run, clients: &mut [Client; 6], made: &mut u32, step: &Step) -> Result<(), TestCaseError> {
    let before = run.machine.clone();
    let turn = || Turn {
        group: "g".to_owned(),
        generation: before.group("g").and_then(Group::classic).map_or(0, |group| group.generation),
    };
    let reply = match *step {
        Step::Join { client, like } => {
            let state = &mut clients[client as usize];
            let is_new =
                before.group("g").and_then(Group::classic).is_none_or(|group| !group.members.contains_key(&state.id));
            if is_new {
                *made += 1;
                state.id = format!("m{made}");
            }
            let names = ["range,sticky", "sticky,range", "sticky"][like as usize];
            run.apply(Command::Join(join(speaks(client, state), is_new, names)))
        }
        Step::Sync(client) => {
            let who = speaks(client, &clients[client as usize]);
            let members = before
                .group("g")
                .and_then(Group::classic)
                .map(|group| group.members.keys().cloned().collect::<Vec<_>>());
            let assignments = members.unwrap_or_default().into_iter().map(|id| part(&id, &id)).collect();
            run.apply(Command::Sync(Sync { who, protocol_type: None, protocol: None, assignments }))
        }
        Step::EndJoin => run.apply(Command::EndJoin(turn())),
        Step::EndSync => run.apply(Command::EndSync(turn())),
        Step::Rebalance => run.apply(Command::Rebalance("g".to_owned())),
        Step::Leave(client) => {
            let members = vec![speaks(client, &clients[client as usize])];
            run.apply(Command::Leave { group: "g".to_owned(), members })
        }
        Step::Commit { client, stale } => {
            let mut who = speaks(client, &clients[client as usize]);
            who.generation -= i32::from(stale);
            let reply =
                run.apply(Command::Commit(Commit { who: who.clone(), offsets: vec![(spot(0), offset(7, "t"))] }));
            let group = before.group("g").and_then(Group::classic);
            let current = group.is_some_and(|group| group.named(&who).is_ok() && group.generation == who.generation);
            let outside = who.member.is_empty() && who.generation < 0;
            prop_assert!(reply != Reply::Done(Ok(())) || current || outside, "a zombie moved a cursor: {who:?}");
            reply
        }
    };
    let refused =
        matches!(&reply, Reply::Done(Err(_))) || matches!(&reply, Reply::Each(all) if all.iter().all(Result::is_err));
    prop_assert!(!refused || run.machine == before, "refused and changed");
    Ok(())
}

/// Clients hear what they are told.
fn hear(run: &Run, clients: &mut [Client; 6]) {
    for (number, client) in (0..).zip(clients) {
        if let Some(Ok(joined)) = run.machine.join_answer(&speaks(number, client)) {
            client.generation = joined.generation;
        }
    }
}

fn holds(before: &CoordinatorMachine, after: &CoordinatorMachine) -> Result<(), TestCaseError> {
    let offsets: usize = after.groups().map(|(_, group)| group.offsets.len()).sum();
    prop_assert_eq!(after.offset_count, offsets);
    let Some(group) = after.group("g").and_then(Group::classic) else { return Ok(()) };
    let generation = before.group("g").and_then(Group::classic).map_or(0, |group| group.generation);
    prop_assert!(group.generation >= generation, "the generation went back");
    prop_assert_eq!(group.phase == Phase::Empty, group.members.is_empty());
    if matches!(group.phase, Phase::Completing | Phase::Stable) {
        let leads = group.leader.as_ref().is_some_and(|leader| group.members.contains_key(leader));
        prop_assert!(leads, "the leader is no member: {group:?}");
        let protocol = group.protocol.clone().unwrap_or_default();
        prop_assert!(group.members.values().all(|member| member.knows(&protocol)), "not all know {protocol}");
    }
    if group.phase == Phase::Completing {
        prop_assert!(group.members.values().all(|member| member.assignment.is_empty()), "an old assignment stayed");
    }
    Ok(())
}

proptest! {
    #![proptest_config(crate::testing::config())]

    #[test]
    fn any_order_of_commands_keeps_the_rules_and_can_be_brought_to_an_end(steps in proptest::collection::vec(step(), 1..80)) {
        let (mut run, mut clients, mut made) = (Run::default(), <[Client; 6]>::default(), 0);
        clients.iter_mut().for_each(|client| client.generation = -1);
        for step in &steps {
            let before = run.machine.clone();
            take(&mut run, &mut clients, &mut made, step)?;
            holds(&before, &run.machine)?;
            hear(&run, &mut clients);
        }
        // Whoever is a member joins and asks as a client does; nobody else comes.
        for _ in 0..3 {
            let is_member = |run: &Run, client: &Client| run.machine.group("g").and_then(Group::classic).is_some_and(|group| group.members.contains_key(&client.id));
            for number in 0..6u8 {
                let preparing = run.machine.group("g").and_then(Group::classic).is_some_and(|group| group.phase == Phase::Preparing);
                if preparing && is_member(&run, &clients[number as usize]) {
                    take(&mut run, &mut clients, &mut made, &Step::Join { client: number, like: 0 })?;
                }
            }
            let left_over = run.machine.group("g").and_then(Group::classic).is_some_and(|group| group.phase == Phase::Preparing);
            if left_over {
                take(&mut run, &mut clients, &mut made, &Step::EndJoin)?;
            }
            hear(&run, &mut clients);
            for number in 0..6u8 {
                if is_member(&run, &clients[number as usize]) {
                    take(&mut run, &mut clients, &mut made, &Step::Sync(number))?;
                }
            }
        }
        if let Some(group) = run.machine.group("g").and_then(Group::classic) {
            prop_assert!(matches!(group.phase, Phase::Stable | Phase::Empty), "{group:?}");
            let own = |(id, member): (&String, &Member)| member.assignment == id.as_bytes();
            prop_assert!(group.members.iter().all(own), "an assignment is not the member's: {group:?}");
        }
    }
}
