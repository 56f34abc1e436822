//! Exchanges and bindings: declared, bound, deleted. Invariant: a binding whose source or destination goes, goes with it, and an
//! exchange that deletes itself goes with its last binding.

use std::sync::Arc;

use super::error::quoted;
use super::name::{check_name, check_reserved};
use super::{EntityKind, ExchangeSpec, RESERVED, TopologyError, Vhost, size_of};
use crate::controller::Image;
use crate::exchange::{ArgValue, Args, Binding, Destination, ExchangeKind, HashOn, headers_are_legal, weight_of};
use crate::limits;

const DELAYED: &str = "x-delayed-message";
const DELAYED_TYPE: &str = "x-delayed-type";

fn refused(why: String) -> TopologyError {
    TopologyError::Precondition(why)
}

impl ExchangeSpec {
    /// Reads type and arguments of `exchange.declare`. The type `x-delayed-message` names the true one in `x-delayed-type`.
    ///
    /// # Errors
    /// A type that is not known, or an argument of another kind.
    pub fn parse(kind: &str, args: &Args) -> Result<Self, TopologyError> {
        let text = |name: &str| match args.get(name) {
            None => Ok(None),
            Some(value) => {
                let why = || refused(format!("invalid arg '{name}': a text is expected"));
                value.as_text().map(|text| Some(text.to_owned())).ok_or_else(why)
            }
        };
        let (delayed, kind) = match kind {
            DELAYED => (true, text(DELAYED_TYPE)?.unwrap_or_default()),
            kind => (false, kind.to_owned()),
        };
        let unknown = || refused(format!("unknown exchange type '{kind}'"));
        let kind = ExchangeKind::named(&kind).ok_or_else(unknown)?;
        let hash_on = match (text("hash-header")?, text("hash-property")?) {
            (None, None) => HashOn::Key,
            (Some(header), None) => HashOn::Header(header),
            (None, Some(property)) if ["message_id", "correlation_id", "timestamp"].contains(&property.as_str()) => {
                HashOn::Property(property)
            }
            (None, Some(property)) => return Err(refused(format!("unsupported property '{property}' to hash"))),
            (Some(_), Some(_)) => {
                return Err(refused("hash-header and hash-property are mutually exclusive".to_owned()));
            }
        };
        Ok(ExchangeSpec { kind, delayed, hash_on, alternate: text("alternate-exchange")?, ..ExchangeSpec::default() })
    }

    /// The type's name, as clients declare it.
    pub fn type_name(&self) -> &'static str {
        if self.delayed { DELAYED } else { self.kind.name() }
    }

    /// The arguments, as clients give them.
    pub fn named(&self) -> Args {
        let hash = match &self.hash_on {
            HashOn::Key => None,
            HashOn::Header(name) => Some(("hash-header", name.as_str())),
            HashOn::Property(name) => Some(("hash-property", name.as_str())),
        };
        let delayed = self.delayed.then_some((DELAYED_TYPE, self.kind.name()));
        let alternate = self.alternate.as_deref().map(|name| ("alternate-exchange", name));
        let given = [hash, delayed, alternate].into_iter().flatten();
        given.map(|(name, value)| (name.to_owned(), ArgValue::text(value))).collect()
    }

    fn check_same(&self, wanted: &ExchangeSpec, name: &str, vhost: &str) -> Result<(), TopologyError> {
        let entity = (EntityKind::Exchange, name, vhost);
        let differ = |arg: &str, has: String, wants: String| Err(TopologyError::not_equal(entity, arg, has, wants));
        if self.type_name() != wanted.type_name() {
            return differ("type", quoted(Some(self.type_name())), quoted(Some(wanted.type_name())));
        }
        let flags = |spec: &ExchangeSpec| {
            [("durable", spec.durable), ("auto_delete", spec.auto_delete), ("internal", spec.internal)]
        };
        for ((arg, has), (_, wants)) in flags(self).into_iter().zip(flags(wanted)) {
            if has != wants {
                return differ(arg, format!("'{has}'"), format!("'{wants}'"));
            }
        }
        let (has, wants) = (self.named(), wanted.named());
        match has.keys().chain(wants.keys()).find(|arg| has.get(*arg) != wants.get(*arg)) {
            Some(arg) => differ(arg, quoted(has.get(arg)), quoted(wants.get(arg))),
            None => Ok(()),
        }
    }
}

impl Vhost {
    /// Adds a binding; tells whether it was new. Without its source there is nothing to add it to.
    pub(super) fn bind(&mut self, binding: &Binding) -> bool {
        let Some(exchange) = self.exchanges.get_mut(binding.source.as_str()) else { return false };
        let new = Arc::make_mut(exchange).bindings.insert(binding);
        self.bindings += usize::from(new);
        new
    }

    /// Removes a binding, and its exchange if that was the last one that kept it.
    fn unbind(&mut self, binding: &Binding) -> bool {
        let Some(exchange) = self.exchanges.get_mut(binding.source.as_str()) else { return false };
        if !exchange.bindings.has(binding) {
            return false;
        }
        Arc::make_mut(exchange).bindings.remove(binding);
        self.bindings -= 1;
        if exchange.spec.auto_delete && exchange.bindings.is_empty() {
            self.remove_exchange(&binding.source);
        }
        true
    }

