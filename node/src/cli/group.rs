//! `flotilla group`: who reads what in a consumer group and how far behind it is; moves what it has committed.

use std::process::ExitCode;
use std::time::Duration;

use anyhow::bail;
use clap::{Args, Subcommand};
use serde::Serialize;

use super::client::{Client, Offsets, Start};
use super::output::{Format, print, table};
use super::whence::{Whence, whence};
use super::{Admin, Bootstrap, Output, get, post, segment};
use crate::broker::{ConsumerGroup, GroupStanding, PartitionLag, Rebalanced};

/// Which cluster, and what.
#[derive(Debug, Args)]
pub struct Options {
    #[command(flatten)]
    bootstrap: Bootstrap,
    #[command(flatten)]
    admin: Admin,
    #[command(flatten)]
    output: Output,
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// All groups, with members and lag
    Ls,
    /// Of each partition: what is committed, the lag in records and seconds, and who reads it
    Describe {
        /// Its id
        group: String,
    },
    /// Move what a group without members has committed
    Reset(Reset),
    /// Make the members of a group share its partitions anew
    Rebalance(Rebalance),
    /// Make a member leave; its partitions go to the others
    Remove {
        /// Group id
        group: String,
        /// Member id, as `describe -o json` gives it
        member: String,
    },
    /// Delete groups without members, and what they have committed
    Rm {
        /// Their ids
        #[arg(required = true)]
        groups: Vec<String>,
    },
}

#[derive(Debug, Args)]
struct Reset {
    /// Its id
    group: String,
    /// Topic
    #[arg(long)]
    topic: String,
    /// Only these partitions
    #[arg(long, short, value_delimiter = ',')]
    partition: Vec<i32>,
    /// earliest, latest, an offset, a time ago such as 2h, or a time such as 2026-01-31T12:00:00Z or @ and ms since 1970
    #[arg(long, value_parser = whence)]
    to: Whence,
    /// Only show what it would do
    #[arg(long)]
    dry_run: bool,
}

#[derive(Debug, Args)]
struct Rebalance {
    /// Its id
    group: String,
    /// Only show how it stands
    #[arg(long)]
    dry_run: bool,
    /// Follow it until the group is stable
    #[arg(long, short, conflicts_with = "dry_run")]
    watch: bool,
}

/// One partition of a reset.
#[derive(Clone, Debug, Serialize)]
struct Moved {
    topic: String,
    partition: i32,
    before: Option<i64>,
    after: i64,
}

/// Runs it.
pub async fn run(options: Options) -> anyhow::Result<ExitCode> {
    let client = Client::new(&options.bootstrap.bootstrap);
    let (format, admin) = (options.output.output, &options.admin.admin);
    match options.verb {
        Verb::Ls => ls(format, &groups(admin).await?)?,
        Verb::Describe { group } => describe(format, &one(admin, &group).await?)?,
        Verb::Reset(reset) => self::reset(&client, format, reset).await?,
        Verb::Rebalance(wanted) => rebalance(admin, format, &wanted).await?,
        Verb::Remove { group, member } => {
            let before = one(admin, &group).await?;
            client.remove_member(&group, &member).await?;
            let after = one(admin, &group).await?;
            told(format, &group, &[("members", before.members.len()), ("members_after", after.members.len())])?;
        }
        Verb::Rm { groups } => {
            for group in groups {
                let offsets = one(admin, &group).await?.partitions.len();
                client.delete_group(&group).await?;
                told(format, &group, &[("offsets_removed", offsets)])?;
            }
        }
    }
    Ok(ExitCode::SUCCESS)
}

async fn groups(admin: &str) -> anyhow::Result<Vec<ConsumerGroup>> {
    get(admin, "/v1/groups").await?.json()
}

async fn one(admin: &str, group: &str) -> anyhow::Result<ConsumerGroup> {
    match groups(admin).await?.into_iter().find(|found| found.group == group) {
        Some(found) => Ok(found),
        None => bail!("there is no group \"{group}\""),
    }
}

/// Between two looks at a group that is watched.
const LOOK: Duration = Duration::from_millis(200);

