//! Damaged files: one node is killed, a byte in one of its files flips or the file loses its second half, and it starts again. It must
//! say so, and either not start, or keep the damaged replicas out and rebuild them from their peers; the two others serve everything.
//! Then the medium is whole again.

use std::fs::{self, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread::sleep;
use std::time::{Duration, Instant};

use harness::{count, healed_within, http};
use tempfile::TempDir;

use crate::chaos::World;
use crate::{power, turn};

const NOTICED_WITHIN: Duration = Duration::from_secs(60);
/// A node that said what is damaged, neither ends nor is ready for so long, stays like this.
const SETTLED: Duration = Duration::from_secs(5);
/// In words of a node that met damage.
const DAMAGE_SAID: &str = "corrupt store";
/// Inside the first record of a write-ahead log.
const FIRST_RECORD: u64 = 40;

/// What is damaged, and how.
#[derive(Clone, Copy, Debug)]
struct Damage {
    /// Extension of the file.
    file: &'static str,
    cut: bool,
}

impl Damage {
    /// A flipped byte in a table or a blob is found when it is read, which may be never or as a leader only.
    fn is_met_at_the_start(self) -> bool {
        self.file == "log" || (self.file == "sst" && self.cut)
    }
}

const ALL: [Damage; 6] = [
    Damage { file: "log", cut: false },
    Damage { file: "sst", cut: true },
    Damage { file: "blob", cut: false },
    Damage { file: "blob", cut: true },
    Damage { file: "sst", cut: false },
    Damage { file: "log", cut: true },
];

/// What became of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Outcome {
    Refused,
    Quarantined,
    /// What was damaged was quarantined, and is replaced.
    Rebuilt,
    /// The node is ready: nothing that it needs is damaged.
    NotMet,
}

#[test]
fn damaged_files_are_found_and_nothing_wrong_is_served() {
    let _turn = turn();
    let mut world = World::start(1);
    for damage in ALL.into_iter().take(count(3, ALL.len())) {
        let (outcome, story) = strike(&mut world, damage);
        let (ready, _) = world.healed(healed_within());
        println!("{story}; whole again, ready after {} ms", ready.as_millis());
        assert!(outcome != Outcome::NotMet || !damage.is_met_at_the_start(), "{damage:?} went unseen");
    }
}

/// It may vote twice, and lacks what it has confirmed.
#[test]
fn an_old_copy_of_a_folder_is_refused_and_marked() {
    let _turn = turn();
    let mut world = World::start(2);
    let id = 2;
    let folder = world.data(id).join("db");
    let (old, whole) = (aside(&mut world, id), {
        world.servers.start(id);
        world.healed(healed_within());
        aside(&mut world, id)
    });
    replace(&folder, old.path());
    power::replaced(world.servers.node(id));
    for start in ["the first start", "a later start"] {
        let from = world.servers.node(id).log_bytes();
        world.servers.start(id);
        await_refusal(&mut world, id, start);
        let said = world.servers.node(id).said(from);
        assert!(said.contains("it is an old copy of itself"), "{start}: {said}");
        world.servers.node(id).kill();
    }
    world.check_cargo();
    let probed = world.probe();
    assert!(probed.status.success(), "the two others do not serve: {probed:?}");
    replace(&folder, whole.path());
    power::replaced(world.servers.node(id));
    world.servers.start(id);
    let (ready, _) = world.healed(healed_within());
    println!("an old copy was refused; whole again, ready after {} ms", ready.as_millis());
}

/// Kills the node and copies its folder.
fn aside(world: &mut World, id: u32) -> TempDir {
    power::lost(world.servers.node(id), false);
    world.servers.node(id).kill();
    let aside = TempDir::new_in(world.servers.home.path()).expect("a folder");
    copy(&world.data(id).join("db"), aside.path());
    aside
}

/// One of them, drawn.
pub fn any(world: &mut World) -> String {
    let damage = world.dice.pick(&ALL);
    strike(world, damage).1
}

