//! The roster: to which cluster this folder belongs, and how its controller replica begins. One durable row.
use model::ReplicaId;
use serde::{Deserialize, Serialize};

use super::Bootstrap;
use crate::actors::ControllerStart;
use crate::peer::directory::Member;
use crate::peer::messages::{Founding, Joined};

/// What a folder remembers of its cluster.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Roster {
    /// The cluster's id.
    pub cluster: String,
    /// This node's replica of the controller.
    pub replica: ReplicaId,
    /// The founders, if this node is one of them.
    pub founders: Vec<Member>,
    /// Whom it knew then: where to look for the others before the image is there.
    pub members: Vec<Member>,
}

impl Roster {
    pub(super) fn founded(me: &Member, founding: &Founding) -> Self {
        Self {
            cluster: founding.cluster.clone(),
            replica: ReplicaId::new(me.node, 1),
            founders: founding.founders.clone(),
            members: founding.founders.clone(),
        }
    }

    pub(super) fn joined(joined: Joined) -> Self {
        let Joined { cluster, replica, members } = joined;
        Self { cluster, replica, founders: Vec::new(), members }
    }

    /// How the controller's raft begins on this node.
    pub fn start(&self) -> ControllerStart {
        let mut founders: Vec<ReplicaId> =
            self.founders.iter().map(|founder| ReplicaId::new(founder.node, 1)).collect();
        founders.sort_unstable();
        ControllerStart { replica: self.replica, founders: (!founders.is_empty()).then_some(founders) }
    }
}

impl Bootstrap {
    /// Remembers for good that this folder must not be used any more.
    pub fn condemn(&self, words: &str) -> Result<(), storage::Error> {
        storage::identity::condemn(self.engine.as_ref(), words)
    }

    /// Remembers `roster` for good, if the folder remembers none.
    pub(super) fn decide(&self, roster: Roster) -> Result<(), String> {
        let mut state = self.state();
        match &state.roster {
            Some(known) if known.cluster == roster.cluster && known.founders == roster.founders => return Ok(()),
            Some(known) => {
                return Err(format!("node {} belongs to cluster {} already", self.directory().node(), known.cluster));
            }
            None => {}
        }
        let owner = storage::Owner { node: self.directory().node(), cluster: Some(roster.cluster.clone()) };
        storage::roster::write(self.engine.as_ref(), &roster)
            .and_then(|()| storage::identity::claim(self.engine.as_ref(), &owner, self.directory().store()))
            .map_err(|error| error.to_string())?;
        self.directory().set_cluster(roster.cluster.clone());
        self.directory().learn(roster.members.iter().cloned());
        state.roster = Some(roster);
        drop(state);
        self.decided.notify_waiters();
        Ok(())
    }
}
