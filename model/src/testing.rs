//! What the property tests share: how many cases they run.

use proptest::test_runner::Config;

/// 300 cases, or 5,000 when `FLOTILLA_LONG` is set (`make test-long`). Failures print their seed and steps.
pub(crate) fn config() -> Config {
    let cases = if std::env::var_os("FLOTILLA_LONG").is_some() { 5_000 } else { 300 };
    Config { cases, failure_persistence: None, ..Config::default() }
}
