//! The command line of a measurement: where, what shape the load has, how fast it comes, where the picture goes.
//! Owns the arithmetic of records and batches. Sizes of records are sizes of their values; framing comes on top.

use std::path::PathBuf;

use clap::Args;

use crate::config::units::ByteSize;

/// One measurement.
#[derive(Clone, Debug, Args)]
pub struct Load {
    /// Where to measure.
    #[command(flatten)]
    pub place: Place,
    /// Topics and records.
    #[command(flatten)]
    pub shape: Shape,
    /// Clients and time.
    #[command(flatten)]
    pub pace: Pace,
    /// Also draw throughput and latency over time into this file
    #[arg(long, value_name = "FILE")]
    pub svg: Option<PathBuf>,
}

/// Where to measure.
#[derive(Clone, Debug, Args)]
pub struct Place {
    /// Start a throw-away cluster of three nodes for this run
    #[arg(long)]
    pub dev: bool,
    /// With --dev: where its temporary folder is made
    #[arg(long, default_value = ".")]
    pub data: PathBuf,
    /// With --dev: a setting for every node
    #[arg(long, value_name = "KEY=VALUE", requires = "dev")]
    pub set: Vec<String>,
    /// The cluster's processes on this machine, with commas; found by the brokers' ports without it
    #[arg(long, value_name = "PID", value_delimiter = ',')]
    pub pid: Vec<u32>,
    /// Measure the disk under this folder before and after; with --dev its own folder
    #[arg(long, value_name = "FOLDER")]
    pub disk: Option<PathBuf>,
}

/// Topics and records.
#[derive(Clone, Debug, Args)]
pub struct Shape {
    /// Topics, created for the run and removed after it
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=1_000))]
    pub topics: u32,
    /// Partitions of each topic
    #[arg(long, default_value_t = 6, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub partitions: u32,
    /// Replicas; -1 = the cluster's default
    #[arg(long, default_value_t = -1, allow_negative_numbers = true)]
    pub replication: i16,
    /// A configuration of each topic
    #[arg(long, value_name = "KEY=VALUE", value_parser = key_value)]
    pub config: Vec<(String, String)>,
    /// Bytes of one record's value
    #[arg(long, default_value = "1KiB")]
    pub record_size: ByteSize,
    /// Bytes of the records of one request; one record a request if it is not larger than a record [default: 16KiB, e2e: one record]
    #[arg(long)]
    pub batch: Option<ByteSize>,
    /// all or 1; the cluster answers both when a majority has it on disk. Not 0: without an answer there is nothing to
    /// time, and what was lost would count as written
    #[arg(long, default_value = "all", value_parser = ["all", "1"])]
    pub acks: String,
}

/// Clients and time.
#[derive(Clone, Debug, Args)]
pub struct Pace {
    /// How long to measure
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..=7_200))]
    pub seconds: u64,
    /// Seconds of load before that, not counted
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u64).range(0..=600))]
    pub warm_up: u64,
    /// Producing clients, each with a connection of its own to every node
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u32).range(1..=1_000))]
    pub clients: u32,
    /// Requests each client has on the way at once
    #[arg(long, default_value_t = 48, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub in_flight: u32,
    /// Records a second of all clients together; as fast as possible without (e2e: 200)
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..))]
    pub rate: Option<u64>,
    /// Consumers, each of which reads everything (consume, e2e)
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=100))]
    pub consumers: u32,
}

const BATCH: ByteSize = ByteSize(16 << 10);

impl Shape {
    /// Records of one request.
    pub fn records_per_batch(&self) -> usize {
        (usize::from(self.batch.unwrap_or(BATCH)) / usize::from(self.record_size).max(1)).max(1)
    }

    /// Bytes of the values of one request.
    pub fn batch_value_bytes(&self) -> usize {
        self.records_per_batch() * usize::from(self.record_size)
    }

    /// The acks field of a Produce request.
    pub fn acks_code(&self) -> i16 {
        if self.acks == "1" { 1 } else { -1 }
    }
}

fn key_value(text: &str) -> Result<(String, String), String> {
    let (key, value) = text.split_once('=').ok_or("KEY=VALUE is expected")?;
    Ok((key.to_owned(), value.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shape(record: u64, batch: Option<u64>) -> Shape {
        let (record_size, batch) = (ByteSize(record), batch.map(ByteSize));
        let acks = "all".to_owned();
        Shape { topics: 1, partitions: 1, replication: -1, config: Vec::new(), record_size, batch, acks }
    }

    #[test]
    fn a_batch_holds_whole_records_and_at_least_one() {
        assert_eq!(shape(1_024, None).records_per_batch(), 16);
        assert_eq!(shape(100, Some(16_384)).batch_value_bytes(), 16_300);
        assert_eq!(shape(65_536, None).records_per_batch(), 1);
        assert_eq!(shape(100, Some(0)).records_per_batch(), 1);
    }
}
