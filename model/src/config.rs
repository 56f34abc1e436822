//! Every config key a Kafka 4 client may ask about: type, default, legal values, and whether Flotilla honours it.
//! Owns the tables and the check of a value. Invariant: no value enters the image that this check refuses.
//! Must never accept a value silently that changes meaning and is not implemented.

mod broker;
mod topic;

pub use broker::BROKER_KEYS;
pub use topic::TOPIC_KEYS;

use crate::limits;

const MAX_I32: i64 = i32::MAX as i64;

/// Kafka's ConfigDef.Type.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// `true` or `false`.
    Boolean,
    /// Text.
    String,
    /// 32 bits.
    Int,
    /// 64 bits.
    Long,
    /// A floating-point number.
    Double,
    /// Values separated by commas.
    List,
    /// Text that is never shown.
    Password,
    /// A Java class name.
    Class,
}

impl Kind {
    /// The number on Kafka's wire (DescribeConfigs `config_type`).
    pub const fn kafka(self) -> i8 {
        match self {
            Kind::Boolean => 1,
            Kind::String => 2,
            Kind::Int => 3,
            Kind::Long => 5,
            Kind::Double => 6,
            Kind::List => 7,
            Kind::Class => 8,
            Kind::Password => 9,
        }
    }
}

/// Which values Kafka takes, beyond the type.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Rule {
    /// All of the type.
    Any,
    /// From .. to, both included.
    Range(i64, i64),
    /// A number from .. to, both included.
    Fraction(f64, f64),
    /// One of these words; for a list, any number of them.
    OneOf(&'static [&'static str]),
}

/// What Flotilla does with a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Support {
    /// It has its effect.
    Honoured,
    /// It is kept and reported, and has no effect; the text says why that is harmless.
    Kept(&'static str),
    /// Only this value is taken; the text says what is missing for the others.
    Only(&'static str, &'static str),
    /// Set by the node's own config file; cannot be changed by a command.
    ReadOnly,
}

/// One config key.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Key {
    /// As in Kafka.
    pub name: &'static str,
    /// Type of the value.
    pub kind: Kind,
    /// Value when nothing is set; none where Kafka has null.
    pub default: Option<&'static str>,
    /// Legal values.
    pub rule: Rule,
    /// What we do with it.
    pub support: Support,
    /// Of a topic key: the broker key that gives its default. Of a broker key: empty.
    pub broker_name: &'static str,
    /// One sentence for DescribeConfigs.
    pub doc: &'static str,
}

/// The topic key of this name.
pub fn topic_key(name: &str) -> Option<&'static Key> {
    TOPIC_KEYS.iter().find(|key| key.name == name)
}

/// The broker key of this name.
pub fn broker_key(name: &str) -> Option<&'static Key> {
    BROKER_KEYS.iter().find(|key| key.name == name)
}

impl Key {
    /// Whether a value must never be shown.
    pub fn is_sensitive(&self) -> bool {
        self.kind == Kind::Password
    }

    /// Whether commands cannot change it.
    pub fn is_read_only(&self) -> bool {
        self.support == Support::ReadOnly
    }

    /// The sentence for DescribeConfigs, with what is special about Flotilla.
    pub fn documentation(&self) -> String {
        match self.support {
            Support::Honoured | Support::ReadOnly => self.doc.to_owned(),
            Support::Kept(why) => format!("{} Kept without effect: {why}", self.doc),
            Support::Only(value, why) => format!("{} Only '{value}' is taken: {why}", self.doc),
        }
    }

    /// Whether `value` may be set, else why not, in words for the client.
    pub fn check(&self, value: &str) -> Result<(), String> {
        let refuse = |why: &str| Err(format!("Invalid value {value} for configuration {}: {why}", self.name));
        if value.len() > limits::CONFIG_VALUE_BYTES_MAX {
            return Err(format!(
                "Value of configuration {} is over {} bytes",
                self.name,
                limits::CONFIG_VALUE_BYTES_MAX
            ));
        }
        let legal = match self.kind {
            Kind::Boolean => matches!(value, "true" | "false"),
            Kind::Int => value.parse::<i32>().is_ok_and(|number| self.allows_number(number.into())),
            Kind::Long => value.parse::<i64>().is_ok_and(|number| self.allows_number(number)),
            Kind::Double => value.parse::<f64>().is_ok_and(|number| self.allows_fraction(number)),
            Kind::List => split(value).all(|word| self.allows_word(word)),
            Kind::String | Kind::Password | Kind::Class => self.allows_word(value),
        };
        match self.support {
            _ if !legal => refuse(&self.expectation()),
            Support::ReadOnly => Err(format!("Configuration {} is set in the node's own config file", self.name)),
            Support::Only(only, why) if value != only => refuse(why),
            _ => Ok(()),
        }
    }

