//! The Kafka listener: translates the Kafka protocol to the broker's verbs.
//! Never names another protocol, never reaches below the broker.
use std::io;

use crate::broker::Broker;
use crate::seams::{Listener, Stop};

/// Serves Kafka clients on `listener` until `stop`; returns once every connection is closed.
///
/// # Errors
/// The listener itself failed.
pub async fn serve(broker: Broker, mut listener: Box<dyn Listener>, stop: Stop) -> io::Result<()> {
    let _ = broker;
    loop {
        tokio::select! {
            () = stop.stopped() => return Ok(()),
            accepted = listener.accept() => drop(accepted),
        }
    }
}
