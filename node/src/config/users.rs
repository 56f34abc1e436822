//! Who may log in with a name and a password. Passwords are never shown: not by `--print-config`, not in an error, not by `Debug`.

use std::fmt;
use std::sync::Arc;

use super::Secret;
use super::units::{Raw, Setting};

/// Name and password of the one user there is while no other is named; from this machine only.
const GUEST: &str = "guest";

/// Users by name; none named: `guest` with the password `guest`, from loopback only.
#[derive(Clone, Debug, Default)]
pub struct Users(Arc<[User]>);

#[derive(Clone)]
struct User {
    name: String,
    password: Secret,
}

impl Users {
    /// Whether none is named, so that there is only `guest`.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether this is a user's name with the right password. How long it takes does not tell how much of a password is right.
    pub fn admits(&self, name: &[u8], password: &[u8], is_loopback: bool) -> bool {
        if self.is_empty() {
            return is_loopback && name == GUEST.as_bytes() && is_equal(password, GUEST.as_bytes());
        }
        self.0.iter().any(|user| user.name.as_bytes() == name && is_equal(user.password.bytes(), password))
    }
}

fn is_equal(left: &[u8], right: &[u8]) -> bool {
    left.len() == right.len() && left.iter().zip(right).fold(0, |differing, (a, b)| differing | (a ^ b)) == 0
}

impl fmt::Debug for User {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)
    }
}

impl Setting for User {
    fn read(raw: &Raw) -> Result<Self, String> {
        let text = String::read(raw)?;
        let (name, password) = text.split_once(':').ok_or("name:password is expected of each user")?;
        if name.is_empty() || password.is_empty() {
            return Err("neither the name nor the password of a user may be empty".to_owned());
        }
        Ok(Self { name: name.to_owned(), password: Secret::new(password) })
    }

    fn show(&self) -> String {
        String::new()
    }
}

impl Setting for Users {
    fn read(raw: &Raw) -> Result<Self, String> {
        Vec::read(raw).map(|users: Vec<User>| Self(users.into()))
    }

    /// Always empty, so that what is printed may be shared.
    fn show(&self) -> String {
        "[]".to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn guest_is_a_user_of_this_machine_until_another_is_named() {
        let users = Users::default();
        assert!(users.admits(b"guest", b"guest", true));
        assert!(!users.admits(b"guest", b"guest", false));
        assert!(!users.admits(b"guest", b"gues", true));
        let users = Users::read(&Raw::Text("ann:a:b,bob:secret".to_owned())).unwrap();
        assert!(users.admits(b"ann", b"a:b", false) && users.admits(b"bob", b"secret", true));
        assert!(!users.admits(b"guest", b"guest", true));
        assert!(!users.admits(b"ann", b"secret", true));
    }

    #[test]
    fn passwords_are_never_shown() {
        let users = Users::read(&Raw::List(vec!["ann:hunter2".to_owned()])).unwrap();
        assert!(!format!("{users:?} {}", users.show()).contains("hunter2"));
        let error = Users::read(&Raw::Text("hunter2".to_owned())).unwrap_err();
        assert!(!error.contains("hunter2"), "{error}");
    }
}
