//! How an accepted request is written: a format byte, the length of a JSON head, the head, the decoded body. In the intake
//! log it is whole. Once the event is applied, the thread's message holds the body, and what is kept for replays is the
//! rest.
//!
//! Invariant: a format that was ever written stays readable; what cannot be read is an error, not a panic.

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use thinkwork_primitives::DeliveryId;

const FORMAT: u8 = 1;
/// Without the body, which is the text of the message that came with the event.
const FORMAT_WITHOUT_BODY: u8 = 2;
/// The format byte and four bytes of length.
const PREFIX_BYTES: usize = 5;

/// One accepted request.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Envelope {
    /// The headers as they may be shown.
    #[serde(rename = "h")]
    pub headers: Vec<(String, String)>,
    /// The media type, without parameters.
    #[serde(rename = "m")]
    pub media_type: String,
    /// The sender's id of the event.
    #[serde(rename = "e", default, skip_serializing_if = "Option::is_none")]
    pub event_id: Option<String>,
    /// The key of the thread it belongs to.
    #[serde(rename = "c", default, skip_serializing_if = "Option::is_none")]
    pub correlation: Option<String>,
    /// The delivery it repeats, when an operator replays one.
    #[serde(rename = "r", default, skip_serializing_if = "Option::is_none")]
    pub replay_of: Option<DeliveryId>,
    /// What the operator should know of it.
    #[serde(rename = "n", default, skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
    /// What was sent, as text: decompressed, in UTF-8. In events of earlier versions, the bytes as sent.
    #[serde(skip)]
    pub body: Bytes,
}

impl Envelope {
    /// The bytes to store.
    pub(super) fn encode(&self) -> Vec<u8> {
        let head = serde_json::to_vec(self).unwrap_or_default();
        let length = u32::try_from(head.len()).unwrap_or(0);
        let mut bytes = Vec::with_capacity(PREFIX_BYTES.saturating_add(head.len()).saturating_add(self.body.len()));
        bytes.push(FORMAT);
        bytes.extend_from_slice(&length.to_le_bytes());
        bytes.extend_from_slice(&head);
        bytes.extend_from_slice(&self.body);
        bytes
    }

    /// What was stored whole; `None` where it is none of ours.
    pub(super) fn decode(bytes: &[u8]) -> Option<Self> {
        match KeptEnvelope::decode(bytes)? {
            KeptEnvelope::Whole(envelope) => Some(envelope),
            KeptEnvelope::WithoutBody(_) => None,
        }
    }

    /// The bytes to keep of [`Envelope::encode`]'s where the body is kept elsewhere.
    pub(super) fn without_body(encoded: &[u8], body_bytes: usize) -> Vec<u8> {
        let head = encoded.len().saturating_sub(body_bytes);
        let mut kept = encoded.get(..head).unwrap_or_default().to_vec();
        if let Some(format) = kept.first_mut() {
            *format = FORMAT_WITHOUT_BODY;
        }
        kept
    }
}

/// An envelope as it is kept for replays.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum KeptEnvelope {
    Whole(Envelope),
    /// The body is the text of the message that came with the event.
    WithoutBody(Envelope),
}

impl KeptEnvelope {
    /// What was stored; `None` where it is none of ours.
    pub(super) fn decode(bytes: &[u8]) -> Option<Self> {
        let (format, rest) = bytes.split_first()?;
        let (length, rest) = rest.split_first_chunk::<4>()?;
        let (head, body) = rest.split_at_checked(usize::try_from(u32::from_le_bytes(*length)).ok()?)?;
        let read = || serde_json::from_slice::<Envelope>(head).ok();
        match *format {
            FORMAT => Some(Self::Whole(Envelope { body: Bytes::copy_from_slice(body), ..read()? })),
            FORMAT_WITHOUT_BODY if body.is_empty() => Some(Self::WithoutBody(read()?)),
            _ => None,
        }
    }

    /// What is known without the body.
    pub(super) const fn head(&self) -> &Envelope {
        match self {
            Self::Whole(envelope) | Self::WithoutBody(envelope) => envelope,
        }
    }
}
