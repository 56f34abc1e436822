//! The called side of founding and joining: answers probes, takes part in a founding once, takes joiners in.
use model::controller::{self, Code, Command, Outcome, Placing, Registration, Terms};

use super::{Bootstrap, Roster};
use crate::broker::Broker;
use crate::peer::hello::Hello;
use crate::peer::messages::{Founding, Joined, Joining, Seen, Visit, Visited};

const REGISTRATION_BYTES_MAX: usize = 64 << 10;

impl Bootstrap {
    /// Answers a visitor.
    ///
    /// # Errors
    /// Not now, or not here, in words.
    pub async fn visit(&self, from: Hello, visit: Visit) -> Result<Visited, String> {
        match visit {
            Visit::Probe => Ok(Visited::Seen(self.seen())),
            Visit::Found(founding) => self.take_part(&founding).map(|()| Visited::Founded),
            Visit::Join(joining) if joining.me.node == from.node && joining.me.store == from.store => {
                self.take_in(joining).await
            }
            Visit::Join(_) => Err("a node can join for itself only".to_owned()),
        }
    }

    fn seen(&self) -> Seen {
        let me = self.me();
        let cluster = self.directory().cluster();
        let state = self.state();
        let mut sees: Vec<_> = state.sees.keys().copied().chain([me.node]).collect();
        sees.sort_unstable();
        let founded = state.roster.as_ref().filter(|roster| !roster.founders.is_empty());
        let founding =
            founded.map(|roster| Founding { cluster: roster.cluster.clone(), founders: roster.founders.clone() });
        Seen { me, cluster, expect: self.config.bootstrap_expect, sees, founding }
    }

    /// Takes part in a founding by somebody else. The answer is given once it is on disk.
    pub(super) fn take_part(&self, founding: &Founding) -> Result<(), String> {
        let me = self.me();
        if self.config.cluster_id.as_ref().is_some_and(|configured| *configured != founding.cluster) {
            return Err(format!("node {} is configured for another cluster", me.node));
        }
        let named = founding.founders.iter().any(|founder| founder.node == me.node && founder.store == me.store);
        if !named || founding.founders.len() != self.config.bootstrap_expect as usize {
            return Err(format!("node {} is not one of these founders", me.node));
        }
        tracing::info!(cluster = founding.cluster, founders = founding.founders.len(), "taking part in a founding");
        self.decide(Roster::founded(&me, founding))
    }

    /// Registers a joiner in the controller. What is refused there is refused for good.
    async fn take_in(&self, joining: Joining) -> Result<Visited, String> {
        let not_yet = || "this node belongs to no cluster yet".to_owned();
        let cluster = self.directory().cluster().ok_or_else(not_yet)?;
        let broker = self.broker.get().ok_or_else(not_yet)?;
        let registration: Registration =
            storage::codec::decode(&joining.registration, REGISTRATION_BYTES_MAX).map_err(|error| error.to_string())?;
        if registration.id != joining.me.node || registration.store != joining.me.store {
            return Err("a node can register itself only".to_owned());
        }
        let node = registration.id;
        let what = Placing::ReplaceStore(registration.clone());
        let mut refusal = register(broker, Command::RegisterNode(registration)).await?;
        // A folder that asks to join has never been part of anything: what the node had is lost.
        if refusal.as_ref().is_some_and(|refusal| refusal.code == Code::DuplicateRegistration) {
            refusal = register(broker, Command::Place { terms: Terms::default(), what }).await?;
        }
        if let Some(refusal) = refusal {
            return Ok(Visited::Never(refusal.to_string()));
        }
        let registered = broker.image().nodes.get(&node).map(|node| node.controller());
        let replica = registered.ok_or("the registration is not here yet")?;
        tracing::info!(node = node.0, %replica, "a node joins");
        self.directory().learn([joining.me]);
        let members = self.directory().members();
        Ok(Visited::Joined(Joined { cluster, replica, members }))
    }
}

/// What the controller refuses it for, if it does.
async fn register(broker: &Broker, command: Command) -> Result<Option<controller::Error>, String> {
    match broker.control(command).await.map_err(|error| error.to_string())?.outcome {
        Outcome::Node(registered) => Ok(registered.err()),
        other => Err(format!("unexpected outcome {other:?}")),
    }
}
