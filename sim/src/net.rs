//! What the network does to bytes: links between nodes (and the clients) that are open, cut or slow, nodes without power, and
//! connections that were reset or that nobody hears any more. Kernels ask, the world decides.
//! Invariant: bytes of a connection arrive in order and are never lost while it lives, as with TCP. Every chunk that a kernel
//! moves goes into the digest, with its direction and its time.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};
use tokio::sync::Notify;

/// One end of a link: a node's number, or [`CLIENTS`].
pub type End = u32;
/// All clients together; no node has this number.
pub const CLIENTS: End = 0;
/// What a chunk that got lost costs: TCP's least retransmission time.
const RETRANSMIT: Duration = Duration::from_millis(200);

/// The network. Clones are the same network.
#[derive(Clone)]
pub struct Network {
    state: Arc<Mutex<State>>,
    changed: Arc<Notify>,
}

struct State {
    names: BTreeMap<IpAddr, End>,
    links: BTreeMap<(End, End), Link>,
    /// Nodes without power: what is sent to them vanishes, for all that the sender knows.
    dark: BTreeSet<End>,
    connections: BTreeMap<u64, Connection>,
    opened: u64,
    rng: SmallRng,
    digest: u64,
    chunks: u64,
}

/// One direction of a link.
#[derive(Clone, Copy, Default)]
struct Link {
    cut: bool,
    delay: Duration,
    loss: u8,
}

/// A connection as one kernel sees it.
struct Connection {
    ends: (End, End),
    /// Nothing moves any more, and nobody is told.
    silent: bool,
    /// It ends with an error, as soon as that can be heard.
    reset: bool,
}

/// One connection of one kernel; dropping it forgets it.
pub struct Handle {
    network: Network,
    id: u64,
    /// This kernel's end and the other.
    ends: (End, End),
}

impl Network {
    /// A network where everything is open; `rng` decides jitter and loss.
    pub fn new(rng: &mut SmallRng) -> Self {
        let state = State {
            names: BTreeMap::new(),
            links: BTreeMap::new(),
            dark: BTreeSet::new(),
            connections: BTreeMap::new(),
            opened: 0,
            rng: SmallRng::seed_from_u64(rng.random()),
            digest: 0xcbf2_9ce4_8422_2325,
            chunks: 0,
        };
        Self { state: Arc::new(Mutex::new(state)), changed: Arc::default() }
    }

    /// `node` has the address `ip`. Every other address is a client's.
    pub fn name(&self, ip: IpAddr, node: End) {
        self.lock().names.insert(ip, node);
    }

    /// Whose address that is.
    pub fn end_of(&self, ip: IpAddr) -> End {
        self.lock().names.get(&ip).copied().unwrap_or(CLIENTS)
    }

    /// Bytes `from` one `to` another wait until it is cleared again. False if it was so already.
    pub fn cut(&self, from: End, to: End, cut: bool) -> bool {
        self.change(|state| std::mem::replace(&mut state.link(from, to).cut, cut) != cut)
    }

    /// Bytes between two ends take `delay` longer, with as much jitter, and `loss` percent of the chunks are late. False if it
    /// was so already.
    pub fn slow(&self, from: End, to: End, delay: Duration, loss: u8) -> bool {
        self.change(|state| {
            let link = state.link(from, to);
            let before = (link.delay, link.loss);
            (link.delay, link.loss) = (delay, loss);
            before != (delay, loss)
        })
    }

    /// Resets every connection between two ends. Returns whether there was one.
    pub fn reset(&self, one: End, other: End) -> bool {
        self.change(|state| {
            let between = state.of(|ends| ends == (one, other) || ends == (other, one));
            between.map(|connection| connection.reset = true).count() > 0
        })
    }

    /// Nothing moves any more in the connections of clients to `node`, and nobody is told. Returns whether there was one.
    pub fn silence(&self, node: End) -> bool {
        self.change(|state| {
            let theirs = state.of(|ends| ends == (node, CLIENTS));
            theirs.map(|connection| connection.silent = true).count() > 0
        })
    }

    /// A node loses power: its connections fall silent. With its power back they are reset. False if it was so already.
    pub fn power(&self, node: End, on: bool) -> bool {
        self.change(|state| {
            let changed = if on { state.dark.remove(&node) } else { state.dark.insert(node) };
            if on && changed {
                state.of(|ends| ends.0 == node || ends.1 == node).for_each(|connection| connection.reset = true);
            }
            changed
        })
    }

