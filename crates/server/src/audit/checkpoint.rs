//! Checkpoints: signed heads of a tenant's chain, in the database, in the log and beside the key file.
//!
//! Invariant: the signature covers everything that a checkpoint says, and each names the one before it, so that one that
//! is missing between two others is noticed. The first, at sequence 0, is signed with the tenant's creation.

use std::collections::HashMap;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};
use thinkwork_primitives::{RecordKey, TenantId, Timestamp, crypto};

use super::rules::GENESIS;

/// A signed head.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Checkpoint {
    pub tenant: TenantId,
    /// The last link that it covers.
    pub sequence: i64,
    /// The sequence of the checkpoint before; none before the first.
    pub previous: Option<i64>,
    /// The hash of the last link.
    pub head: Vec<u8>,
    pub at: Timestamp,
    pub signature: Vec<u8>,
}

impl Checkpoint {
    /// The beginning of a tenant's record.
    pub fn beginning(key: &RecordKey, tenant: TenantId, at: Timestamp) -> Self {
        Self { tenant, sequence: 0, previous: None, head: GENESIS.to_vec(), at, signature: Vec::new() }.signed(key)
    }

    /// The next one, over this head.
    pub fn next(&self, key: &RecordKey, sequence: i64, head: Vec<u8>, at: Timestamp) -> Self {
        let previous = Some(self.sequence);
        Self { tenant: self.tenant, sequence, previous, head, at, signature: Vec::new() }.signed(key)
    }

    fn signed(mut self, key: &RecordKey) -> Self {
        self.signature = key.sign(self.text().as_bytes());
        self
    }

    /// What is signed: canonical JSON (RFC 8785).
    pub fn text(&self) -> String {
        json!({
            "at": self.at,
            "head": crypto::hex(&self.head),
            "previous": self.previous,
            "sequence": self.sequence,
            "tenant": self.tenant,
        })
        .to_string()
    }

    /// Whether this server signed it.
    pub fn is_authentic(&self, key: &RecordKey) -> bool {
        key.is_signature(self.text().as_bytes(), &self.signature)
    }

    /// Whether it is the beginning of a record.
    pub fn is_beginning(&self) -> bool {
        self.sequence == 0 && self.previous.is_none() && self.head == GENESIS
    }

    /// As one line of a file. The log's lines hold the same two fields.
    pub fn line(&self) -> String {
        json!({ "checkpoint": self.text(), "signature": crypto::base64url(&self.signature) }).to_string()
    }

    /// Reads [`Checkpoint::line`], or the log's; `None` for everything else.
    pub fn parse(line: &str) -> Option<Self> {
        let line: Value = serde_json::from_str(line).ok()?;
        let text = line.get("checkpoint")?.as_str()?;
        let said: Value = serde_json::from_str(text).ok()?;
        let checkpoint = Self {
            tenant: said.get("tenant")?.as_str()?.parse().ok()?,
            sequence: said.get("sequence")?.as_i64()?,
            previous: said.get("previous")?.as_i64(),
            head: from_hex(said.get("head")?.as_str()?)?,
            at: Timestamp::parse(said.get("at")?.as_str()?)?,
            signature: URL_SAFE_NO_PAD.decode(line.get("signature")?.as_str()?).ok()?,
        };
        // What it says beside that is not signed by us, whatever it is.
        (checkpoint.text() == text).then_some(checkpoint)
    }
}

/// Checkpoints that were kept elsewhere, of all tenants.
#[derive(Debug, Default)]
pub struct Checkpoints {
    by_tenant: HashMap<TenantId, Vec<Checkpoint>>,
    unreadable: Vec<usize>,
}

impl Checkpoints {
    /// Reads lines with `checkpoint` (the text) and `signature` (base64url), as the log has them. Empty lines are skipped.
    pub fn parse(text: &str) -> Self {
        let mut read = Self::default();
        for (line, number) in text.lines().zip(1_usize..).filter(|(line, _)| !line.trim().is_empty()) {
            match Checkpoint::parse(line) {
                Some(checkpoint) => read.by_tenant.entry(checkpoint.tenant).or_default().push(checkpoint),
                None => read.unreadable.push(number),
            }
        }
        read
    }

    /// The lines that are no checkpoint, counted from one.
    pub fn unreadable(&self) -> &[usize] {
        &self.unreadable
    }

    pub(super) fn of(&self, tenant: TenantId) -> &[Checkpoint] {
        self.by_tenant.get(&tenant).map_or(&[], Vec::as_slice)
    }

    /// The last of each tenant.
    pub(super) fn last(&self) -> impl Iterator<Item = &Checkpoint> {
        self.by_tenant.values().filter_map(|of| of.iter().max_by_key(|checkpoint| checkpoint.sequence))
    }
}

fn from_hex(text: &str) -> Option<Vec<u8>> {
    let digits: Vec<u8> = text.chars().map(|digit| digit.to_digit(16)?.try_into().ok()).collect::<Option<_>>()?;
    let bytes: Vec<u8> = digits
        .chunks_exact(2)
        .filter_map(|pair| match pair {
            [high, low] => Some(high << 4 | low),
            _ => None,
        })
        .collect();
    (crypto::hex(&bytes) == text).then_some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn s24_a_checkpoint_reads_back_and_whatever_else_a_line_says_does_not() {
        let key = RecordKey::new(&[1; 32], &[2; 32]).unwrap();
        let now = Timestamp::from_micros(1_764_000_000_123_456);
        let first = Checkpoint::beginning(&key, TenantId::new(), now);
        let second = first.next(&key, 7, vec![9; 32], now);
        for checkpoint in [&first, &second] {
            assert_eq!(Checkpoint::parse(&checkpoint.line()).as_ref(), Some(checkpoint));
            assert!(checkpoint.is_authentic(&key));
        }
        assert!(first.is_beginning() && !second.is_beginning());
        assert!(!Checkpoint { previous: Some(5), ..second.clone() }.is_authentic(&key));
        let human = format!("2026-11-28T23:50:51Z  INFO audit checkpoint checkpoint={} signature=abc", second.text());
        let more = second.line().replace(r#"\"sequence"#, r#"\"more\":1,\"sequence"#);
        for line in [human.as_str(), more.as_str(), "{}", "audit checkpoint", r#"{"checkpoint":"{}","signature":""}"#] {
            assert_eq!(Checkpoint::parse(line), None, "{line}");
        }
        let read = Checkpoints::parse(&format!("{}\n\n{human}\n{}\n", first.line(), second.line()));
        assert_eq!((read.unreadable(), read.of(first.tenant)), (&[3][..], &[first.clone(), second][..]));
    }
}
