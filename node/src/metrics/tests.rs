//! Names and labels of the metrics; alerts and dashboards name none that does not exist.

use super::*;

#[test]
fn topic_labels_are_bounded() {
    let metrics = Metrics::new();
    for topic in 0..TOPICS_LABELLED_MAX {
        assert_ne!(metrics.topic(&format!("t{topic}")).topic, "other");
    }
    assert_eq!(metrics.topic("one-more").topic, "other");
    assert_eq!(metrics.topic("t7").topic, "t7");
}

#[test]
fn encodes_what_was_observed() {
    let metrics = Metrics::new();
    metrics.requests.get_or_create(&ApiLabel { protocol: "kafka", api: "Produce" }).observe(0.002);
    metrics.traffic.produced_bytes.get_or_create(&metrics.topic("orders")).inc_by(42);
    let text = metrics.encode();
    assert!(text.contains("flotilla_request_seconds_count{protocol=\"kafka\",api=\"Produce\"} 1"), "{text}");
    assert!(text.contains("flotilla_produced_bytes_total{topic=\"orders\"} 42"), "{text}");
}

#[test]
fn queues_are_written_by_name_and_reason() {
    let metrics = Metrics::new();
    let dead = ["rejected", "expired", "delivery_limit", "maxlen"].map(|reason| (reason, 2));
    let row = QueueRow { ready: 3, oldest_unacked_seconds: 1.5, redelivered: 4, dead, ..QueueRow::default() };
    metrics.queues.show([(("/".to_owned(), "orders".to_owned()), row)].into());
    metrics.queues.unroutable.inc();
    let page = metrics.encode();
    for line in [
        "queue_messages_ready{queue=\"orders\",vhost=\"/\"} 3",
        "queue_oldest_unacked_seconds{queue=\"orders\",vhost=\"/\"} 1.5",
        "queue_redelivered_total{queue=\"orders\",vhost=\"/\"} 4",
        "queue_dead_total{queue=\"orders\",vhost=\"/\",reason=\"expired\"} 2",
        "unroutable_total 1",
    ] {
        assert!(page.contains(&format!("\nflotilla_{line}\n")), "{line} is not in {page}");
    }
}

/// The word at the beginning of `text`.
fn word(text: &str) -> &str {
    text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_').next().unwrap_or_default()
}

#[test]
fn alerts_and_dashboards_name_metrics_that_exist() {
    // A family without a label is not written.
    let metrics = Metrics::with_store(Arc::default());
    let (group, topic) = ("g".to_owned(), "t".to_owned());
    let api = ApiLabel { protocol: "kafka", api: "Produce" };
    drop((metrics.requests.get_or_create(&api), metrics.request_errors.get_or_create(&api), metrics.traffic_of("t")));
    let label = LagLabel { group: group.clone(), topic, partition: 0 };
    drop((metrics.lags.records.get_or_create(&label), metrics.lags.seconds.get_or_create(&label)));
    drop(metrics.lags.members.get_or_create(&ConsumerGroupLabel { group }));
    let raft = &metrics.raft;
    let first = GroupLabel { group: 0 };
    drop((raft.term.get_or_create(&first), raft.leader.get_or_create(&first), raft.is_leader.get_or_create(&first)));
    drop(metrics.connections_refused.get_or_create(&ListenerLabel { listener: "kafka" }));
    let encoded = metrics.encode();
    let types = encoded.lines().filter_map(|line| line.strip_prefix("# TYPE "));
    let known: BTreeSet<String> = types
        .filter_map(|line| line.split_once(' '))
        .flat_map(|(name, kind)| {
            let endings: &[&str] = match kind {
                "counter" => &["_total"],
                "histogram" => &["_bucket", "_sum", "_count"],
                _ => &[""],
            };
            endings.iter().map(move |ending| format!("{name}{ending}"))
        })
        .collect();
    let deploy = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy");
    for file in ["alerts.yml", "grafana/flotilla.json"] {
        let text = std::fs::read_to_string(deploy.join(file)).expect("the file");
        let named: BTreeSet<&str> = text.match_indices("flotilla_").map(|(at, _)| word(&text[at..])).collect();
        assert!(named.len() > 5, "{file} names {named:?}");
        let missing: Vec<_> = named.iter().filter(|name| !known.contains(**name)).collect();
        assert!(missing.is_empty(), "{file} names {missing:?}, which no node has; there are {known:?}");
    }
}
