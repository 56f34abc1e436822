//! A fault proxy for the connections between nodes: every node is dialled through a port of the proxy, and what flows from
//! one node to another can be held, delayed or cut off. A cut loses no byte: it holds them, as TCP would until it heals.
//! Who dials is read from /proc: all nodes dial the same advertised address. Threads end when the proxy is dropped.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{sleep, spawn};
use std::time::{Duration, Instant};

use crate::Dice;

/// Bytes of one direction that wait in the proxy: so many chunks of so many bytes, then TCP pushes back.
const CHUNKS: usize = 64;
const CHUNK_BYTES: usize = 64 << 10;

/// What happens to bytes on their way from one node to another.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Weather {
    /// Bytes are held until this ends; so are new connections of the pair, in both directions.
    pub cut: bool,
    /// Each chunk waits so long, and up to `jitter` longer; order is kept.
    pub delay: Duration,
    pub jitter: Duration,
}

/// From one node to another.
pub type Way = (u32, u32);

/// The proxy before all nodes.
pub struct Proxy {
    shared: Arc<Shared>,
    listeners: Vec<SocketAddr>,
}

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    weather: BTreeMap<Way, Weather>,
    processes: BTreeMap<u32, u32>,
    open: BTreeMap<u64, (Way, [TcpStream; 2])>,
    accepted: u64,
    over: bool,
}

impl Proxy {
    /// Listens on the first port of each pair (`listen`, `target`) and dials the second; node i has pair i-1.
    pub fn start(ports: &[(u16, u16)]) -> Self {
        let shared = Arc::<Shared>::default();
        let mut listeners = Vec::new();
        for (node, (listen, target)) in (1..).zip(ports.iter().copied()) {
            let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, listen)).expect("the proxy's port is free");
            listeners.push(listener.local_addr().expect("a bound address"));
            let shared = shared.clone();
            spawn(move || accept(&shared, &listener, node, SocketAddr::from((Ipv4Addr::LOCALHOST, target))));
        }
        Self { shared, listeners }
    }

    /// Connections of this process are the node's from now on.
    pub fn process(&self, node: u32, pid: u32) {
        self.shared.lock().processes.insert(node, pid);
    }

    pub fn set(&self, ways: &[Way], weather: Weather) {
        self.shared.lock().weather.extend(ways.iter().map(|way| (*way, weather)));
        self.shared.changed.notify_all();
    }

    /// Fair weather everywhere: what was held goes on its way.
    pub fn heal(&self) {
        self.shared.lock().weather.clear();
        self.shared.changed.notify_all();
    }

    /// Ends every connection between nodes at once.
    pub fn reset(&self) {
        self.shared.lock().reset();
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        let mut state = self.shared.lock();
        state.over = true;
        state.reset();
        drop(state);
        self.shared.changed.notify_all();
        for listener in &self.listeners {
            // Wakes the accepting thread, which then sees that it is over.
            drop(TcpStream::connect(listener));
        }
    }
}

impl State {
    fn reset(&mut self) {
        for (_, streams) in self.open.values() {
            for stream in streams {
                // It may be closed already.
                drop(stream.shutdown(Shutdown::Both));
            }
        }
    }

