//! HTTP/1.1 on this machine, one request per connection: under the demonstration's browser and its sample sender.
//!
//! Invariant: speaks to loopback addresses only. It is no client for anything but the demonstration; requests to the
//! outside of a deployment go through `outbound`.

use std::net::SocketAddr;
use std::time::Duration;

use serde_json::Value;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use url::{Host, Url};

/// Longest wait for one answer: everything runs on this machine.
const DEADLINE: Duration = Duration::from_secs(20);
/// Largest answer that is read: pages and JSON of the demonstration are far below.
const REPLY_BYTES_MAX: u64 = 4 * 1_048_576;
/// How much of an unexpected answer is shown.
const SHOWN_CHARS_MAX: usize = 300;

/// Why there is no answer to go on with.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The address leads away from this machine.
    #[error("{0} is not on this machine, and the demonstration never leaves it")]
    Elsewhere(String),
    /// The connection broke.
    #[error("{url} does not answer: {source}")]
    Connection {
        /// What was asked.
        url: String,
        /// Why not.
        source: std::io::Error,
    },
    /// The answer is no HTTP/1.1.
    #[error("{0} answered something that is no HTTP")]
    Malformed(String),
    /// The answer is another one than expected.
    #[error("{0}")]
    Unexpected(String),
}

/// An answer, read whole.
#[derive(Debug)]
pub struct Reply {
    /// The status code.
    pub status: u16,
    /// The body as text.
    pub body: String,
    asked: String,
    url: Url,
    /// With lower-case names.
    pub headers: Vec<(String, String)>,
}

impl Reply {
    /// The first header of this name, given in lower case.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(header, _)| header == name).map(|(_, value)| value.as_str())
    }

    /// The body as JSON, or null.
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or(Value::Null)
    }

    /// Itself, if it has this status.
    ///
    /// # Errors
    /// [`Error::Unexpected`], showing the beginning of the answer.
    pub fn require(self, status: u16) -> Result<Self, Error> {
        if self.status == status {
            return Ok(self);
        }
        let shown: String = self.body.chars().take(SHOWN_CHARS_MAX).collect();
        Err(Error::Unexpected(format!("{} answered {} instead of {status}: {shown}", self.asked, self.status)))
    }

    /// Where a redirect leads.
    ///
    /// # Errors
    /// [`Error::Unexpected`] where it leads nowhere.
    pub fn location(&self) -> Result<Url, Error> {
        let target = self.header("location").and_then(|target| self.url.join(target).ok());
        target.ok_or_else(|| Error::Unexpected(format!("{} answered {} and leads nowhere", self.asked, self.status)))
    }

    /// The value of the page's first form field of this name, as our templates and the samples' write it.
    pub fn form_field(&self, name: &str) -> Option<&str> {
        let (_, rest) = self.body.split_once(&format!("name=\"{name}\" value=\""))?;
        rest.split_once('"').map(|(value, _)| value)
    }
}

/// One request and its answer, over a connection of its own.
pub async fn exchange(method: &str, url: &Url, headers: &[(&str, String)], body: &[u8]) -> Result<Reply, Error> {
    let address = loopback(url).ok_or_else(|| Error::Elsewhere(url.to_string()))?;
    let path = url.path();
    let query = url.query().map(|query| format!("?{query}")).unwrap_or_default();
    let asked = format!("{method} {path}");
    let mut request = format!("{method} {path}{query} HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\n");
    for (name, value) in headers {
        request.push_str(&format!("{name}: {value}\r\n"));
    }
    request.push_str(&format!("content-length: {}\r\n\r\n", body.len()));
    let talk = async {
        let mut stream = TcpStream::connect(address).await?;
        stream.write_all(&[request.as_bytes(), body].concat()).await?;
        let mut bytes = Vec::new();
        stream.take(REPLY_BYTES_MAX).read_to_end(&mut bytes).await?;
        Ok(bytes)
    };
    let talked =
        tokio::time::timeout(DEADLINE, talk).await.unwrap_or_else(|_| Err(std::io::ErrorKind::TimedOut.into()));
    let bytes = talked.map_err(|source| Error::Connection { url: url.to_string(), source })?;
    let (status, headers, body) = parse(&bytes).ok_or_else(|| Error::Malformed(asked.clone()))?;
    Ok(Reply { status, body: String::from_utf8_lossy(&body).into_owned(), asked, url: url.clone(), headers })
}

fn loopback(url: &Url) -> Option<SocketAddr> {
    let ip = match url.host()? {
        Host::Ipv4(ip) => ip.into(),
        Host::Ipv6(ip) => std::net::IpAddr::from(ip),
        Host::Domain(_) => return None,
    };
    let address = SocketAddr::new(ip, url.port_or_known_default()?);
    (url.scheme() == "http" && ip.is_loopback()).then_some(address)
}

/// Status, headers with lower-case names, and body.
type Parsed = (u16, Vec<(String, String)>, Vec<u8>);

/// Status, headers and body of an answer whose connection has ended.
pub(super) fn parse(bytes: &[u8]) -> Option<Parsed> {
    let end = bytes.windows(4).position(|window| window == b"\r\n\r\n")?;
    let (head, rest) = bytes.split_at_checked(end)?;
    let body = rest.get(4..)?;
    let mut lines = std::str::from_utf8(head).ok()?.split("\r\n");
    let status = lines.next()?.strip_prefix("HTTP/1.1 ")?.get(..3)?.parse().ok()?;
    let headers: Vec<(String, String)> = lines
        .filter_map(|line| line.split_once(':'))
        .map(|(name, value)| (name.to_ascii_lowercase(), value.trim().to_owned()))
        .collect();
    let header = |wanted: &str| headers.iter().find(|(name, _)| name == wanted).map(|(_, value)| value.as_str());
    let body = if header("transfer-encoding").is_some_and(|coding| coding.eq_ignore_ascii_case("chunked")) {
        unchunk(body)?
    } else {
        let length = header("content-length").and_then(|length| length.parse().ok()).unwrap_or(body.len());
        body.get(..length)?.to_vec()
    };
    Some((status, headers, body))
}

/// The body behind chunks (RFC 9112 section 7.1); nothing where the last chunk is missing.
fn unchunk(mut rest: &[u8]) -> Option<Vec<u8>> {
    let mut body = Vec::new();
    loop {
        let end = rest.windows(2).position(|window| window == b"\r\n")?;
        let size = std::str::from_utf8(rest.get(..end)?).ok()?.split(';').next()?.trim();
        let size = usize::from_str_radix(size, 16).ok()?;
        if size == 0 {
            return Some(body);
        }
        let chunk = rest.get(end.checked_add(2)?..)?;
        body.extend_from_slice(chunk.get(..size)?);
        rest = chunk.get(size.checked_add(2)?..)?;
    }
}
