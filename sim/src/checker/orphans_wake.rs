//! L4: a replica does not sleep on when its leader's process is gone or stands still: it wakes within [`LATE`], so that the group
//! gets another leader without being asked for anything.

use std::collections::BTreeMap;
use std::time::Duration;

use model::GroupId;

/// When a sleeper must have noticed; see [`super::sleepers_agree::LATE`].
pub use super::sleepers_agree::LATE;

/// Since when whose leader is gone.
#[derive(Default)]
pub struct OrphansWake {
    since: BTreeMap<(u32, GroupId), (u32, Duration)>,
}

impl OrphansWake {
    /// The replica of `group` on `node`, which runs, sleeps under the leader on the node `gone`, which does not; or all is well.
    pub fn look(&mut self, at: Duration, node: u32, group: GroupId, gone: Option<u32>) -> Option<String> {
        let Some(leader) = gone else {
            self.since.remove(&(node, group));
            return None;
        };
        let entry = self.since.entry((node, group)).or_insert((leader, at));
        if entry.0 != leader {
            *entry = (leader, at);
        }
        let since = entry.1;
        (at >= since + LATE).then(|| {
            format!(
                "group {group} on node {node} sleeps although the node of its leader, {leader}, is gone since {since:?}"
            )
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_sleeps_on_without_a_leader_is_seen() {
        let mut checker = OrphansWake::default();
        let mut look = |second, gone| checker.look(Duration::from_secs(second), 2, GroupId(1), gone).is_some();
        assert!(!look(1, Some(1)) && !look(3, Some(1)) && look(4, Some(1)));
        assert!(!look(5, None) && !look(6, Some(1)), "it woke, or its leader is back");
        assert!(!look(9 - 1, Some(3)), "another leader");
        assert!(!look(10, Some(3)) && look(11, Some(3)));
    }
}
