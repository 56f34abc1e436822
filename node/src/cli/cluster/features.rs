//! `flotilla cluster features`: what all nodes and clients must agree on, and is therefore switched at once. After an upgrade of all
//! nodes `finalize` raises it to what they can do; until then the older version can come back.

use std::process::ExitCode;

use clap::{Args, Subcommand};

use crate::broker::{FeatureChange, FeatureReport};
use crate::cli::output::{Format, print, table};
use crate::cli::{get, post};

/// What to do with features.
#[derive(Debug, Subcommand)]
pub enum Verb {
    /// All, with the levels that there are
    Ls,
    /// Set levels, higher or lower; 0 is off
    Set {
        /// Features with their new levels
        #[arg(value_name = "NAME=LEVEL", required = true, value_parser = assignment)]
        levels: Vec<(String, i16)>,
        #[command(flatten)]
        how: How,
    },
    /// Raise all to the highest level that the nodes can work at
    Finalize {
        #[command(flatten)]
        how: How,
    },
}

/// Whether at all.
#[derive(Debug, Args)]
pub struct How {
    /// Only check
    #[arg(long)]
    dry_run: bool,
}

fn assignment(text: &str) -> Result<(String, i16), String> {
    let level = text.split_once('=').and_then(|(name, level)| Some((name.to_owned(), level.parse().ok()?)));
    level.ok_or_else(|| "NAME=LEVEL is expected".to_owned())
}

/// Runs it.
pub async fn run(address: &str, verb: Verb, format: Format) -> anyhow::Result<ExitCode> {
    let all: Vec<FeatureReport> = get(address, "/v1/features").await?.json()?;
    let now = match verb {
        Verb::Ls => all,
        Verb::Set { levels, how } => change(address, levels, how).await?,
        Verb::Finalize { how } => {
            change(address, all.into_iter().map(|feature| (feature.name, feature.max)).collect(), how).await?
        }
    };
    print(format, &now, |now| {
        let row =
            |one: &FeatureReport| [one.name.clone(), one.level.to_string(), one.min.to_string(), one.max.to_string()];
        table(["NAME", "LEVEL", "LOWEST", "HIGHEST"], &now.iter().map(row).collect::<Vec<_>>())
    })?;
    Ok(ExitCode::SUCCESS)
}

async fn change(address: &str, levels: Vec<(String, i16)>, how: How) -> anyhow::Result<Vec<FeatureReport>> {
    let change = FeatureChange { set: levels.into_iter().collect(), dry_run: how.dry_run };
    post(address, "/v1/features", &serde_json::to_value(change)?).await?.json()
}
