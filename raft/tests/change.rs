//! Changing members step by step, by whoever leads: growing, shrinking, replacing, with leaders that die on the way, logs whose
//! beginning is gone, and a limit on what catching up may cost.

mod harness;

use std::collections::BTreeSet;
use std::time::Duration;

use harness::*;
use model::{NodeId, ReplicaId};
use raft::{Error, Goal, Group, Kind, Step};
use tokio::time::{Instant, sleep};

const TICK: Duration = Duration::from_millis(50);
const PATIENCE: Duration = Duration::from_secs(30);

fn goal(voters: impl IntoIterator<Item = ReplicaId>) -> Goal {
    Goal { voters: voters.into_iter().collect(), learners: BTreeSet::new() }
}

fn on(nodes: impl IntoIterator<Item = u32>) -> Goal {
    goal(nodes.into_iter().map(replica))
}

async fn open(cluster: &Cluster, replica: ReplicaId) -> Group {
    cluster.nodes[&replica.node().0].open(GROUP, cluster.kind, replica, None).await.unwrap()
}

/// Takes one step, whoever leads; the step, if it succeeded.
async fn step(cluster: &Cluster, goal: &Goal) -> Option<Step> {
    let leader = cluster.group(cluster.leader().await);
    let committed = leader.metrics().committed.unwrap_or(0);
    sleep(TICK).await;
    let alive = |node: NodeId| cluster.nodes.contains_key(&node.0);
    let step = leader.plan(goal, committed, alive).ok()?;
    leader.take(step.clone()).await.ok().map(|()| step)
}

/// Steps until the goal is reached; `between` happens after each step.
async fn drive(cluster: &mut Cluster, goal: &Goal, mut between: impl AsyncFnMut(&mut Cluster, usize)) -> Vec<Step> {
    let (until, mut steps) = (Instant::now() + PATIENCE, Vec::new());
    loop {
        assert!(Instant::now() < until, "not there: {steps:?}");
        match step(cluster, goal).await {
            Some(Step::Done) => return steps,
            Some(Step::Wait(_)) | None => {}
            Some(step) => steps.push(step),
        }
        between(cluster, steps.len()).await;
    }
}

async fn in_peace(_: &mut Cluster, _: usize) {}

#[tokio::test(start_paused = true)]
async fn three_grow_to_five_and_shrink_to_the_three_that_came_last() {
    let mut cluster = Cluster::new(5, 3, Kind::Partition).await;
    let mut want = Vec::new();
    for n in 0..50 {
        write(&cluster.group(cluster.leader().await), &format!("{n}")).await.unwrap();
        want.push(format!("{n}"));
    }
    for node in 4..=5 {
        open(&cluster, replica(node)).await;
    }
    let steps = drive(&mut cluster, &on(1..=5), in_peace).await;
    let added = |node| Step::AddLearner(replica(node));
    assert_eq!(steps, [added(4), added(5), Step::Vote((1..=5).map(replica).collect())]);
    cluster.converge().await;
    write(&cluster.group(cluster.leader().await), "five").await.unwrap();
    want.push("five".to_owned());
    drive(&mut cluster, &on(3..=5), in_peace).await;
    for node in 1..=2 {
        cluster.nodes[&node].destroy(GROUP, ANY).await.unwrap();
    }
    let leader = cluster.group(cluster.leader_among(&[3, 4, 5]).await);
    write(&leader, "three").await.unwrap();
    want.push("three".to_owned());
    assert_eq!(leader.status_now().voters, (3..=5).map(replica).collect());
    cluster.converge().await;
    for node in 3..=5 {
        assert_eq!(texts(&cluster.disks[&node], &cluster.group(node)).await, want);
    }
}

/// All three move away. After the `nth` step the leader loses power, and is back a little later.
#[tokio::test(start_paused = true)]
async fn whoever_leads_next_goes_on_where_the_leader_died() {
    for nth in 0..8 {
        let mut cluster = Cluster::new(6, 3, Kind::Partition).await;
        write(&cluster.group(cluster.leader().await), "before").await.unwrap();
        for node in 4..=6 {
            open(&cluster, replica(node)).await;
        }
        let mut killed = false;
        drive(&mut cluster, &on(4..=6), async |cluster, steps| {
            if steps < nth || std::mem::replace(&mut killed, true) {
                return;
            }
            let leader = cluster.leader().await;
            cluster.crash(leader, 0).await;
            sleep(Duration::from_millis(300)).await;
            cluster.restart(leader).await;
        })
        .await;
        let leader = cluster.group(cluster.leader_among(&[4, 5, 6]).await);
        assert_eq!(leader.status_now().voters, (4..=6).map(replica).collect(), "killed after {nth} steps");
        for node in 1..=3 {
            cluster.nodes[&node].destroy(GROUP, ANY).await.unwrap();
        }
        write(&leader, "after").await.unwrap();
        cluster.converge().await;
        assert_eq!(texts(&cluster.disks[&5], &cluster.group(5)).await, ["before", "after"]);
    }
}

#[tokio::test(start_paused = true)]
async fn another_goal_half_way_undoes_what_was_done() {
    let mut cluster = Cluster::new(5, 3, Kind::Partition).await;
    write(&cluster.group(cluster.leader().await), "one").await.unwrap();
    open(&cluster, replica(4)).await;
    while step(&cluster, &on([1, 2, 4])).await != Some(Step::AddLearner(replica(4))) {}
    open(&cluster, replica(5)).await;
    drive(&mut cluster, &on([1, 2, 5]), in_peace).await;
    let status = cluster.group(cluster.leader().await).status_now();
    assert_eq!((status.voters, status.learners.len()), ([1, 2, 5].map(replica).into(), 0));
    // Back to the first: the replica that was removed still has its log, and is the same.
    drive(&mut cluster, &on(1..=3), in_peace).await;
    for node in 4..=5 {
        cluster.nodes[&node].destroy(GROUP, ANY).await.unwrap();
    }
    write(&cluster.group(cluster.leader().await), "two").await.unwrap();
    cluster.converge().await;
}

