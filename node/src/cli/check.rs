//! `flotilla check config FILE`: says everything that is wrong with a file, or that nothing is.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context;
use clap::{Args, Subcommand};

use crate::config::load::{Sources, load};

/// What to check.
#[derive(Debug, Args)]
pub struct Options {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// A configuration file, without the environment
    Config {
        /// The file
        file: PathBuf,
    },
}

/// Runs it; exit code 1 if anything is wrong.
pub fn run(options: &Options) -> anyhow::Result<ExitCode> {
    let Verb::Config { file } = &options.verb;
    match load(&Sources { file: Some(read(file)?), ..Sources::default() }) {
        Ok(_) => {
            println!("{}: ok", file.display());
            Ok(ExitCode::SUCCESS)
        }
        Err(problems) => {
            eprintln!("{problems}");
            Ok(ExitCode::FAILURE)
        }
    }
}

/// Path and text of a configuration file.
pub fn read(file: &Path) -> anyhow::Result<(String, String)> {
    let text = std::fs::read_to_string(file).with_context(|| format!("cannot read {}", file.display()))?;
    Ok((file.display().to_string(), text))
}
