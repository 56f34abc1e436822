//! Contexts: which cluster a command speaks to when it is not told.

use std::path::Path;
use std::process::{Command, Output};

/// Runs `flotilla` with this file of contexts.
fn with(file: &Path, context: &str, arguments: &[&str]) -> Output {
    let mut command = Command::new(harness::binary());
    command.args(arguments).env("FLOTILLA_CONTEXTS", file).env("FLOTILLA_CONTEXT", context);
    harness::feed(command.env_remove("FLOTILLA_ADMIN").env_remove("FLOTILLA_BOOTSTRAP"), "")
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}

#[test]
fn a_command_asks_the_cluster_of_the_context_in_use() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("deep").join("contexts.toml");
    // Ports of the discard service, where nobody listens: the words of the failure name the address.
    let add = |name: &str, port: &str| {
        let admin = format!("127.0.0.1:{port}");
        let added = with(&file, "", &["context", "add", name, "--bootstrap", "127.0.0.1:9", "--admin", &admin]);
        assert!(added.status.success(), "{}", said(&added));
    };
    add("one", "9");
    add("two", "7");
    let info = |context: &str, more: &[&str]| said(&with(&file, context, &[&["cluster", "info"], more].concat()));
    assert!(with(&file, "", &["context", "use", "one"]).status.success());
    assert!(info("", &[]).contains("http://127.0.0.1:9 "), "{}", info("", &[]));
    assert!(info("two", &[]).contains("http://127.0.0.1:7 "), "{}", info("two", &[]));
    assert!(info("two", &["--admin", "127.0.0.1:1"]).contains("http://127.0.0.1:1 "), "what is said comes first");
    assert!(info("three", &[]).contains("there is no context \"three\""), "{}", info("three", &[]));
    let listed = said(&with(&file, "", &["context", "ls"]));
    assert!(listed.contains("*  one   127.0.0.1:9"), "{listed}");
    assert!(!with(&file, "", &["context", "use", "three"]).status.success());

    assert!(with(&file, "", &["context", "rm", "one"]).status.success());
    assert!(!said(&with(&file, "", &["context", "ls"])).contains("one"));
    std::fs::write(&file, "in_use = 1").unwrap();
    assert!(info("", &[]).contains("contexts.toml"), "a broken file is named: {}", info("", &[]));
    assert!(with(&file, "", &["completion", "bash"]).status.success(), "what asks no cluster needs no context");
}
