//! What cannot be said of one value alone: ranges, relations between timings, binds that would be open to the world.
//! Each finding names the source of the value to change.

use std::time::Duration;

use super::Listeners;
use super::load::{Loaded, Problem};
use super::units::{ByteSize, HostPort, show_duration};

/// A shorter secret is soon guessed by whoever sees one proof.
const SECRET_BYTES_MIN: usize = 16;

const REFUSED_HINT: &str = "bind 127.0.0.1, or set insecure = true (--insecure) on a trusted network";

/// Everything wrong with a configuration whose single values are well formed.
pub fn check(loaded: &Loaded) -> Vec<Problem> {
    let mut findings = Findings { loaded, found: Vec::new() };
    findings.identity();
    findings.listeners();
    findings.sizes();
    findings.timings();
    findings.found
}

struct Findings<'a> {
    loaded: &'a Loaded,
    found: Vec<Problem>,
}

impl Findings<'_> {
    fn expect(&mut self, holds: bool, key: &str, text: impl FnOnce() -> String) {
        if !holds {
            self.found.push(Problem { source: self.loaded.source(key), text: format!("{key}: {}", text()) });
        }
    }

    fn identity(&mut self) {
        let settings = &self.loaded.settings;
        let config = &settings.node;
        self.expect(config.node_id >= 1, "node_id", || "must be 1 or more".to_owned());
        let secret = &config.raft.secret;
        self.expect(secret.is_empty() || secret.bytes().len() >= SECRET_BYTES_MIN, "cluster.secret", || {
            format!("must have {SECRET_BYTES_MIN} bytes or more, for example from `openssl rand -hex 32`")
        });
        let (expect, seeds) = (config.bootstrap_expect as usize, config.seeds.len());
        self.expect((1..=5).contains(&expect), "bootstrap_expect", || "must be between 1 and 5".to_owned());
        self.expect(expect <= 1 || seeds + 1 >= expect, "bootstrap_expect", || {
            format!(
                "{expect} founders are expected, but seeds names only {seeds}; list the peer address of every founder"
            )
        });
        for seed in &config.seeds {
            let parsed = seed.parse::<HostPort>();
            self.expect(parsed.is_ok(), "seeds", || parsed.err().unwrap_or_default());
        }
        let level = &settings.log_level;
        let filter = tracing_subscriber::EnvFilter::try_new(level);
        self.expect(filter.is_ok(), "log.level", || {
            format!("\"{level}\" is no filter; use for example \"info\" or \"info,raft=debug\"")
        });
        self.expect((1..=256).contains(&settings.workers), "runtime.workers", || {
            "must be between 1 and 256".to_owned()
        });
    }

    fn listeners(&mut self) {
        let config = &self.loaded.settings.node;
        let Listeners { kafka, peer, admin, amqp } = &config.listeners;
        let mut all = vec![
            ("listeners.kafka", "advertise.kafka", kafka.bind, &kafka.advertise),
            ("listeners.peer", "advertise.peer", peer.bind, &peer.advertise),
            ("listeners.admin", "advertise.admin", admin.bind, &admin.advertise),
        ];
        all.extend(amqp.bind.map(|bind| ("listeners.amqp", "advertise.amqp", bind, &amqp.advertise)));
        for (i, &(key, advertise_key, address, advertise)) in all.iter().enumerate() {
            let known = match key {
                "listeners.peer" => !config.raft.secret.is_empty(),
                "listeners.amqp" => !amqp.users.is_empty(),
                _ => false,
            };
            self.expect(config.insecure || known || address.ip().is_loopback(), key, || {
                let (who, hint) = match key {
                    "listeners.peer" => ("nothing authenticates nodes", "set cluster.secret, "),
                    "listeners.amqp" => ("there is only guest", "set amqp.users, "),
                    _ => ("nothing authenticates clients yet", ""),
                };
                format!("{address} is reachable from other machines and {who}; {hint}{REFUSED_HINT}")
            });
            let twin = all[..i].iter().find(|(_, _, other, _)| *other == address && address.port() != 0);
            self.expect(twin.is_none(), key, || {
                format!("{address} is already taken by {}", twin.map_or("another listener", |twin| twin.0))
            });
            let advertised = advertise.as_deref().map(str::parse::<HostPort>);
            let bad = advertised.and_then(Result::err);
            self.expect(bad.is_none(), advertise_key, || bad.clone().unwrap_or_default());
        }
        self.expect(!peer.bind.ip().is_unspecified() || peer.advertise.is_some(), "advertise.peer", || {
            format!("listeners.peer is {}, which other nodes cannot connect to; set this node's host:port", peer.bind)
        });
    }

    fn sizes(&mut self) {
        let config = &self.loaded.settings.node;
        let (limits, storage) = (&config.limits, &config.storage);
        self.expect(limits.connections_max >= 1, "limits.connections_max", || "must be 1 or more".to_owned());
        let bounds: [(&str, usize, u64, u64); 9] = [
            ("limits.request_bytes_max", limits.request_bytes_max, 1 << 10, 1 << 20),
            ("limits.request_memory_bytes", limits.request_memory_bytes, 1 << 10, 1 << 26),
            ("limits.fetch_bytes_max", limits.fetch_bytes_max, 64, 1 << 20),
            ("limits.append_bytes", limits.append_bytes, 1 << 10, 1 << 26),
            ("limits.peer_append_bytes", limits.peer_append_bytes, 1 << 10, 1 << 26),
            ("limits.tail_cache_bytes", limits.tail_cache_bytes, 64, 1 << 26),
            ("storage.memtable_bytes", storage.memtable_bytes, 1 << 10, 1 << 22),
            ("storage.block_cache_bytes", storage.block_cache_bytes, 1 << 10, 1 << 26),
            ("storage.compaction_memory", storage.compaction_memory, 64, 1 << 26),
        ];
        for (key, bytes, low_kib, high_kib) in bounds {
            let inside = (low_kib << 10..=high_kib << 10).contains(&(bytes as u64));
            self.expect(inside, key, || {
                format!("must be between {} and {}", ByteSize(low_kib << 10), ByteSize(high_kib << 10))
            });
        }
        self.expect(limits.request_memory_bytes / 2 >= limits.request_bytes_max, "limits.request_memory_bytes", || {
            format!("must be at least twice limits.request_bytes_max ({})", ByteSize::from(limits.request_bytes_max))
        });
    }

    fn timings(&mut self) {
        let retention_check = self.loaded.settings.node.storage.retention_check;
        self.expect(retention_check >= Duration::from_millis(100), "storage.retention_check", || {
            "must be 100ms or more".to_owned()
        });
        let raft = &self.loaded.settings.node.raft;
        let positive = raft.node_heartbeat >= Duration::from_millis(10);
        self.expect(positive, "raft.node_heartbeat", || "must be 10ms or more".to_owned());
        self.expect(raft.node_dead_after >= raft.node_heartbeat * 3, "raft.node_dead_after", || {
            format!("must be at least three times raft.node_heartbeat ({})", show_duration(raft.node_heartbeat))
        });
        let quiesce = raft.quiesce_after.is_zero() || raft.quiesce_after >= Duration::from_millis(100);
        self.expect(quiesce, "raft.quiesce_after", || "must be 100ms or more, or 0s for never".to_owned());
        self.expect(raft.replica_lag_max >= Duration::from_secs(2), "raft.replica_lag_max", || {
            "must be 2s or more: replicas are looked at once a second".to_owned()
        });
    }
}