    /// Removes all that leads to `gone`, and the exchanges that end with that.
    pub(super) fn remove_bindings_to(&mut self, gone: &Destination) {
        let mut ended = Vec::new();
        for exchange in self.exchanges.values_mut() {
            if !exchange.bindings.iter().any(|(_, destination, _)| destination == gone) {
                continue;
            }
            let exchange = Arc::make_mut(exchange);
            let before = exchange.bindings.len();
            exchange.bindings.remove_all(gone);
            self.bindings -= before - exchange.bindings.len();
            if exchange.spec.auto_delete && exchange.bindings.is_empty() {
                ended.push(exchange.name.clone());
            }
        }
        ended.iter().for_each(|name| self.remove_exchange(name));
    }

    /// As deep as exchanges that delete themselves are bound to one another, which is bounded by their number; each call has
    /// one less of them.
    fn remove_exchange(&mut self, name: &str) {
        if let Some(gone) = self.exchanges.remove(name) {
            self.bindings -= gone.bindings.len();
            self.remove_bindings_to(&Destination::Exchange(name.to_owned()));
        }
    }
}

impl Image {
    pub(super) fn declare_exchange(
        &mut self,
        vhost: &str,
        name: &str,
        spec: ExchangeSpec,
    ) -> Result<bool, TopologyError> {
        let known = Arc::make_mut(&mut self.topology).vhost_mut(vhost)?;
        if name.is_empty() {
            return Err(default_exchange());
        }
        if let Some(exchange) = known.exchange(name) {
            return exchange.spec.check_same(&spec, name, vhost).map(|()| false);
        }
        check_reserved(EntityKind::Exchange, name, vhost)?;
        check_name(name)?;
        spec.alternate.as_deref().map_or(Ok(()), check_name)?;
        if size_of(&spec.named()) > limits::ARGUMENT_BYTES_MAX {
            return Err(TopologyError::Limit(format!("arguments above {} bytes", limits::ARGUMENT_BYTES_MAX)));
        }
        if known.exchanges.len() >= limits::EXCHANGES_MAX {
            return Err(TopologyError::Limit(format!("the vhost has {} exchanges", limits::EXCHANGES_MAX)));
        }
        known.put_exchange(name, spec);
        Ok(true)
    }

    pub(super) fn delete_exchange(&mut self, vhost: &str, name: &str, if_unused: bool) -> Result<bool, TopologyError> {
        let known = Arc::make_mut(&mut self.topology).vhost_mut(vhost)?;
        if name.is_empty() {
            return Err(default_exchange());
        }
        let Some(exchange) = known.exchange(name) else {
            return Err(TopologyError::none(EntityKind::Exchange, name, vhost));
        };
        if name.starts_with(RESERVED) {
            let why = format!("operation not permitted on the exchange '{name}': it is predeclared");
            return Err(TopologyError::AccessRefused(why));
        }
        if if_unused && !exchange.bindings.is_empty() {
            let (kind, name, vhost) = (EntityKind::Exchange, name.to_owned(), vhost.to_owned());
            return Err(TopologyError::InUse { kind, name, vhost });
        }
        known.remove_exchange(name);
        Ok(true)
    }

    pub(super) fn bind(&mut self, vhost: &str, binding: &Binding) -> Result<bool, TopologyError> {
        let known = Arc::make_mut(&mut self.topology).vhost_mut(vhost)?;
        if binding.source.is_empty() || *binding.destination.name() == *"" {
            return Err(default_exchange());
        }
        let none = |kind, name: &str| Err(TopologyError::none(kind, name, vhost));
        let Some(source) = known.exchange(&binding.source) else {
            return none(EntityKind::Exchange, &binding.source);
        };
        match &binding.destination {
            Destination::Queue(name) if known.queue(name).is_none() => return none(EntityKind::Queue, name),
            Destination::Exchange(name) if known.exchange(name).is_none() => return none(EntityKind::Exchange, name),
            _ => {}
        }
        check_binding(source.spec.kind, binding)?;
        if known.bindings >= limits::BINDINGS_MAX && !source.bindings.has(binding) {
            return Err(TopologyError::Limit(format!("the vhost has {} bindings", limits::BINDINGS_MAX)));
        }
        Ok(known.bind(binding))
    }

    /// Of what is not there nothing has to be removed, as in RabbitMQ.
    pub(super) fn unbind(&mut self, vhost: &str, binding: &Binding) -> Result<bool, TopologyError> {
        let known = Arc::make_mut(&mut self.topology).vhost_mut(vhost)?;
        if binding.source.is_empty() {
            return Err(default_exchange());
        }
        Ok(known.unbind(binding))
    }
}

fn default_exchange() -> TopologyError {
    TopologyError::AccessRefused("operation not permitted on the default exchange".to_owned())
}

fn check_binding(kind: ExchangeKind, binding: &Binding) -> Result<(), TopologyError> {
    check_name(&binding.key)?;
    if size_of(&binding.arguments) > limits::ARGUMENT_BYTES_MAX {
        return Err(TopologyError::Limit(format!("arguments above {} bytes", limits::ARGUMENT_BYTES_MAX)));
    }
    match kind {
        ExchangeKind::ConsistentHash if weight_of(&binding.key).is_none() => Err(refused(format!(
            "Binding to a consistent hash exchange needs a weight from 1 as its key, not '{}'",
            binding.key
        ))),
        ExchangeKind::Headers if !headers_are_legal(&binding.arguments) => {
            let named = binding.arguments.get("x-match").map(ToString::to_string).unwrap_or_default();
            let known = "expected 'all', 'any', 'all-with-x' or 'any-with-x'";
            Err(refused(format!("Invalid x-match field value '{named}'; {known}")))
        }
        _ => Ok(()),
    }
}
