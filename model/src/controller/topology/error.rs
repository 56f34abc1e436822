//! Why a change of the topology is refused, in RabbitMQ's words: clients' tests read them.

use serde::{Deserialize, Serialize};

/// What a name is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum EntityKind {
    /// A virtual host.
    Vhost,
    /// An exchange.
    Exchange,
    /// A queue.
    Queue,
    /// A policy.
    Policy,
}

impl std::fmt::Display for EntityKind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            EntityKind::Vhost => "vhost",
            EntityKind::Exchange => "exchange",
            EntityKind::Queue => "queue",
            EntityKind::Policy => "policy",
        })
    }
}

/// A refusal; the AMQP code that goes with it stands behind each.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
pub enum TopologyError {
    /// There is no such thing (404; 530 for a virtual host).
    #[error("{}", not_found(*kind, name, vhost))]
    NotFound {
        /// What it would be.
        kind: EntityKind,
        /// Its name.
        name: String,
        /// Where it would be.
        vhost: String,
    },
    /// It was declared otherwise (406).
    #[error("inequivalent arg {what}: received {wants} but current is {has}")]
    NotEqual {
        /// `'durable' for queue 'q' in vhost '/'`.
        what: String,
        /// What it is.
        has: String,
        /// What was asked for.
        wants: String,
    },
    /// It is used (406).
    #[error("{kind} '{name}' in vhost '{vhost}' in use")]
    InUse {
        /// What it is.
        kind: EntityKind,
        /// Its name.
        name: String,
        /// Where it is.
        vhost: String,
    },
    /// It is another connection's (405).
    #[error("cannot obtain exclusive access to locked queue '{name}' in vhost '{vhost}'")]
    Locked {
        /// The queue.
        name: String,
        /// Where it is.
        vhost: String,
    },
    /// Nobody may do this (403).
    #[error("{0}")]
    AccessRefused(String),
    /// An argument makes no sense, or what is there does not fit (406).
    #[error("{0}")]
    Precondition(String),
    /// Flotilla cannot do this (540).
    #[error("{0}")]
    NotImplemented(String),
    /// A limit of the cluster is reached, or too few of its nodes are there (506).
    #[error("{0}")]
    Limit(String),
}

fn not_found(kind: EntityKind, name: &str, vhost: &str) -> String {
    match kind {
        EntityKind::Vhost => format!("vhost '{name}' not found"),
        EntityKind::Exchange | EntityKind::Queue | EntityKind::Policy => {
            format!("no {kind} '{name}' in vhost '{vhost}'")
        }
    }
}

impl TopologyError {
    pub(super) fn none(kind: EntityKind, name: &str, vhost: &str) -> Self {
        TopologyError::NotFound { kind, name: name.to_owned(), vhost: vhost.to_owned() }
    }

    pub(super) fn not_equal(
        (kind, name, vhost): (EntityKind, &str, &str),
        arg: &str,
        has: String,
        wants: String,
    ) -> Self {
        TopologyError::NotEqual { what: format!("'{arg}' for {kind} '{name}' in vhost '{vhost}'"), has, wants }
    }
}

/// As RabbitMQ prints a value in a refusal.
pub(super) fn quoted(value: Option<impl std::fmt::Display>) -> String {
    value.map_or_else(|| "none".to_owned(), |value| format!("the value '{value}'"))
}