    fn is_cut(&self, way: Way) -> bool {
        self.weather.get(&way).is_some_and(|weather| weather.cut)
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until none of the ways is cut; false when the proxy is over.
    fn passable(&self, ways: &[Way]) -> bool {
        let mut state = self.lock();
        while !state.over && ways.iter().any(|way| state.is_cut(*way)) {
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        !state.over
    }

    fn weather(&self, way: Way) -> Weather {
        self.lock().weather.get(&way).copied().unwrap_or_default()
    }

    /// The node whose process holds the other end of this connection.
    fn caller(&self, stream: &TcpStream) -> Option<u32> {
        let (here, there) = (stream.local_addr().ok()?, stream.peer_addr().ok()?);
        let ends = format!("{} {}", proc_address(there), proc_address(here));
        let table = std::fs::read_to_string("/proc/net/tcp").ok()?;
        let row = table.lines().find(|row| row.contains(&ends))?;
        let socket = format!("socket:[{}]", row.split_whitespace().nth(9)?);
        let processes = self.lock().processes.clone();
        processes.into_iter().find(|(_, pid)| holds(*pid, &socket)).map(|(node, _)| node)
    }
}

/// An IPv4 address as /proc/net/tcp writes it.
fn proc_address(address: SocketAddr) -> String {
    match address {
        SocketAddr::V4(v4) => format!("{:08X}:{:04X}", u32::from_le_bytes(v4.ip().octets()), v4.port()),
        SocketAddr::V6(v6) => panic!("the proxy listens on IPv4 only, not {v6}"),
    }
}

fn holds(pid: u32, socket: &str) -> bool {
    let Ok(files) = std::fs::read_dir(format!("/proc/{pid}/fd")) else { return false };
    files.flatten().any(|file| std::fs::read_link(file.path()).is_ok_and(|target| target.as_os_str() == socket))
}

fn accept(shared: &Arc<Shared>, listener: &TcpListener, node: u32, target: SocketAddr) {
    for stream in listener.incoming().flatten() {
        if shared.lock().over {
            return;
        }
        let shared = shared.clone();
        spawn(move || {
            if let Some(from) = shared.caller(&stream) {
                carry(&shared, stream, (from, node), target);
            }
        });
    }
}

/// One connection from its beginning to its end.
fn carry(shared: &Arc<Shared>, near: TcpStream, way: Way, target: SocketAddr) {
    let back = (way.1, way.0);
    if !shared.passable(&[way, back]) {
        return;
    }
    let Ok(far) = TcpStream::connect_timeout(&target, Duration::from_secs(1)) else { return };
    let copies = || -> std::io::Result<[TcpStream; 2]> {
        near.set_nodelay(true)?;
        far.set_nodelay(true)?;
        Ok([near.try_clone()?, far.try_clone()?])
    };
    let (Ok(kept), Ok([near_writer, far_writer])) = (copies(), copies()) else { return };
    let mut state = shared.lock();
    state.accepted += 1;
    let number = state.accepted;
    state.open.insert(number, (way, kept));
    drop(state);
    let answers = {
        let shared = shared.clone();
        spawn(move || pump(&shared, back, far, near_writer))
    };
    pump(shared, way, near, far_writer);
    drop(answers.join());
    shared.lock().open.remove(&number);
}

/// Carries one direction: a thread takes chunks in as they come, this one lets them out when their time has come.
fn pump(shared: &Arc<Shared>, way: Way, from: TcpStream, mut to: TcpStream) {
    let (sender, chunks) = sync_channel(CHUNKS);
    let (reader, weather) = (from.try_clone(), shared.clone());
    let taking = reader.map(|reader| spawn(move || take_in(&weather, way, reader, &sender)));
    let _delivered_or_broken = let_out(shared, way, &chunks, &mut to);
    // The end travels like the bytes before it, and a writer that failed stops the reader.
    drop(to.shutdown(Shutdown::Write));
    drop(from.shutdown(Shutdown::Read));
    drop(chunks);
    drop(taking.map(|thread| thread.join()));
}

fn take_in(shared: &Shared, way: Way, mut from: TcpStream, chunks: &SyncSender<(Instant, Vec<u8>)>) {
    let mut buffer = vec![0; CHUNK_BYTES];
    let mut dice = Dice::new(u64::from(way.0) << 32 | u64::from(way.1));
    while let Ok(count) = from.read(&mut buffer) {
        let Weather { delay, jitter, .. } = shared.weather(way);
        let due = Instant::now() + delay + dice.between_ms(0, jitter.as_millis() as u64);
        if count == 0 || chunks.send((due, buffer[..count].to_vec())).is_err() {
            return;
        }
    }
}

fn let_out(
    shared: &Shared,
    way: Way,
    chunks: &Receiver<(Instant, Vec<u8>)>,
    to: &mut TcpStream,
) -> std::io::Result<()> {
    while let Ok((due, bytes)) = chunks.recv() {
        sleep(due.saturating_duration_since(Instant::now()));
        if !shared.passable(&[way]) {
            break;
        }
        to.write_all(&bytes)?;
    }
    // A cut holds the end of a connection too.
    shared.passable(&[way]);
    Ok(())
}
