//! What processes have used so far: CPU, memory and bytes written from /proc, fsyncs from /metrics.
//! Only processes of this machine can be looked at; what is not known is not counted as nothing.

use std::fs;
use std::path::{Path, PathBuf};

use crate::cli::get;

/// Kernel ticks a second of /proc/PID/stat: USER_HZ, 100 on Linux everywhere.
const TICKS_PER_SECOND: f64 = 100.0;

/// One process of the cluster.
#[derive(Clone, Debug, Default)]
pub struct Node {
    /// Its HTTP listener, if it is one of ours.
    pub admin: Option<String>,
    /// Its process, if it runs here.
    pub pid: Option<u32>,
}

/// Sums over all processes at one moment.
#[derive(Clone, Copy, Debug, Default)]
pub struct Sample {
    /// CPU seconds used so far.
    pub cpu_s: f64,
    /// Bytes given to the disk so far.
    pub written: f64,
    /// Resident memory.
    pub memory: Memory,
    /// Fsyncs so far, if every process tells.
    pub fsyncs: Option<f64>,
}

/// Resident memory, in MiB.
#[derive(Clone, Copy, Debug, Default)]
pub struct Memory {
    /// Of the largest process.
    pub mib_max: f64,
    /// Of all.
    pub mib_sum: f64,
}

impl Sample {
    /// Looks at all of them.
    pub async fn of(nodes: &[Node]) -> Self {
        let mut sample = Self { memory: memory(nodes), fsyncs: Some(0.0), ..Self::default() };
        for node in nodes {
            if let Some(pid) = node.pid {
                sample.cpu_s += cpu_seconds(pid).unwrap_or(0.0);
                sample.written += written_bytes(pid).unwrap_or(0.0);
            }
            let fsyncs = match &node.admin {
                Some(admin) => get(admin, "/metrics").await.ok().and_then(|page| fsyncs_on(&page.body)),
                None => None,
            };
            sample.fsyncs = sample.fsyncs.zip(fsyncs).map(|(sum, one)| sum + one);
        }
        sample
    }
}

impl Memory {
    /// The larger of both, each for itself.
    pub fn max(self, other: Self) -> Self {
        Self { mib_max: self.mib_max.max(other.mib_max), mib_sum: self.mib_sum.max(other.mib_sum) }
    }
}

/// Memory alone: cheap enough for every second.
pub fn memory(nodes: &[Node]) -> Memory {
    let resident = nodes.iter().filter_map(|node| rss_mib(node.pid?));
    resident.fold(Memory::default(), |memory, mib| Memory {
        mib_max: memory.mib_max.max(mib),
        mib_sum: memory.mib_sum + mib,
    })
}

fn of_process(pid: u32, file: &str) -> PathBuf {
    Path::new("/proc").join(pid.to_string()).join(file)
}

fn cpu_seconds(pid: u32) -> Option<f64> {
    let stat = fs::read_to_string(of_process(pid, "stat")).ok()?;
    let after_name = stat.rsplit_once(')')?.1;
    let fields: Vec<&str> = after_name.split_whitespace().collect();
    let ticks = |index: usize| fields.get(index)?.parse::<f64>().ok();
    Some((ticks(11)? + ticks(12)?) / TICKS_PER_SECOND)
}

/// The first number behind a name at the start of a line.
fn number(text: &str, name: &str) -> Option<f64> {
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    line.split_whitespace().next()?.parse().ok()
}

fn rss_mib(pid: u32) -> Option<f64> {
    number(&fs::read_to_string(of_process(pid, "status")).ok()?, "VmRSS:").map(|kib| kib / 1024.0)
}

fn written_bytes(pid: u32) -> Option<f64> {
    number(&fs::read_to_string(of_process(pid, "io")).ok()?, "write_bytes:")
}

fn fsyncs_on(page: &str) -> Option<f64> {
    number(page, "flotilla_fsync_seconds_count")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_can_be_sampled() {
        let pid = std::process::id();
        assert!(cpu_seconds(pid).is_some());
        assert!(rss_mib(pid).is_some_and(|mib| mib > 0.5));
        assert!(written_bytes(pid).is_some());
    }

    #[test]
    fn a_counter_is_found_by_its_whole_name() {
        let page = "# TYPE flotilla_fsync_seconds histogram\nflotilla_fsync_seconds_sum 7.5\nflotilla_fsync_seconds_count 42\n";
        assert_eq!(fsyncs_on(page), Some(42.0));
        assert_eq!(fsyncs_on("flotilla_fsync_seconds_sum 7.5\n"), None);
    }

    #[tokio::test]
    async fn fsyncs_are_unknown_unless_every_process_tells() {
        let silent = Node { admin: None, pid: Some(std::process::id()) };
        let sample = Sample::of(&[silent]).await;
        assert_eq!(sample.fsyncs, None);
        assert!(sample.memory.mib_sum > 0.5);
    }
}
