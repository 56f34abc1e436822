//! The faults of one run as acts: what begins, when, and when it ends. Whoever removes or shortens an act keeps the pair whole.
//! As a file: one JSON object a line, in the order of time. Invariant: an act with an end ends after it began.

use std::fs;
use std::path::Path;
use std::time::Duration;

use anyhow::Context;
use serde::{Deserialize, Serialize};

use crate::fault::Fault;

/// What a fault that ends by itself, or leaves something to recover from, is taken to last.
const AFTERMATH_MS: u64 = 3_000;

/// One fault and, if something must end it, when.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Act {
    /// The scenario it belongs to.
    pub scenario: String,
    /// Simulated milliseconds at which it begins.
    pub at_ms: u64,
    /// Simulated milliseconds at which it ends; absent if nothing ends it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until_ms: Option<u64>,
    /// What begins.
    pub fault: Fault,
}

impl Act {
    /// When it troubles nobody any more.
    pub fn over_ms(&self) -> u64 {
        let aftermath_ms = if matches!(self.fault, Fault::Backup { .. }) { 0 } else { AFTERMATH_MS };
        self.until_ms.unwrap_or(self.at_ms + aftermath_ms)
    }
}

/// All acts of a run.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Schedule {
    /// In order of their beginning.
    pub acts: Vec<Act>,
}

impl Schedule {
    /// Puts acts in order.
    pub fn new(mut acts: Vec<Act>) -> Self {
        acts.sort_by_key(|act| act.at_ms);
        Self { acts }
    }

    /// Everything that happens, in order of time; of what falls on one moment, what ends comes first.
    pub fn steps(&self) -> Vec<(Duration, Fault)> {
        let mut steps = Vec::new();
        for act in &self.acts {
            steps.push((act.at_ms, true, act.fault.clone()));
            if let Some((until_ms, ending)) = act.until_ms.zip(act.fault.ending()) {
                steps.push((until_ms.max(act.at_ms + 1), false, ending));
            }
        }
        steps.sort_by_key(|(at_ms, begins, _)| (*at_ms, *begins));
        steps.into_iter().map(|(at_ms, _, fault)| (Duration::from_millis(at_ms), fault)).collect()
    }

    /// The node that is damaged for good, if one is.
    pub fn damaged(&self) -> Option<u32> {
        self.acts.iter().find_map(|act| act.fault.damages())
    }

    /// The node that stays damaged: an empty disk is filled again from the peers.
    pub fn beyond_repair(&self) -> Option<u32> {
        let stays = |act: &&Act| !matches!(act.fault, Fault::DiskLoss { .. });
        self.acts.iter().filter(stays).find_map(|act| act.fault.damages())
    }

    /// When the last act is over and only the cluster is left to recover.
    pub fn healed(&self) -> Duration {
        let ends = self.acts.iter().map(|act| act.until_ms.unwrap_or(act.at_ms));
        Duration::from_millis(ends.max().unwrap_or_default())
    }

    /// In one line.
    pub fn summary(&self) -> String {
        let damaged = self.damaged().map_or(String::new(), |node| format!(", node {node} damaged for good"));
        format!("schedule of {} acts, over at {:.3}s{damaged}", self.acts.len(), self.healed().as_secs_f64())
    }

    /// Reads a file that [`Schedule::write`] wrote, or a person.
    ///
    /// # Errors
    /// No such file, or a line that is no act.
    pub fn read(path: &Path) -> anyhow::Result<Self> {
        let text = fs::read_to_string(path).with_context(|| format!("schedule {}", path.display()))?;
        let acts = text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty());
        let acts = acts.map(|(number, line)| {
            serde_json::from_str(line).with_context(|| format!("{} line {}: {line}", path.display(), number + 1))
        });
        Ok(Self::new(acts.collect::<anyhow::Result<_>>()?))
    }

    /// Writes one line an act.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn write(&self, path: &Path) -> anyhow::Result<()> {
        let lines: Result<Vec<String>, _> = self.acts.iter().map(serde_json::to_string).collect();
        fs::write(path, lines?.join("\n") + "\n").with_context(|| format!("schedule {}", path.display()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn act(at_ms: u64, until_ms: Option<u64>, fault: Fault) -> Act {
        Act { scenario: "test".to_owned(), at_ms, until_ms, fault }
    }

    #[test]
    fn what_begins_ends_and_ends_come_first() {
        let schedule = Schedule::new(vec![
            act(20, Some(30), Fault::Kill { node: 2 }),
            act(10, Some(20), Fault::Cut { from: 1, to: 2 }),
            act(15, None, Fault::SyncError { node: 1 }),
        ]);
        let ms = Duration::from_millis;
        let expected = [
            (ms(10), Fault::Cut { from: 1, to: 2 }),
            (ms(15), Fault::SyncError { node: 1 }),
            (ms(20), Fault::Heal { from: 1, to: 2 }),
            (ms(20), Fault::Kill { node: 2 }),
            (ms(30), Fault::Start { node: 2 }),
        ];
        assert_eq!(schedule.steps(), expected);
        assert_eq!(schedule.healed(), ms(30));
    }

    #[test]
    fn a_file_gives_back_what_was_written() {
        let slow = Fault::Slow { from: 3, to: 1, delay_ms: 500, loss: 20 };
        let schedule =
            Schedule::new(vec![act(5, Some(9), slow), act(7, None, Fault::ClockJump { node: 1, by_ms: -3 })]);
        let path = std::env::temp_dir().join(format!("flotilla-schedule-{}.jsonl", std::process::id()));
        schedule.write(&path).unwrap();
        let read = Schedule::read(&path);
        fs::remove_file(&path).unwrap();
        assert_eq!(read.unwrap(), schedule);
    }
}
