//! From where to go on in a log, as it is said on the command line: an end, an offset, a time.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::client::Start;
use crate::config::units::parse_duration;
use crate::seams::{Clock, SystemClock};

/// As it was said.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Whence {
    /// There.
    At(Start),
    /// So long ago.
    Ago(Duration),
}

impl Whence {
    /// Seen from now.
    ///
    /// # Errors
    /// Longer ago than time is counted.
    pub fn start(self) -> anyhow::Result<Start> {
        match self {
            Whence::At(start) => Ok(start),
            Whence::Ago(ago) => Ok(Start::Time(SystemClock::new().wall_ms() - i64::try_from(ago.as_millis())?)),
        }
    }
}

fn since_epoch_ms(time: SystemTime) -> Option<i64> {
    i64::try_from(time.duration_since(UNIX_EPOCH).ok()?.as_millis()).ok()
}

/// Reads one.
///
/// # Errors
/// What is expected.
pub fn whence(text: &str) -> Result<Whence, String> {
    let expected = "earliest, latest, an offset, a time ago such as 2h, or a time such as 2026-01-31T12:00:00Z or @ and ms since 1970 is expected";
    Ok(match text {
        "earliest" => Whence::At(Start::Earliest),
        "latest" => Whence::At(Start::Latest),
        _ => match (text.strip_prefix('@'), text.parse::<i64>()) {
            (Some(ms), _) => Whence::At(Start::Time(ms.parse().map_err(|_| expected)?)),
            (None, Ok(offset)) if offset >= 0 => Whence::At(Start::Offset(offset)),
            (None, Ok(_)) => return Err(expected.to_owned()),
            (None, Err(_)) => match humantime::parse_rfc3339_weak(text) {
                Ok(time) => Whence::At(Start::Time(since_epoch_ms(time).ok_or(expected)?)),
                Err(_) => Whence::Ago(parse_duration(text).map_err(|_| expected)?),
            },
        },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_an_end_an_offset_or_a_time() {
        assert_eq!(whence("earliest"), Ok(Whence::At(Start::Earliest)));
        assert_eq!(whence("17"), Ok(Whence::At(Start::Offset(17))));
        assert_eq!(whence("9000000000"), Ok(Whence::At(Start::Offset(9_000_000_000))));
        assert_eq!(whence("@1700000000000"), Ok(Whence::At(Start::Time(1_700_000_000_000))));
        assert_eq!(whence("2023-11-14T22:13:20Z"), Ok(Whence::At(Start::Time(1_700_000_000_000))));
        assert_eq!(whence("2h"), Ok(Whence::Ago(Duration::from_secs(7_200))));
        for bad in ["", "-3", "soon", "@x", "2 weeks"] {
            assert!(whence(bad).is_err(), "{bad}");
        }
    }
}
