//! The AMQP listener over real sockets, asked in frames: what every client relies on, and what a hostile one gets.
#[path = "../kafka/client.rs"]
#[allow(dead_code, reason = "shared with the tests of the other protocol")]
mod client;
#[path = "../kafka/node.rs"]
#[allow(dead_code, reason = "shared with the tests of the other protocol")]
mod node;

mod channels;
mod frames;
mod handshake;
mod limits;
mod management;
mod messages;
mod policies;
mod replies;
mod traces;
mod vhosts;
