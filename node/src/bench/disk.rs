//! What the disk does without us, in the same run: three processes append and sync, each to a file of its own, at the same
//! time; first 1 MiB each for bytes a second, then one process alone 4 KiB for the time of a sync.
//! A hidden command of this program is such a process. The files are removed.

use std::fs::OpenOptions;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{ExitCode, Stdio};
use std::time::Duration;

use anyhow::Context;
use clap::Args;
use serde::{Deserialize, Serialize};

use super::cluster::Target;
use super::histogram::Histogram;
use crate::seams::{Clock, SystemClock};

const LARGE: usize = 1 << 20;
const SMALL: usize = 4 << 10;
const FILES: usize = 3;
const TIME: Duration = Duration::from_secs(2);

/// Options of the hidden command.
#[derive(Debug, Args)]
pub struct Disk {
    file: PathBuf,
    #[arg(long)]
    block: usize,
    #[arg(long)]
    milliseconds: u64,
}

/// What the disk reached.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
pub struct Speed {
    /// Three files at once, 1 MiB appends, each synced: MB/s together.
    pub disk_mb_per_s: f64,
    /// One file, 4 KiB appends, each synced: median.
    pub disk_sync_p50_ms: f64,
    /// The same, 99%.
    pub disk_sync_p99_ms: f64,
}

/// One writer: prints what it reached.
pub fn run(options: &Disk) -> anyhow::Result<ExitCode> {
    let clock = SystemClock::new();
    let bytes = (0..options.block).map(|index| (index as u32).wrapping_mul(2_654_435_761).to_le_bytes()[3]);
    let block: Vec<u8> = bytes.collect();
    let mut file = OpenOptions::new().create_new(true).append(true).open(&options.file)?;
    let mut written = 0u64;
    let mut syncs = Histogram::default();
    let time = Duration::from_millis(options.milliseconds);
    while clock.monotonic() < time {
        let begin = clock.monotonic();
        file.write_all(&block)?;
        file.sync_data()?;
        syncs.record(clock.monotonic() - begin, 1);
        written += block.len() as u64;
    }
    let speed = Speed {
        disk_mb_per_s: written as f64 / 1e6 / clock.monotonic().as_secs_f64(),
        disk_sync_p50_ms: syncs.quantile_ms(0.5),
        disk_sync_p99_ms: syncs.quantile_ms(0.99),
    };
    println!("{}", serde_json::to_string(&speed)?);
    Ok(ExitCode::SUCCESS)
}

/// Measures the disk of a cluster, if it is known where that is.
pub async fn measure(target: &Target) -> anyhow::Result<Option<Speed>> {
    let Some(folder) = &target.disk else { return Ok(None) };
    let mut speed = Speed::default();
    for one in writers(folder, FILES, LARGE).await? {
        speed.disk_mb_per_s += one.disk_mb_per_s;
    }
    if let Some(alone) = writers(folder, 1, SMALL).await?.first() {
        (speed.disk_sync_p50_ms, speed.disk_sync_p99_ms) = (alone.disk_sync_p50_ms, alone.disk_sync_p99_ms);
    }
    Ok(Some(speed))
}

async fn writers(folder: &Path, count: usize, block: usize) -> anyhow::Result<Vec<Speed>> {
    let program = std::env::current_exe().context("cannot find the path of this program")?;
    let scratch = tempfile::Builder::new().prefix("flotilla-disk-").tempdir_in(folder);
    let scratch = scratch.context("cannot write to the folder whose disk is to be measured")?;
    let writers = (0..count).map(|number| {
        tokio::process::Command::new(&program)
            .args(["bench", "disk", "--milliseconds", &TIME.as_millis().to_string(), "--block", &block.to_string()])
            .arg(scratch.path().join(number.to_string()))
            .stdin(Stdio::null())
            .kill_on_drop(true)
            .output()
    });
    let mut speeds = Vec::new();
    for output in futures::future::join_all(writers).await {
        let output = output.context("the disk writer did not run")?;
        let failed = || format!("the disk writer failed: {}", String::from_utf8_lossy(&output.stderr));
        speeds.push(serde_json::from_slice(&output.stdout).with_context(failed)?);
    }
    Ok(speeds)
}
