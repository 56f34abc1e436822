//! Puts the idle partitions of a node to sleep and wakes them: looks at all of them when told, asks the other members, and lets
//! requests of peers disturb sleepers. Every request of an awake leader, every entry and every campaign that its voters would
//! allow an awake replica wakes a sleeper; a heartbeat of a leader that sleeps on does not.
//! Invariant: who refuses a vote in its sleep wakes its leader, whose heartbeats end the campaign and wake the others.

use std::time::Duration;

use futures::future::join_all;
use model::ReplicaId;
use model::planted::{self, Bug};
use tokio::time::{Instant, sleep, timeout};

use crate::groups::Groups;
use crate::quiesce::{self, Around, Eyes, Member, Pact};
use crate::rest::Sleeps;
use crate::settings::RPC_DEADLINE;
use crate::wire::{Answer, Append, Call, Refusal, Request};
use crate::{Group, Kind, Lane};

/// Heartbeats that were under way when the ticks stopped have arrived after this, or wake somebody once more.
const SETTLE: Duration = Duration::from_millis(50);
/// The others answer within this or everybody wakes. With `SETTLE` and a heartbeat's interval less than a lease.
const ASK_DEADLINE: Duration = Duration::from_millis(250);
/// Sleepers woken because something happened to a node that have not gone to sleep again: with thousands awake at once the beats of
/// the nodes come too late, which wakes everybody, for ever.
const WOKEN_MAX: usize = 512;
/// One that stays awake for so long has another reason to, and keeps nobody from waking any more.
const WOKEN: Duration = Duration::from_secs(5);

impl Groups {
    /// Looks at every partition, with what is `around` this node now: wakes who has to wake, lets the idle ones fall asleep. Call it
    /// some times a second. Who sleeps well costs nothing. Returns how many do.
    pub fn tend(&self, around: Around) -> usize {
        let Some(after) = self.options().quiesce_after else { return 0 };
        let (around, changed) = self.look_around(around);
        let restless = self.restless().take();
        let looked_at = if changed { self.partitions() } else { restless };
        let (mut asleep, mut woken) = (self.partition_count(), self.woken());
        woken.retain(|_, at| at.elapsed() < WOKEN);
        for id in looked_at {
            let Some(group) = self.get(id) else {
                // It opens or closes, or is gone.
                if self.is_reserved(id) {
                    self.restless().insert(id);
                }
                continue;
            };
            let turn = |leader| quiesce::turn(group.id(), group.replica(), leader, &group.status().borrow().voters);
            match group.rest().sleeps(group.replica(), &around, turn) {
                // The log of a coordinator is written by timers too: it never sleeps.
                _ if group.kind() != Kind::Partition => {}
                Sleeps::Well => {
                    woken.remove(&id);
                    continue;
                }
                Sleeps::No => self.look_awake(&group, after, &around),
                Sleeps::Up if woken.len() < WOKEN_MAX => {
                    woken.insert(id, Instant::now());
                    group.wake();
                }
                Sleeps::Up | Sleeps::Badly => {}
            }
            asleep = asleep.saturating_sub(1);
            self.restless().insert(group.id());
        }
        asleep
    }

    /// Lets the leader of an idle partition ask the others; wakes those of one without a quorum.
    fn look_awake(&self, group: &Group, after: Duration, around: &Around) {
        let (standing, others) = group.standing();
        if standing.leader != Some(group.replica()) {
            return;
        }
        if !group.status().borrow().quorum_contact && group.rest().alarms() {
            others.iter().for_each(|other| drop(tokio::spawn(self.tell(group, other.replica, Call::Wake))));
        }
        if group.rest().has_handed_over(standing.term) {
            return;
        }
        let lives = |node| around.boot(node, true);
        let Some((pact, eyes)) = quiesce::offer(group.replica(), &standing, &others, lives) else { return };
        if group.rest().is_idle(pact.last, after) && group.rest().ask(group.raft(), pact) {
            tokio::spawn(self.clone().fall_asleep(group.clone(), pact, eyes, others));
        }
    }

