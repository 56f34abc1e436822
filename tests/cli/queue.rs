//! The queue commands on a running cluster: each change tells before and after, a look changes nothing.

use std::thread::sleep;
use std::time::{Duration, Instant};

use harness::{Cluster, Options};
use serde_json::Value;

use crate::{flotilla, ok};

#[test]
fn a_queue_is_declared_looked_at_replayed_and_purged() {
    let cluster = Cluster::start(Options::default());
    let (bootstrap, admin) = (cluster.bootstrap(), cluster.nodes[1].admin.clone());
    let run = |arguments: &[&str]| flotilla(&[&["queue"], arguments, &["--admin", &admin, "-o", "json"]].concat(), "");
    let queue = |arguments: &[&str]| -> Value {
        let output = run(arguments);
        assert!(output.status.success(), "{arguments:?}: {output:?}");
        serde_json::from_slice(&output.stdout).expect("JSON")
    };
    queue(&["declare", "orders"]);
    ok(&["topic", "produce", "orders", "-", "-b", &bootstrap], &"a line\n".repeat(30));
    let seen = queue(&["peek", "orders", "--from", "28", "--body"]);
    assert_eq!(seen.as_array().map(Vec::len), Some(2), "{seen}");
    assert_eq!(
        (&seen[0]["offset"], &seen[0]["body"], &seen[0]["state"]),
        (&28.into(), &"a line".into(), &"ready".into())
    );
    let rows = ok(&["queue", "ls", "--admin", &admin], "");
    assert!(rows.contains("READY") && rows.lines().nth(1).is_some_and(|row| row.contains(" 30 ")), "{rows}");

    let ready = |change: &Value| (change["before"]["ready"].clone(), change["after"]["ready"].clone());
    assert_eq!(ready(&queue(&["purge", "orders"])), (30.into(), 0.into()));
    assert_eq!(ready(&queue(&["seek", "orders", "--to", "20"])), (0.into(), 10.into()));
    assert_eq!(ready(&queue(&["seek", "orders", "--to", "1h"])), (10.into(), 30.into()), "all of it is younger");
    queue(&["declare", "others"]);
    let moved = queue(&["redrive", "orders", "--to", "others", "--limit", "12"]);
    assert_eq!((ready(&moved), &moved["moved"]), ((30.into(), 18.into()), &12.into()), "{moved}");
    let described = queue(&["describe", "others"]);
    assert_eq!(described["queue"]["standing"]["counts"]["ready"], 12, "{described}");

    let policy = |arguments: &[&str]| ok(&[&["policy"], arguments, &["--admin", &admin]].concat(), "");
    policy(&["set", "short", "^others$", "max-length=5", "--priority", "-1"]);
    let listed = policy(&["ls"]);
    let row: Vec<&str> = listed.lines().nth(1).expect("a row").split_whitespace().collect();
    assert_eq!(row, ["short", "^others$", "all", "-1", "max-length=5", "1"], "{listed}");
    let deadline = Instant::now() + Duration::from_secs(10);
    while queue(&["describe", "others"])["queue"]["standing"]["counts"]["ready"] != 5 {
        assert!(Instant::now() < deadline, "its leader does not follow");
        sleep(Duration::from_millis(50));
    }
    assert!(ok(&["queue", "describe", "others", "--admin", &admin], "").contains("short: max-length=5"));
    policy(&["delete", "short"]);

    let refused = |arguments: &[&str]| String::from_utf8_lossy(&run(arguments).stderr).into_owned();
    assert!(refused(&["peek", "none"]).contains("there is no queue none"));
    assert!(refused(&["seek", "orders", "--to", "soon"]).contains("a time ago such as 2h"));
    cluster.stop();
}
