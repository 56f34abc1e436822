//! The settings of a Raft group (DESIGN.md section 5, docs/adr/003). Every default of openraft that loses data or leaders is
//! overruled here and nowhere else, and `tests` below names each of them.

use std::sync::Arc;
use std::time::Duration;

use model::planted::{self, Bug};
use openraft::{Config, SnapshotPolicy};

use crate::Kind;

/// Interval of the group's own heartbeats.
pub(crate) const HEARTBEAT: Duration = Duration::from_millis(200);
/// Shortest wait before an election.
pub(crate) const ELECTION_MIN: Duration = Duration::from_millis(400);
/// Longest wait before an election; openraft's leader lease is the same.
pub(crate) const ELECTION_MAX: Duration = Duration::from_millis(600);
/// Deadline of an append, and of everything that openraft gives no deadline.
pub(crate) const RPC_DEADLINE: Duration = Duration::from_secs(2);
/// Deadline of a whole snapshot.
pub(crate) const SNAPSHOT_DEADLINE: Duration = Duration::from_secs(30);
/// A leader that has not heard from a quorum for this long says so: two election timeouts.
pub(crate) const QUORUM_CONTACT: Duration = Duration::from_millis(1_200);
/// Bytes of entries in one append frame, unless one entry is larger.
pub(crate) const FRAME_BYTES: usize = 1 << 20;
/// Append frames in flight to one follower of one group.
pub(crate) const FRAMES_IN_FLIGHT: usize = 16;
/// A snapshot of the controller is taken after this many entries. A start applies again what is behind it, and each entry that makes a
/// topic copies the maps of all of them.
const CONTROLLER_SNAPSHOT_ENTRIES: u64 = 1_000;
/// One of a coordinator shard, whose entries are commits, cheap and many.
const COORDINATOR_SNAPSHOT_ENTRIES: u64 = 10_000;
/// Either is also taken after this many bytes of entries.
pub(crate) const SNAPSHOT_BYTES: u64 = 16 << 20;
/// Entries of such a group kept behind its snapshot, for followers that are a little late.
const ENTRIES_BEHIND_SNAPSHOT: u64 = 1_000;

/// The configuration of a group of `kind`, whose leader goes on after a restart if it `resumes`.
pub(crate) fn config(kind: Kind, resumes: bool) -> Result<Arc<Config>, openraft::ConfigError> {
    let (snapshot_policy, max_in_snapshot_log_to_keep) = match kind {
        Kind::Partition if planted::is(Bug::PurgeByDefault) => (SnapshotPolicy::LogsSinceLast(50), 10),
        Kind::Partition => (SnapshotPolicy::Never, u64::MAX),
        Kind::Controller => (SnapshotPolicy::LogsSinceLast(CONTROLLER_SNAPSHOT_ENTRIES), ENTRIES_BEHIND_SNAPSHOT),
        Kind::Coordinator => (SnapshotPolicy::LogsSinceLast(COORDINATOR_SNAPSHOT_ENTRIES), ENTRIES_BEHIND_SNAPSHOT),
    };
    let config = Config {
        cluster_name: "flotilla".to_owned(),
        heartbeat_interval: HEARTBEAT.as_millis() as u64,
        heartbeat_min_interval: None,
        election_timeout_min: ELECTION_MIN.as_millis() as u64,
        election_timeout_max: ELECTION_MAX.as_millis() as u64,
        install_snapshot_timeout: SNAPSHOT_DEADLINE.as_millis() as u64,
        max_payload_entries: 512,
        replication_lag_threshold: 10,
        snapshot_policy,
        max_in_snapshot_log_to_keep,
        enable_pre_vote: Some(true),
        allow_log_reversion: Some(false),
        enable_leader_restore: Some(resumes || planted::is(Bug::LeaderRestore) || planted::is(Bug::DigestIgnored)),
        // For statistics that are not compiled in, and 148 KB of each replica by default.
        log_stage_capacity: Some(1),
        backoff: "50ms 100ms 200ms ..500ms".to_owned(),
        ..Config::default()
    };
    config.validate().map(Arc::new)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Each line is a default of openraft that loses committed data, leaders or availability.
    #[test]
    fn dangerous_defaults_are_off() {
        let defaults = Config::default();
        for kind in [Kind::Partition, Kind::Controller, Kind::Coordinator] {
            let config = config(kind, false).unwrap();
            assert_eq!(config.enable_leader_restore, Some(false), "loses data after a lost unsynced tail");
            assert_eq!(config.allow_log_reversion, Some(false), "accepts a follower that lost its log");
            assert_eq!(config.enable_pre_vote, Some(true), "else a flapping node deposes leaders");
            assert_ne!(defaults.enable_leader_restore, Some(false), "the reason for this test is gone");
            assert!(config.replication_lag_threshold <= 10, "add_learner would return with an empty learner");
            assert!(config.election_timeout_max >= 3 * config.heartbeat_interval, "two lost beats are no death");
            assert!(config.enable_tick && config.enable_heartbeat && config.enable_elect);
        }
    }

    #[test]
    fn a_partition_never_purges_by_itself() {
        let config = config(Kind::Partition, false).unwrap();
        assert_eq!(config.snapshot_policy, SnapshotPolicy::Never);
        assert_eq!(config.max_in_snapshot_log_to_keep, u64::MAX);
        assert_ne!(Config::default().snapshot_policy, SnapshotPolicy::Never);
        assert_ne!(Config::default().max_in_snapshot_log_to_keep, u64::MAX);
    }

    #[test]
    fn controller_and_coordinators_take_ordinary_snapshots() {
        for (kind, entries) in [(Kind::Controller, 1_000), (Kind::Coordinator, 10_000)] {
            let config = config(kind, false).unwrap();
            assert_eq!(config.snapshot_policy, SnapshotPolicy::LogsSinceLast(entries));
            assert_eq!(config.max_in_snapshot_log_to_keep, 1_000);
        }
    }
}