fn strike(world: &mut World, damage: Damage) -> (Outcome, String) {
    let id = world.dice.pick(&world.servers.ids());
    let folder = world.data(id).join("db");
    let aside = aside(world, id);
    let Some(path) = choose(&folder, damage.file) else {
        world.servers.start(id);
        return (Outcome::NotMet, format!("node {id} has no {} file", damage.file));
    };
    hurt(&path, damage);
    let from = world.servers.node(id).log_bytes();
    world.servers.start(id);
    let outcome = noticed(world, id, from);
    if outcome != Outcome::NotMet {
        let said = world.servers.node(id).said(from);
        assert!(said.contains(DAMAGE_SAID), "node {id} {outcome:?} without saying why: {said}");
        world.check_cargo();
        let probed = world.probe();
        assert!(probed.status.success(), "the two others do not serve: {probed:?}");
    }
    world.servers.node(id).kill();
    if restore(&folder, aside.path(), &path, outcome) {
        power::replaced(world.servers.node(id));
    }
    world.servers.start(id);
    (outcome, format!("{} of node {id} {}: {outcome:?}", damage.file, if damage.cut { "cut" } else { "flipped" }))
}

/// Waits until a node ends because of what it found.
fn await_refusal(world: &mut World, id: u32, start: &str) {
    let started = Instant::now();
    loop {
        if let Some(status) = world.servers.node(id).ended() {
            return assert!(!status.success(), "{start}: node {id} ended as if all were well");
        }
        assert!(started.elapsed() < NOTICED_WITHIN, "{start}: node {id} goes on");
        sleep(Duration::from_millis(20));
    }
}

/// Waits until the node ends, or is ready, or is neither for long after it met the damage: slow is not quarantined. Its log is read from a
/// place on.
fn noticed(world: &mut World, id: u32, from: u64) -> Outcome {
    let (started, mut met) = (Instant::now(), None::<Instant>);
    while started.elapsed() < NOTICED_WITHIN && met.is_none_or(|met| met.elapsed() < SETTLED) {
        let node = world.servers.node(id);
        if let Some(status) = node.ended() {
            assert!(!status.success(), "node {id} ended as if all were well");
            return Outcome::Refused;
        }
        if matches!(http::get(node.admin(), "/readyz"), Some((200, _))) {
            return if node.said(from).contains(DAMAGE_SAID) { Outcome::Rebuilt } else { Outcome::NotMet };
        }
        if met.is_none() && node.said(from).contains(DAMAGE_SAID) {
            met = Some(Instant::now());
        }
        sleep(Duration::from_millis(20));
    }
    Outcome::Quarantined
}

/// The largest table or blob; the write-ahead log in use, the newest that is not empty.
fn choose(folder: &Path, extension: &str) -> Option<PathBuf> {
    let files = fs::read_dir(folder).expect("the data folder").map(|file| file.expect("a file").path());
    let size = |path: &PathBuf| fs::metadata(path).map_or(0, |metadata| metadata.len());
    let suited = files.filter(|path| path.extension().is_some_and(|found| found == extension) && size(path) > 0);
    suited.max_by_key(|path| if extension == "log" { (0, path.clone()) } else { (size(path), path.clone()) })
}

fn hurt(path: &Path, damage: Damage) {
    let file = OpenOptions::new().read(true).write(true).open(path).expect("the file opens");
    let length = file.metadata().expect("the file has a length").len();
    let middle = if damage.file == "log" { FIRST_RECORD.min(length / 2) } else { length / 2 };
    if damage.cut {
        return file.set_len(middle).expect("the file is cut");
    }
    let mut byte = [0];
    file.read_exact_at(&mut byte, middle).expect("a byte is there");
    file.write_all_at(&[byte[0] ^ 0x10], middle).expect("a byte flips");
}

/// A folder that was refused comes back whole, since nothing ran on it; otherwise the one file does, if it is still in use.
/// An older copy of the rest would be a node that forgot its votes. Says whether the folder was replaced.
fn restore(folder: &Path, aside: &Path, path: &Path, outcome: Outcome) -> bool {
    let whole = outcome == Outcome::Refused;
    if whole {
        replace(folder, aside);
    } else if path.exists() {
        fs::copy(aside.join(path.file_name().expect("a name")), path).expect("the file comes back");
    }
    whole
}

fn replace(folder: &Path, by: &Path) {
    fs::remove_dir_all(folder).expect("the folder goes");
    fs::create_dir(folder).expect("a folder");
    copy(by, folder);
}

fn copy(from: &Path, to: &Path) {
    let status = Command::new("cp").arg("-a").arg(from.join(".")).arg(to).status().expect("cp runs");
    assert!(status.success(), "cp {from:?} {to:?}");
}
