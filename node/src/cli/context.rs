//! `flotilla context`: names for clusters, kept in a file of the person who types. The addresses of the context in use are the defaults
//! of `--bootstrap` and `--admin`; what is said on the command line or in FLOTILLA_BOOTSTRAP and FLOTILLA_ADMIN comes first.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::OnceLock;

use anyhow::{Context as _, bail};
use clap::{Args, Subcommand};
use serde::{Deserialize, Serialize};

use super::Output;
use super::output::{Format, print, table};

/// What there is without any context: the first node of `make dev`.
const DEV: (&str, &str) = ("127.0.0.1:9092", "127.0.0.1:9640");

/// The context that this process uses.
static IN_USE: OnceLock<Addresses> = OnceLock::new();

/// What to do with contexts.
#[derive(Debug, Args)]
pub struct Options {
    #[command(flatten)]
    output: Output,
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// All contexts; the star is at the one in use
    Ls,
    /// Name a cluster, or change what the name stands for
    Add {
        /// Its name
        name: String,
        /// Kafka addresses, with commas
        #[arg(long)]
        bootstrap: String,
        /// HTTP address of any node
        #[arg(long)]
        admin: String,
    },
    /// Use a context from now on
    Use {
        /// Its name
        name: String,
    },
    /// Forget a context
    Rm {
        /// Its name
        name: String,
    },
}

/// Where a cluster is.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct Addresses {
    bootstrap: String,
    admin: String,
}

/// The file.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
struct Contexts {
    #[serde(skip_serializing_if = "Option::is_none")]
    in_use: Option<String>,
    contexts: BTreeMap<String, Addresses>,
}

/// A row of `ls`.
#[derive(Serialize)]
struct Row<'a> {
    name: &'a str,
    in_use: bool,
    #[serde(flatten)]
    addresses: &'a Addresses,
}

/// The default of `--bootstrap`.
pub fn bootstrap() -> String {
    IN_USE.get().map_or(DEV.0, |addresses| &addresses.bootstrap).to_owned()
}

/// The default of `--admin`.
pub fn admin() -> String {
    IN_USE.get().map_or(DEV.1, |addresses| &addresses.admin).to_owned()
}

/// Finds the context in use; before the command line is read, which has its addresses as defaults.
///
/// # Errors
/// The file cannot be read, or names one that is not there: nobody should command another cluster than they think.
pub fn choose() -> anyhow::Result<()> {
    let contexts = Contexts::load(&path())?;
    let name = std::env::var("FLOTILLA_CONTEXT").ok().filter(|name| !name.is_empty());
    if let Some(name) = name.or(contexts.in_use.clone()) {
        let _first = IN_USE.set(contexts.named(&name)?.clone());
    }
    Ok(())
}

/// Runs it.
pub fn run(options: &Options) -> anyhow::Result<ExitCode> {
    let path = path();
    let mut contexts = Contexts::load(&path)?;
    match &options.verb {
        Verb::Ls => {
            ls(options.output.output, &contexts)?;
            return Ok(ExitCode::SUCCESS);
        }
        Verb::Add { name, bootstrap, admin } => {
            contexts.contexts.insert(name.clone(), Addresses { bootstrap: bootstrap.clone(), admin: admin.clone() });
        }
        Verb::Use { name } => {
            contexts.named(name)?;
            contexts.in_use = Some(name.clone());
        }
        Verb::Rm { name } => {
            contexts.named(name)?;
            contexts.contexts.remove(name);
            contexts.in_use.take_if(|used| used == name);
        }
    }
    contexts.save(&path)?;
    Ok(ExitCode::SUCCESS)
}

fn ls(format: Format, contexts: &Contexts) -> anyhow::Result<()> {
    let mut rows = Vec::new();
    for (name, addresses) in &contexts.contexts {
        rows.push(Row { name, in_use: contexts.in_use.as_ref() == Some(name), addresses });
    }
    print(format, &rows, |rows| {
        let line = |row: &Row| {
            let star = if row.in_use { "*" } else { "" };
            [star.to_owned(), row.name.to_owned(), row.addresses.bootstrap.clone(), row.addresses.admin.clone()]
        };
        table(["", "NAME", "BOOTSTRAP", "ADMIN"], &rows.iter().map(line).collect::<Vec<_>>())
    })
}

/// `FLOTILLA_CONTEXTS`, else in the configuration folder of the person (XDG Base Directory); nowhere for who has none.
fn path() -> Option<PathBuf> {
    let folder = |name| std::env::var_os(name).filter(|folder| !folder.is_empty()).map(PathBuf::from);
    let configs = folder("XDG_CONFIG_HOME").or_else(|| Some(folder("HOME")?.join(".config")));
    folder("FLOTILLA_CONTEXTS").or_else(|| Some(configs?.join("flotilla").join("contexts.toml")))
}

impl Contexts {
    fn load(path: &Option<PathBuf>) -> anyhow::Result<Self> {
        let Some(path) = path.as_deref().filter(|path| path.exists()) else { return Ok(Self::default()) };
        let text = std::fs::read_to_string(path).with_context(|| path.display().to_string())?;
        toml::from_str(&text).with_context(|| path.display().to_string())
    }

    /// Written beside and renamed, so that there is always a whole file.
    fn save(&self, path: &Option<PathBuf>) -> anyhow::Result<()> {
        let path = path.as_deref().context("there is no home folder: name a file by FLOTILLA_CONTEXTS")?;
        let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
        std::fs::create_dir_all(folder).with_context(|| folder.display().to_string())?;
        let beside = path.with_extension(format!("toml.{}", std::process::id()));
        std::fs::write(&beside, toml::to_string(self)?).with_context(|| beside.display().to_string())?;
        std::fs::rename(&beside, path).with_context(|| path.display().to_string())
    }

    fn named(&self, name: &str) -> anyhow::Result<&Addresses> {
        match self.contexts.get(name) {
            Some(found) => Ok(found),
            None => bail!("there is no context \"{name}\" (see `flotilla context ls`)"),
        }
    }
}
