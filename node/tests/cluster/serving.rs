//! What the broker promises its callers: order, offsets, epochs, wake-ups, isolation of failures.
use std::time::Duration;

use futures::future::join_all;
use model::controller::Outcome;
use node::broker::{Error, Position};
use tokio::time::{Instant, timeout};

use crate::world::{PATIENCE, World, append, batch, eventually, read_all, read_request, ready, request, topic};

#[tokio::test(flavor = "multi_thread")]
async fn appends_keep_the_callers_order() {
    let world = World::new(1, 1);
    let node = world.start(1).await;
    ready(node.broker()).await;
    let partition = topic(&[node.broker()], "ordered", 1, 1).await[0];
    append(&[node.broker()], partition, "first").await;
    let values: Vec<String> = (0..500).map(|value| value.to_string()).collect();
    let appended = values.iter().map(|value| node.broker().append(request(partition, vec![batch(&[value, "more"])])));
    let offsets: Vec<i64> =
        join_all(appended.collect::<Vec<_>>()).await.into_iter().map(|a| a.unwrap().base_offset).collect();
    assert_eq!(offsets, (0..500).map(|place| 1 + 2 * place).collect::<Vec<_>>());
    let read = read_all(&[node.broker()], partition).await;
    assert_eq!(read.len(), 1001);
    assert!(read.iter().zip(0..).all(|((offset, _), expected)| *offset == expected));
    assert_eq!(read[1].1, "0");
    assert_eq!(read[999].1, "499");
    let shared = node.broker().metrics().encode();
    assert!(shared.contains("flotilla_batches_per_entry_count"));
    assert!(shared.contains("flotilla_produced_records_total{topic=\"ordered\"} 1001"), "{shared}");
    assert!(shared.contains("flotilla_fetched_batches_total{topic=\"ordered\"} 501"), "{shared}");
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn offsets_times_and_epochs() {
    let world = World::new(1, 1);
    let node = world.start(1).await;
    let broker = node.broker();
    ready(broker).await;
    let partition = topic(&[broker], "timed", 1, 1).await[0];
    for _ in 0..3 {
        broker.append(request(partition, vec![batch(&["a", "b", "c"])])).await.unwrap();
    }
    let at = async |position| broker.list_offset(partition, position, None).await.unwrap().offset;
    assert_eq!(at(Position::Earliest).await, 0);
    assert_eq!(at(Position::Latest).await, 9);
    assert_eq!(at(Position::Timestamp(1_001)).await, 1);
    assert_eq!(at(Position::Timestamp(1_003)).await, -1);
    assert_eq!(at(Position::MaxTimestamp).await, 2);
    let epoch = broker.read(read_request(partition, 0)).await.unwrap().leader.epoch;
    assert_eq!(broker.epoch_end(partition, epoch, None).await.unwrap(), (epoch, 9));
    assert_eq!(broker.epoch_end(partition, epoch + 5, None).await.unwrap(), (-1, -1));
    let with_epoch = |epoch| node::broker::ReadRequest { leader_epoch: Some(epoch), ..read_request(partition, 0) };
    assert!(matches!(broker.read(with_epoch(epoch - 1)).await, Err(Error::FencedEpoch { .. })));
    assert!(matches!(broker.read(with_epoch(epoch + 1)).await, Err(Error::UnknownEpoch)));
    assert!(broker.read(with_epoch(epoch)).await.is_ok());
    assert!(matches!(broker.read(read_request(partition, 10)).await, Err(Error::OffsetOutOfRange { .. })));
    assert!(broker.read(read_request(partition, 9)).await.unwrap().batches.is_empty());
    let middle = broker.read(read_request(partition, 4)).await.unwrap();
    assert_eq!(middle.batches[0].base_offset, 3, "the whole batch that holds the offset");
    let little = node::broker::ReadRequest { max_bytes: 1, ..read_request(partition, 0) };
    assert_eq!(broker.read(little).await.unwrap().batches.len(), 1);
    assert_eq!(broker.delete_records(partition, 4).await.unwrap(), 4);
    assert_eq!(at(Position::Earliest).await, 4);
    assert!(matches!(broker.read(read_request(partition, 3)).await, Err(Error::OffsetOutOfRange { log_start: 4, .. })));
    assert!(matches!(broker.delete_records(partition, 99).await, Err(Error::OffsetOutOfRange { .. })));
    assert_eq!(broker.delete_records(partition, -1).await.unwrap(), 9);
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn readers_are_woken_and_unknown_partitions_refused() {
    let world = World::new(1, 1);
    let node = world.start(1).await;
    let broker = node.broker().clone();
    ready(&broker).await;
    let partition = topic(&[&broker], "news", 1, 1).await[0];
    append(&[&broker], partition, "zero").await;
    tokio::time::sleep(Duration::from_millis(300)).await;
    let mut wake = broker.wake(&[partition]);
    assert!(timeout(Duration::from_millis(300), wake.changed()).await.is_err(), "no news, no wake-up");
    let started = Instant::now();
    let brokers = [&broker];
    let (_, woken) = tokio::join!(append(&brokers, partition, "one"), timeout(PATIENCE, wake.changed()));
    assert!(woken.is_ok() && started.elapsed() < Duration::from_secs(5));
    let unknown = node::broker::PartitionRef { index: model::PartitionIndex(7), ..partition };
    assert_eq!(broker.append(request(unknown, vec![batch(&["x"])])).await, Err(Error::UnknownPartition));
    assert!(matches!(broker.read(read_request(unknown, 0)).await, Err(Error::UnknownPartition)));
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_leader_is_replaced_and_nothing_acknowledged_is_lost() {
    let world = World::new(3, 3);
    let mut nodes = world.found().await;
    let partition = {
        let brokers: Vec<_> = nodes.iter().map(|node| node.broker()).collect();
        let partition = topic(&brokers, "safe", 1, 3).await[0];
        for value in 0..50 {
            append(&brokers, partition, &value.to_string()).await;
        }
        partition
    };
    let leader = {
        let broker = nodes[0].broker();
        let image = broker.image();
        let group = image.topic_by_id(partition.topic).unwrap().partitions[0].group;
        broker.leader(group).node.unwrap()
    };
    let place = nodes.iter().position(|node| node.broker().node_id() == leader).unwrap();
    let killed = Instant::now();
    nodes.remove(place).kill().await;
    let brokers: Vec<_> = nodes.iter().map(|node| node.broker()).collect();
    append(&brokers, partition, "after").await;
    let gap = killed.elapsed();
    let read = read_all(&brokers, partition).await;
    let values: Vec<_> = read.iter().map(|(_, value)| value.as_str()).collect();
    for value in 0..50 {
        assert!(values.contains(&value.to_string().as_str()), "{value} is lost");
    }
    assert_eq!(values.last(), Some(&"after"));
    println!("appends stopped for {gap:?}");
    let back = world.start(leader.0).await;
    ready(back.broker()).await;
    back.stop().await;
    for node in nodes {
        node.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn one_partitions_panic_restarts_that_partition_only() {
    let world = World::new(1, 1);
    let node = world.start(1).await;
    let broker = node.broker();
    ready(broker).await;
    let partitions = topic(&[broker], "shaken", 2, 1).await;
    for partition in &partitions {
        append(&[broker], *partition, "before").await;
    }
    let group = |place: usize| broker.image().topic_by_id(partitions[0].topic).unwrap().partitions[place].group;
    let other_term = broker.leader(group(1)).epoch;
    node.panic(group(0)).await;
    eventually("the actor has been restarted", || {
        broker.metrics().encode().contains("flotilla_actor_restarts_total 1")
    })
    .await;
    assert_eq!(append(&[broker], partitions[0], "after").await.base_offset, 1);
    assert_eq!(append(&[broker], partitions[1], "after").await.base_offset, 1);
    assert_eq!(broker.leader(group(1)).epoch, other_term, "the other partition did not notice");
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn topics_go_and_come_again() {
    let world = World::new(3, 3);
    let nodes = world.found().await;
    let brokers: Vec<_> = nodes.iter().map(|node| node.broker()).collect();
    let first = topic(&brokers, "again", 2, 3).await;
    append(&brokers, first[0], "old").await;
    let delete =
        model::controller::DeleteTopics { topics: vec![model::controller::TopicRef::Name("again".to_owned())] };
    let reply = brokers[1].control(model::controller::Command::DeleteTopics(delete)).await.unwrap();
    assert!(matches!(reply.outcome, Outcome::Deleted(results) if results[0].is_ok()));
    for broker in &brokers {
        eventually("its replicas are gone", || broker.groups().len() == 1).await;
    }
    assert!(matches!(brokers[0].append(request(first[0], vec![batch(&["x"])])).await, Err(Error::UnknownPartition)));
    let second = topic(&brokers, "again", 2, 3).await;
    assert_eq!(append(&brokers, second[0], "new").await.base_offset, 0);
    let ids: Vec<_> = join_all(brokers.iter().map(|broker| broker.producer_id())).await;
    let mut ids: Vec<i64> = ids.into_iter().map(|id| id.unwrap().0).collect();
    ids.sort_unstable();
    ids.dedup();
    assert_eq!(ids.len(), 3, "producer ids are unique in the cluster");
    for node in nodes {
        node.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failing_disk_stops_the_node_with_words() {
    let world = World::new(1, 1);
    let mut node = world.start(1).await;
    let broker = node.broker().clone();
    ready(&broker).await;
    let partition = topic(&[&broker], "doomed", 1, 1).await[0];
    append(&[&broker], partition, "kept").await;
    world.disks[&1].fail_next_sync();
    let refused = broker.append(request(partition, vec![batch(&["lost"])])).await;
    assert!(refused.is_err(), "an append without a disk was acknowledged: {refused:?}");
    let why = timeout(PATIENCE, node.failed()).await.unwrap().to_string();
    assert!(why.contains("store failed"), "{why}");
    node.stop().await;
}
