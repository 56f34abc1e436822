//! The faults of the mixed schedule. Each strikes, checks what must hold meanwhile, heals, and tells its story in a line.

use std::time::{Duration, Instant};

use harness::{Way, Weather};

use crate::chaos::World;
use crate::{damage, full_disk, power};

const CUT: Weather = Weather { cut: true, delay: Duration::ZERO, jitter: Duration::ZERO };

/// A kind of fault; what exactly happens is drawn.
#[derive(Clone, Copy, Debug)]
pub enum Fault {
    /// SIGSTOP of a leader past the election timeout, then SIGCONT.
    Pause,
    /// Bytes between nodes held: both ways, one way, or between two nodes only; or delayed; or connections reset.
    Network,
    /// kill -9 of one node or of all.
    Kill,
    /// The same, and what was not synced is gone.
    Power,
    /// Little or no space left for one node.
    FullDisk,
    /// A flipped byte or a cut file in the data of a node that stood still.
    Damage,
}

impl Fault {
    pub const KINDS: [Self; 6] = [Self::Pause, Self::Network, Self::Kill, Self::Power, Self::FullDisk, Self::Damage];

    /// Strikes and heals; the cluster is on its way back when this returns.
    pub fn strike(self, world: &mut World) -> String {
        match self {
            Self::Pause => pause(world),
            Self::Network => network(world),
            Self::Kill => kill(world, false),
            Self::Power => kill(world, true),
            Self::FullDisk => full_disk::strike(world),
            Self::Damage => damage::any(world),
        }
    }
}

/// The leader of most partitions, or any node.
fn leader(world: &mut World) -> u32 {
    world.servers.leader().unwrap_or(1)
}

fn pause(world: &mut World) -> String {
    let (node, length) = (leader(world), world.dice.between_ms(1_500, 3_500));
    world.servers.node(node).pause(length);
    format!("leader {node} stopped for {} ms", length.as_millis())
}

fn network(world: &mut World) -> String {
    let node = leader(world);
    let others: Vec<u32> = world.servers.ids().into_iter().filter(|id| *id != node).collect();
    let out: Vec<Way> = others.iter().map(|other| (node, *other)).collect();
    let back: Vec<Way> = others.iter().map(|other| (*other, node)).collect();
    let everything: Vec<Way> = [(1, 2), (2, 1), (1, 3), (3, 1), (2, 3), (3, 2)].to_vec();
    let (delay, jitter) = (Duration::from_millis(20), Duration::from_millis(480));
    let (name, ways, weather) = match world.dice.below(6) {
        0 => ("cut off", [out, back].concat(), CUT),
        1 => ("cannot send", out, CUT),
        2 => ("cannot hear", back, CUT),
        3 => ("cut from one other", vec![out[0], back[0]], CUT),
        4 => ("and all others delayed by 20 to 500 ms", everything, Weather { cut: false, delay, jitter }),
        _ => ("and all others reset every 100 ms", Vec::new(), CUT),
    };
    let length = world.dice.between_ms(1_500, 4_000);
    let until = Instant::now() + length;
    world.servers.proxy.set(&ways, weather);
    while Instant::now() < until {
        if ways.is_empty() {
            world.servers.proxy.reset();
        }
        std::thread::sleep(Duration::from_millis(100));
    }
    world.servers.proxy.heal();
    format!("leader {node} {name} for {} ms", length.as_millis())
}

fn kill(world: &mut World, power: bool) -> String {
    let victims =
        if world.dice.below(2) == 0 { world.servers.ids() } else { vec![world.dice.pick(&world.servers.ids())] };
    let before: Vec<u64> = victims.iter().map(|id| world.servers.node(*id).log_bytes()).collect();
    victims.iter().for_each(|id| world.servers.node(*id).kill());
    std::thread::sleep(world.dice.between_ms(0, 1_500));
    for id in &victims {
        power::lost(world.servers.node(*id), power);
        world.servers.start(*id);
    }
    if !power || !world.servers.nodes[0].environment.contains_key("FORGET_DATA") {
        return format!("kill -9 of {victims:?}");
    }
    let lost = victims.iter().zip(before).map(|(id, from)| power::told(world.servers.node(*id), from));
    let (all, logs) = lost.fold((0, 0), |sum, lost| (sum.0 + lost.0, sum.1 + lost.1));
    format!("no power for {victims:?}: {all} unsynced writes lost, {logs} of them in write-ahead logs")
}
