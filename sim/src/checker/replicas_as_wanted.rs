//! S16: changes of replicas keep what they promise. A replica id is never given again; no replica is wiped before its removal is
//! finished, and none votes that holds nothing; there are never fewer voters than before or after; and when all is quiet, every
//! change is finished, the members are those wanted, and nobody else holds anything of the group. From Raft, section 6 and 4.2.

use std::collections::{BTreeMap, BTreeSet};

use model::controller::{Image, Partition};
use model::{GroupId, ReplicaId};

/// What was seen of one partition.
#[derive(Default)]
struct Seen {
    /// Every replica that there ever was.
    ever: BTreeSet<ReplicaId>,
    /// Those that there are, by the newest image.
    now: BTreeSet<ReplicaId>,
    /// Replicas whose disk held something of the group.
    held: BTreeSet<ReplicaId>,
    /// The fewest voters that there may be.
    voters_min: usize,
    /// The term in which it was led when its change was first seen.
    asked_in: Option<u64>,
}

/// What became of changes, for the counts of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum News {
    /// A change was finished.
    Finished,
    /// It was finished by another leader than the one that began.
    FinishedByAnother,
    /// Another goal took the place of one that was not reached.
    Replaced,
}

impl News {
    /// The name under which it is counted.
    pub fn name(self) -> &'static str {
        match self {
            News::Finished => "move finished",
            News::FinishedByAnother => "move went on after its leader was gone",
            News::Replaced => "move cancelled or replaced",
        }
    }
}

/// The checker of one run.
#[derive(Default)]
pub struct ReplicasAsWanted {
    /// The newest image seen: when those who have it are down, others know less.
    version: u64,
    partitions: BTreeMap<GroupId, Seen>,
    revisions: BTreeMap<GroupId, u32>,
    /// The newest term in which each group was led: who stood still meanwhile still believes what was true before.
    terms: BTreeMap<GroupId, u64>,
}

/// A group as its leader sees it.
pub struct Led {
    /// The leader's term.
    pub term: u64,
    /// Who votes.
    pub voters: Vec<BTreeSet<ReplicaId>>,
}

impl ReplicasAsWanted {
    /// Looks at the newest image, at the leaders of the groups, and at what disks `hold` (`None`: nobody may ask this one).
    pub fn look(
        &mut self,
        image: &Image,
        led: &BTreeMap<GroupId, Led>,
        holds: impl Fn(ReplicaId, GroupId) -> Option<bool>,
    ) -> (Vec<String>, Vec<News>) {
        let (mut violations, mut news) = (Vec::new(), Vec::new());
        if image.version < self.version {
            return (violations, news);
        }
        self.version = image.version;
        for partition in image.topics.values().flat_map(|topic| &topic.partitions) {
            let group = partition.group;
            let was = self.revisions.insert(group, partition.revision);
            let seen = self.partitions.entry(group).or_default();
            let newest = self.terms.entry(group).or_default();
            let led = led.get(&group).filter(|led| led.term >= *newest);
            *newest = led.map_or(*newest, |led| led.term);
            news.extend(seen.follow(partition, was, led));
            violations.extend(seen.ids(partition).map(|words| format!("group {group}: {words}")));
            violations.extend(seen.disks(partition, led, |replica| holds(replica, group)));
        }
        (violations, news)
    }
}

impl Seen {
    /// What the image says is new.
    fn follow(&mut self, partition: &Partition, was: Option<u32>, led: Option<&Led>) -> Vec<News> {
        let term = led.map(|led| led.term);
        let (wanted, before) = (partition.wanted().count(), partition.before().count());
        let mut news = Vec::new();
        match (self.asked_in, partition.is_changing) {
            (None, true) => self.asked_in = Some(term.unwrap_or(0)),
            (Some(_), true) if was.is_some_and(|was| was < partition.revision) => news.push(News::Replaced),
            (Some(asked), false) => {
                self.asked_in = None;
                news.push(News::Finished);
                news.extend(term.is_some_and(|term| term > asked).then_some(News::FinishedByAnother));
            }
            _ => {}
        }
        // The leader may still be on its way to a goal that came and went between two looks.
        let unseen = was.is_some_and(|was| partition.revision > was + 1);
        let fewest = if unseen { 1 } else { wanted.min(before) };
        self.voters_min =
            if partition.is_changing && self.voters_min > 0 { self.voters_min.min(fewest) } else { fewest };
        news
    }

    /// Ids come once.
    fn ids(&mut self, partition: &Partition) -> Option<String> {
        let now: BTreeSet<ReplicaId> = partition.replicas.iter().copied().collect();
        let again = now.difference(&self.now).find(|replica| self.ever.contains(replica)).copied();
        self.held.retain(|replica| now.contains(replica));
        self.ever.extend(&now);
        self.now = now;
        again.map(|replica| format!("the id of replica {replica} is given a second time"))
    }

