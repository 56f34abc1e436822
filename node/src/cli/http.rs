//! One HTTP request to a node's admin listener. HTTP/1.1 with `Connection: close`, bodies bounded; no TLS, no redirects.

use std::fmt;
use std::time::Duration;

use anyhow::{Context, bail};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

const DEADLINE: Duration = Duration::from_secs(5);
/// A change may wait for an election.
const CHANGE_DEADLINE: Duration = Duration::from_secs(30);
const RESPONSE_BYTES_MAX: u64 = 64 << 20;

/// Status and body of an answer.
pub struct Response {
    /// HTTP status.
    pub status: u16,
    /// Body as text.
    pub body: String,
}

impl Response {
    /// The body as JSON, if the status is 200.
    pub fn json<T: DeserializeOwned>(&self) -> anyhow::Result<T> {
        if self.status != 200 {
            match serde_json::from_str::<Problem>(&self.body) {
                Ok(problem) => bail!("{problem}"),
                Err(_) => bail!("HTTP status {}: {}", self.status, self.body.trim()),
            }
        }
        serde_json::from_str(&self.body).context("the answer is not the JSON that was expected")
    }
}

/// Problem details (RFC 9457), as far as they are shown.
#[derive(Deserialize)]
struct Problem {
    detail: String,
    #[serde(default)]
    causes: Vec<String>,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.detail)?;
        self.causes.iter().try_for_each(|cause| write!(f, "\n  {cause}"))
    }
}

/// Any text as one segment of a path.
pub fn segment(text: &str) -> String {
    let escaped = |byte: u8| match byte {
        b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => char::from(byte).to_string(),
        _ => format!("%{byte:02X}"),
    };
    text.bytes().map(escaped).collect()
}

/// Gets `path` from `address`, which is `host:port`, with or without `http://`.
pub async fn get(address: &str, path: &str) -> anyhow::Result<Response> {
    exchange(address, ("GET", path), None, DEADLINE).await
}

/// Sends `body` as JSON to `path`.
pub async fn post(address: &str, path: &str, body: &serde_json::Value) -> anyhow::Result<Response> {
    exchange(address, ("POST", path), Some(body.to_string()), CHANGE_DEADLINE).await
}

/// Deletes `path`; `body` says how.
pub async fn delete(address: &str, path: &str, body: &serde_json::Value) -> anyhow::Result<Response> {
    exchange(address, ("DELETE", path), Some(body.to_string()), CHANGE_DEADLINE).await
}

/// A method and a path.
type What<'a> = (&'static str, &'a str);

async fn exchange(address: &str, what: What<'_>, body: Option<String>, within: Duration) -> anyhow::Result<Response> {
    let address = address.trim_start_matches("http://").trim_end_matches('/');
    let exchange = tokio::time::timeout(within, converse(address, what, body)).await;
    exchange.with_context(|| format!("http://{address}{}: no answer within {within:?}", what.1))?
}

async fn converse(address: &str, (method, path): What<'_>, body: Option<String>) -> anyhow::Result<Response> {
    let mut stream = TcpStream::connect(address)
        .await
        .with_context(|| format!("cannot connect to http://{address} (is a node running?)"))?;
    let head = format!("{method} {path} HTTP/1.1\r\nHost: {address}\r\nAccept: */*\r\nConnection: close\r\n");
    let request = match body {
        None => format!("{head}\r\n"),
        Some(body) => {
            format!("{head}Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}", body.len())
        }
    };
    stream.write_all(request.as_bytes()).await?;
    let mut raw = Vec::new();
    stream.take(RESPONSE_BYTES_MAX).read_to_end(&mut raw).await?;
    let text = String::from_utf8_lossy(&raw);
    let (head, body) = text.split_once("\r\n\r\n").context("not an HTTP answer")?;
    let status = head.split_whitespace().nth(1).and_then(|code| code.parse().ok()).context("not an HTTP answer")?;
    let chunked = head.to_ascii_lowercase().contains("transfer-encoding: chunked");
    let body = if chunked { unchunk(body).context("bad chunked body")? } else { body.to_owned() };
    Ok(Response { status, body })
}

fn unchunk(mut rest: &str) -> Option<String> {
    let mut body = String::new();
    loop {
        let (size, after) = rest.split_once("\r\n")?;
        let size = usize::from_str_radix(size.split(';').next()?.trim(), 16).ok()?;
        if size == 0 {
            return Some(body);
        }
        body.push_str(after.get(..size)?);
        rest = after.get(size..)?.strip_prefix("\r\n")?;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_name_is_one_segment() {
        assert_eq!(segment("a-Z.0_~"), "a-Z.0_~");
        assert_eq!(segment("a/b c%ü"), "a%2Fb%20c%25%C3%BC");
    }

    #[test]
    fn chunks_are_joined() {
        assert_eq!(unchunk("3\r\nabc\r\n2;x=y\r\nde\r\n0\r\n\r\n").as_deref(), Some("abcde"));
        assert_eq!(unchunk("9\r\nabc\r\n"), None);
    }
}
