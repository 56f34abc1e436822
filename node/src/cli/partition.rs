//! `flotilla partition describe|move`: what each replica of a partition holds on its disk, and what keeps it there; and where they are.

use std::process::ExitCode;

use anyhow::bail;
use clap::{Args, Subcommand};
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::node::Node;
use super::operation::{self, Begun};
use super::output::{Format, print, table};
use super::{Admin, Output, get, post};

/// Which node to ask, and what.
#[derive(Debug, Args)]
pub struct Options {
    #[command(flatten)]
    admin: Admin,
    #[command(flatten)]
    output: Output,
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Move the replicas of a partition to other nodes
    Move {
        /// Its topic
        topic: String,
        /// Its number
        partition: u32,
        /// Nodes, with commas, the preferred leader first
        #[arg(long, value_delimiter = ',', required = true)]
        to: Vec<u32>,
        /// Follow it to its end
        #[arg(long, short)]
        watch: bool,
    },
    /// Bytes on disk, log start and what holds the bytes, of every replica
    Describe {
        /// Its topic
        topic: String,
        /// Its number; all of the topic if none is given
        partition: Option<u32>,
    },
}

/// A replica as `/v1/partitions` gives it.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Replica {
    /// Topic name.
    pub topic: String,
    /// Partition number.
    pub partition: u32,
    /// Its node.
    pub node: u32,
    /// What it is to its group.
    pub role: String,
    /// Bytes of its log on disk.
    pub bytes: u64,
    /// Offset of the first record.
    pub log_start: i64,
    /// Offset after the last record.
    pub high_watermark: i64,
    /// Records below were compacted.
    pub clean_end: i64,
    /// Last Raft entry removed.
    pub purged: Option<u64>,
    /// Raft index of the newest checkpoint.
    pub checkpoint: Option<u64>,
    /// Bytes that its records need.
    pub retained_bytes: u64,
    /// What holds the bytes.
    pub pinned_by: String,
}

/// Runs it: to describe, asks one node who the others are, then each of them.
pub async fn run(options: Options) -> anyhow::Result<ExitCode> {
    let (address, format) = (&options.admin.admin, options.output.output);
    match options.verb {
        Verb::Describe { topic, partition } => describe(address, &topic, partition, format).await,
        Verb::Move { topic, partition, to, watch } => {
            let path = format!("/v1/topics/{topic}/partitions/{partition}/replicas");
            let begun: Begun = post(address, &path, &json!({ "nodes": to })).await?.json()?;
            operation::begun(address, &begun, watch, format).await
        }
    }
}

async fn describe(address: &str, topic: &str, partition: Option<u32>, format: Format) -> anyhow::Result<ExitCode> {
    let nodes: Vec<Node> = get(address, "/v1/nodes").await?.json()?;
    let mut replicas = Vec::new();
    for node in nodes.iter().filter(|node| node.alive) {
        let all: Vec<Replica> = get(&node.admin, "/v1/partitions").await?.json()?;
        replicas.extend(all.into_iter().filter(|replica| {
            replica.topic == topic && partition.is_none_or(|partition| replica.partition == partition)
        }));
    }
    if replicas.is_empty() {
        bail!("no living node has a replica of it");
    }
    replicas.sort_by_key(|replica| (replica.partition, replica.node));
    print(format, &replicas, |replicas| {
        let number = |number: Option<u64>| number.map_or_else(|| "-".to_owned(), |number| number.to_string());
        let row = |replica: &Replica| {
            [
                format!("{}-{}", replica.topic, replica.partition),
                replica.node.to_string(),
                replica.role.clone(),
                replica.log_start.to_string(),
                replica.high_watermark.to_string(),
                replica.clean_end.to_string(),
                replica.bytes.to_string(),
                replica.retained_bytes.to_string(),
                number(replica.purged),
                number(replica.checkpoint),
                replica.pinned_by.clone(),
            ]
        };
        let head = [
            "PARTITION",
            "NODE",
            "ROLE",
            "START",
            "END",
            "CLEAN",
            "BYTES",
            "RETAINED",
            "PURGED",
            "CHECKPOINT",
            "PINNED BY",
        ];
        table(head, &replicas.iter().map(row).collect::<Vec<_>>())
    })?;
    Ok(ExitCode::SUCCESS)
}
