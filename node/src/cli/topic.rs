//! `flotilla topic ...`: over the Kafka protocol, so that it works on any cluster a client can reach.

mod consume;
mod produce;

use std::process::ExitCode;

use clap::{Args, Subcommand};
use serde::Serialize;
use wire::kafka::messages::metadata::MetadataResponseTopic;

use super::client::{Client, ConfigChange, ConfigEntry, Error};
use super::output::{Format, list, print, table};
use super::{Bootstrap, Output};

/// Which cluster, and what to do.
#[derive(Debug, Args)]
pub struct Options {
    #[command(flatten)]
    bootstrap: Bootstrap,
    #[command(flatten)]
    output: Output,
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// All topics
    Ls {
        /// Internal ones too
        #[arg(long)]
        all: bool,
    },
    /// Create a topic
    Create {
        /// Its name
        name: String,
        /// Partitions; -1 = the cluster's default
        #[arg(long, short, default_value_t = -1, allow_negative_numbers = true)]
        partitions: i32,
        /// Replicas; -1 = the cluster's default
        #[arg(long, short, default_value_t = -1, allow_negative_numbers = true)]
        replication: i16,
        /// Configuration
        #[arg(long, short, value_name = "KEY=VALUE", value_parser = key_value)]
        config: Vec<(String, String)>,
    },
    /// Partitions, leaders, replicas and configuration
    Describe {
        /// Its name
        name: String,
    },
    /// Change configuration or add partitions
    Alter {
        /// Its name
        name: String,
        /// Set a key
        #[arg(long, value_name = "KEY=VALUE", value_parser = key_value)]
        set: Vec<(String, String)>,
        /// Back to the default
        #[arg(long, value_name = "KEY")]
        unset: Vec<String>,
        /// New number of partitions, more than now
        #[arg(long)]
        partitions: Option<i32>,
    },
    /// Delete topics and their records
    Rm {
        /// Their names
        #[arg(required = true)]
        names: Vec<String>,
    },
    /// Write lines as records
    Produce(produce::Produce),
    /// Read records
    Consume(consume::Consume),
}

/// Splits `key=value`.
fn key_value(text: &str) -> Result<(String, String), String> {
    let (key, value) = text.split_once('=').ok_or("KEY=VALUE is expected")?;
    Ok((key.trim().to_owned(), value.trim().to_owned()))
}

/// Runs it.
pub async fn run(options: Options) -> anyhow::Result<ExitCode> {
    let client = Client::new(&options.bootstrap.bootstrap);
    let format = options.output.output;
    match options.verb {
        Verb::Ls { all } => ls(&client, format, all).await?,
        Verb::Create { name, partitions, replication, config } => {
            client.create_topic(&name, (partitions, replication), &config).await?;
            done(format, "created", &name)?;
        }
        Verb::Describe { name } => describe(&client, format, &name).await?,
        Verb::Alter { name, set, unset, partitions } => {
            alter(&client, &name, set, unset, partitions).await?;
            done(format, "altered", &name)?;
        }
        Verb::Rm { names } => {
            for name in names {
                client.delete_topic(&name).await?;
                done(format, "removed", &name)?;
            }
        }
        Verb::Produce(produce) => produce::run(client, format, produce).await?,
        Verb::Consume(consume) => consume::run(client, format, consume).await?,
    }
    Ok(ExitCode::SUCCESS)
}

fn done(format: Format, what: &str, name: &str) -> anyhow::Result<()> {
    print(format, &serde_json::json!({ "topic": name, "result": what }), |_| format!("{what} {name}\n"))
}

#[derive(Serialize)]
struct Row {
    name: String,
    id: String,
    partitions: usize,
    replication: usize,
    leaderless: usize,
}

#[derive(Serialize)]
struct Partition {
    partition: i32,
    leader: i32,
    epoch: i32,
    replicas: Vec<i32>,
    in_sync: Vec<i32>,
}

#[derive(Serialize)]
struct Description {
    name: String,
    id: String,
    partitions: Vec<Partition>,
    configs: Vec<ConfigEntry>,
}

