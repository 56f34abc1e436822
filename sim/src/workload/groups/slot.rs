//! The lives of the members that hold one place in a group, one after the other: how long each lasts and how it ends. When all is calm
//! two of each group stay until everything is committed, one dies and stays dead, and one has left.

use std::time::Duration;

use rand::Rng;
use rand::rngs::SmallRng;

use super::member::{Fallen, Member};
use super::{CALM, GIVE_UP, Group, Members, SESSION, modern};
use crate::workload::{JOBS, Ledger, PAUSE, now};

/// Pause between two moments of a member.
const PAUSES: u32 = 2;
/// Lives of the last place are this short every other time, so that rebalances come in a storm.
const SHORT: Duration = Duration::from_millis(200);
/// One life in so many dies when it is told to assign.
const FALLS_EVERY: u32 = 5;
/// One moment in so many commits.
const COMMITS_EVERY: u32 = 3;
/// How long the one that dies for good lives on when all is calm.
const LAST_GASP: Duration = Duration::from_millis(800);

/// How a life ends.
enum End {
    Leaves,
    Dies,
    StandsStill,
    IsReplaced,
}

/// A member of either protocol.
enum Life {
    Classic(Member),
    Modern(modern::Member),
}

impl Life {
    async fn live(&mut self, falls: bool, commits: bool) -> Result<(), Fallen> {
        match self {
            Life::Classic(member) => member.live(falls, commits).await,
            Life::Modern(member) => {
                member.live(commits).await;
                Ok(())
            }
        }
    }

    async fn wake(&mut self) {
        match self {
            Life::Classic(member) => member.wake().await,
            Life::Modern(member) => member.wake().await,
        }
    }

    async fn leave(&mut self) {
        match self {
            Life::Classic(member) => member.leave().await,
            Life::Modern(member) => member.leave().await,
        }
    }
}

struct Slot {
    group: Group,
    number: u32,
    nodes: u32,
    ledger: Ledger,
    rng: SmallRng,
    /// Lives so far.
    lives: u32,
}

/// Place `number` of `group`, until the group is done.
pub async fn run(group: Group, number: u32, nodes: u32, ledger: Ledger, rng: SmallRng) {
    let mut slot = Slot { group, number, nodes, ledger, rng, lives: 0 };
    let mut member = slot.fresh();
    while now() < CALM {
        let (until, end) = (now() + slot.length(), slot.end());
        slot.live(&mut member, until.min(CALM)).await;
        member = slot.finish(member, end).await;
        tokio::time::sleep(Duration::from_millis(slot.rng.random_range(10..400))).await;
    }
    match number {
        0 | 1 => slot.last(member).await,
        2 => slot.live(&mut member, now() + LAST_GASP).await,
        _ => member.leave().await,
    }
}

impl Slot {
    fn fresh(&mut self) -> Life {
        self.lives += 1;
        let (name, ledger) = (format!("{}-{}", self.group.name, self.number), self.ledger.clone());
        match self.group.members {
            Members::Roaming => Life::Classic(Member::new(self.group, None, self.nodes, ledger)),
            Members::Resident => Life::Classic(Member::new(self.group, Some(name), self.nodes, ledger)),
            Members::Modern => {
                Life::Modern(modern::Member::new(self.group, format!("{name}-{}", self.lives), self.nodes, ledger))
            }
        }
    }

    fn length(&mut self) -> Duration {
        let short = self.number + 1 == super::SLOTS && self.rng.random_bool(0.5);
        if short { SHORT } else { Duration::from_millis(self.rng.random_range(600..5_000)) }
    }

    fn end(&mut self) -> End {
        match self.rng.random_range(0..10) {
            0..3 => End::Leaves,
            3..5 => End::Dies,
            5..8 => End::StandsStill,
            _ if self.group.members == Members::Resident => End::IsReplaced,
            _ => End::StandsStill,
        }
    }

    /// One life of a member, which may be the first of several.
    async fn live(&mut self, member: &mut Life, until: Duration) {
        let falls = self.rng.random_range(0..FALLS_EVERY) == 0 && now() < CALM;
        while now() < until {
            let commits = self.rng.random_range(0..COMMITS_EVERY) == 0;
            if let Err(Fallen) = member.live(falls, commits).await {
                *member = self.fresh();
                return;
            }
            tokio::time::sleep(PAUSES * PAUSE).await;
        }
    }

    /// Ends a life; who goes on in its place.
    async fn finish(&mut self, mut member: Life, end: End) -> Life {
        match end {
            End::Leaves => {
                member.leave().await;
                self.fresh()
            }
            End::Dies => self.fresh(),
            End::StandsStill => {
                tokio::time::sleep(SESSION.mul_f64(self.rng.random_range(0.5..2.0))).await;
                member.wake().await;
                member
            }
            End::IsReplaced => {
                let mut next = self.fresh();
                let until = now() + Duration::from_millis(self.rng.random_range(300..2_000));
                self.live(&mut next, until).await;
                member.wake().await;
                next
            }
        }
    }

    /// Lives on until the group has committed everything, or never will.
    async fn last(&mut self, mut member: Life) {
        loop {
            self.live(&mut member, now() + PAUSE).await;
            let settled = self.ledger.borrow_mut().groups.settle(now(), self.group.name, JOBS.1);
            if settled || now() >= GIVE_UP {
                return;
            }
        }
    }
}
