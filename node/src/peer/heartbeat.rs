//! One heartbeat from this node to every other, whatever it hosts: alive, which start of the process, what it leads.
//! Owns the rhythm and what each node was told last. The list of led groups travels only when it changed, on a new
//! connection, and once in a while.
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use model::NodeId;
use tokio::time::MissedTickBehavior;

use super::Peers;
use super::frame::{Frame, Kind, Service};
use super::messages::Heartbeat;
use crate::router::Leads;

/// The list is repeated every so many beats, in case one was lost.
const REPEAT_BEATS: u64 = 20;

#[derive(Default)]
struct Told {
    generation: u64,
    leads: Leads,
}

/// Beats for ever; `now` gives the current heartbeat without the list, `leads` the list,
/// and `hears` the start of another node's process that this one hears.
pub async fn run(
    peers: Arc<Peers>,
    every: Duration,
    hears: impl Fn(NodeId) -> Option<u64> + Send,
    now: impl Fn() -> Heartbeat + Send,
    leads: impl Fn() -> Leads + Send,
) {
    let mut ticks = tokio::time::interval(every);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
    let mut told: BTreeMap<NodeId, Told> = BTreeMap::new();
    for beat in 0_u64.. {
        ticks.tick().await;
        let (mut heartbeat, leads) = (now(), leads());
        let me = peers.directory().node();
        for member in peers.directory().members().into_iter().filter(|member| member.node != me) {
            heartbeat.hears = hears(member.node);
            let told = told.entry(member.node).or_default();
            peers.beat(member.node, told, &heartbeat, &leads, beat % REPEAT_BEATS == 0);
        }
    }
}

impl Peers {
    fn beat(&self, to: NodeId, told: &mut Told, heartbeat: &Heartbeat, leads: &Leads, repeat: bool) {
        let pair = self.pair(to);
        let generation = pair.control.generation();
        let has_changed = !Arc::ptr_eq(leads, &told.leads) && *leads != told.leads;
        let mut beat = heartbeat.clone();
        if repeat || has_changed || generation != told.generation {
            beat.leads = Some(leads.to_vec());
            *told = Told { generation, leads: leads.clone() };
        }
        let head = beat.encode();
        pair.control.notify(Frame {
            kind: Kind::Notice,
            service: Service::Heartbeat,
            id: 0,
            group: 0,
            head,
            body: Vec::new(),
        });
    }
}
