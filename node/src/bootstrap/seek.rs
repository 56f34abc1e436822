//! The calling side: looks for a cluster through the seeds until this node belongs to one.
//! The lowest of the expected founders decides, once all of them see exactly each other with empty folders; everybody
//! else waits to be told. Restarts anywhere are harmless: a decision is on disk before it is told.
use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use futures::future::join_all;
use model::NodeId;
use tokio::time::{sleep, timeout};

use super::{Bootstrap, Roster};
use crate::broker::Standing;
use crate::peer::directory::Member;
use crate::peer::messages::{Founding, Joining, Seen, Visit, Visited};

/// Between two rounds of probes.
const ROUND: Duration = Duration::from_millis(150);
/// After a refusal. Most are for the operator to change; but a node whose folder is lost is taken in as soon as its old self counts as dead.
const REFUSED_ROUND: Duration = Duration::from_secs(1);
/// Addresses of members are looked up again so often while there is no controller.
const REFRESH: Duration = Duration::from_secs(1);

impl Bootstrap {
    /// Ends when this node belongs to a cluster, with the memory of how.
    ///
    /// # Errors
    /// The store failed, or the configuration contradicts the folder; in words.
    pub async fn settle(self: &Arc<Self>) -> Result<Roster, String> {
        loop {
            let decided = self.decided.notified();
            if let Some(roster) = self.state().roster.clone() {
                self.standing.send_replace(Standing::Seeking("waiting for the controller".to_owned()));
                return Ok(roster);
            }
            let round = match self.round().await {
                // Somebody else told this node meanwhile.
                Err(_) if self.state().roster.is_some() => continue,
                round => round?,
            };
            let pause = match round {
                Standing::Refused(words) => {
                    if *self.standing.borrow() != Standing::Refused(words.clone()) {
                        tracing::error!(reason = words, "this node may not take part");
                    }
                    self.standing.send_replace(Standing::Refused(words));
                    REFUSED_ROUND
                }
                other => {
                    self.standing.send_replace(other);
                    ROUND
                }
            };
            let _woken_or_not = timeout(pause, decided).await;
        }
    }

    /// One look around.
    async fn round(&self) -> Result<Standing, String> {
        let others = self.others();
        if others.is_empty() && self.config.bootstrap_expect == 1 {
            return self.found(vec![self.me()]).map(|()| Standing::Member);
        }
        let (answers, refusal) = self.probe(&others).await;
        Ok(match (self.weigh(answers).await?, refusal) {
            (Standing::Seeking(words), Some(refusal)) => Standing::Seeking(format!("{words}; {refusal}")),
            (standing, _) => standing,
        })
    }

    /// What the answers of the seeds come to.
    async fn weigh(&self, answers: Vec<(String, Seen)>) -> Result<Standing, String> {
        if let Some((address, seen)) = answers.iter().find(|(_, seen)| seen.cluster.is_some()) {
            return match seen.founding.as_ref().filter(|founding| self.is_founder(founding)) {
                // Decided already: the one who decides has not come round to this node yet.
                Some(founding) => self.take_part(founding).map(|()| Standing::Member),
                None => self.join(address, seen).await,
            };
        }
        let sees: BTreeMap<NodeId, Seen> = answers.into_iter().map(|(_, seen)| (seen.me.node, seen)).collect();
        self.state().sees = sees.clone();
        let expect = self.config.bootstrap_expect;
        if expect <= 1 {
            return Ok(Standing::Seeking("looking for a cluster to join: no seed belongs to one yet".to_owned()));
        }
        self.gather(&sees, expect)
    }

    fn is_founder(&self, founding: &Founding) -> bool {
        let me = self.me();
        founding.founders.iter().any(|founder| founder.node == me.node && founder.store == me.store)
    }

    /// The seeds without this node itself.
    fn others(&self) -> Vec<String> {
        let me = self.me().address;
        let bound = format!("{}:{}", self.config.listeners.peer.bind.ip(), self.ports.peer);
        self.config.seeds.iter().filter(|seed| **seed != me && **seed != bound).cloned().collect()
    }

