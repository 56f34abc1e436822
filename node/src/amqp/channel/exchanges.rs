//! Methods of class exchange.

use model::controller::topology::ExchangeSpec;
use model::exchange::{Binding, Destination};
use wire::amqp::ShortStr;
use wire::amqp::Table;
use wire::amqp::method::exchange::{self, Method};

use super::{Channel, arguments, refused, text};
use crate::amqp::failure::{Result, failure};

impl Channel {
    pub(super) async fn exchange(&mut self, method: Method) -> Result<()> {
        match method {
            Method::Declare(declare) => self.declare_exchange(&declare).await,
            Method::Delete(delete) => self.delete_exchange(&delete).await,
            Method::Bind(bind) => {
                let ends = (&bind.source, &bind.destination, &bind.routing_key);
                let binding = exchange_binding(ends, &bind.arguments)?;
                self.session.broker().bind(&self.session.vhost, binding).await.map_err(refused)?;
                self.answer(exchange::BindOk {}, bind.no_wait);
                Ok(())
            }
            Method::Unbind(unbind) => {
                let ends = (&unbind.source, &unbind.destination, &unbind.routing_key);
                let binding = exchange_binding(ends, &unbind.arguments)?;
                self.session.broker().unbind(&self.session.vhost, binding).await.map_err(refused)?;
                self.answer(exchange::UnbindOk {}, unbind.no_wait);
                Ok(())
            }
            other => Err(failure!(CommandInvalid, "{} is not for a server", other.name())),
        }
    }

    async fn declare_exchange(&mut self, declare: &exchange::Declare) -> Result<()> {
        let (name, broker, vhost) = (text(&declare.exchange)?, self.session.broker(), &self.session.vhost);
        if declare.passive {
            // The default exchange is always there.
            if !name.is_empty() && broker.exchange(vhost, name).is_none() {
                return Err(failure!(NotFound, "no exchange '{name}' in vhost '{vhost}'"));
            }
        } else {
            let spec = ExchangeSpec::parse(text(&declare.kind)?, &arguments(&declare.arguments)?);
            let spec = spec.map_err(|error| refused(error.into()))?;
            let (durable, auto_delete, internal) = (declare.durable, declare.auto_delete, declare.internal);
            let spec = ExchangeSpec { durable, auto_delete, internal, ..spec };
            broker.declare_exchange(vhost, name, spec).await.map_err(refused)?;
        }
        self.answer(exchange::DeclareOk {}, declare.no_wait);
        Ok(())
    }

    /// That there is none of this name is no failure, as in RabbitMQ.
    async fn delete_exchange(&mut self, delete: &exchange::Delete) -> Result<()> {
        let name = text(&delete.exchange)?;
        let deleted = self.session.broker().delete_exchange(&self.session.vhost, name, delete.if_unused).await;
        deleted.or_else(super::fine_if_gone).map_err(refused)?;
        self.answer(exchange::DeleteOk {}, delete.no_wait);
        Ok(())
    }
}

fn exchange_binding((source, destination, key): (&ShortStr, &ShortStr, &ShortStr), given: &Table) -> Result<Binding> {
    Ok(Binding {
        source: text(source)?.to_owned(),
        destination: Destination::Exchange(text(destination)?.to_owned()),
        key: text(key)?.to_owned(),
        arguments: arguments(given)?,
    })
}
