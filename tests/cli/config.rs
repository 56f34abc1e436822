//! Configuration errors as an operator sees them: all at once, each with its source.

use std::process::Command;

use crate::{flotilla, ok};

#[test]
fn all_errors_of_a_file_are_told_at_once() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("node.toml");
    std::fs::write(&file, "node_idd = 1\n[listeners]\nkafka = \"0.0.0.0:9092\"\n[raft]\nnode_heartbeat = \"soon\"\n")
        .expect("written");
    let path = file.to_str().expect("UTF-8");
    let output = flotilla(&["check", "config", path], "");
    let expected = format!(
        "3 problems in the configuration
  {path}:1: unknown setting \"node_idd\"; did you mean \"node_id\"?
  {path}:5: raft.node_heartbeat: a duration such as \"5s\" or \"250ms\" is expected, not \"soon\"
  {path}:3: listeners.kafka: 0.0.0.0:9092 is reachable from other machines and nothing authenticates clients yet; bind 127.0.0.1, or set insecure = true (--insecure) on a trusted network
"
    );
    assert_eq!(String::from_utf8_lossy(&output.stderr), expected);
    assert_eq!(output.status.code(), Some(1));
    let server = flotilla(&["server", "--config", path], "");
    assert_eq!(server.status.code(), Some(1), "a server with these settings must not start");
}

#[test]
fn the_effective_configuration_names_its_sources() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("node.toml");
    std::fs::write(&file, "node_id = 7\nrack = \"a\"\n").expect("written");
    let output = Command::new(harness::binary())
        .args(["server", "--print-config", "--set", "log.level=debug", "--config"])
        .arg(&file)
        .env("FLOTILLA__RACK", "b")
        .output()
        .expect("flotilla runs");
    let text = String::from_utf8(output.stdout).expect("UTF-8");
    let line =
        |start: &str| text.lines().find(|line| line.starts_with(start)).unwrap_or_else(|| panic!("{start}: {text}"));
    assert!(line("node_id = 7").ends_with(&format!("# {}:1", file.display())), "{text}");
    assert!(line("rack = \"b\"").ends_with("# $FLOTILLA__RACK"), "{text}");
    assert!(line("log.level = \"debug\"").ends_with("# --set log.level=debug"), "{text}");
    assert!(line("listeners.kafka").ends_with("# default"), "{text}");
    let again = folder.path().join("printed.toml");
    std::fs::write(&again, &text).expect("written");
    ok(&["check", "config", again.to_str().expect("UTF-8")], "");
}
