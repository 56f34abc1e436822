//! The topic, cluster, node and raft commands on a running cluster, in both output forms.

use harness::{Cluster, Options};
use serde_json::Value;

use crate::{flotilla, ok};

fn json(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|error| panic!("{error}: {text}"))
}

#[test]
fn topics_live_from_create_to_rm() {
    let cluster = Cluster::start(Options::default());
    let bootstrap = cluster.bootstrap();
    let topic = |arguments: &[&str], input: &str| {
        let all: Vec<&str> = ["topic"].iter().chain(arguments).chain(&["-b", &bootstrap]).copied().collect();
        ok(&all, input)
    };
    topic(&["create", "orders", "--partitions", "3", "--config", "retention.ms=3600000"], "");
    let again = flotilla(&["topic", "create", "orders", "-b", &bootstrap], "");
    assert!(String::from_utf8_lossy(&again.stderr).contains("TOPIC_ALREADY_EXISTS"), "{again:?}");
    let listed = json(&topic(&["ls", "-o", "json"], ""));
    assert_eq!(listed.as_array().map(Vec::len), Some(1), "the probe's topic must not show: {listed}");
    assert_eq!((listed[0]["name"].as_str(), listed[0]["partitions"].as_u64()), (Some("orders"), Some(3)));

    let input: String = (0..1_000).map(|number| format!("key-{}:value {number}\n", number % 10)).collect();
    topic(&["produce", "orders", "-", "--key-separator", ":", "-z", "zstd"], &input);
    let read = topic(&["consume", "orders", "--exit", "--format", "%k:%v\\n"], "");
    let (mut sent, mut got): (Vec<&str>, Vec<&str>) = (input.lines().collect(), read.lines().collect());
    sent.sort_unstable();
    got.sort_unstable();
    assert_eq!(sent, got);
    let first = json(&topic(&["consume", "orders", "-n", "1", "-o", "json"], ""));
    assert!(first["value"].as_str().is_some_and(|value| value.starts_with("value ")), "{first}");

    topic(&["alter", "orders", "--set", "retention.ms=7200000", "--partitions", "4"], "");
    let described = json(&topic(&["describe", "orders", "-o", "json"], ""));
    assert_eq!(described["partitions"].as_array().map(Vec::len), Some(4), "{described}");
    let configs = described["configs"].as_array().expect("configs");
    let retention = configs.iter().find(|config| config["name"] == "retention.ms").expect("retention.ms");
    assert_eq!((retention["value"].as_str(), retention["own"].as_bool()), (Some("7200000"), Some(true)));

    topic(&["rm", "orders"], "");
    assert_eq!(json(&topic(&["ls", "-o", "json"], "")), Value::Array(Vec::new()));
    let gone = flotilla(&["topic", "describe", "orders", "-b", &bootstrap], "");
    assert!(String::from_utf8_lossy(&gone.stderr).contains("there is no topic \"orders\""), "{gone:?}");
    cluster.stop();
}

#[test]
fn the_cluster_describes_itself() {
    let cluster = Cluster::start(Options::default());
    let admin = cluster.nodes[2].admin.clone();
    ok(&["topic", "create", "seen", "--partitions", "2", "-b", &cluster.bootstrap()], "");
    let info = json(&ok(&["cluster", "info", "--admin", &admin, "-o", "json"], ""));
    assert_eq!(info["nodes"].as_array().map(Vec::len), Some(3), "{info}");
    assert!(
        info["controller"].as_u64().is_some() && info["cluster_id"].as_str().is_some_and(|id| !id.is_empty()),
        "{info}"
    );
    let nodes = json(&ok(&["node", "ls", "--admin", &admin, "-o", "json"], ""));
    let kafka: Vec<&str> = nodes.as_array().expect("nodes").iter().filter_map(|node| node["kafka"].as_str()).collect();
    assert_eq!(kafka, cluster.nodes.iter().map(|node| node.kafka.as_str()).collect::<Vec<_>>());
    let table = ok(&["raft", "ls", "--admin", &admin], "");
    assert!(table.starts_with("GROUP") && table.contains("controller") && table.contains("seen-1"), "{table}");
    cluster.stop();
}
