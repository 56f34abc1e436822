//! What one run says of itself: for people as a story, for the commands that run many as one line of JSON.
//! The last line of a story is the verdict, the seed and the hash of the whole history.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::coverage::Coverage;
use crate::history::History;

/// Violations of one run that are shown; the first ones tell the cause.
const VIOLATIONS_SHOWN: usize = 20;

/// The outcome of a run.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Report {
    /// The seed.
    pub seed: u64,
    /// Broken promises, each beginning with its name.
    pub violations: Vec<String>,
    /// Of the whole history.
    pub hash: String,
    /// Simulated milliseconds.
    pub simulated_ms: u64,
    /// Counts by name.
    pub counts: BTreeMap<String, u64>,
    /// Faults and the states they met.
    pub coverage: Coverage,
}

impl Report {
    /// Of a finished run.
    pub fn of(seed: u64, history: &History) -> Self {
        Self {
            seed,
            violations: history.violations.iter().take(VIOLATIONS_SHOWN).cloned().collect(),
            hash: format!("{:016x}", history.hash()),
            simulated_ms: u64::try_from(history.elapsed().as_millis()).unwrap_or(u64::MAX),
            counts: history.counts.iter().map(|(name, count)| ((*name).to_owned(), *count)).collect(),
            coverage: history.coverage.clone(),
        }
    }

    /// The name of the first broken promise.
    pub fn promise(&self) -> Option<&str> {
        let first = self.violations.first()?;
        Some(first.split_once(':').map_or(first.as_str(), |(name, _)| name))
    }

    /// The last line of the story.
    pub fn verdict(&self) -> String {
        let verdict = if self.violations.is_empty() { "ok" } else { "FAILED" };
        format!("{verdict} seed {} hash {}", self.seed, self.hash)
    }

    /// Adds another run: counts, coverage, time.
    pub fn add(&mut self, other: &Report) {
        self.simulated_ms += other.simulated_ms;
        self.coverage.add(&other.coverage);
        for (name, count) in &other.counts {
            *self.counts.entry(name.clone()).or_default() += count;
        }
    }

    /// Counts and coverage as tables.
    pub fn tables(&self) -> String {
        let counts: String = self.counts.iter().map(|(name, count)| format!("{count:>10} {name}\n")).collect();
        format!("{counts}{}", self.coverage.table())
    }
}
