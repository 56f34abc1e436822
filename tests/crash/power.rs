//! Power that fails: `forget.c`, compiled by the test and preloaded into nodes, takes back at the next start what was never
//! synced. Its own test shows that it does, and that a mere death of the process loses nothing.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::thread::sleep;
use std::time::{Duration, Instant};

use harness::{Server, Servers, count, healed_within, repository};
use tempfile::TempDir;

use crate::turn;
use harness::load::Load;

/// The compiled library.
pub struct Forgetting {
    library: PathBuf,
}

impl Forgetting {
    /// Compiles it into `folder`; None, said aloud, without a C compiler.
    pub fn build(folder: &Path) -> Option<Self> {
        let library = folder.join("forget.so");
        let source = repository().join("tests/crash/forget.c");
        let mut compiler = Command::new("cc");
        compiler
            .args(["-O1", "-Wall", "-Wextra", "-Werror", "-shared", "-fPIC", "-pthread", "-o"])
            .arg(&library)
            .arg(source);
        match compiler.output() {
            Ok(output) if output.status.success() => Some(Self { library }),
            Ok(output) => panic!("forget.c: {}", String::from_utf8_lossy(&output.stderr)),
            Err(error) => {
                println!("skipped: unsynced data cannot be lost here: cc: {error}");
                None
            }
        }
    }

    /// The node's next starts are on the forgetting disk.
    pub fn prepare(&self, node: &mut Server) {
        let journals = journals(node);
        std::fs::create_dir_all(&journals).expect("a folder for the journals");
        node.environment.insert("LD_PRELOAD", self.library.display().to_string());
        node.environment.insert("FORGET_DATA", node.data.display().to_string());
        node.environment.insert("FORGET_JOURNAL", journals.display().to_string());
    }
}

fn journals(node: &Server) -> PathBuf {
    node.log.with_extension("journals")
}

/// All that the node has is as good as synced: its files were replaced by others, which the journals are not about.
pub fn replaced(node: &Server) {
    let Ok(found) = std::fs::read_dir(journals(node)) else { return };
    found.for_each(|journal| std::fs::remove_file(journal.expect("a journal").path()).expect("a journal goes"));
}

/// Whether the next start follows a loss of power; without it, it follows the death of a process.
pub fn lost(node: &mut Server, lost: bool) {
    if lost && node.environment.contains_key("FORGET_DATA") {
        node.environment.insert("FORGET_LOSE", "1".to_owned());
    } else {
        node.environment.remove("FORGET_LOSE");
    }
}

/// Waits until a node that was just started says what it lost; gives the unsynced writes, (all, those of write-ahead logs).
pub fn told(node: &Server, from: u64) -> (u64, u64) {
    let deadline = Instant::now() + healed_within();
    while !node.said(from).contains("forget: the power was lost") {
        assert!(Instant::now() < deadline, "node {} does not start on a forgetting disk", node.id);
        sleep(Duration::from_millis(5));
    }
    taken_back(&node.said(from))
}

fn taken_back(log: &str) -> (u64, u64) {
    let mut sums = (0, 0);
    for line in log.lines().filter_map(|line| line.strip_prefix("forget: lost writes=")) {
        let (writes, file) = line.split_once(" file=").expect("a line of forget.c");
        let writes: u64 = writes.parse().expect("a number of writes");
        sums.0 += writes;
        sums.1 += if file.ends_with(".log") { writes } else { 0 };
    }
    sums
}

struct Disk {
    folder: TempDir,
    forgetting: Forgetting,
}

impl Disk {
    fn new() -> Option<Self> {
        let folder = TempDir::new().expect("a temporary folder");
        ["data", "journals"].iter().for_each(|name| std::fs::create_dir(folder.path().join(name)).expect("a folder"));
        let forgetting = Forgetting::build(folder.path())?;
        Some(Self { folder, forgetting })
    }

    fn run(&self, script: &str, lose: bool) -> Output {
        let at = |name: &str| self.folder.path().join(name);
        let mut command = Command::new("sh");
        command.args(["-c", script]).current_dir(at("data")).env("LD_PRELOAD", &self.forgetting.library);
        command.env("FORGET_DATA", at("data")).env("FORGET_JOURNAL", at("journals"));
        if lose {
            command.env("FORGET_LOSE", "1");
        }
        command.output().expect("sh runs")
    }

    fn read(&self, file: &str) -> String {
        std::fs::read_to_string(self.folder.path().join("data").join(file)).expect("the file is there")
    }
}

#[test]
fn the_forgetting_disk_forgets_what_was_not_synced_and_only_that() {
    let Some(disk) = Disk::new() else { return };
    // Overwritten in the middle, cut, and made longer, each after a sync; and a file that was never synced.
    for file in ["over", "cut", "longer"] {
        disk.run(&format!("printf 0123456789 | dd of={file} conv=fsync"), false);
    }
    disk.run("printf ABC | dd of=synced conv=fsync; printf XY | dd of=synced bs=1 seek=1 conv=notrunc,fsync", false);
    let killed = disk.run(
        "printf XYZ | dd of=over bs=1 seek=3 conv=notrunc; dd if=/dev/null of=cut bs=1 seek=4; \
         printf abc >> longer; printf new > new; kill -9 $$",
        false,
    );
    assert!(!killed.status.success(), "the program was not killed");
    let now = || ["over", "cut", "longer", "new", "synced"].map(|file| disk.read(file));
    assert_eq!(now(), ["012XYZ6789", "0123", "0123456789abc", "new", "AXY"]);
    disk.run("cat new", false);
    assert_eq!(disk.read("new"), "new", "a dead process loses nothing: the kernel has its pages");
    let log = disk.run("cat new", true);
    assert_eq!(now(), ["0123456789", "0123456789", "0123456789", "", "AXY"]);
    assert!(taken_back(&String::from_utf8_lossy(&log.stderr)).0 >= 4, "{log:?}");
}

/// Between two losses of power.
const POWERED: Duration = Duration::from_secs(2);

#[test]
fn all_nodes_without_power_lose_no_acknowledged_record() {
    let _turn = turn();
    let mut servers = Servers::new(3, &["storage.memtable_bytes=1MiB"]);
    let Some(forgetting) = Forgetting::build(servers.home.path()) else { return };
    servers.nodes.iter_mut().for_each(|node| forgetting.prepare(node));
    servers.start_all();
    servers.ready_within(Duration::from_secs(60));
    let Some(load) = Load::start(&servers.bootstrap(), 0) else { return };
    let (mut all, mut logs) = (0, 0);
    for _ in 0..count(3, 20) {
        sleep(POWERED);
        servers.nodes.iter_mut().for_each(Server::kill);
        let from: Vec<u64> = servers.nodes.iter().map(Server::log_bytes).collect();
        servers.nodes.iter_mut().for_each(|node| lost(node, true));
        servers.start_all();
        for (node, from) in servers.nodes.iter().zip(from) {
            let lost = told(node, from);
            (all, logs) = (all + lost.0, logs + lost.1);
        }
        servers.ready_within(Duration::from_secs(count(30, 10) as u64));
    }
    sleep(POWERED);
    load.finish();
    println!("unsynced writes lost: {all}, of them in write-ahead logs: {logs}");
    assert!(all > 0, "nothing was lost: this proved nothing");
}
