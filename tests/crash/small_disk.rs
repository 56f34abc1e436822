//! A disk of a few MiB in a mount namespace of its own: the mount lives as long as the process that holds the namespace, and
//! that ends with this one, so that no failure leaves a mount behind.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

/// The disk, seen at `folder` by processes in its namespace only.
pub struct SmallDisk {
    holder: Child,
    folder: PathBuf,
}

impl SmallDisk {
    /// None, said aloud, where that is not allowed.
    pub fn new(folder: &Path, megabytes: u32) -> Option<Self> {
        let script = format!("mount -t tmpfs -o size={megabytes}m none \"$0\" && echo mounted && exec cat");
        let mut command = Command::new("unshare");
        command.args(["--mount", "--propagation", "private", "sh", "-c", &script]).arg(folder);
        let started = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
        let Ok(mut holder) = started else {
            println!("skipped: a small disk needs unshare(1)");
            return None;
        };
        let mut line = String::new();
        let answer = holder.stdout.take().expect("stdout is piped");
        BufReader::new(answer).read_line(&mut line).expect("the holder answers or ends");
        let disk = Self { holder, folder: folder.to_owned() };
        if line != "mounted\n" {
            println!("skipped: a small disk needs the right to mount");
            return None;
        }
        Some(disk)
    }

    /// What runs a program where the disk is mounted.
    pub fn launcher(&self) -> Vec<String> {
        vec!["nsenter".to_owned(), format!("--mount=/proc/{}/ns/mnt", self.holder.id())]
    }

    /// The disk's root, from outside of its namespace.
    pub fn root(&self) -> PathBuf {
        let inside = self.folder.strip_prefix("/").expect("an absolute path");
        PathBuf::from(format!("/proc/{}/root", self.holder.id())).join(inside)
    }

    fn ballast(&self) -> PathBuf {
        self.root().join("ballast")
    }

    /// Takes space until `left` KiB are free.
    pub fn fill(&self, left: u64) {
        let output = Command::new("stat").args(["-f", "-c", "%a %S"]).arg(self.root()).output().expect("stat runs");
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let numbers: Vec<u64> = text.split_whitespace().filter_map(|word| word.parse().ok()).collect();
        let free = numbers.iter().product::<u64>() >> 10;
        assert!(numbers.len() == 2, "not a count and a size of blocks: {text}");
        let length = format!("{}KiB", free.saturating_sub(left));
        let status =
            Command::new("fallocate").args(["-l", &length]).arg(self.ballast()).status().expect("fallocate runs");
        assert!(status.success(), "the ballast of {length} was not written");
    }

    pub fn free(&self) {
        std::fs::remove_file(self.ballast()).expect("the ballast is there");
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        drop(self.holder.kill());
        drop(self.holder.wait());
    }
}
