//! What clients asked and what they were told, an event each, in the shape of Jepsen's histories so that outside checkers can read
//! them: a process has one operation at a time, which ends `ok`, `fail` (did not happen) or `info` (nobody knows).

use std::io::{self, Write};

use serde::Serialize;

use super::Serial;

/// Where in an operation's life an event stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// It began.
    Invoke,
    /// It happened.
    Ok,
    /// It was refused: it did not happen and never will.
    Fail,
    /// It may have happened, may happen later, or never.
    Info,
}

/// What was asked; on `ok` with what was learned.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "f", content = "value", rename_all = "kebab-case")]
pub enum Action {
    /// One batch to one partition.
    Send {
        /// Topic.
        topic: &'static str,
        /// Partition.
        partition: i32,
        /// What the batch holds.
        records: Vec<Serial>,
        /// Where its first record is, once acknowledged.
        offset: Option<i64>,
    },
    /// A read of one partition.
    Poll {
        /// Topic.
        topic: &'static str,
        /// Partition.
        partition: i32,
        /// The offset asked for.
        from: i64,
        /// What came: offset and record.
        records: Vec<(i64, Serial)>,
    },
    /// A new topic.
    CreateTopic {
        /// Its name.
        topic: String,
        /// How many partitions.
        partitions: i32,
    },
    /// A topic goes.
    DeleteTopic {
        /// Its name.
        topic: String,
    },
    /// A topic grows.
    CreatePartitions {
        /// Its name.
        topic: String,
        /// To how many partitions.
        partitions: i32,
    },
    /// `retention.ms` of a topic is set.
    AlterConfig {
        /// Its name.
        topic: String,
        /// To this.
        retention_ms: i64,
    },
    /// What the cluster holds of a topic, looked at when all is quiet.
    DescribeTopic {
        /// Its name.
        topic: String,
        /// Its partitions and `retention.ms`, if it exists.
        found: Option<(i32, Option<i64>)>,
    },
    /// Records below an offset are deleted.
    DeleteRecords {
        /// Topic.
        topic: &'static str,
        /// Partition.
        partition: i32,
        /// First offset that stays.
        offset: i64,
    },
}

/// One event.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Operation {
    /// Its place in the history.
    pub index: usize,
    /// Whose.
    pub process: u32,
    /// What happened to it.
    #[serde(rename = "type")]
    pub kind: Kind,
    /// What it is.
    #[serde(flatten)]
    pub action: Action,
    /// Nanoseconds of simulated time.
    pub time: u64,
    /// Why it failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

/// Writes one JSON object a line.
///
/// # Errors
/// What the writer says.
pub fn write_lines(operations: &[Operation], mut to: impl Write) -> io::Result<()> {
    for operation in operations {
        serde_json::to_writer(&mut to, operation)?;
        to.write_all(b"\n")?;
    }
    to.flush()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_reads_as_jepsen_writes_it() {
        let serial = Serial { producer: 1, number: 7 };
        let action = Action::Send { topic: "ledger", partition: 2, records: vec![serial], offset: Some(40) };
        let operation = Operation { index: 3, process: 5, kind: Kind::Ok, action, time: 9, error: None };
        let mut line = Vec::new();
        write_lines(&[operation], &mut line).unwrap();
        let line: serde_json::Value = serde_json::from_slice(&line).unwrap();
        let expected = serde_json::json!({
            "index": 3, "process": 5, "type": "ok", "f": "send", "time": 9,
            "value": {"topic": "ledger", "partition": 2, "records": [{"producer": 1, "number": 7}], "offset": 40},
        });
        assert_eq!(line, expected);
    }
}
