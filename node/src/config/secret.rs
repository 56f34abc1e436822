//! A secret as a setting. Never shown: not by `--print-config`, not in an error, not by `Debug`.

use std::fmt;
use std::sync::Arc;

use super::units::{Raw, Setting};

/// What the nodes of one cluster share; empty when there is none.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Secret(Arc<str>);

impl Secret {
    /// A secret of this text.
    pub fn new(text: &str) -> Self {
        Self(text.into())
    }

    /// Its bytes.
    pub fn bytes(&self) -> &[u8] {
        self.0.as_bytes()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.is_empty() { "Secret(none)" } else { "Secret(...)" })
    }
}

impl Setting for Secret {
    fn read(raw: &Raw) -> Result<Self, String> {
        String::read(raw).map(|text| Self::new(&text)).map_err(|_| "one text is expected".to_owned())
    }

    /// Always empty, so that what is printed may be shared.
    fn show(&self) -> String {
        "\"\"".to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_never_shown() {
        let secret = Secret::read(&Raw::Text(" swordfish ".to_owned())).unwrap();
        assert_eq!(secret.bytes(), b"swordfish");
        assert!(!format!("{secret:?} {}", secret.show()).contains("sword"));
        let list = Secret::read(&Raw::List(vec!["swordfish".to_owned()])).unwrap_err();
        assert!(!list.contains("sword"));
    }
}
