//! The Flotilla server as a library: `run` is one node, a future over three seams.
//! Rooms import along one line: seams, config, metrics, router <- peer <- actors <- broker <- {kafka, admin} <- lib <- cli <- main.
//! Never a static, never a global: many nodes live in one process in the simulation.
#![forbid(unsafe_code)]

pub mod admin;
pub mod bench;
pub mod broker;
pub mod cli;
pub mod config;
pub mod kafka;
pub mod metrics;
pub mod seams;
pub mod telemetry;

/// One node, until `stop`.
///
/// # Errors
/// The node cannot go on.
pub async fn run(config: config::Config, seams: seams::Seams, stop: seams::Stop) -> std::io::Result<()> {
    let _ = (config, seams);
    stop.stopped().await;
    Ok(())
}