    fn allows_number(&self, number: i64) -> bool {
        match self.rule {
            Rule::Range(from, to) => (from..=to).contains(&number),
            _ => true,
        }
    }

    fn allows_fraction(&self, number: f64) -> bool {
        match self.rule {
            Rule::Fraction(from, to) => (from..=to).contains(&number),
            _ => number.is_finite(),
        }
    }

    fn allows_word(&self, word: &str) -> bool {
        match self.rule {
            Rule::OneOf(words) => words.contains(&word),
            _ => true,
        }
    }

    fn expectation(&self) -> String {
        match (self.rule, self.kind) {
            (Rule::Range(from, i64::MAX | MAX_I32), _) => format!("must be a number of at least {from}"),
            (Rule::Range(from, to), _) => format!("must be a number from {from} to {to}"),
            (Rule::Fraction(from, to), _) => format!("must be a number from {from} to {to}"),
            (Rule::OneOf(words), _) => format!("must be one of {}", words.join(", ")),
            (Rule::Any, Kind::Boolean) => "must be true or false".to_owned(),
            (Rule::Any, _) => "must be a number".to_owned(),
        }
    }
}

/// The words of a list value.
pub fn split(list: &str) -> impl Iterator<Item = &str> {
    list.split(',').map(str::trim).filter(|word| !word.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_default_is_legal_and_every_name_is_there_once() {
        for table in [TOPIC_KEYS, BROKER_KEYS] {
            assert!(table.is_sorted_by(|a, b| a.name < b.name), "sorted, no name twice");
            for key in table {
                let changeable = Key { support: Support::Honoured, ..*key };
                if let Some(default) = key.default {
                    assert_eq!(changeable.check(default), Ok(()), "{}", key.name);
                }
                if let Support::Only(value, _) = key.support {
                    assert_eq!(key.check(value), Ok(()), "{}", key.name);
                    assert_eq!(key.default, Some(value), "{}", key.name);
                }
            }
        }
    }

    #[test]
    fn every_topic_key_names_a_broker_key_of_the_same_kind() {
        for key in TOPIC_KEYS.iter().filter(|key| !key.broker_name.is_empty()) {
            let broker = broker_key(key.broker_name).unwrap_or_else(|| panic!("{} is missing", key.broker_name));
            assert_eq!(broker.kind, key.kind, "{}", key.name);
            assert_eq!(broker.default, key.default, "{}", key.name);
        }
    }

    #[test]
    fn values_are_checked_as_kafka_does_and_what_is_missing_is_said() {
        let check = |name: &str, value: &str| topic_key(name).unwrap().check(value);
        assert_eq!(check("max.message.bytes", "1048588"), Ok(()));
        assert!(check("max.message.bytes", "-1").unwrap_err().contains("at least 0"));
        assert!(check("max.message.bytes", "many").is_err());
        assert!(check("retention.ms", "-1").is_ok());
        assert!(check("retention.ms", "-2").is_err());
        assert!(check("preallocate", "yes").is_err());
        assert!(check("min.cleanable.dirty.ratio", "1.5").is_err());
        assert!(check("min.cleanable.dirty.ratio", "NaN").is_err());
        assert!(check("cleanup.policy", "compact").is_ok() && check("cleanup.policy", "compact,delete").is_ok());
        assert!(check("cleanup.policy", "shred").unwrap_err().contains("one of"));
        assert!(check("compression.type", "zstd").unwrap_err().contains("not implemented"));
        assert_eq!(check("message.timestamp.type", "LogAppendTime"), Ok(()));
    }
}
