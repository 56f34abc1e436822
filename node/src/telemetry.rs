//! Log lines of the process: for people or one JSON object a line, on standard error.
//! Invariant: set up once, by a command, never by `run`: the simulation has its own subscriber.

use tracing_subscriber::EnvFilter;

use crate::config::units::LogFormat;

/// Starts logging. `level` is a filter such as `info`; the variable RUST_LOG wins. A second call is ignored.
pub fn start(format: LogFormat, level: &str) {
    let filter = EnvFilter::try_from_default_env()
        .or_else(|_| EnvFilter::try_new(level))
        .unwrap_or_else(|_| EnvFilter::new("info"));
    let lines = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).with_target(true);
    let started = match format {
        LogFormat::Human => lines.with_ansi(std::io::IsTerminal::is_terminal(&std::io::stderr())).try_init(),
        LogFormat::Json => lines.json().flatten_event(true).with_current_span(true).with_span_list(false).try_init(),
    };
    if let Err(error) = started {
        tracing::debug!(%error, "logging was already set up");
    }
}