    async fn fall_asleep(self, group: Group, pact: Pact, eyes: Eyes, others: Vec<Member>) {
        sleep(SETTLE).await;
        let living = others.iter().zip(&eyes).filter(|(_, (_, boot))| boot.is_some()).map(|(other, _)| other.replica);
        let asking = living.map(|other| self.tell(&group, other, Call::Sleep(pact)));
        let answers = timeout(ASK_DEADLINE, join_all(asking)).await.unwrap_or_default();
        let agreed = answers.len() == eyes.iter().filter(|(_, boot)| boot.is_some()).count()
            && answers.iter().all(|answer| *answer == Some(Answer::Asleep));
        let stands = quiesce::accept(&pact, &group.standing().0).is_ok();
        if !(agreed && stands && group.rest().agreed(pact, eyes)) {
            tracing::debug!(group = %group.id(), ?answers, "the group does not fall asleep");
            group.wake();
        }
    }

    /// A request that concerns sleep only.
    fn tell(&self, group: &Group, to: ReplicaId, call: Call) -> impl Future<Output = Option<Answer>> + Send + use<> {
        let frame = Request { from: group.replica(), to, call }.to_frame(Vec::new());
        let sent = self.transport().call(to.node(), Lane::Control, group.id(), frame);
        async move {
            let frame = timeout(RPC_DEADLINE, sent).await.ok()?.ok()?;
            Answer::from_frame(&frame).ok()
        }
    }

    /// The leader asks this replica to sleep.
    pub(crate) fn lie_down(&self, group: &Group, from: ReplicaId, pact: Pact) -> Answer {
        let agree = || {
            self.options().quiesce_after.ok_or("it never sleeps")?;
            let around = self.around();
            let boot = around.boot(from.node(), false).ok_or("it does not hear its leader's node")?;
            if pact.leader != from || around.leads(from.node(), group.id()) != Some(pact.term) {
                return Err("its leader's node does not say that it leads");
            }
            quiesce::accept(&pact, &group.standing().0)?;
            let eyes = vec![(from.node(), Some(boot))];
            group.rest().follow(group.raft(), pact, eyes).then_some(()).ok_or("an entry is on its way")
        };
        match agree() {
            Ok(()) => Answer::Asleep,
            Err(why) => Answer::Awake(why.to_owned()),
        }
    }

    /// What a request of `from` does to this replica, if it sleeps, before it is looked at.
    pub(crate) fn disturb(&self, group: &Group, from: ReplicaId, call: &Call) -> Result<(), Refusal> {
        if let Call::Append(Append { entries, .. }) = call
            && let Some(last) = entries.last()
        {
            group.rest().saw(last.at);
        }
        let Some(pact) = group.rest().pact() else { return Ok(()) };
        let leads = pact.leader == group.replica();
        match call {
            Call::Append(head) if head.asleep && head.entries.is_empty() && from == pact.leader => Ok(()),
            Call::Append(_) if planted::is(Bug::SleepThroughEntries) => Ok(()),
            Call::Append(_) | Call::Snapshot { .. } | Call::Transfer { .. } | Call::Wake => {
                group.wake();
                Ok(())
            }
            Call::PreVote(candidacy) | Call::Vote(candidacy) => {
                let lives = || self.around().leads(pact.leader.node(), group.id()) == Some(pact.term);
                if !candidacy.transfer && from != pact.leader && (leads || lives()) {
                    self.call_leader(group, pact);
                    return Err(Refusal::Asleep);
                }
                if matches!(call, Call::Vote(_)) {
                    group.wake();
                }
                Ok(())
            }
            Call::Sleep(_) => Ok(()),
        }
    }

    /// Wakes the leader, which this replica may be.
    fn call_leader(&self, group: &Group, pact: Pact) {
        if pact.leader == group.replica() {
            group.wake();
        } else {
            tokio::spawn(self.tell(group, pact.leader, Call::Wake));
        }
    }
}

impl Group {
    /// Switches the ticks on.
    pub(crate) fn wake(&self) {
        if self.rest().wake(self.raft()) {
            tracing::debug!(group = %self.id(), "awake");
        }
    }
}
