//! Layers: default, file, environment, flag; the later wins. Owns the record of where each value came from.
//! Invariant: every problem of every source is reported in one go, each with its source. Never touches the process environment itself:
//! the caller hands it in.

use std::collections::BTreeMap;
use std::fmt;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::check;
use super::keys::{self, KEYS, PREFIX};
use super::settings::Settings;
use super::units::Raw;

/// Settings whose values are not repeated in a message.
const SECRETS: [&str; 2] = ["cluster.secret", "amqp.users"];

/// Where a value was read.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Source {
    /// Built in.
    Default,
    /// A line of the file.
    File {
        /// As given by the user.
        path: String,
        /// From 1.
        line: usize,
    },
    /// An environment variable.
    Variable(String),
    /// A command line flag, with its dashes.
    Flag(String),
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => write!(f, "default"),
            Self::File { path, line } => write!(f, "{path}:{line}"),
            Self::Variable(name) => write!(f, "${name}"),
            Self::Flag(name) => write!(f, "{name}"),
        }
    }
}

/// One thing that is wrong, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// Where it was written.
    pub source: Source,
    /// What is wrong and what to do.
    pub text: String,
}

/// Everything that is wrong.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub struct Problems(pub Vec<Problem>);

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let noun = if self.0.len() == 1 { "problem" } else { "problems" };
        write!(f, "{} {noun} in the configuration", self.0.len())?;
        for Problem { source, text } in &self.0 {
            write!(f, "\n  {source}: {text}")?;
        }
        Ok(())
    }
}

/// What to load from.
#[derive(Clone, Debug, Default)]
pub struct Sources {
    /// Path (for messages) and text of the file.
    pub file: Option<(String, String)>,
    /// Environment; variables that do not start with `FLOTILLA__` are ignored.
    pub variables: Vec<(String, String)>,
    /// Flag name with dashes, key, value.
    pub flags: Vec<(String, &'static str, Raw)>,
    /// `--set key=value` pairs, as typed.
    pub assignments: Vec<String>,
}

/// A configuration with the origin of each of its values.
#[derive(Clone, Debug)]
pub struct Loaded {
    /// The values.
    pub settings: Settings,
    origin: BTreeMap<&'static str, Source>,
}

impl Loaded {
    /// Where the value of that key came from.
    pub fn source(&self, key: &str) -> Source {
        self.origin.get(key).cloned().unwrap_or(Source::Default)
    }

    /// The effective configuration as TOML, each line with its source; loading the text again gives the same values.
    pub fn print(&self) -> String {
        let width =
            KEYS.iter().map(|key| key.name.len() + (key.show)(&self.settings).len() + 3).max().unwrap_or(0).min(64);
        let line = |key: &keys::Key| {
            let setting = format!("{} = {}", key.name, (key.show)(&self.settings));
            format!("{setting:<width$}  # {}\n", self.source(key.name))
        };
        KEYS.iter().map(line).collect()
    }
}

/// Loads, in order of precedence, and checks.
pub fn load(sources: &Sources) -> Result<Loaded, Problems> {
    let mut loader =
        Loader { loaded: Loaded { settings: Settings::default(), origin: BTreeMap::new() }, problems: Vec::new() };
    if let Some((path, text)) = &sources.file {
        loader.file(path, text);
    }
    loader.variables(&sources.variables);
    for (flag, key, raw) in &sources.flags {
        loader.set(key, raw, Source::Flag(flag.clone()));
    }
    for assignment in &sources.assignments {
        loader.assignment(assignment);
    }
    let Loader { loaded, mut problems } = loader;
    problems.extend(check::check(&loaded));
    if problems.is_empty() { Ok(loaded) } else { Err(Problems(problems)) }
}

struct Loader {
    loaded: Loaded,
    problems: Vec<Problem>,
}

impl Loader {
    fn problem(&mut self, source: Source, text: String) {
        self.problems.push(Problem { source, text });
    }

