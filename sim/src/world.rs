//! One run: three nodes, their disks, the clients and the nemesis, stepped to the end of the workload.
//! Invariant: everything that happens follows from the seed. Never reads a real clock.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::{Duration, UNIX_EPOCH};

use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};

use crate::checker;
use crate::clock::EPOCH_MS;
use crate::cluster::Window;
use crate::disk::Disks;
use crate::fault::Fault;
use crate::history::History;
use crate::probe::Probe;
use crate::schedule::Schedule;
use crate::workload::{Ledger, host, produce, read};

/// Nodes of the cluster.
pub const NODES: u32 = 3;
/// Producers of the workload.
const PRODUCERS: u32 = 3;
/// Producers begin no batch after this; by then everything has been healed for a while.
const PRODUCE_UNTIL: Duration = Duration::from_secs(32);
/// L1 and L2: by now every batch is acknowledged and everything has been read.
const END: Duration = Duration::from_secs(60);

/// Runs the world of `seed` with the faults of `schedule`, writes it into `history` and checks it.
pub fn run(seed: u64, schedule: &Schedule, history: History) -> History {
    let ledger: Ledger = Rc::new(RefCell::new(history));
    let mut rng = SmallRng::seed_from_u64(seed);
    let disks = Disks::new(NODES, &mut rng);
    let mut sim = build(seed, &mut rng);
    let windows: Vec<Window> = (0..NODES).map(|_| Window::default()).collect();
    for (node, window) in (1..).zip(windows.clone()) {
        let disks = disks.clone();
        sim.host(host(node), move || crate::cluster::serve(node, disks.clone(), window.clone()));
    }
    sim.client("clients", clients(ledger.clone()));
    step(&mut sim, schedule.steps(), &disks, &ledger, &windows);
    drop(sim);
    let mut history = ledger.take();
    check(&mut history);
    history
}

fn build(seed: u64, rng: &mut SmallRng) -> turmoil::Sim<'static> {
    let mut builder = turmoil::Builder::new();
    builder
        .epoch(UNIX_EPOCH + Duration::from_millis(EPOCH_MS))
        .rng_seed(seed)
        .simulation_duration(END + Duration::from_secs(1))
        .tick_duration(Duration::from_millis(1))
        .min_message_latency(Duration::from_millis(1))
        .max_message_latency(Duration::from_millis(rng.random_range(2..40)))
        // turmoil panics where TCP would stall; our peers bound what they send, so this is never reached in earnest.
        .tcp_capacity(1 << 16);
    builder.build()
}

async fn clients(ledger: Ledger) -> turmoil::Result {
    produce::create_topic(NODES).await;
    let now = turmoil::sim_elapsed().unwrap_or_default();
    ledger.borrow_mut().tell(now, "the topic exists");
    let mut tasks = tokio::task::JoinSet::new();
    for number in 0..PRODUCERS {
        let ledger = ledger.clone();
        tasks
            .spawn_local(async move { produce::Producer::start(number, NODES, ledger).await.run(PRODUCE_UNTIL).await });
    }
    tasks.spawn_local(read::tail(NODES, ledger.clone(), PRODUCE_UNTIL));
    while let Some(ended) = tasks.join_next().await {
        ended?;
    }
    let now = turmoil::sim_elapsed().unwrap_or_default();
    ledger.borrow_mut().tell(now, "every batch is acknowledged; reading everything");
    read::everything(NODES, ledger).await;
    Ok(())
}

/// Steps the world, with the faults that are due, until the clients are done or the time is up.
fn step(
    sim: &mut turmoil::Sim<'_>,
    faults: Vec<(Duration, Fault)>,
    disks: &Disks,
    ledger: &Ledger,
    windows: &[Window],
) {
    let mut faults = faults.into_iter().peekable();
    let mut probe = Probe::default();
    let views = || (1..).zip(windows).map(|(node, window)| window.view(node)).collect::<Vec<_>>();
    loop {
        while let Some((_, fault)) = faults.next_if(|(at, _)| *at <= sim.elapsed()) {
            probe.note(sim.elapsed(), &fault);
            inflict(sim, &fault, disks, ledger);
        }
        let stepped = sim.step();
        probe.look(sim.elapsed(), &views(), disks, &mut ledger.borrow_mut());
        match stepped {
            Ok(true) => return probe.finish(sim.elapsed(), &views(), disks, &mut ledger.borrow_mut()),
            Ok(false) if sim.elapsed() < END => {}
            Ok(false) => {
                let at = sim.elapsed();
                return ledger
                    .borrow_mut()
                    .violate(at, format!("L1 WorksAfterHealing: clients not done after {END:?}"));
            }
            Err(error) => {
                let at = sim.elapsed();
                return ledger.borrow_mut().violate(at, format!("a host failed: {error}"));
            }
        }
    }
}

fn inflict(sim: &mut turmoil::Sim<'_>, fault: &Fault, disks: &Disks, ledger: &Ledger) {
    let effect = affect(sim, fault, disks);
    ledger.borrow_mut().fault(sim.elapsed(), fault, effect, &[]);
}

/// False if it made no sense now.
fn affect(sim: &mut turmoil::Sim<'_>, fault: &Fault, disks: &Disks) -> bool {
    match fault {
        // This world has no fourth node yet.
        Fault::PowerLoss { node } | Fault::Start { node } if *node > NODES => return false,
        Fault::Cut { from, to } | Fault::Heal { from, to } if *from > NODES || *to > NODES => return false,
        Fault::PowerLoss { node } => {
            sim.crash(host(*node));
            disks.crash(*node);
        }
        Fault::Start { node } => sim.bounce(host(*node)),
        // turmoil holds both directions of a link.
        Fault::Cut { from, to } if from < to => sim.hold(host(*from), host(*to)),
        Fault::Heal { from, to } if from < to => sim.release(host(*from), host(*to)),
        Fault::Cut { .. } | Fault::Heal { .. } => return false,
        _ => return false,
    }
    true
}

fn check(history: &mut History) {
    if history.acknowledged.is_empty() {
        history.violate(END, "the workload acknowledged nothing: the run proves nothing".to_string());
    }
    if !history.violations.is_empty() {
        return;
    }
    for (name, check) in checker::ALL {
        for violation in check(history) {
            history.violate(END, format!("{name}: {violation}"));
        }
    }
}
