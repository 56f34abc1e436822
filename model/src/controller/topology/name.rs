//! Names: which are legal, and which topic a queue lives in.

use super::{DEFAULT_VHOST, EntityKind, RESERVED, TopologyError};
use crate::controller::internal::is_internal;
use crate::controller::topics::check_topic_name;
use crate::exchange::spread_hash;
use crate::limits;

/// Of a queue's name, characters that its topic's name shows if it cannot be the same.
const SHOWN: usize = 128;

pub(super) fn check_name(name: &str) -> Result<(), TopologyError> {
    if name.len() > limits::NAME_BYTES_MAX {
        let why = format!("a name of {} bytes is longer than {}", name.len(), limits::NAME_BYTES_MAX);
        return Err(TopologyError::Precondition(why));
    }
    Ok(())
}

pub(super) fn check_reserved(kind: EntityKind, name: &str, vhost: &str) -> Result<(), TopologyError> {
    if name.starts_with(RESERVED) {
        let why = format!("{kind} name '{name}' in vhost '{vhost}' contains reserved prefix 'amq.*'");
        return Err(TopologyError::AccessRefused(why));
    }
    Ok(())
}

/// Whether a queue's name can be its topic's.
pub(super) fn is_topic_name(vhost: &str, queue: &str) -> bool {
    vhost == DEFAULT_VHOST && check_topic_name(queue).is_ok() && !is_internal(queue)
}

/// The name of the topic of a queue that cannot lend it its own: `queue-`, the legal characters of the queue's name with `-` for
/// the others, and 16 hex digits of virtual host and name. It has neither `.` nor `_`, so that it collides with no other.
pub(super) fn derived_topic_name(vhost: &str, queue: &str) -> String {
    let legal = |c: char| if c.is_ascii_alphanumeric() { c } else { '-' };
    let shown: String = queue.chars().take(SHOWN).map(legal).collect();
    format!("queue-{shown}-{:016x}", spread_hash([vhost.as_bytes(), &[0], queue.as_bytes()]))
}
