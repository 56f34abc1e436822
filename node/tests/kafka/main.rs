//! The Kafka listener over real sockets, asked in raw bytes: what every client of every age relies on.
mod admin;
mod client;
mod consumer_groups;
mod elect;
mod every_version;
mod fetch;
mod groups;
mod metadata;
mod migration;
mod node;
mod produce;
mod queue_verbs;
mod queues;
mod reassign;
mod three;
