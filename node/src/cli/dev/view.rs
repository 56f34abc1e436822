//! The live view: a table of the nodes, keys to kill and restart them, and what happened. Plain ANSI, redrawn in place.
//! Owns the terminal's raw mode, given back when dropped.

use std::collections::VecDeque;
use std::io::Write;
use std::path::Path;
use std::time::Duration;

use crossterm::terminal;
use tokio::io::AsyncReadExt;
use tokio::signal::unix::{SignalKind, signal};
use tokio::time::Instant;

use super::checker::Checker;
use super::fleet::{Event, Fleet, Order, State};
use super::{Home, Options};
use crate::cli::cluster::Cluster;
use crate::cli::get;
use crate::cli::output::{bytes, table};

const REDRAW: Duration = Duration::from_millis(250);
const HISTORY: usize = 8;
/// How long the load runs before the first kill.
const LOAD_LEAD: Duration = Duration::from_secs(2);

/// Shows the cluster until the user quits.
pub async fn run(fleet: &mut Fleet, options: &Options, home: &Home) -> anyhow::Result<()> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    eprintln!("  starting {} nodes ...", options.nodes);
    tokio::select! {
        ready = fleet.ready() => drop(ready?),
        _ = terminate.recv() => return Ok(()),
        _ = interrupt.recv() => return Ok(()),
    }
    let mut screen = Screen::new(fleet, home)?;
    let mut keys = tokio::io::stdin();
    let mut buffer = [0; 16];
    let mut tick = tokio::time::interval(REDRAW);
    let mut stopping = false;
    loop {
        tokio::select! {
            event = fleet.next() => match event {
                Some(event) => screen.tell(&event),
                None => break,
            },
            read = keys.read(&mut buffer), if !stopping => match read {
                Ok(count) if count > 0 => screen.keys(&buffer[..count], fleet),
                _ => screen.quitting = true,
            },
            _ = tick.tick() => {
                screen.due(fleet);
                screen.refresh(fleet).await;
            }
            _ = terminate.recv() => screen.quitting = true,
            _ = interrupt.recv() => screen.quitting = true,
        }
        screen.draw(fleet)?;
        if screen.quitting && !stopping {
            stopping = true;
            if let Some(checker) = screen.checker.take() {
                let report = checker.end().await;
                screen.note(report);
            }
            drop(fleet.order(Order::Stop));
        }
    }
    Ok(())
}

struct Screen {
    headline: String,
    home: std::path::PathBuf,
    bootstrap: String,
    checker: Option<Checker>,
    cluster: Option<Cluster>,
    history: VecDeque<String>,
    shown_lines: usize,
    quitting: bool,
    victim: Option<(Instant, u32)>,
    started: Instant,
}

impl Screen {
    fn new(fleet: &Fleet, home: &Home) -> anyhow::Result<Self> {
        terminal::enable_raw_mode()?;
        let kept =
            if home.is_kept() { format!("data kept in {}", home.path().display()) } else { "data not kept".to_owned() };
        let seconds = fleet.started().elapsed().as_secs_f64();
        let headline =
            format!("  flotilla {} dev cluster  ready in {seconds:.1} s  ·  {kept}", env!("CARGO_PKG_VERSION"));
        Ok(Self {
            headline,
            home: home.path().to_owned(),
            bootstrap: fleet.bootstrap(),
            checker: None,
            cluster: None,
            history: VecDeque::new(),
            shown_lines: 0,
            quitting: false,
            victim: None,
            started: fleet.started(),
        })
    }

    fn note(&mut self, text: String) {
        self.history.push_back(format!("{:>7.1} s  {text}", self.started.elapsed().as_secs_f64()));
        while self.history.len() > HISTORY {
            self.history.pop_front();
        }
    }

    fn tell(&mut self, event: &Event) {
        let text = match event {
            Event::Ready { .. } => return,
            Event::Killed { id } => format!("node {id} was killed by SIGKILL"),
            Event::Restarted { id, pid } => format!("node {id} is back and caught up (pid {pid})"),
            Event::Stopped { id } => format!("node {id} stopped"),
            Event::Exited { id, log, .. } => format!("node {id} died by itself; see {}", log.display()),
            Event::Refused { command, reason } => format!("{command}: {reason}"),
        };
        self.note(text);
    }

    fn keys(&mut self, keys: &[u8], fleet: &mut Fleet) {
        for key in keys {
            match key {
                b'q' | 3 => {
                    self.quitting = true;
                }
                b'k' => match self.busiest(fleet) {
                    Some(id) => self.kill(id, fleet),
                    None => self.note("no node is up".to_owned()),
                },
                b'r' => {
                    let down = fleet.states().into_iter().filter(|(_, state)| *state == State::Down);
                    for (id, _) in down.collect::<Vec<_>>() {
                        self.order(Order::Restart(id), fleet);
                    }
                }
                b'l' => self.toggle_load(),
                digit @ b'1'..=b'9' => {
                    let id = u32::from(digit - b'0');
                    match fleet.states().into_iter().find(|(node, _)| *node == id) {
                        Some((_, State::Down)) => self.order(Order::Restart(id), fleet),
                        Some(_) => self.kill(id, fleet),
                        None => {}
                    }
                }
                _ => {}
            }
        }
    }

