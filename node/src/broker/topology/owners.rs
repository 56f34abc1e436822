//! Exclusive queues end with their connections, also where nobody was left to say so: those of an earlier start of a node go when it
//! is back, those of a dead node when the controller's leader has given it up.
use std::collections::BTreeSet;
use std::time::Duration;

use model::NodeId;
use model::controller::Image;
use model::controller::topology::{Owner, TopologyChange};
use tokio::time::sleep;

use crate::broker::Broker;

/// How often a node looks.
const LOOK: Duration = Duration::from_secs(1);

impl Broker {
    /// Deletes exclusive queues whose connections cannot be there any more, for ever.
    pub async fn keep_owners(&self) {
        let mut looked = None;
        loop {
            sleep(LOOK).await;
            let image = self.image();
            let leads = self.controller() == Some(self.node_id());
            // What a node did is judged once for each image; who is dead changes without one.
            if looked == Some(image.version) && !leads {
                continue;
            }
            looked = Some(image.version);
            for (vhost, node, but) in self.bereft(&image, leads) {
                let dropped = self.change_topology(&vhost, TopologyChange::DropOwned { node, but }).await;
                match dropped {
                    Ok(()) => tracing::info!(node = node.0, vhost, "exclusive queues of ended connections are deleted"),
                    Err(error) => {
                        tracing::info!(node = node.0, vhost, %error, "exclusive queues of ended connections stay for now");
                        looked = None;
                    }
                }
            }
        }
    }

    /// The nodes whose exclusive queues are to go, with the start whose queues stay.
    fn bereft(&self, image: &Image, leads_controller: bool) -> BTreeSet<(String, NodeId, Option<u64>)> {
        let here = self.owner(0);
        let gone = |owner: Owner| match owner.node == here.node {
            true => (owner.boot != here.boot).then_some(Some(here.boot)),
            false => (leads_controller && self.0.router.is_given_up(owner.node)).then_some(None),
        };
        let of_vhost = |(name, vhost): (&std::sync::Arc<str>, &std::sync::Arc<model::controller::topology::Vhost>)| {
            let owners = vhost.queues.values().filter_map(|queue| queue.spec.exclusive);
            owners.filter_map(|owner| Some((name.to_string(), owner.node, gone(owner)?))).collect::<Vec<_>>()
        };
        image.topology.vhosts.iter().flat_map(of_vhost).collect()
    }
}
