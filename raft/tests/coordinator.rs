//! A coordinator shard: commands and replies, and that its groups outlive the leader, restarts and a purged log.

mod harness;

use std::time::Duration;

use harness::*;
use model::Reply;
use model::command::{Payload, Tag};
use model::coordinator::{self, Command, CoordinatorMachine, Join, Member, Phase, Protocol, Who};
use raft::{Group, Kind};
use storage::codec;

fn joins(member: &str) -> Command {
    let who = Who { group: "g".to_owned(), member: member.to_owned(), generation: -1, ..Who::default() };
    let protocols = vec![Protocol { name: "range".to_owned(), metadata: b"t".to_vec() }];
    let member = Member { protocols, ..Member::default() };
    let protocol_type = "consumer".to_owned();
    Command::Join(Join {
        who,
        is_new: true,
        member,
        protocol_type,
        members_max: u32::MAX,
        gathers: false,
        embedded: None,
        migration: Default::default(),
    })
}

async fn ask(group: &Group, commands: Vec<Command>) -> Vec<coordinator::Reply> {
    let payload = |command: &Command| Payload::command(Tag::Coordinator, 1, codec::encode(command));
    let proposed = group.propose(commands.iter().map(payload).collect()).await;
    let reply = |reply| match reply {
        Reply::Coordinator(reply) => reply,
        other => panic!("{other:?}"),
    };
    proposed.into_iter().map(|proposed| reply(proposed.unwrap().reply)).collect()
}

/// Waits until the shard is equal everywhere.
async fn same(cluster: &Cluster) -> CoordinatorMachine {
    let shard = |group: Group| group.coordinator(CoordinatorMachine::clone).unwrap();
    for _ in 0..1_000 {
        let shards: Vec<_> = cluster.nodes.values().map(|groups| shard(groups.get(GROUP).unwrap())).collect();
        if shards.windows(2).all(|pair| pair[0] == pair[1]) {
            return shards[0].clone();
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("shards differ for 10 s");
}

#[tokio::test(start_paused = true)]
async fn a_shard_goes_on_under_another_leader_and_after_a_restart() {
    let mut cluster = Cluster::new(3, 3, Kind::Coordinator).await;
    let leader = cluster.leader().await;
    let done = coordinator::Reply::Done(Ok(()));
    assert_eq!(ask(&cluster.group(leader), vec![joins("a"), joins("b")]).await, [done.clone(), done.clone()]);
    cluster.crash(leader, 0).await;
    let next = cluster.group(cluster.leader().await);
    let phase = |shard: &CoordinatorMachine| shard.group("g").unwrap().classic().map(|group| group.phase);
    assert_eq!(next.coordinator(phase).unwrap(), Some(Phase::Preparing), "in the middle of a rebalance");
    let turn = coordinator::Turn { group: "g".to_owned(), generation: 1 };
    assert_eq!(ask(&next, vec![Command::EndJoin(turn)]).await, [done]);
    cluster.restart(leader).await;
    let shard = same(&cluster).await;
    assert_eq!((phase(&shard), next.image()), (Some(Phase::Completing), None));
}

#[tokio::test(start_paused = true)]
async fn a_late_replica_gets_a_snapshot() {
    let cluster = Cluster::new(4, 3, Kind::Coordinator).await;
    let leader = cluster.group(cluster.leader().await);
    for hundred in 0..105 {
        let commands = (0..100).map(|number| joins(&format!("m{}", (hundred + number) % 40))).collect();
        ask(&leader, commands).await;
    }
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert!(leader.metrics().purged > Some(8_000), "{:?}", leader.metrics());
    cluster.nodes[&4].open(GROUP, Kind::Coordinator, replica(4), None).await.unwrap();
    leader.add_learner(replica(4)).await.unwrap();
    leader.caught_up(replica(4), Duration::from_secs(10)).await.unwrap();
    let members = same(&cluster).await.group("g").and_then(|group| group.classic()).map(|group| group.members.len());
    assert_eq!(members, Some(40));
    assert!(cluster.group(4).metrics().snapshot.is_some(), "it came by snapshot");
}