async fn ls(client: &Client, format: Format, all: bool) -> anyhow::Result<()> {
    let response = client.metadata(None, false).await?;
    let shown = response.topics.iter().filter(|topic| all || !topic.is_internal);
    let mut rows: Vec<Row> = shown.map(row).collect();
    rows.sort_by(|a, b| a.name.cmp(&b.name));
    print(format, &rows, |rows| {
        let cells = |row: &Row| {
            [
                row.name.clone(),
                row.partitions.to_string(),
                row.replication.to_string(),
                row.leaderless.to_string(),
                row.id.clone(),
            ]
        };
        table(["TOPIC", "PARTITIONS", "REPLICAS", "LEADERLESS", "ID"], &rows.iter().map(cells).collect::<Vec<_>>())
    })
}

fn row(topic: &MetadataResponseTopic) -> Row {
    Row {
        name: topic.name.as_ref().map(ToString::to_string).unwrap_or_default(),
        id: topic.topic_id.to_string(),
        partitions: topic.partitions.len(),
        replication: topic.partitions.iter().map(|partition| partition.replica_nodes.len()).max().unwrap_or(0),
        leaderless: topic.partitions.iter().filter(|partition| partition.leader_id < 0).count(),
    }
}

async fn describe(client: &Client, format: Format, name: &str) -> anyhow::Result<()> {
    let response = client.metadata(Some(&[name]), false).await?;
    let topic = response.topics.into_iter().next().ok_or_else(|| Error::UnknownTopic(name.to_owned()))?;
    if topic.partitions.is_empty() {
        return Err(Error::UnknownTopic(name.to_owned()).into());
    }
    let partition = |partition: &wire::kafka::messages::metadata::MetadataResponsePartition| Partition {
        partition: partition.partition_index,
        leader: partition.leader_id,
        epoch: partition.leader_epoch,
        replicas: partition.replica_nodes.clone(),
        in_sync: partition.isr_nodes.clone(),
    };
    let mut partitions: Vec<Partition> = topic.partitions.iter().map(partition).collect();
    partitions.sort_by_key(|partition| partition.partition);
    let configs = client.topic_configs(name).await?;
    let description = Description { name: name.to_owned(), id: topic.topic_id.to_string(), partitions, configs };
    print(format, &description, show)
}

fn show(description: &Description) -> String {
    let partition = |partition: &Partition| {
        let leader = if partition.leader < 0 { "-".to_owned() } else { partition.leader.to_string() };
        [
            partition.partition.to_string(),
            leader,
            partition.epoch.to_string(),
            list(&partition.replicas),
            list(&partition.in_sync),
        ]
    };
    let rows: Vec<_> = description.partitions.iter().map(partition).collect();
    let config = |entry: &ConfigEntry| {
        let origin = if entry.own { "topic" } else { "default" };
        [entry.name.clone(), entry.value.clone().unwrap_or_default(), origin.to_owned()]
    };
    let configs: Vec<_> = description.configs.iter().map(config).collect();
    format!(
        "topic  {}\nid     {}\n\n{}\n{}",
        description.name,
        description.id,
        table(["PARTITION", "LEADER", "EPOCH", "REPLICAS", "IN SYNC"], &rows),
        table(["CONFIG", "VALUE", "FROM"], &configs)
    )
}

async fn alter(
    client: &Client,
    name: &str,
    set: Vec<(String, String)>,
    unset: Vec<String>,
    partitions: Option<i32>,
) -> anyhow::Result<()> {
    let sets = set.into_iter().map(|(key, value)| ConfigChange::Set(key, value));
    let changes: Vec<ConfigChange> = sets.chain(unset.into_iter().map(ConfigChange::Unset)).collect();
    anyhow::ensure!(
        !changes.is_empty() || partitions.is_some(),
        "nothing to change: give --set, --unset or --partitions"
    );
    if !changes.is_empty() {
        client.alter_topic(name, &changes).await?;
    }
    if let Some(count) = partitions {
        client.grow_topic(name, count).await?;
    }
    Ok(())
}
