//! Virtual hosts: each has queues, exchanges and bindings of its own. Invariant: the default one is always there.

use std::sync::Arc;

use super::name::check_name;
use super::{DEFAULT_VHOST, EntityKind, TopologyError, Vhost};
use crate::controller::Image;
use crate::limits;

impl Image {
    pub(super) fn add_vhost(&mut self, name: &str) -> Result<bool, TopologyError> {
        if self.topology.vhost(name).is_some() {
            return Ok(false);
        }
        check_name(name)?;
        if name.is_empty() {
            return Err(TopologyError::Precondition("a virtual host needs a name".to_owned()));
        }
        if self.topology.vhosts.len() >= limits::VHOSTS_MAX {
            return Err(TopologyError::Limit(format!("there are {} virtual hosts already", limits::VHOSTS_MAX)));
        }
        Arc::make_mut(&mut self.topology).vhosts.insert(Arc::from(name), Arc::new(Vhost::founded()));
        Ok(true)
    }

    /// With its queues, and their topics if they were made for them.
    pub(super) fn drop_vhost(&mut self, name: &str) -> Result<bool, TopologyError> {
        if name == DEFAULT_VHOST {
            return Err(TopologyError::AccessRefused(format!("virtual host '{name}' cannot be deleted")));
        }
        let none = || TopologyError::none(EntityKind::Vhost, name, name);
        let queues = self.topology.vhost(name).ok_or_else(none)?.queues.clone();
        for queue in queues.values() {
            self.delete_queue(name, &queue.name, Some(queue.topic))?;
        }
        Arc::make_mut(&mut self.topology).vhosts.remove(name);
        Ok(true)
    }
}
