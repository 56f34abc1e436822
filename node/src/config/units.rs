//! Values as people write them: sizes ("64 MiB"), durations ("5s"), addresses, switches.
//! Owns the `Setting` trait. Invariant: `read(show(x)) == x`. Never guesses a unit: a duration without one is refused.

use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

/// A value as found in a source, before its meaning is known.
#[derive(Clone, Debug, PartialEq)]
pub enum Raw {
    /// One scalar, as text.
    Text(String),
    /// A list of scalars.
    List(Vec<String>),
}

impl Raw {
    fn text(&self) -> Result<&str, String> {
        match self {
            Self::Text(text) => Ok(text.trim()),
            Self::List(_) => Err("one value is expected, not a list".to_owned()),
        }
    }
}

/// A type a setting can have.
pub trait Setting: Sized {
    /// Reads a value; the error says what is expected.
    fn read(raw: &Raw) -> Result<Self, String>;
    /// The value as a TOML literal.
    fn show(&self) -> String;
}

/// A number of bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ByteSize(pub u64);

const SIZE_UNITS: [(&str, u64); 4] = [("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10), ("B", 1)];

impl From<usize> for ByteSize {
    fn from(bytes: usize) -> Self {
        Self(bytes as u64)
    }
}

impl From<u64> for ByteSize {
    fn from(bytes: u64) -> Self {
        Self(bytes)
    }
}

impl From<ByteSize> for u64 {
    fn from(size: ByteSize) -> Self {
        size.0
    }
}

/// A size too large for memory is the largest one: `check` has bounds for all.
impl From<ByteSize> for usize {
    fn from(size: ByteSize) -> Self {
        Self::try_from(size.0).unwrap_or(Self::MAX)
    }
}

impl fmt::Display for ByteSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (name, unit) = SIZE_UNITS
            .into_iter()
            .find(|(_, unit)| self.0.is_multiple_of(*unit) && self.0 >= *unit)
            .unwrap_or(("B", 1));
        write!(f, "{} {name}", self.0 / unit)
    }
}

impl std::str::FromStr for ByteSize {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let expected = || format!("a size such as \"64 MiB\" is expected, not \"{text}\"");
        let (number, unit) = split_unit(text).ok_or_else(expected)?;
        let factor = match unit.to_ascii_lowercase().as_str() {
            "" | "b" => 1,
            "kib" | "k" => 1 << 10,
            "mib" | "m" => 1 << 20,
            "gib" | "g" => 1 << 30,
            "kb" => 1_000,
            "mb" => 1_000_000,
            "gb" => 1_000_000_000,
            _ => return Err(expected()),
        };
        number.checked_mul(factor).map(Self).ok_or_else(|| format!("\"{text}\" is too large"))
    }
}

/// Splits `64 MiB` into 64 and `MiB`.
fn split_unit(text: &str) -> Option<(u64, &str)> {
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    Some((text[..digits].parse().ok()?, text[digits..].trim()))
}

/// Reads `5s`, `250ms`, `10m`, `1h`, `7d`.
pub fn parse_duration(text: &str) -> Result<Duration, String> {
    let expected = || format!("a duration such as \"5s\" or \"250ms\" is expected, not \"{text}\"");
    let (number, unit) = split_unit(text).ok_or_else(expected)?;
    let millis = match unit {
        "ms" => 1,
        "s" => 1_000,
        "m" | "min" => 60_000,
        "h" => 3_600_000,
        "d" => 86_400_000,
        _ => return Err(expected()),
    };
    number.checked_mul(millis).map(Duration::from_millis).ok_or_else(|| format!("\"{text}\" is too large"))
}

/// The shortest exact way to write a duration.
pub fn show_duration(duration: Duration) -> String {
    let millis = duration.as_millis();
    let (unit, size) = [("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1_000)]
        .into_iter()
        .find(|(_, size)| millis > 0 && millis.is_multiple_of(*size))
        .unwrap_or(("ms", 1));
    format!("{}{unit}", millis / size)
}

/// A host name or address with a port, resolved when used.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct HostPort {
    /// Name or address, without brackets.
    pub host: String,
    /// Port, never 0.
    pub port: u16,
}

impl fmt::Display for HostPort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}

