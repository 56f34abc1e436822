//! `flotilla cluster config`: the settings that the cluster keeps itself; what nodes need to start stands in their config files.

use std::collections::BTreeMap;
use std::process::ExitCode;

use anyhow::bail;
use clap::{Args, Subcommand};

use crate::broker::{Setting, SettingChanged, SettingsChange};
use crate::cli::output::{Format, print, table, time};
use crate::cli::{get, post};

/// What to do with settings.
#[derive(Debug, Subcommand)]
pub enum Verb {
    /// Settings with their values; of one with what it does
    Get {
        /// Only this one
        key: Option<String>,
    },
    /// Change settings, all of them or none
    Set {
        /// Keys with their new values
        #[arg(value_name = "KEY=VALUE", required = true, value_parser = assignment)]
        settings: Vec<(String, String)>,
        #[command(flatten)]
        how: How,
    },
    /// Take settings back to their defaults
    Unset {
        /// Which
        #[arg(required = true)]
        keys: Vec<String>,
        #[command(flatten)]
        how: How,
    },
    /// Settings that are not the defaults, and those of single nodes
    Diff,
    /// The last changes of settings, of topics too
    History,
}

/// Where, and whether at all.
#[derive(Debug, Args)]
pub struct How {
    /// On this node alone
    #[arg(long)]
    node: Option<u32>,
    /// Only check, and show what would change
    #[arg(long)]
    dry_run: bool,
}

fn assignment(text: &str) -> Result<(String, String), String> {
    let (key, value) = text.split_once('=').ok_or("KEY=VALUE is expected")?;
    Ok((key.to_owned(), value.to_owned()))
}

/// Runs it.
pub async fn run(address: &str, verb: Verb, format: Format) -> anyhow::Result<ExitCode> {
    match verb {
        Verb::Get { key: None } => print(format, &settings(address).await?, |all| show(all))?,
        Verb::Get { key: Some(key) } => match settings(address).await?.into_iter().find(|setting| setting.key == key) {
            Some(found) => print(format, &found, |found| {
                show(std::slice::from_ref(found)) + &format!("{}\n", found.documentation)
            })?,
            None => bail!("there is no setting \"{key}\""),
        },
        Verb::Set { settings, how } => {
            let set = settings.into_iter().collect();
            let How { node, dry_run } = how;
            change(address, SettingsChange { node, dry_run, set, unset: Vec::new() }, format).await?;
        }
        Verb::Unset { keys, how } => {
            let How { node, dry_run } = how;
            change(address, SettingsChange { node, dry_run, set: BTreeMap::new(), unset: keys }, format).await?;
        }
        Verb::Diff => {
            let mut all = settings(address).await?;
            all.retain(|setting| setting.set || !setting.nodes.is_empty());
            print(format, &all, |all| show(all))?;
        }
        Verb::History => {
            let changes: Vec<SettingChanged> = get(address, "/v1/configs/changes").await?.json()?;
            print(format, &changes, |changes| history(changes))?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

async fn settings(address: &str) -> anyhow::Result<Vec<Setting>> {
    get(address, "/v1/configs").await?.json()
}

async fn change(address: &str, change: SettingsChange, format: Format) -> anyhow::Result<()> {
    let changed: Vec<SettingChanged> = post(address, "/v1/configs", &serde_json::to_value(&change)?).await?.json()?;
    print(format, &changed, |changed| {
        let verdict = if change.dry_run { "nothing was changed; this would be:\n" } else { "" };
        if changed.is_empty() { "nothing to change\n".to_owned() } else { verdict.to_owned() + &history(changed) }
    })
}

fn show(settings: &[Setting]) -> String {
    let row = |setting: &Setting| {
        let nodes: Vec<_> = setting.nodes.iter().map(|(node, value)| format!("{node}: {value}")).collect();
        let from = match setting {
            Setting { read_only: true, .. } => "config file",
            Setting { set: true, .. } => "cluster",
            _ => "default",
        };
        [setting.key.clone(), or_dash(&setting.value), from.to_owned(), or_dash(&setting.default), nodes.join(", ")]
    };
    table(["KEY", "VALUE", "FROM", "DEFAULT", "NODES"], &settings.iter().map(row).collect::<Vec<_>>())
}

fn history(changes: &[SettingChanged]) -> String {
    let row = |change: &SettingChanged| {
        [time(change.at_ms), change.of.clone(), change.key.clone(), or_dash(&change.before), or_dash(&change.after)]
    };
    table(["TIME", "OF", "KEY", "BEFORE", "AFTER"], &changes.iter().map(row).collect::<Vec<_>>())
}

fn or_dash(value: &Option<String>) -> String {
    value.clone().unwrap_or_else(|| "-".to_owned())
}