    /// The live node that leads most; the controller's node among equals.
    fn busiest(&self, fleet: &Fleet) -> Option<u32> {
        let up = fleet.states().into_iter().filter(|(_, state)| *state == State::Up).map(|(id, _)| id);
        up.max_by_key(|id| {
            let node = self.cluster.iter().flat_map(|cluster| &cluster.nodes).find(|node| node.id == *id);
            node.map_or((0, false), |node| (node.leads, node.controller))
        })
    }

    fn kill(&mut self, id: u32, fleet: &mut Fleet) {
        if self.checker.is_some() {
            return self.order(Order::Kill(id), fleet);
        }
        self.toggle_load();
        self.note(format!("node {id} is killed in {} s, so that there is a load to disturb", LOAD_LEAD.as_secs()));
        self.victim = Some((Instant::now() + LOAD_LEAD, id));
    }

    /// Kills the node that was to die once the load runs.
    fn due(&mut self, fleet: &mut Fleet) {
        if let Some((_, id)) = self.victim.take_if(|(when, _)| Instant::now() >= *when) {
            self.order(Order::Kill(id), fleet);
        }
    }

    fn order(&mut self, order: Order, fleet: &mut Fleet) {
        if let Err(reason) = fleet.order(order) {
            self.note(reason);
        }
    }

    fn toggle_load(&mut self) {
        match self.checker.take() {
            Some(checker) => {
                self.note(format!("load off; {}", checker.report()));
                tokio::spawn(checker.end());
            }
            None => {
                self.checker = Some(Checker::start(&self.bootstrap));
                self.note("load on: records are written with acks=all and read back".to_owned());
            }
        }
    }

    async fn refresh(&mut self, fleet: &Fleet) {
        let up = fleet.states().into_iter().filter(|(_, state)| *state == State::Up).map(|(id, _)| id);
        let up: Vec<u32> = up.collect();
        for member in fleet.members().into_iter().filter(|member| up.contains(&member.id)) {
            let asked = tokio::time::timeout(REDRAW, get(&member.admin, "/v1/cluster")).await;
            if let Some(cluster) = asked.ok().and_then(Result::ok).and_then(|answer| answer.json().ok()) {
                self.cluster = Some(cluster);
                return;
            }
        }
    }

    fn draw(&mut self, fleet: &Fleet) -> std::io::Result<()> {
        let text = self.text(fleet);
        let mut out = std::io::stdout().lock();
        if self.shown_lines > 0 {
            write!(out, "\x1b[{}A\r\x1b[J", self.shown_lines)?;
        }
        self.shown_lines = text.lines().count();
        write!(out, "{}", text.replace('\n', "\r\n"))?;
        out.flush()
    }

    fn text(&self, fleet: &Fleet) -> String {
        let states = fleet.states();
        let rows: Vec<_> = fleet
            .members()
            .iter()
            .zip(states)
            .map(|(member, (id, state))| {
                let node = self.cluster.iter().flat_map(|cluster| &cluster.nodes).find(|node| node.id == id);
                let up = state == State::Up;
                let role = if up { node.map_or("member", |node| node.role()) } else { "" };
                [
                    id.to_string(),
                    format!("{state:?}").to_lowercase(),
                    role.to_owned(),
                    member.kafka.clone(),
                    member.amqp.clone(),
                    member.admin.clone(),
                    node.filter(|_| up).map_or_else(|| "-".to_owned(), |node| node.leads.to_string()),
                    bytes(folder_bytes(&self.home.join(format!("node-{id}")))),
                    member.pid.to_string(),
                ]
            })
            .collect();
        let nodes = table(["NODE", "STATE", "ROLE", "KAFKA", "AMQP", "ADMIN", "LEADS", "DISK", "PID"], &rows);
        let first = self.bootstrap.split(',').next().unwrap_or_default();
        let mut text = format!("{}\n\n{}", self.headline, indent(&nodes));
        text.push_str(&format!("\n  try:  flotilla topic produce hello -b {first}  ·  kcat -b {first} -L\n"));
        text.push_str("  keys: [k]ill the leader of most  [1-9] kill or restart that node  [r]estart what is down  [l]oad on/off  [q]uit\n");
        if let Some(checker) = &self.checker {
            text.push_str(&format!("\n  {}\n", checker.report()));
        }
        text.push('\n');
        self.history.iter().for_each(|line| text.push_str(&format!("  {line}\n")));
        if self.quitting {
            text.push_str("  stopping ...\n");
        }
        text
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        drop(terminal::disable_raw_mode());
    }
}

fn indent(text: &str) -> String {
    text.lines().map(|line| format!("  {line}\n")).collect()
}

/// Bytes of the files right in a folder and one level below.
fn folder_bytes(folder: &Path) -> u64 {
    let size = |entry: std::fs::DirEntry| {
        entry.metadata().map_or(0, |meta| if meta.is_dir() { folder_bytes(&entry.path()) } else { meta.len() })
    };
    std::fs::read_dir(folder).map_or(0, |entries| entries.flatten().map(size).sum())
}
