//! What members of consumer groups, and those who watch their offsets, asked and were told: for the checkers of groups.
//! Owns the numbers of commits: each carries its own as metadata, so that whoever reads an offset knows whose commit it was.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// A partition of a group's topic, in a group.
pub type Cursor = (&'static str, i32);

/// Partitions by the label of the member that is to own them.
pub type Parts = BTreeMap<String, BTreeSet<i32>>;

/// A member as it stands in one generation.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Who {
    /// The group.
    pub group: &'static str,
    /// The id that the coordinator gave.
    pub member: String,
    /// `group.instance.id` of a static member.
    pub instance: Option<String>,
    /// The generation it was told.
    pub generation: i32,
}

impl Who {
    /// Its name over all its lives, if it has one.
    pub fn label(&self) -> &str {
        self.instance.as_deref().unwrap_or(&self.member)
    }
}

/// JoinGroup was answered.
#[derive(Clone, Debug)]
pub struct Join {
    /// When.
    pub at: Duration,
    /// Whom, with its new generation.
    pub who: Who,
    /// Whether it was told to assign.
    pub leads: bool,
}

/// SyncGroup was answered.
#[derive(Clone, Debug)]
pub struct Share {
    /// When.
    pub at: Duration,
    /// Whom.
    pub who: Who,
    /// Partitions that are the member's in this generation.
    pub partitions: BTreeSet<i32>,
}

/// A member of the consumer protocol has a partition.
#[derive(Clone, Debug)]
pub struct Hold {
    /// Of what.
    pub cursor: Cursor,
    /// Who.
    pub member: String,
    /// When it was told.
    pub from: Duration,
    /// When it asked last, still having it, and was told that it is a member.
    pub until: Duration,
}

/// What became of a commit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It was acknowledged.
    Done,
    /// It was refused by the group: it did not happen and never will.
    Refused,
    /// It may have happened, or still may.
    Unknown,
}

/// A commit of offsets.
#[derive(Clone, Debug)]
pub struct Commit {
    /// By whom.
    pub who: Who,
    /// Partition and offset.
    pub offsets: Vec<(i32, i64)>,
    /// When it was asked for.
    pub begun: Duration,
    /// When and how it ended, so far.
    pub ended: Option<(Duration, Outcome)>,
}

/// A committed offset was read.
#[derive(Clone, Debug)]
pub struct Fetch {
    /// Of what.
    pub cursor: Cursor,
    /// When it was asked for, and answered.
    pub during: (Duration, Duration),
    /// The offset and the number of its commit; `None`: nothing was committed.
    pub found: Option<(i64, usize)>,
}

/// All groups of a run.
#[derive(Default)]
pub struct Groups {
    /// Whether there are any.
    pub plays: bool,
    /// In the order of their answers.
    pub joins: Vec<Join>,
    /// In the order of their answers.
    pub shares: Vec<Share>,
    /// In the order in which members were told.
    pub holds: Vec<Hold>,
    /// What those who lead a generation handed in.
    pub assigned: BTreeMap<(&'static str, i32), Vec<Parts>>,
    /// By number.
    pub commits: Vec<Commit>,
    /// In the order of their answers.
    pub fetches: Vec<Fetch>,
    /// Offsets that members of a group processed.
    pub consumed: BTreeMap<Cursor, BTreeSet<i64>>,
    /// Offsets that were acknowledged to producers of the groups' topic, by partition.
    pub produced: BTreeMap<i32, BTreeSet<i64>>,
    /// Producers that are not done.
    pub producers: u32,
    /// When a group had committed everything.
    pub settled: BTreeMap<&'static str, Duration>,
}

impl Groups {
    /// A commit begins: its number.
    pub fn commit(&mut self, at: Duration, who: Who, offsets: Vec<(i32, i64)>) -> usize {
        self.commits.push(Commit { who, offsets, begun: at, ended: None });
        self.commits.len() - 1
    }

    /// Where a partition ends at least: behind everything acknowledged.
    pub fn end(&self, partition: i32) -> i64 {
        self.produced.get(&partition).and_then(|offsets| offsets.last()).map_or(0, |last| last + 1)
    }

    /// Whether all that producers of `partitions` were acknowledged is committed by the group; notes when that was so first.
    pub fn settle(&mut self, at: Duration, group: &'static str, partitions: i32) -> bool {
        let committed = |partition| {
            let done = self.commits.iter().filter(|commit| commit.who.group == group && commit.is_done());
            let offsets = done.flat_map(|commit| &commit.offsets).filter(|(index, _)| *index == partition);
            offsets.map(|(_, offset)| *offset).max().unwrap_or(0)
        };
        let settled = self.producers == 0 && (0..partitions).all(|index| committed(index) >= self.end(index));
        if settled {
            self.settled.entry(group).or_insert(at);
        }
        settled
    }

    /// How-manieth answer to a join told of this member first: static members that come back have a higher one than before.
    pub fn incarnation(&self, who: &Who) -> usize {
        let same = |join: &Join| join.who.group == who.group && join.who.member == who.member;
        self.joins.iter().position(same).unwrap_or(usize::MAX)
    }
}

impl Commit {
    /// Whether it was acknowledged.
    pub fn is_done(&self) -> bool {
        matches!(self.ended, Some((_, Outcome::Done)))
    }

    /// What it committed of a partition.
    pub fn offset(&self, partition: i32) -> Option<i64> {
        self.offsets.iter().find(|(index, _)| *index == partition).map(|(_, offset)| *offset)
    }
}
