//! Queues, exchanges and bindings of a whole cluster: declared anywhere, known everywhere, gone with whom they belong to.
use std::sync::Arc;
use std::time::Duration;

use model::controller::TopologyError;
use model::controller::topology::{DEFAULT_VHOST, ExchangeSpec, Queue, QueueSpec};
use model::exchange::{Args, Binding, Destination, Routed};
use node::broker::{Broker, PartitionRef, TopologyFailure};

use crate::world::{PATIENCE, World, append, eventually, read_all, ready, topic};

fn binding(source: &str, key: &str, queue: &str) -> Binding {
    let destination = Destination::Queue(queue.to_owned());
    Binding { source: source.to_owned(), destination, key: key.to_owned(), arguments: Args::new() }
}

async fn declare(broker: &Broker, name: &str, spec: QueueSpec) -> Arc<Queue> {
    broker.declare_queue(DEFAULT_VHOST, name, spec).await.unwrap()
}

fn exclusive(broker: &Broker) -> QueueSpec {
    QueueSpec { exclusive: Some(broker.owner(1)), ..QueueSpec::default() }
}

fn route(broker: &Broker, exchange: &str, key: &str) -> Vec<String> {
    let message = Routed { key, headers: &Args::new() };
    let route = broker.route(DEFAULT_VHOST, exchange, &message).unwrap();
    route.queues.iter().map(|queue| queue.name.clone()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_one_node_declares_all_route_by() {
    let world = World::new(3, 3);
    let nodes = world.found().await;
    let brokers: Vec<&Broker> = nodes.iter().map(node::Node::broker).collect();
    let spec = ExchangeSpec::parse("topic", &Args::new()).unwrap();
    brokers[0].declare_exchange(DEFAULT_VHOST, "events", spec).await.unwrap();
    let queue = declare(brokers[1], "orders", QueueSpec::default()).await;
    brokers[2].bind(DEFAULT_VHOST, binding("events", "order.#", "orders")).await.unwrap();
    assert_eq!(route(brokers[2], "events", "order.made"), ["orders"], "known where it was declared");
    for broker in &brokers {
        assert_eq!(route(broker, "events", "order.made"), ["orders"], "known everywhere when it is answered");
        assert!(route(broker, "events", "bill.made").is_empty());
    }
    let partition = PartitionRef { topic: queue.topic, index: model::PartitionIndex(0) };
    assert_eq!(append(&brokers, partition, "one").await.base_offset, 0);
    assert_eq!(read_all(&brokers, partition).await, [(0, "one".to_owned())], "a queue is a topic");
    brokers[1].delete_queue(DEFAULT_VHOST, "orders").await.unwrap();
    assert!(brokers[1].image().topic("orders").is_none());
    assert!(route(brokers[1], "events", "order.made").is_empty());
    let none = brokers[0].delete_queue(DEFAULT_VHOST, "orders").await;
    assert!(matches!(none, Err(TopologyFailure::Refused(TopologyError::NotFound { .. }))), "{none:?}");
    for node in nodes {
        node.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_queue_of_an_older_incarnation_is_not_the_present_one() {
    let world = World::new(1, 1);
    let node = world.start(1).await;
    let broker = node.broker();
    ready(broker).await;
    topic(&[broker], "log", 1, 1).await;
    let log = declare(broker, "log", QueueSpec::default()).await;
    let first = declare(broker, "q", QueueSpec::default()).await;
    broker.delete_this_queue(&first).await.unwrap();
    let second = declare(broker, "q", QueueSpec::default()).await;
    broker.delete_this_queue(&first).await.unwrap();
    assert_eq!(broker.queue(DEFAULT_VHOST, "q"), Some(second));
    broker.delete_this_queue(&log).await.unwrap();
    assert!(broker.image().topic("log").is_some(), "it was there before the queue");
    let named = declare(broker, "", exclusive(broker)).await;
    assert!(named.name.starts_with("amq.gen-"), "{named:?}");
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn exclusive_queues_do_not_outlive_the_process_of_their_connection() {
    let world = World::new(3, 3);
    let mut nodes = world.found().await;
    for node in &nodes {
        let name = format!("of {}", node.broker().node_id());
        declare(node.broker(), &name, exclusive(node.broker())).await;
    }
    declare(nodes[0].broker(), "shared", QueueSpec::default()).await;
    // A replica that lags for a moment is a risk too.
    let only_shared = async {
        while nodes[0].broker().stop_risks(model::NodeId(1)).await.iter().any(|risk| risk.topic != "shared") {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(PATIENCE, only_shared).await.expect("its connections end with it");
    let names = |broker: &Broker| -> Vec<String> {
        let image = broker.image();
        image.topology.vhost(DEFAULT_VHOST).unwrap().queues.keys().map(ToString::to_string).collect()
    };
    drop(nodes.remove(2));
    eventually("the dead node's queue goes", || names(nodes[0].broker()) == ["of 1", "of 2", "shared"]).await;
    nodes.remove(1).stop().await;
    let again = world.start(2).await;
    ready(again.broker()).await;
    eventually("the queue of the earlier start goes", || names(again.broker()) == ["of 1", "shared"]).await;
    again.stop().await;
    nodes.remove(0).stop().await;
}