    /// What was moved so far, as one number, and how many chunks that was.
    pub fn digest(&self) -> (u64, u64) {
        let state = self.lock();
        (state.digest, state.chunks)
    }

    /// Waits until `from` and `to` hear each other.
    pub async fn reachable(&self, from: End, to: End) {
        self.until(|state| state.open(from, to) && state.open(to, from)).await;
    }

    /// Waits until `node` has power.
    pub async fn powered(&self, node: End) {
        self.until(|state| !state.dark.contains(&node)).await;
    }

    /// A new connection between this kernel's end and another.
    pub fn connection(&self, own: End, other: End) -> Handle {
        let mut state = self.lock();
        state.opened += 1;
        let id = state.opened;
        state.connections.insert(id, Connection { ends: (own, other), silent: false, reset: false });
        Handle { network: self.clone(), id, ends: (own, other) }
    }

    async fn until(&self, ready: impl Fn(&State) -> bool) {
        loop {
            let changed = self.changed.notified();
            if ready(&self.lock()) {
                return;
            }
            changed.await;
        }
    }

    fn change<R>(&self, change: impl FnOnce(&mut State) -> R) -> R {
        let result = change(&mut self.lock());
        self.changed.notify_waiters();
        result
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn link(&mut self, from: End, to: End) -> &mut Link {
        self.links.entry((from, to)).or_default()
    }

    fn of(&mut self, chosen: impl Fn((End, End)) -> bool) -> impl Iterator<Item = &mut Connection> {
        self.connections.values_mut().filter(move |connection| chosen(connection.ends))
    }

    fn open(&self, from: End, to: End) -> bool {
        let cut = from != to && self.links.get(&(from, to)).is_some_and(|link| link.cut);
        !cut && !self.dark.contains(&from) && !self.dark.contains(&to)
    }
}

impl Handle {
    /// When a chunk that is sent now, outwards or inwards, arrives: now, but for a slow link.
    pub fn delay(&self, outwards: bool) -> Duration {
        let mut state = self.network.lock();
        let Link { delay, loss, .. } = *state.link(self.from(outwards), self.to(outwards));
        if delay.is_zero() && loss == 0 {
            return Duration::ZERO;
        }
        let jitter = delay.mul_f64(state.rng.random_range(0.0..1.0));
        let lost = state.rng.random_range(0..100) < loss;
        delay + jitter + if lost { RETRANSMIT } else { Duration::ZERO }
    }

    /// Waits until bytes of this connection pass in this direction.
    pub async fn passes(&self, outwards: bool) {
        let (from, to) = (self.from(outwards), self.to(outwards));
        let lives = |connection: &Connection| !connection.silent && !connection.reset;
        let heard = |state: &State| state.connections.get(&self.id).is_some_and(lives);
        self.network.until(|state| state.open(from, to) && heard(state)).await;
    }

    /// Waits until the connection is reset, and that can be heard here.
    pub async fn reset(&self) {
        let (own, other) = self.ends;
        let reset = |state: &State| state.connections.get(&self.id).is_some_and(|connection| connection.reset);
        self.network.until(|state| state.open(other, own) && reset(state)).await;
    }

    /// Writes down that `bytes` moved at `at`.
    pub fn note(&self, outwards: bool, at: Duration, bytes: &[u8]) {
        let mut state = self.network.lock();
        let direction = u64::from(self.from(outwards)) << 32 | u64::from(self.to(outwards)) << 1 | u64::from(outwards);
        let at = u64::try_from(at.as_nanos()).unwrap_or(u64::MAX);
        let words = bytes.chunks(8).map(|chunk| {
            let mut word = [0; 8];
            word[..chunk.len()].copy_from_slice(chunk);
            u64::from_le_bytes(word)
        });
        let words = [direction, at, bytes.len() as u64].into_iter().chain(words);
        state.digest =
            words.fold(state.digest, |digest, word| (digest ^ word).wrapping_mul(0x0100_0000_01b3).rotate_left(23));
        state.chunks += 1;
    }

    fn from(&self, outwards: bool) -> End {
        if outwards { self.ends.0 } else { self.ends.1 }
    }

    fn to(&self, outwards: bool) -> End {
        self.from(!outwards)
    }

    /// Links are between machines: what comes in from another node has passed its kernel's side already.
    pub fn is_link_end(&self, outwards: bool) -> bool {
        outwards || self.ends.1 == CLIENTS
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.network.lock().connections.remove(&self.id);
    }
}
