//! The Flotilla server as a library: `run` is one node, a future over three seams.
//! Rooms import along one line: seams, config, metrics, router <- peer <- actors <- broker, listening <- {kafka, amqp, admin} <- lib <- cli <- main.
//! Never a static, never a global: many nodes live in one process in the simulation.
#![forbid(unsafe_code)]

pub mod actors;
pub mod admin;
pub mod amqp;
#[cfg(feature = "rocks")]
pub mod bench;
pub mod bootstrap;
pub mod broker;
#[cfg(feature = "rocks")]
pub mod cli;
pub mod config;
pub mod kafka;
pub mod listening;
pub mod metrics;
pub mod peer;
pub mod router;
pub mod run;
pub mod seams;
mod services;
pub mod telemetry;

pub use run::{Addresses, Error, Node, run};
