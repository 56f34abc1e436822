//! SASL: who says to be whom, by the mechanisms PLAIN (RFC 4616) and AMQPLAIN (RabbitMQ's table).

use bytes::Bytes;
use wire::amqp::{Table, Value};

/// What a client may choose from.
pub const MECHANISMS: &str = "PLAIN AMQPLAIN";

/// A name and a password, unchecked.
pub struct Login {
    pub name: Bytes,
    pub password: Bytes,
}

/// Reads the response of a mechanism; `None` for a mechanism or a response that is none.
pub fn read(mechanism: &[u8], response: &Bytes) -> Option<Login> {
    match mechanism {
        b"PLAIN" => plain(response),
        b"AMQPLAIN" => amqplain(response),
        _ => None,
    }
}

/// Whom to act for (not looked at), name, password, with zeros between.
fn plain(response: &Bytes) -> Option<Login> {
    let mut parts = response.split(|byte| *byte == 0).map(|part| response.slice_ref(part));
    let (_authorize, name, password) = (parts.next()?, parts.next()?, parts.next()?);
    parts.next().is_none().then_some(Login { name, password })
}

/// A table without its length.
fn amqplain(response: &Bytes) -> Option<Login> {
    let table = Table::from_bytes(response.clone()).ok()?;
    let text = |name| match table.get(name) {
        Some(Value::Str(text)) => Some(text),
        _ => None,
    };
    Some(Login { name: text("LOGIN")?, password: text("PASSWORD")? })
}

#[cfg(test)]
mod tests {
    use wire::amqp::TableBuilder;

    use super::*;

    #[test]
    fn both_mechanisms_give_name_and_password() {
        let login = read(b"PLAIN", &Bytes::from_static(b"\0ann\0secret")).expect("plain");
        assert_eq!((&*login.name, &*login.password), (&b"ann"[..], &b"secret"[..]));
        let table = TableBuilder::default().put("LOGIN", &Value::text("ann")).put("PASSWORD", &Value::text("secret"));
        let table = table.build().expect("a small table").as_bytes().clone();
        let login = read(b"AMQPLAIN", &table).expect("amqplain");
        assert_eq!((&*login.name, &*login.password), (&b"ann"[..], &b"secret"[..]));
    }

    #[test]
    fn what_is_no_login_is_none() {
        for (mechanism, response) in [
            (&b"PLAIN"[..], &b"ann\0secret"[..]),
            (b"PLAIN", b"\0ann\0secret\0more"),
            (b"PLAIN", b""),
            (b"AMQPLAIN", b"\x05LOGIN"),
            (b"AMQPLAIN", b""),
            (b"EXTERNAL", b"\0ann\0secret"),
        ] {
            assert!(read(mechanism, &Bytes::from_static(response)).is_none(), "{}", response.escape_ascii());
        }
    }
}
