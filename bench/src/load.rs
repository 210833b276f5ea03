//! The load: as many connections as are asked for, each sending the next signed event when the answer is there.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use reqwest::StatusCode;
use thinkwork_primitives::{Clock, crypto};
use tokio::task::JoinSet;

use crate::Failure;

const BODY_BYTES: usize = 1_024;

/// When a load ends.
#[derive(Clone, Copy)]
pub(crate) enum Until {
    Elapsed(Duration),
    Sent(u64),
}

/// What was accepted in which time.
#[derive(Clone, Copy)]
pub(crate) struct Counted {
    pub(crate) events: f64,
    pub(crate) took: Duration,
}

impl Counted {
    pub(crate) fn per_second(self) -> f64 {
        self.events / self.took.as_secs_f64()
    }
}

/// A sender of Standard Webhooks, 1 KiB each, none of them twice.
pub(crate) struct Sender {
    key: Vec<u8>,
    run: String,
    sent: AtomicU64,
}

impl Sender {
    /// With the secret as it was shown: `whsec_` and base64.
    pub(crate) fn new(secret: &str) -> Result<Arc<Self>, Failure> {
        let key = STANDARD.decode(secret.strip_prefix("whsec_").ok_or("the secret begins otherwise")?)?;
        Ok(Arc::new(Self { key, run: crypto::hex(&crypto::random::<8>()?), sent: AtomicU64::new(0) }))
    }

    /// Sends events to `url` from so many connections and counts what was accepted; any other answer is a failure.
    pub(crate) async fn send(
        self: &Arc<Self>,
        url: &str,
        connections: usize,
        until: Until,
    ) -> Result<Counted, Failure> {
        let first = self.sent.load(Ordering::Relaxed);
        let began = Instant::now();
        let mut senders = JoinSet::new();
        for _ in 0..connections {
            let client = reqwest::Client::builder().no_proxy().tcp_nodelay(true).build()?;
            senders.spawn(Arc::clone(self).connection(client, url.to_owned(), until, (first, began)));
        }
        let mut events: u32 = 0;
        while let Some(ended) = senders.join_next().await {
            events = events.saturating_add(ended??);
        }
        Ok(Counted { events: f64::from(events), took: began.elapsed() })
    }

    async fn connection(
        self: Arc<Self>,
        client: reqwest::Client,
        url: String,
        until: Until,
        (first, began): (u64, Instant),
    ) -> Result<u32, Failure> {
        let mut events: u32 = 0;
        loop {
            let number = self.sent.fetch_add(1, Ordering::Relaxed);
            let over = match until {
                Until::Elapsed(lasting) => began.elapsed() >= lasting,
                Until::Sent(count) => number.saturating_sub(first) >= count,
            };
            if over {
                return Ok(events);
            }
            let answer = self.signed(client.post(&url), number).send().await?;
            let status = answer.status();
            let text = answer.bytes().await?;
            if status != StatusCode::ACCEPTED {
                return Err(format!("an event was answered {status}: {}", String::from_utf8_lossy(&text)).into());
            }
            events = events.saturating_add(1);
        }
    }

    fn signed(&self, request: reqwest::RequestBuilder, number: u64) -> reqwest::RequestBuilder {
        let mut body = format!("{{\"type\":\"invoice.paid\",\"number\":{number},\"note\":\"");
        let room = BODY_BYTES.saturating_sub(body.len().saturating_add(2));
        body.extend(std::iter::repeat_n('x', room));
        body.push_str("\"}");
        self.sign(request, &format!("msg_{}_{number}", self.run), body)
    }

    /// The request with this event, signed now.
    pub(crate) fn sign(&self, request: reqwest::RequestBuilder, id: &str, body: String) -> reqwest::RequestBuilder {
        let seconds = Clock::system().now().seconds().to_string();
        let parts = [id.as_bytes(), b".", seconds.as_bytes(), b".", body.as_bytes()];
        let signature = format!("v1,{}", STANDARD.encode(crypto::hmac_sha256(&self.key, &parts)));
        request
            .header("content-type", "application/json")
            .header("webhook-id", id)
            .header("webhook-timestamp", seconds)
            .header("webhook-signature", signature)
            .body(body)
    }
}