impl std::str::FromStr for HostPort {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let expected = || format!("\"host:port\" is expected, not \"{text}\"");
        let (host, port) = text.rsplit_once(':').ok_or_else(expected)?;
        let host = host.strip_prefix('[').and_then(|inner| inner.strip_suffix(']')).unwrap_or(host);
        let port: u16 = port.parse().map_err(|_| expected())?;
        if host.is_empty() || port == 0 || host.contains(|c: char| c.is_whitespace() || c == '/') {
            return Err(expected());
        }
        Ok(Self { host: host.to_owned(), port })
    }
}

/// How log lines look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// Lines for people.
    Human,
    /// One JSON object a line.
    Json,
}

fn quote(text: &str) -> String {
    toml::Value::String(text.to_owned()).to_string()
}

impl Setting for String {
    fn read(raw: &Raw) -> Result<Self, String> {
        raw.text().map(str::to_owned)
    }
    fn show(&self) -> String {
        quote(self)
    }
}

impl Setting for PathBuf {
    fn read(raw: &Raw) -> Result<Self, String> {
        match raw.text()? {
            "" => Err("a path is expected".to_owned()),
            path => Ok(Self::from(path)),
        }
    }
    fn show(&self) -> String {
        quote(&self.display().to_string())
    }
}

macro_rules! whole_numbers {
    ($($number:ty),+) => {$(impl Setting for $number {
        fn read(raw: &Raw) -> Result<Self, String> {
            let text = raw.text()?;
            text.parse().map_err(|_| format!("a whole number of 0 or more is expected, not \"{text}\""))
        }
        fn show(&self) -> String {
            self.to_string()
        }
    })+};
}
whole_numbers!(u32, usize);

impl Setting for bool {
    fn read(raw: &Raw) -> Result<Self, String> {
        let text = raw.text()?;
        text.parse().map_err(|_| format!("true or false is expected, not \"{text}\""))
    }
    fn show(&self) -> String {
        self.to_string()
    }
}

impl Setting for SocketAddr {
    fn read(raw: &Raw) -> Result<Self, String> {
        let text = raw.text()?;
        text.parse().map_err(|_| format!("an address such as \"127.0.0.1:9092\" is expected, not \"{text}\""))
    }
    fn show(&self) -> String {
        quote(&self.to_string())
    }
}

impl Setting for ByteSize {
    fn read(raw: &Raw) -> Result<Self, String> {
        raw.text()?.parse()
    }
    fn show(&self) -> String {
        quote(&self.to_string())
    }
}

impl Setting for Duration {
    fn read(raw: &Raw) -> Result<Self, String> {
        parse_duration(raw.text()?)
    }
    fn show(&self) -> String {
        quote(&show_duration(*self))
    }
}

impl Setting for HostPort {
    fn read(raw: &Raw) -> Result<Self, String> {
        raw.text()?.parse()
    }
    fn show(&self) -> String {
        quote(&self.to_string())
    }
}

impl Setting for LogFormat {
    fn read(raw: &Raw) -> Result<Self, String> {
        match raw.text()? {
            "human" => Ok(Self::Human),
            "json" => Ok(Self::Json),
            other => Err(format!("\"human\" or \"json\" is expected, not \"{other}\"")),
        }
    }
    fn show(&self) -> String {
        quote(if *self == Self::Human { "human" } else { "json" })
    }
}

/// An empty text is "not set".
impl<T: Setting> Setting for Option<T> {
    fn read(raw: &Raw) -> Result<Self, String> {
        if raw.text()?.is_empty() { Ok(None) } else { T::read(raw).map(Some) }
    }
    fn show(&self) -> String {
        self.as_ref().map_or_else(|| "\"\"".to_owned(), T::show)
    }
}

/// A list, or one text with commas (environment, flags).
impl<T: Setting> Setting for Vec<T> {
    fn read(raw: &Raw) -> Result<Self, String> {
        let items: Vec<String> = match raw {
            Raw::List(items) => items.clone(),
            Raw::Text(text) => {
                text.split(',').map(|item| item.trim().to_owned()).filter(|item| !item.is_empty()).collect()
            }
        };
        items.into_iter().map(|item| T::read(&Raw::Text(item))).collect()
    }
    fn show(&self) -> String {
        format!("[{}]", self.iter().map(T::show).collect::<Vec<_>>().join(", "))
    }
}