    /// Whoever votes, or is to stay until the end, keeps what it holds.
    fn disks(
        &mut self,
        partition: &Partition,
        led: Option<&Led>,
        holds: impl Fn(ReplicaId) -> Option<bool>,
    ) -> Vec<String> {
        let group = partition.group;
        let mut violations = Vec::new();
        for replica in
            partition.replicas.iter().filter(|replica| partition.replica_on(replica.node()) == Some(**replica))
        {
            match holds(*replica) {
                Some(true) => drop(self.held.insert(*replica)),
                Some(false) if self.held.remove(replica) => {
                    violations
                        .push(format!("replica {replica} of group {group} was wiped before its removal was finished"));
                }
                _ => {}
            }
        }
        let Some(led) = led else { return violations };
        for voters in &led.voters {
            if voters.len() < self.voters_min {
                let min = self.voters_min;
                violations
                    .push(format!("group {group} has the voters {voters:?}, {min} are the fewest that it may have"));
            }
            let newcomers = voters.iter().filter(|voter| voter.revision() > 1 && self.now.contains(voter));
            let empty = newcomers.filter(|voter| holds(**voter) == Some(false));
            violations.extend(empty.map(|voter| format!("replica {voter} of group {group} votes and holds nothing")));
        }
        violations
    }
}

/// All is quiet: what is still wrong. `holds` says which disks hold something of a group, whoever may.
pub fn settled(image: &Image, led: &BTreeMap<GroupId, Led>, holders: impl Fn(GroupId) -> BTreeSet<u32>) -> Vec<String> {
    let mut violations = Vec::new();
    for partition in image.topics.values().flat_map(|topic| &topic.partitions) {
        let group = partition.group;
        if partition.is_changing {
            violations.push(format!("the change of the replicas of group {group} is not finished: {partition:?}"));
            continue;
        }
        let wanted: BTreeSet<ReplicaId> = partition.wanted().collect();
        if led.get(&group).is_some_and(|led| led.voters != [wanted.clone()]) {
            let voters = led.get(&group).map(|led| &led.voters);
            violations.push(format!("group {group} is to have the voters {wanted:?} and has {voters:?}"));
        }
        let strays = holders(group).into_iter().filter(|node| !partition.is_on(model::NodeId(*node)));
        violations.extend(strays.map(|node| format!("the disk of node {node} still holds something of group {group}")));
    }
    violations
}

#[cfg(test)]
mod tests {
    use model::NodeId;

    use super::*;

    const GROUP: GroupId = GroupId(1024);

    fn partition() -> Partition {
        Partition::new(GROUP, &[NodeId(1), NodeId(2), NodeId(3)])
    }

    fn replica(node: u32, revision: u32) -> ReplicaId {
        ReplicaId::new(NodeId(node), revision)
    }

    /// Replica 3.1 leaves, 4.2 comes.
    fn changing() -> Partition {
        let replicas = vec![replica(1, 1), replica(2, 1), replica(4, 2), replica(3, 1)];
        let (adding, removing) = ([replica(4, 2)].into(), [replica(3, 1)].into());
        Partition { revision: 2, replicas, adding, removing, is_changing: true, ..partition() }
    }

    fn led(voters: &[&[ReplicaId]]) -> Led {
        Led { term: 7, voters: voters.iter().map(|set| set.iter().copied().collect()).collect() }
    }

    #[test]
    fn an_id_that_comes_back_is_seen() {
        let mut seen = Seen::default();
        assert_eq!(seen.ids(&partition()), None);
        assert_eq!(seen.ids(&changing()), None);
        let without = Partition { replicas: vec![replica(1, 1), replica(2, 1), replica(4, 2)], ..partition() };
        assert_eq!(seen.ids(&without), None);
        assert!(seen.ids(&partition()).is_some(), "3.1 again");
    }

    #[test]
    fn a_goal_that_nobody_saw_may_have_had_fewer_voters() {
        let mut seen = Seen::default();
        seen.follow(&partition(), None, None);
        assert_eq!(seen.voters_min, 3);
        seen.follow(&changing(), Some(1), None);
        assert_eq!(seen.voters_min, 3);
        seen.follow(&Partition { revision: 4, ..changing() }, Some(2), None);
        assert_eq!(seen.voters_min, 1, "revision 3 was not seen");
        seen.follow(&Partition { revision: 4, ..partition() }, Some(4), None);
        assert_eq!(seen.voters_min, 3, "the change is finished");
    }

    #[test]
    fn early_wiping_and_empty_voters_are_seen() {
        let mut seen = Seen { voters_min: 3, ..Seen::default() };
        let all = |_| Some(true);
        let voters = led(&[&[replica(1, 1), replica(2, 1), replica(3, 1)]]);
        seen.ids(&changing());
        assert!(seen.disks(&changing(), Some(&voters), all).is_empty());
        let wiped = |gone: ReplicaId| move |replica: ReplicaId| Some(replica != gone);
        assert_eq!(seen.disks(&changing(), Some(&voters), wiped(replica(3, 1))).len(), 1);
        let early = led(&[&[replica(1, 1), replica(2, 1), replica(4, 2)]]);
        let mut seen = Seen { voters_min: 3, ..Seen::default() };
        seen.ids(&changing());
        assert_eq!(seen.disks(&changing(), Some(&early), wiped(replica(4, 2))).len(), 1);
        assert_eq!(seen.disks(&changing(), Some(&led(&[&[replica(1, 1), replica(2, 1)]])), all).len(), 1, "two voters");
    }
}
