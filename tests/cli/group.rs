//! Consumer groups from the command line: offsets are moved with before and after, lags are told in records and seconds.

use std::net::SocketAddr;

use harness::{Cluster, Options, http};
use serde_json::Value;

use crate::{flotilla, ok};

#[test]
fn a_group_is_reset_described_and_removed() {
    let cluster = Cluster::start(Options::default());
    let (bootstrap, admin) = (cluster.bootstrap(), cluster.nodes[1].admin.clone());
    let topic = |arguments: &[&str], input: &str| ok(&[&["topic"], arguments, &["-b", &bootstrap]].concat(), input);
    let run = |arguments: &[&str]| {
        flotilla(&[&["group"], arguments, &["-b", &bootstrap, "--admin", &admin, "-o", "json"]].concat(), "")
    };
    let group = |arguments: &[&str]| -> Value {
        let output = run(arguments);
        assert!(output.status.success(), "{arguments:?}: {output:?}");
        serde_json::from_slice(&output.stdout).expect("JSON")
    };
    let refused = |arguments: &[&str]| String::from_utf8_lossy(&run(arguments).stderr).into_owned();
    topic(&["create", "orders", "--partitions", "1"], "");
    topic(&["produce", "orders", "-"], &"a line\n".repeat(30));

    assert_eq!(group(&["ls"]), Value::Array(Vec::new()));
    assert!(refused(&["describe", "readers"]).contains("there is no group \"readers\""));
    let moved = group(&["reset", "readers", "--topic", "orders", "--to", "10"]);
    assert_eq!((&moved[0]["before"], &moved[0]["after"]), (&Value::Null, &Value::from(10)));
    let described = group(&["describe", "readers"]);
    assert_eq!((described["state"].as_str(), described["lag"].as_i64()), (Some("Empty"), Some(20)), "{described}");
    let partition = &described["partitions"][0];
    assert_eq!((partition["committed"].as_i64(), partition["end"].as_i64()), (Some(10), Some(30)), "{partition}");
    assert!(partition["lag_seconds"].as_f64().is_some_and(|seconds| (0.0..60.0).contains(&seconds)), "{partition}");

    let told = group(&["reset", "readers", "--topic", "orders", "--to", "earliest", "--dry-run"]);
    assert_eq!((&told[0]["before"], &told[0]["after"]), (&Value::from(10), &Value::from(0)));
    assert_eq!(group(&["ls"])[0]["lag"], 20, "a dry run moved it");
    let coordinator = described["coordinator"].as_u64().expect("a node");
    let address = cluster.nodes.iter().find(|node| u64::from(node.id) == coordinator).expect("it").admin.clone();
    let address: SocketAddr = address.trim_start_matches("http://").parse().expect("an address");
    let (_, metrics) = http::ask(address, "/metrics");
    let wanted = "flotilla_consumer_group_lag_records{group=\"readers\",topic=\"orders\",partition=\"0\"} 20\n";
    assert!(metrics.contains(wanted), "{metrics}");

    let moved = group(&["reset", "readers", "--topic", "orders", "--to", "1h"]);
    assert_eq!(moved[0]["after"], 0, "all of it is younger");
    group(&["reset", "readers", "--topic", "orders", "--to", "latest"]);
    let partition = &group(&["describe", "readers"])["partitions"][0];
    assert_eq!((partition["lag"].as_i64(), partition["lag_seconds"].as_f64()), (Some(0), Some(0.0)), "{partition}");
    assert!(refused(&["reset", "readers", "--topic", "orders", "--to", "soon"]).contains("a time ago such as 2h"));
    assert!(
        refused(&["reset", "readers", "--topic", "orders", "-p", "7", "--to", "latest"]).contains("no partition 7")
    );
    assert!(refused(&["rebalance", "a/b"]).contains("there is no such group"));
    assert!(refused(&["rebalance", "readers"]).contains("the group has no members"));
    assert!(refused(&["remove", "readers", "nobody"]).contains("UNKNOWN_MEMBER_ID"));
    assert_eq!(group(&["rm", "readers"])["offsets_removed"], 1);
    assert_eq!(group(&["ls"]), Value::Array(Vec::new()));
    cluster.stop();
}