    fn set(&mut self, name: &str, raw: &Raw, source: Source) {
        let Some(key) = keys::find(name) else {
            return self.problem(source, unknown(name));
        };
        match (key.set)(&mut self.loaded.settings, raw) {
            Ok(()) => {
                self.loaded.origin.insert(key.name, source);
            }
            Err(text) => self.problem(source, format!("{name}: {text}")),
        }
    }

    fn variables(&mut self, variables: &[(String, String)]) {
        let mut ours: Vec<_> = variables.iter().filter(|(name, _)| name.starts_with(PREFIX)).collect();
        ours.sort();
        for (variable, value) in ours {
            let name = variable[PREFIX.len()..].replace("__", ".").to_ascii_lowercase();
            self.set(&name, &Raw::Text(value.clone()), Source::Variable(variable.clone()));
        }
    }

    fn assignment(&mut self, assignment: &str) {
        let secret = SECRETS.into_iter().find(|name| assignment.trim_start().starts_with(name));
        let source = Source::Flag(match secret {
            Some(name) => format!("--set {name}=..."),
            None => format!("--set {assignment}"),
        });
        match assignment.split_once('=') {
            Some((name, value)) => self.set(name.trim(), &Raw::Text(value.trim().to_owned()), source),
            None => self.problem(source, "KEY=VALUE is expected".to_owned()),
        }
    }

    fn file(&mut self, path: &str, text: &str) {
        let (table, errors) = DeTable::parse_recoverable(text);
        let at = |offset: usize| Source::File { path: path.to_owned(), line: line_of(text, offset) };
        for error in errors {
            let offset = error.span().map_or(0, |span| span.start);
            self.problem(at(offset), error.message().to_owned());
        }
        self.table("", table.get_ref(), &at);
    }

    fn table(&mut self, prefix: &str, table: &DeTable<'_>, at: &dyn Fn(usize) -> Source) {
        let mut rows: Vec<_> = table.iter().collect();
        rows.sort_by_key(|(key, _)| key.span().start);
        for (key, value) in rows {
            let name = format!("{prefix}{}", key.get_ref());
            let source = at(key.span().start);
            match value.get_ref() {
                DeValue::Table(inner) if is_section(&name) => self.table(&format!("{name}."), inner, at),
                DeValue::Table(_) => self.problem(source, unknown(&name)),
                _ => match raw(value) {
                    Some(raw) => self.set(&name, &raw, source),
                    None => self.problem(
                        source,
                        format!("{name}: a text, a number, true, false or a list of them is expected"),
                    ),
                },
            }
        }
    }
}

fn unknown(name: &str) -> String {
    match keys::nearest(name) {
        Some(near) => format!("unknown setting \"{name}\"; did you mean \"{near}\"?"),
        None => format!("unknown setting \"{name}\"; `flotilla server --print-config` lists all"),
    }
}

fn is_section(name: &str) -> bool {
    KEYS.iter().any(|key| key.name.strip_prefix(name).is_some_and(|rest| rest.starts_with('.')))
}

fn raw(value: &Spanned<DeValue<'_>>) -> Option<Raw> {
    match value.get_ref() {
        DeValue::Array(items) => items.iter().map(scalar).collect::<Option<Vec<_>>>().map(Raw::List),
        _ => scalar(value).map(Raw::Text),
    }
}

fn scalar(value: &Spanned<DeValue<'_>>) -> Option<String> {
    match value.get_ref() {
        DeValue::String(text) => Some(text.to_string()),
        DeValue::Integer(number) => Some(number.to_string()),
        DeValue::Float(number) => Some(number.to_string()),
        DeValue::Boolean(switch) => Some(switch.to_string()),
        DeValue::Datetime(_) | DeValue::Array(_) | DeValue::Table(_) => None,
    }
}

fn line_of(text: &str, offset: usize) -> usize {
    1 + text.as_bytes().iter().take(offset).filter(|byte| **byte == b'\n').count()
}

#[cfg(test)]
mod tests;
