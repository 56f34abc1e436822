//! Where a message ends that is published to an exchange: through exchanges to queues.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::{Queue, Vhost};
use crate::exchange::{Destination, Routed};

/// Where a message goes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Route {
    /// Each once, by name.
    pub queues: Vec<Arc<Queue>>,
    /// It came through an exchange that lets messages say how long they wait.
    pub delayed: bool,
}

/// There is no exchange of that name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("no such exchange")]
pub struct NoExchange;

impl Vhost {
    /// The queues that get a message published to `exchange`; the empty name is the default exchange, which knows every queue
    /// by its name. What an exchange has no place for goes to its alternate one. Each exchange is asked once, so that cycles end.
    ///
    /// # Errors
    /// There is no such exchange.
    pub fn route(&self, exchange: &str, message: &Routed<'_>) -> Result<Route, NoExchange> {
        if exchange.is_empty() {
            let queues = self.queue(message.key).cloned().into_iter().collect();
            return Ok(Route { queues, delayed: false });
        }
        let first = self.exchanges.get_key_value(exchange).ok_or(NoExchange)?;
        let mut asked = BTreeSet::from([&**first.0]);
        let mut waiting = vec![first.1];
        let mut queues: BTreeMap<&str, &Arc<Queue>> = BTreeMap::new();
        let mut delayed = false;
        while let Some(exchange) = waiting.pop() {
            let mut next = Vec::new();
            let mut fits = false;
            exchange.bindings.each(message, |destination| {
                fits = true;
                match destination {
                    Destination::Queue(name) => queues.extend(self.queue(name).map(|queue| (name.as_str(), queue))),
                    Destination::Exchange(name) => next.push(name.as_str()),
                }
            });
            delayed |= exchange.spec.delayed;
            next.extend(exchange.spec.alternate.as_deref().filter(|_| !fits));
            for name in next {
                let Some((name, exchange)) = self.exchanges.get_key_value(name) else { continue };
                if asked.insert(name) {
                    waiting.push(exchange);
                }
            }
        }
        Ok(Route { queues: queues.into_values().cloned().collect(), delayed })
    }
}
