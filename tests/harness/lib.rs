//! What every end-to-end test needs: a throw-away cluster through the documented contract of `flotilla dev --plain`,
//! bounded waits, and a port range of its own. It knows the binary only, never a crate's internals.
#![forbid(unsafe_code)]
#![expect(missing_docs, reason = "a test harness: names say it")]

mod cluster;
mod dice;
pub mod http;
pub mod load;
mod ports;
pub mod program;
mod proxy;
mod servers;

pub use cluster::{Cluster, Node, Options};
pub use dice::Dice;
pub use ports::free_ports;
pub use proxy::{Proxy, Way, Weather};
pub use servers::{Server, Servers};

use std::io::Write;
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};
use std::time::Duration;

/// The `flotilla` binary that this test run built, or the one named by FLOTILLA_BIN.
pub fn binary() -> PathBuf {
    if let Some(path) = std::env::var_os("FLOTILLA_BIN") {
        return std::path::absolute(path).expect("a path");
    }
    let test = std::env::current_exe().expect("a test knows its own path");
    let profile = test.parent().and_then(|deps| deps.parent()).expect("target/PROFILE/deps/test");
    let path = profile.join("flotilla");
    assert!(path.exists(), "{} is missing: build it first (cargo build -p node)", path.display());
    path
}

/// `make test-long` runs the full counts of the acceptance lines; `make test` the short ones.
pub fn count(short: usize, long: usize) -> usize {
    if std::env::var_os("FLOTILLA_LONG").is_some() { long } else { short }
}

/// The longest silence of a partition or a queue, ms: the promise in the long run. The short one is run beside others on machines whose
/// disk stalls for seconds; there a silence means that somebody waits for what does not come.
pub fn silence_ms_max() -> u64 {
    count(10_000, 2_000) as u64
}

/// How soon all is well after a fault, of which the same is true.
pub fn healed_within() -> Duration {
    Duration::from_secs(count(30, 5) as u64)
}

/// The folder of the repository. Cargo says it anew to every run, so a test binary kept from another clone is not led astray.
pub fn repository() -> PathBuf {
    let tests = std::env::var_os("CARGO_MANIFEST_DIR").unwrap_or_else(|| env!("CARGO_MANIFEST_DIR").into());
    PathBuf::from(tests).parent().expect("tests/ stands in the root").to_path_buf()
}

/// Runs a command with `input` on its stdin.
pub fn feed(command: &mut Command, input: &str) -> Output {
    let mut child =
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("it starts");
    // A program that does not read its input closes it early.
    drop(child.stdin.take().expect("stdin is piped").write_all(input.as_bytes()));
    child.wait_with_output().expect("it ends")
}
