//! Whole nodes in one process, on simulated disks and loopback sockets, used through the broker.
//! What a cluster must do whatever protocol is spoken to it: form, agree, survive, take in, refuse.
mod admin;
mod forming;
mod lag;
mod moving;
mod operations;
mod peers;
#[path = "../kafka/ports.rs"]
mod ports;
mod quarantine;
mod quiescence;
mod relief;
mod serving;
mod topology;
mod world;