    /// Who answers, and the words of one that refuses to.
    async fn probe(&self, addresses: &[String]) -> (Vec<(String, Seen)>, Option<String>) {
        let asked = addresses.iter().map(|address| async move {
            match self.peers.visit(address, &Visit::Probe).await {
                Ok((hello, Visited::Seen(mut seen), mine)) if hello.node != self.directory().node() => {
                    self.state().my_ip = Some(mine);
                    self.tell_address();
                    // It knows best who it is, its seed address how to reach it.
                    seen.me = Member { node: hello.node, store: hello.store, address: address.clone() };
                    Ok(Some((address.clone(), seen)))
                }
                Ok(_itself) => Ok(None),
                Err(error) if error.kind() == io::ErrorKind::PermissionDenied => Err(format!("{address}: {error}")),
                Err(error) => {
                    tracing::debug!(address, %error, "a seed does not answer");
                    Ok(None)
                }
            }
        });
        let (answers, refusals): (Vec<_>, Vec<_>) = join_all(asked).await.into_iter().partition(Result::is_ok);
        (answers.into_iter().flatten().flatten().collect(), refusals.into_iter().find_map(Result::err))
    }

    /// Founds the cluster if this node is the lowest of the founders and all of them see the same.
    fn gather(&self, sees: &BTreeMap<NodeId, Seen>, expect: u32) -> Result<Standing, String> {
        let me = self.me();
        let mut founders: Vec<NodeId> = sees.keys().copied().chain([me.node]).collect();
        founders.sort_unstable();
        if founders.len() != expect as usize {
            return Ok(Standing::Seeking(format!("{} of {expect} founders are here: {founders:?}", founders.len())));
        }
        let agreed = sees.values().all(|seen| seen.expect == expect && seen.sees == founders);
        if !agreed || founders.first() != Some(&me.node) {
            return Ok(Standing::Seeking(format!("{expect} founders are here and agree")));
        }
        let members = sees.values().map(|seen| seen.me.clone()).chain([me]).collect();
        self.found(members).map(|()| Standing::Member)
    }

    fn found(&self, mut founders: Vec<Member>) -> Result<(), String> {
        founders.sort_unstable_by_key(|founder| founder.node);
        let cluster = self.config.cluster_id.clone().unwrap_or_else(|| crate::broker::random_topic_id().to_string());
        tracing::info!(cluster, founders = founders.len(), "founding a cluster");
        self.decide(Roster::founded(&self.me(), &Founding { cluster, founders }))
    }

    /// Tells the other founders until each has it on disk. Only the lowest founder does: it decided.
    pub async fn tell_founders(self: Arc<Self>, roster: Roster) {
        let me = self.directory().node();
        if roster.founders.iter().map(|founder| founder.node).min() != Some(me) {
            return;
        }
        let founding = Founding { cluster: roster.cluster, founders: roster.founders };
        let mut untold: Vec<Member> = founding.founders.iter().filter(|other| other.node != me).cloned().collect();
        while !untold.is_empty() {
            let mut left = Vec::new();
            for founder in untold {
                match self.peers.visit(&founder.address, &Visit::Found(founding.clone())).await {
                    Ok((_, Visited::Founded, _)) => {}
                    Ok(_) => left.push(founder),
                    Err(error) => {
                        tracing::info!(node = founder.node.0, %error, "a founder is not told yet");
                        left.push(founder);
                    }
                }
            }
            untold = left;
            sleep(ROUND).await;
        }
    }

    async fn join(&self, address: &str, seen: &Seen) -> Result<Standing, String> {
        let cluster = seen.cluster.clone().unwrap_or_default();
        if let Some(configured) = self.config.cluster_id.as_ref().filter(|configured| **configured != cluster) {
            let words = format!("configured for cluster {configured}, but {address} belongs to cluster {cluster}");
            return Ok(Standing::Refused(words));
        }
        let registration = storage::codec::encode(&self.registration()).to_vec();
        let joining = Joining { me: self.me(), registration };
        match self.peers.visit(address, &Visit::Join(joining)).await {
            Ok((_, Visited::Joined(joined), _)) => {
                tracing::info!(cluster = joined.cluster, "joined a cluster");
                self.decide(Roster::joined(joined)).map(|()| Standing::Member)
            }
            Ok((_, Visited::Never(words), _)) => Ok(Standing::Refused(format!(
                "cluster {cluster} does not take this node in: {words}. Bring its data folder back, or give it a new node id"
            ))),
            Ok(_) => Ok(Standing::Seeking(format!("{address} gave no answer to a join"))),
            Err(error) => Ok(Standing::Seeking(format!("joining through {address}: {error}"))),
        }
    }

    /// While the controller has no leader here, asks the seeds where the members are now: addresses may have changed.
    pub async fn refresh_addresses(self: Arc<Self>) {
        loop {
            sleep(REFRESH).await;
            let settled = self.broker.get().is_some_and(|broker| broker.controller().is_some());
            if settled {
                continue;
            }
            let ours = self.directory().cluster();
            for (_, seen) in self.probe(&self.others()).await.0 {
                if seen.cluster == ours {
                    self.directory().hear(seen.me.node, seen.me.store, seen.me.address);
                }
            }
        }
    }
}
