//! Policies as operators read and write them.

use std::sync::Arc;

use model::controller::TopologyError;
use model::controller::topology::{AppliesTo, Arguments, Policy, Queue, TopologyChange};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::TopologyFailure;
use super::report::{Values, default_vhost, read, shown};
use crate::broker::Broker;
use crate::broker::queues::{Policies, Rules, compile};

/// A policy that is to be.
#[derive(Clone, Debug, Deserialize, Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct PolicyDeclaration {
    /// Its virtual host; `/` if none is named.
    #[serde(default = "default_vhost")]
    pub vhost: String,
    /// Its name.
    pub name: String,
    /// The regular expression that a queue's name has to match somewhere.
    pub pattern: String,
    /// `all`, `queues`, `classic_queues`, `quorum_queues` or `streams`, by their declared type; `all` if nothing is said.
    #[serde(rename = "apply-to", default = "all")]
    pub apply_to: String,
    /// A queue has one policy: the one of highest priority, of these the first by name.
    #[serde(default)]
    pub priority: i32,
    /// `message-ttl` and its like: arguments of queues without their `x-`.
    pub definition: Values,
}

/// A policy, and how many queues have it.
#[derive(Clone, Debug, Deserialize, Serialize, ToSchema)]
pub struct PolicyReport {
    /// What it is.
    #[serde(flatten)]
    pub policy: PolicyDeclaration,
    /// How many queues have it.
    pub queues: usize,
}

fn all() -> String {
    AppliesTo::All.name().to_owned()
}

/// What a policy sets, by name.
pub(super) fn definition(policy: &Policy) -> Values {
    shown(policy.definition.definition().iter())
}

impl PolicyDeclaration {
    /// What is declared.
    ///
    /// # Errors
    /// The pattern is no regular expression, or the definition sets what no policy can.
    pub fn policy(&self) -> Result<Policy, TopologyError> {
        let Self { pattern, apply_to, priority, definition, .. } = self;
        let no_pattern = |why| TopologyError::Precondition(format!("'{pattern}' is no regular expression: {why}"));
        compile(pattern).map_err(no_pattern)?;
        let definition = Arguments::of_policy(&read(definition.clone()))?;
        Ok(Policy {
            pattern: pattern.clone(),
            applies_to: AppliesTo::named(apply_to)?,
            priority: *priority,
            definition,
        })
    }
}

impl Broker {
    /// All policies, by virtual host and name.
    pub fn policy_reports(&self) -> Vec<PolicyReport> {
        let image = self.image();
        let policies = Policies::of(&image);
        let mut reports = Vec::new();
        for (vhost, known) in image.topology.vhosts.iter().filter(|(_, known)| !known.policies.is_empty()) {
            let used: Vec<_> = known.queues.values().filter_map(|queue| policies.rules(queue).policy).collect();
            for (name, policy) in &known.policies {
                let declaration = PolicyDeclaration {
                    vhost: vhost.to_string(),
                    name: name.to_string(),
                    pattern: policy.pattern.clone(),
                    apply_to: policy.applies_to.name().to_owned(),
                    priority: policy.priority,
                    definition: definition(policy),
                };
                let queues = used.iter().filter(|(used, _)| used == name).count();
                reports.push(PolicyReport { policy: declaration, queues });
            }
        }
        reports
    }

    /// Makes a policy, or changes it: queues go by it within moments, messages that are there keep their time to live.
    ///
    /// # Errors
    /// Refused, or the controller cannot be reached.
    pub async fn set_policy(&self, wanted: PolicyDeclaration) -> Result<(), TopologyFailure> {
        let policy = wanted.policy()?;
        let PolicyDeclaration { vhost, name, .. } = wanted;
        self.change_topology(&vhost, TopologyChange::SetPolicy { name, policy }).await
    }

    /// Deletes a policy.
    ///
    /// # Errors
    /// Refused, or the controller cannot be reached.
    pub async fn drop_policy(&self, vhost: &str, name: &str) -> Result<(), TopologyFailure> {
        self.change_topology(vhost, TopologyChange::DropPolicy { name: name.to_owned() }).await
    }

    /// What a queue goes by.
    pub fn rules(&self, queue: &Queue) -> Rules {
        Policies::of(&self.image()).rules(queue)
    }

    /// Whether any of these queues may ask for the key of a message.
    pub fn may_heed_keys(&self, queues: &[Arc<Queue>]) -> bool {
        let image = self.0.image.borrow();
        let by_policy = |queue: &Queue| {
            let mut policies = image.topology.vhost(&queue.vhost).into_iter().flat_map(|vhost| vhost.policies.values());
            policies.any(|policy| policy.definition.dedup_ms.is_some())
        };
        queues.iter().any(|queue| queue.spec.arguments.dedup_ms.is_some() || by_policy(queue))
    }
}
