//! What the disk does without us: three processes append 1 MiB and sync, each to a file of its own, at the same time.
//! A hidden command of this program is one of the three. The files are removed.

use std::fs::OpenOptions;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{ExitCode, Stdio};
use std::time::Duration;

use anyhow::Context;
use clap::Args;

use crate::seams::{Clock, SystemClock};

const BLOCK: usize = 1 << 20;
const FILES: usize = 3;
const TIME: Duration = Duration::from_secs(3);

/// Options of the hidden command.
#[derive(Debug, Args)]
pub struct Disk {
    file: PathBuf,
    #[arg(long)]
    milliseconds: u64,
}

/// One writer: prints the bytes a second it reached.
pub fn run(options: &Disk) -> anyhow::Result<ExitCode> {
    let clock = SystemClock::new();
    let block: Vec<u8> = (0..BLOCK).map(|index| (index as u32).wrapping_mul(2_654_435_761).to_le_bytes()[3]).collect();
    let mut file = OpenOptions::new().create_new(true).append(true).open(&options.file)?;
    let mut written = 0u64;
    let time = Duration::from_millis(options.milliseconds);
    while clock.monotonic() < time {
        file.write_all(&block)?;
        file.sync_data()?;
        written += BLOCK as u64;
    }
    println!("{}", written as f64 / clock.monotonic().as_secs_f64());
    Ok(ExitCode::SUCCESS)
}

/// MB/s of the three together, in `folder`.
pub async fn measure(folder: &Path) -> anyhow::Result<f64> {
    let program = std::env::current_exe().context("cannot find the path of this program")?;
    let scratch = tempfile::Builder::new()
        .prefix("flotilla-disk-")
        .tempdir_in(folder)
        .context("cannot write to the data folder")?;
    let writers = (0..FILES).map(|number| {
        tokio::process::Command::new(&program)
            .args(["bench", "disk", "--milliseconds", &TIME.as_millis().to_string()])
            .arg(scratch.path().join(number.to_string()))
            .stdin(Stdio::null())
            .kill_on_drop(true)
            .output()
    });
    let mut sum = 0.0;
    for output in futures::future::join_all(writers).await {
        let output = output.context("the disk writer did not run")?;
        let text = String::from_utf8_lossy(&output.stdout);
        let speed: f64 = text
            .trim()
            .parse()
            .with_context(|| format!("the disk writer failed: {}", String::from_utf8_lossy(&output.stderr)))?;
        sum += speed;
    }
    Ok(sum / 1e6)
}
