//! Golden text of configuration errors, precedence, and that the printed form loads again.

use super::*;

fn with_file(text: &str) -> Sources {
    Sources { file: Some(("node.toml".to_owned(), text.to_owned())), ..Sources::default() }
}

#[test]
fn an_empty_configuration_is_the_default() {
    let loaded = load(&Sources::default()).expect("defaults are valid");
    assert_eq!(loaded.settings.node.node_id, 1);
    assert!(loaded.settings.node.listeners.kafka.bind.ip().is_loopback());
    assert_eq!(loaded.source("listeners.kafka"), Source::Default);
}

#[test]
fn flag_wins_over_environment_over_file_over_default() {
    let mut sources = with_file(
        "node_id = 2\nrack = \"a\"\n[limits]\nrequest_bytes_max = \"8 MiB\"\n[raft]\nnode_dead_after = \"5s\"\n",
    );
    sources.variables = vec![
        ("FLOTILLA__RACK".to_owned(), "b".to_owned()),
        ("FLOTILLA__RAFT__NODE_DEAD_AFTER".to_owned(), "6s".to_owned()),
        ("PATH".to_owned(), "/bin".to_owned()),
    ];
    sources.flags = vec![("--rack".to_owned(), "rack", Raw::Text("c".to_owned()))];
    sources.assignments = vec!["log.format=json".to_owned()];
    let loaded = load(&sources).expect("valid");
    assert_eq!(loaded.settings.node.node_id, 2);
    assert_eq!(loaded.settings.node.rack.as_deref(), Some("c"));
    assert_eq!(loaded.settings.node.raft.node_dead_after.as_secs(), 6);
    assert_eq!(loaded.settings.node.limits.request_bytes_max, 8 << 20);
    assert_eq!(loaded.source("node_id").to_string(), "node.toml:1");
    assert_eq!(loaded.source("raft.node_dead_after").to_string(), "$FLOTILLA__RAFT__NODE_DEAD_AFTER");
    assert_eq!(loaded.source("rack").to_string(), "--rack");
    assert_eq!(loaded.source("log.format").to_string(), "--set log.format=json");
}

#[test]
fn all_problems_are_told_at_once_each_with_its_source() {
    let mut sources = with_file(
        "node_id = 0\nnode_idd = 3\nseed = [\"a:1\"]\n[listeners]\nkafka = \"0.0.0.0:9092\"\npeer = \"here\"\n\n[limits]\nrequest_bytes_max = \"8 elephants\"\nconnections_max = \"few\"\n[raft]\nnode_dead_after = \"200ms\"\n[what]\nnot = 1\n",
    );
    sources.variables = vec![("FLOTILLA__LISTENERS__KAFKKA".to_owned(), "127.0.0.1:1".to_owned())];
    sources.flags = vec![("--bootstrap-expect".to_owned(), "bootstrap_expect", Raw::Text("three".to_owned()))];
    sources.assignments = vec!["auto_create.enabled".to_owned()];
    let expected = "12 problems in the configuration
  node.toml:2: unknown setting \"node_idd\"; did you mean \"node_id\"?
  node.toml:3: unknown setting \"seed\"; did you mean \"seeds\"?
  node.toml:6: listeners.peer: an address such as \"127.0.0.1:9092\" is expected, not \"here\"
  node.toml:9: limits.request_bytes_max: a size such as \"64 MiB\" is expected, not \"8 elephants\"
  node.toml:10: limits.connections_max: a whole number of 0 or more is expected, not \"few\"
  node.toml:13: unknown setting \"what\"; `flotilla server --print-config` lists all
  $FLOTILLA__LISTENERS__KAFKKA: unknown setting \"listeners.kafkka\"; did you mean \"listeners.kafka\"?
  --bootstrap-expect: bootstrap_expect: a whole number of 0 or more is expected, not \"three\"
  --set auto_create.enabled: KEY=VALUE is expected
  node.toml:1: node_id: must be 1 or more
  node.toml:5: listeners.kafka: 0.0.0.0:9092 is reachable from other machines and nothing authenticates clients yet; bind 127.0.0.1, or set insecure = true (--insecure) on a trusted network
  node.toml:12: raft.node_dead_after: must be at least three times raft.node_heartbeat (100ms)";
    let problems = load(&sources).expect_err("must be refused");
    assert_eq!(problems.to_string(), expected);
    assert_eq!(problems.0.len(), 12);
}

#[test]
fn a_secret_opens_the_peer_port_to_other_machines_and_is_never_printed() {
    let public = "listeners.peer = \"10.0.0.1:9740\"\n";
    let refused = load(&with_file(public)).expect_err("nothing authenticates nodes");
    assert!(refused.to_string().contains("nothing authenticates nodes; set cluster.secret"), "{refused}");
    let with_secret = |secret: &str| with_file(&format!("{public}cluster.secret = \"{secret}\"\n"));
    let loaded = load(&with_secret("swordfish swordfish")).expect("nodes know each other");
    assert_eq!(loaded.settings.node.raft.secret.bytes(), b"swordfish swordfish");
    let mut sources = with_secret("swordfish");
    let short = load(&sources).expect_err("too short").to_string();
    assert!(short.contains("node.toml:2: cluster.secret: must have 16 bytes or more"), "{short}");
    sources.assignments = vec!["cluster.secret=swordfish swordfish 2".to_owned()];
    let loaded = load(&sources).expect("the flag wins");
    assert!(![loaded.print(), format!("{:?}", loaded.settings), short].concat().contains("swordfish"));
}

#[test]
fn broken_toml_is_named_by_line() {
    let problems = load(&with_file("node_id = 1\nrack = \"a\nlisteners = [\n")).expect_err("must be refused");
    assert!(problems.0.iter().all(|problem| matches!(problem.source, Source::File { .. })));
    assert!(problems.to_string().contains("node.toml:2: "), "{problems}");
}

#[test]
fn three_founders_need_three_addresses() {
    let problems = load(&with_file("bootstrap_expect = 3\nseeds = [\"a:1\"]\n")).expect_err("must be refused");
    assert_eq!(
        problems.to_string(),
        "1 problem in the configuration\n  node.toml:1: bootstrap_expect: 3 founders are expected, but seeds names only 1; list the peer address of every founder"
    );
}

#[test]
fn the_printed_form_loads_to_the_same_values() {
    let sources = with_file(
        "node_id = 7\nseeds = [\"a:1\", \"[::1]:2\"]\nrack = \"it's \\\"q\\\"\"\nlog.format = \"json\"\nraft.node_dead_after = \"90s\"\n",
    );
    let first = load(&sources).expect("valid");
    let second = load(&with_file(&first.print())).expect("printed form is valid");
    assert_eq!(format!("{:?}", first.settings), format!("{:?}", second.settings));
    assert!(first.print().contains("# node.toml:2\n"));
    assert!(first.print().contains("# default\n"));
}
