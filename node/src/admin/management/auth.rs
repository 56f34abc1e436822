//! Who asks: basic authentication (RFC 7617) against the users of the AMQP listener, `guest` from this machine only.

use std::net::SocketAddr;
use std::time::Duration;

use axum::Json;
use axum::extract::connect_info::{ConnectInfo, Connected};
use axum::extract::{Request, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use axum::serve::IncomingStream;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::json;

use crate::admin::listener::Connections;
use crate::broker::Broker;

/// What a login that fails costs at least, against guessing.
const REFUSED_AFTER: Duration = Duration::from_millis(500);

/// Where a request comes from.
#[derive(Clone, Copy, Debug)]
pub struct Peer(SocketAddr);

impl Connected<IncomingStream<'_, Connections>> for Peer {
    fn connect_info(stream: IncomingStream<'_, Connections>) -> Self {
        Self(*stream.remote_addr())
    }
}

/// The user whose request it is.
#[derive(Clone, Debug)]
pub struct User(pub String);

/// Lets users pass.
pub async fn check(
    State(broker): State<Broker>,
    ConnectInfo(Peer(peer)): ConnectInfo<Peer>,
    mut request: Request,
    next: Next,
) -> Response {
    let is_local = peer.ip().to_canonical().is_loopback();
    let users = &broker.config().listeners.amqp.users;
    let login = login(request.headers());
    match login.filter(|(name, password)| users.admits(name.as_bytes(), password.as_bytes(), is_local)) {
        Some((name, _)) => {
            request.extensions_mut().insert(User(name));
            next.run(request).await
        }
        None => {
            tokio::time::sleep(REFUSED_AFTER).await;
            let realm = [(header::WWW_AUTHENTICATE, "Basic realm=\"Flotilla\"")];
            let refused = json!({ "error": "not_authorized", "reason": "Login failed" });
            (StatusCode::UNAUTHORIZED, realm, Json(refused)).into_response()
        }
    }
}

/// Name and password, unchecked.
fn login(headers: &HeaderMap) -> Option<(String, String)> {
    let given = headers.get(header::AUTHORIZATION)?.to_str().ok()?;
    let (scheme, encoded) = given.split_once(' ')?;
    if !scheme.eq_ignore_ascii_case("basic") {
        return None;
    }
    let plain = String::from_utf8(STANDARD.decode(encoded.trim()).ok()?).ok()?;
    plain.split_once(':').map(|(name, password)| (name.to_owned(), password.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_login_is_a_name_a_colon_and_a_password() {
        let read = |text: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(header::AUTHORIZATION, text.parse().unwrap());
            login(&headers)
        };
        let guest = Some(("guest".to_owned(), "guest".to_owned()));
        assert_eq!(read("Basic Z3Vlc3Q6Z3Vlc3Q="), guest);
        assert_eq!(read("basic  Z3Vlc3Q6Z3Vlc3Q="), guest);
        assert_eq!(read("Basic YW5uOmE6Yg=="), Some(("ann".to_owned(), "a:b".to_owned())));
        for bad in ["Basic", "Basic Z3Vlc3Q", "Bearer Z3Vlc3Q6Z3Vlc3Q=", "Basic Z3Vlc3Q=", "Basic /////w=="] {
            assert_eq!(read(bad), None, "{bad}");
        }
        assert_eq!(login(&HeaderMap::new()), None);
    }
}
