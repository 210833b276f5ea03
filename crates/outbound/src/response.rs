//! What came back: whole, or as a stream of bytes under limits.
//!
//! Invariant: no more than the caller's limit is ever held, whatever `Content-Length` says. Bodies are an upstream's
//! text: run them through the scrubber before they go anywhere.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, StatusCode};
use serde::de::DeserializeOwned;

use crate::error::Error;

/// An answer that was read to its end. A status of 300 and more is an answer, too.
pub struct Response {
    /// The HTTP status.
    pub status: u16,
    /// The headers as they came.
    pub headers: HeaderMap,
    /// The body, within the request's limit.
    pub body: Bytes,
}

impl Response {
    /// Whether the status is 200 to 299.
    pub fn is_success(&self) -> bool {
        (200..300).contains(&self.status)
    }

    /// A header as text, if it is there and is ASCII.
    pub fn header(&self, name: &str) -> Option<&str> {
        header_text(&self.headers, name)
    }

    /// The body read as JSON.
    ///
    /// # Errors
    /// [`Error::Json`] where it is another shape; the body is not shown.
    pub fn json<T: DeserializeOwned>(&self) -> Result<T, Error> {
        serde_json::from_slice(&self.body).map_err(|_| Error::Json)
    }
}

impl fmt::Debug for Response {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Response").field("status", &self.status).finish_non_exhaustive()
    }
}

/// An answer whose body is still coming.
pub struct StreamResponse {
    /// The HTTP status.
    pub status: u16,
    /// The headers as they came.
    pub headers: HeaderMap,
    host: String,
    inner: Option<reqwest::Response>,
    bytes_left: usize,
    bytes_max: usize,
    idle: Duration,
    end: Pin<Box<tokio::time::Sleep>>,
}

impl StreamResponse {
    pub(crate) fn new(host: String, inner: reqwest::Response, limits: StreamLimits) -> Self {
        Self {
            status: inner.status().as_u16(),
            headers: inner.headers().clone(),
            host,
            inner: Some(inner),
            bytes_left: limits.bytes_max,
            bytes_max: limits.bytes_max,
            idle: limits.idle,
            end: Box::pin(tokio::time::sleep(limits.lifetime)),
        }
    }

    /// Whether the status is 200 to 299.
    pub fn is_success(&self) -> bool {
        (200..300).contains(&self.status)
    }

    /// A header as text, if it is there and is ASCII.
    pub fn header(&self, name: &str) -> Option<&str> {
        header_text(&self.headers, name)
    }

    /// The next bytes, or `None` at the end. After an error the stream has ended and its connection is closed.
    ///
    /// # Errors
    /// [`Error::TooLarge`] past the limit, [`Error::Timeout`] when idle or alive for too long, [`Error::Broken`].
    pub async fn next_chunk(&mut self) -> Result<Option<Bytes>, Error> {
        let result = self.read().await;
        if !matches!(result, Ok(Some(_))) {
            self.inner = None;
        }
        result
    }

    /// The rest in one piece, as for an error's body, within the same limits.
    ///
    /// # Errors
    /// Those of [`StreamResponse::next_chunk`].
    pub async fn collect(mut self) -> Result<Response, Error> {
        let mut body = BytesMut::new();
        while let Some(chunk) = self.next_chunk().await? {
            body.extend_from_slice(&chunk);
        }
        Ok(Response { status: self.status, headers: self.headers, body: body.freeze() })
    }

    async fn read(&mut self) -> Result<Option<Bytes>, Error> {
        let Some(inner) = &mut self.inner else {
            return Ok(None);
        };
        let timeout = || Error::Timeout { url_host: self.host.clone() };
        let chunk = tokio::select! {
            biased;
            () = &mut self.end => return Err(timeout()),
            chunk = tokio::time::timeout(self.idle, inner.chunk()) => chunk.map_err(|_| timeout())?,
        };
        let Some(chunk) = chunk.map_err(|error| Error::from_reqwest(&self.host, &error))? else {
            return Ok(None);
        };
        let too_large = Error::TooLarge { url_host: self.host.clone(), bytes_max: self.bytes_max };
        self.bytes_left = self.bytes_left.checked_sub(chunk.len()).ok_or(too_large)?;
        Ok(Some(chunk))
    }
}

impl fmt::Debug for StreamResponse {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StreamResponse").field("status", &self.status).finish_non_exhaustive()
    }
}

pub(crate) struct StreamLimits {
    pub(crate) bytes_max: usize,
    pub(crate) idle: Duration,
    pub(crate) lifetime: Duration,
}

/// Reads the body, and stops as soon as it is known to be too large.
pub(crate) async fn read_whole(host: &str, mut inner: reqwest::Response, bytes_max: usize) -> Result<Response, Error> {
    let too_large = || Error::TooLarge { url_host: host.to_owned(), bytes_max };
    let status = StatusCode::as_u16(&inner.status());
    let announced = inner.content_length().unwrap_or(0);
    if u64::try_from(bytes_max).is_ok_and(|max| announced > max) {
        return Err(too_large());
    }
    let mut body = BytesMut::new();
    while let Some(chunk) = inner.chunk().await.map_err(|error| Error::from_reqwest(host, &error))? {
        if body.len().saturating_add(chunk.len()) > bytes_max {
            return Err(too_large());
        }
        body.extend_from_slice(&chunk);
    }
    let headers = std::mem::take(inner.headers_mut());
    Ok(Response { status, headers, body: body.freeze() })
}

/// Waits at most that long.
pub(crate) async fn within<T>(
    host: &str,
    deadline: Duration,
    work: impl Future<Output = Result<T, Error>>,
) -> Result<T, Error> {
    match tokio::time::timeout(deadline, work).await {
        Ok(result) => result,
        Err(_) => Err(Error::Timeout { url_host: host.to_owned() }),
    }
}

fn header_text<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name)?.to_str().ok()
}