async fn rebalance(admin: &str, format: Format, wanted: &Rebalance) -> anyhow::Result<()> {
    let path = format!("/v1/groups/{}/rebalance", segment(&wanted.group));
    let ask = async |dry_run: bool| -> anyhow::Result<Rebalanced> {
        post(admin, &path, &serde_json::json!({ "dry_run": dry_run })).await?.json()
    };
    let mut rebalanced = ask(wanted.dry_run).await?;
    while wanted.watch && rebalanced.after.state != "Stable" {
        tokio::time::sleep(LOOK).await;
        rebalanced.after = ask(true).await?.after;
    }
    print(format, &rebalanced, |Rebalanced { before, after }| {
        let row = |name: &str, standing: &GroupStanding| {
            let (generation, members) = (standing.generation.to_string(), standing.members.to_string());
            [name.to_owned(), standing.state.clone(), generation, members]
        };
        table(["", "STATE", "GENERATION", "MEMBERS"], &[row("before", before), row("after", after)])
    })
}

fn told(format: Format, group: &str, facts: &[(&str, usize)]) -> anyhow::Result<()> {
    let mut value = serde_json::json!({ "group": group });
    facts.iter().for_each(|(name, count)| value[*name] = (*count).into());
    print(format, &value, |_| {
        let facts: Vec<String> =
            facts.iter().map(|(name, count)| format!("{} {count}", name.replace('_', " "))).collect();
        format!("{group}: {}\n", facts.join(", "))
    })
}

fn ls(format: Format, groups: &Vec<ConsumerGroup>) -> anyhow::Result<()> {
    print(format, groups, |groups| {
        let row = |group: &ConsumerGroup| {
            [
                group.group.clone(),
                group.protocol.clone(),
                group.state.clone(),
                group.members.len().to_string(),
                group.partitions.len().to_string(),
                group.lag.to_string(),
                group.coordinator.to_string(),
            ]
        };
        let head = ["GROUP", "PROTOCOL", "STATE", "MEMBERS", "PARTITIONS", "LAG", "COORDINATOR"];
        table(head, &groups.iter().map(row).collect::<Vec<_>>())
    })
}

fn describe(format: Format, group: &ConsumerGroup) -> anyhow::Result<()> {
    print(format, group, |group| {
        let show = |number: Option<i64>| number.map_or_else(|| "-".to_owned(), |number| number.to_string());
        let tenths = |number: Option<f64>| number.map_or_else(|| "-".to_owned(), |number| format!("{number:.1}"));
        let row = |partition: &PartitionLag| {
            [
                format!("{}-{}", partition.topic, partition.partition),
                show(partition.committed),
                show(partition.end),
                show(partition.lag),
                tenths(partition.lag_seconds),
                tenths(partition.growth_per_second),
                partition.owner.clone().unwrap_or_else(|| "-".to_owned()),
                partition.host.clone().unwrap_or_else(|| "-".to_owned()),
            ]
        };
        let head = ["PARTITION", "COMMITTED", "END", "LAG", "SECONDS", "GROWTH/S", "MEMBER", "HOST"];
        let (state, members) = (&group.state, group.members.len());
        let title =
            format!("{}: {state}, {} protocol, {members} members, lag {}\n", group.group, group.protocol, group.lag);
        title + &table(head, &group.partitions.iter().map(row).collect::<Vec<_>>())
    })
}

async fn reset(client: &Client, format: Format, reset: Reset) -> anyhow::Result<()> {
    let mut partitions = client.partitions(&reset.topic, false).await?;
    if let Some(unknown) = reset.partition.iter().find(|partition| !partitions.contains(partition)) {
        bail!("{} has no partition {unknown}", reset.topic);
    }
    partitions.retain(|partition| reset.partition.is_empty() || reset.partition.contains(partition));
    let start = reset.to.start()?;
    let before = client.committed(&reset.group, &reset.topic, &partitions).await?;
    let mut after = Offsets::new();
    for partition in partitions {
        let first = client.offset(&reset.topic, partition, Start::Earliest).await?;
        let end = client.offset(&reset.topic, partition, Start::Latest).await?;
        // Kafka's tool also keeps to what exists.
        after.insert(partition, client.offset(&reset.topic, partition, start).await?.clamp(first, end));
    }
    if !reset.dry_run {
        client.commit(&reset.group, &reset.topic, &after).await?;
    }
    let moved = |(partition, after): (&i32, &i64)| Moved {
        topic: reset.topic.clone(),
        partition: *partition,
        before: before.get(partition).copied(),
        after: *after,
    };
    let moved: Vec<Moved> = after.iter().map(moved).collect();
    print(format, &moved, |moved| {
        let row = |one: &Moved| {
            let before = one.before.map_or_else(|| "-".to_owned(), |before| before.to_string());
            [format!("{}-{}", one.topic, one.partition), before, one.after.to_string()]
        };
        table(["PARTITION", "BEFORE", "AFTER"], &moved.iter().map(row).collect::<Vec<_>>())
    })
}
