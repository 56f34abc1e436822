//! What queues go by: their own arguments, and those of the policy that their name matches.
//! Bounded: an expression is compiled within `PATTERN_BYTES_MAX`, and matching is linear.
use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::sync::Arc;

use model::controller::Image;
use model::controller::topology::{Arguments, Policy, Queue, Vhost};
use regex::{Regex, RegexBuilder};

/// What a compiled expression may use of memory.
const PATTERN_BYTES_MAX: usize = 1 << 20;

/// What a queue goes by.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rules {
    /// The name of its policy and what that sets, if it has one.
    pub policy: Option<(Arc<str>, Arc<Policy>)>,
    /// Both together.
    pub arguments: Arguments,
}

/// The policies of an image, in the order in which they are asked.
pub struct Policies<'a> {
    by_vhost: BTreeMap<&'a str, Vec<Compiled<'a>>>,
}

/// A policy with its name.
struct Compiled<'a> {
    pattern: Regex,
    name: &'a Arc<str>,
    policy: &'a Arc<Policy>,
}

/// The expression, which a name has to match somewhere.
///
/// # Errors
/// It is none, or too large; in words.
pub fn compile(pattern: &str) -> Result<Regex, String> {
    RegexBuilder::new(pattern).size_limit(PATTERN_BYTES_MAX).build().map_err(|error| error.to_string())
}

impl<'a> Policies<'a> {
    /// Those of this image.
    pub fn of(image: &'a Image) -> Self {
        let with_policies = image.topology.vhosts.iter().filter(|(_, vhost)| !vhost.policies.is_empty());
        Self { by_vhost: with_policies.map(|(name, vhost)| (&**name, compiled(vhost))).collect() }
    }

    /// What a queue goes by.
    pub fn rules(&self, queue: &Queue) -> Rules {
        let policies = self.by_vhost.get(queue.vhost.as_str()).into_iter().flatten();
        let mut fitting = policies.filter(|one| one.policy.takes(&queue.spec) && one.pattern.is_match(&queue.name));
        let own = &queue.spec.arguments;
        match fitting.next() {
            Some(Compiled { name, policy, .. }) => {
                let arguments = own.with(&policy.definition);
                Rules { arguments, policy: Some(((*name).clone(), (*policy).clone())) }
            }
            None => Rules { policy: None, arguments: own.clone() },
        }
    }
}

/// An expression that another version of Flotilla took, and this one does not, matches nothing.
fn compiled(vhost: &Vhost) -> Vec<Compiled<'_>> {
    let policies = vhost.policies.iter();
    let compiled =
        policies.filter_map(|(name, policy)| Some(Compiled { pattern: compile(&policy.pattern).ok()?, name, policy }));
    let mut policies: Vec<_> = compiled.collect();
    policies.sort_by_key(|one| Reverse(one.policy.priority));
    policies
}