#[tokio::test(start_paused = true)]
async fn nobody_votes_before_it_has_the_bytes() {
    let mut cluster = Cluster::new(4, 3, Kind::Partition).await;
    let leader = cluster.leader().await;
    let large = "x".repeat(300_000);
    for _ in 0..10 {
        write(&cluster.group(leader), &large).await.unwrap();
    }
    cluster.isolate(4);
    open(&cluster, replica(4)).await;
    let until = Instant::now() + Duration::from_secs(5);
    while Instant::now() < until {
        step(&cluster, &on(1..=4)).await;
    }
    let group = cluster.group(cluster.leader().await);
    assert_eq!((group.status_now().voters.len(), group.status_now().learners.len()), (3, 1));
    cluster.heal();
    drive(&mut cluster, &on(1..=4), in_peace).await;
    cluster.converge().await;
}

#[tokio::test(start_paused = true)]
async fn no_majority_is_left_to_the_dead() {
    let mut cluster = Cluster::new(3, 3, Kind::Partition).await;
    let leader = cluster.leader().await;
    let dead = leader % 3 + 1;
    cluster.crash(dead, 0).await;
    for _ in 0..20 {
        step(&cluster, &on([leader, dead])).await;
    }
    let group = cluster.group(cluster.leader().await);
    assert_eq!(group.status_now().voters.len(), 3, "the two that were wanted would be stuck");
    write(&group, "served").await.unwrap();
    cluster.restart(dead).await;
    drive(&mut cluster, &on([leader, dead]), in_peace).await;
}

/// As after a lost disk: the node comes back empty, as another replica.
#[tokio::test(start_paused = true)]
async fn a_lost_disk_is_replaced_by_a_new_replica_on_the_same_node() {
    let mut cluster = Cluster::new(3, 3, Kind::Partition).await;
    let leader = cluster.leader().await;
    write(&cluster.group(leader), "one").await.unwrap();
    let lost = leader % 3 + 1;
    cluster.crash(lost, 0).await;
    write(&cluster.group(leader), "two").await.unwrap();
    cluster.disks.insert(lost, storage::engine::sim::SimDisk::new(77));
    cluster.boot(lost);
    let reborn = ReplicaId::new(NodeId(lost), 2);
    open(&cluster, reborn).await;
    let wanted: Vec<_> = (1..=3).map(|node| if node == lost { reborn } else { replica(node) }).collect();
    // The old replica on that node counts as alive by the node, but never answers.
    drive(&mut cluster, &goal(wanted.clone()), in_peace).await;
    assert_eq!(cluster.group(leader).status_now().voters, wanted.into_iter().collect());
    cluster.converge().await;
    assert_eq!(texts(&cluster.disks[&lost], &cluster.group(lost)).await, ["one", "two"]);
}

#[tokio::test(start_paused = true)]
async fn data_of_an_earlier_replica_is_never_a_later_ones() {
    let cluster = Cluster::new(1, 1, Kind::Partition).await;
    let group = cluster.group(cluster.leader().await);
    write(&group, "of the first").await.unwrap();
    let node = &cluster.nodes[&1];
    assert_eq!(node.on_disk().unwrap(), [(GROUP, replica(1))]);
    node.close(GROUP).await.unwrap();
    let later = ReplicaId::new(NodeId(1), 4);
    let group = open(&cluster, later).await;
    assert_eq!((group.metrics().last, cluster.disks[&1].durable_last(GROUP)), (None, None));
    sleep(TICK).await;
    assert_eq!(node.on_disk().unwrap(), [(GROUP, later)]);
    node.close(GROUP).await.unwrap();
    let earlier = node.open(GROUP, Kind::Partition, replica(1), Some(vec![replica(1)])).await.unwrap_err();
    assert_eq!(earlier, Error::Superseded { group: GROUP, by: later });
    node.destroy(GROUP, ANY).await.unwrap();
    assert_eq!(node.on_disk().unwrap(), []);
}

#[tokio::test(start_paused = true)]
async fn catching_up_is_held_down_and_voters_are_not() {
    let options = raft::Options { catch_up_bytes_per_second: 1_000_000, ..raft::Options::default() };
    let mut cluster = Cluster::with_options(4, 3, Kind::Partition, options).await;
    let leader = cluster.leader().await;
    let large = "x".repeat(100_000);
    let start = Instant::now();
    for _ in 0..60 {
        write(&cluster.group(leader), &large).await.unwrap();
    }
    assert!(start.elapsed() < Duration::from_secs(1), "6 MB to two voters took {:?}", start.elapsed());
    open(&cluster, replica(4)).await;
    let start = Instant::now();
    let mut slowest = Duration::ZERO;
    let goal = on(1..=4);
    drive(&mut cluster, &goal, async |cluster, _| {
        let before = Instant::now();
        write(&cluster.group(cluster.leader().await), "small").await.unwrap();
        slowest = slowest.max(before.elapsed());
    })
    .await;
    let took = start.elapsed().as_secs_f64();
    assert!((4.0..7.0).contains(&took), "{took} s for 5 to 6 MB at 1 MB/s");
    assert!(slowest < Duration::from_millis(100), "a write took {slowest:?} meanwhile");
    cluster.converge().await;
}
