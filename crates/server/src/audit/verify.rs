//! Verifies the record: finds a changed, missing, reordered or late event and a cut tail, and names it.
//!
//! Not covered: events removed within the second before sealing, and someone who holds database, keys and every place
//! where checkpoints went.

use aws_lc_rs::signature::{ED25519, KeyPair as _, UnparsedPublicKey};
use serde_json::Value;
use thinkwork_primitives::{AuditId, TenantId, Timestamp, crypto};

use super::{Audit, AuditEvent, Error, rules, seal, store};

/// Events read at once.
const BATCH: u64 = 1_000;

/// What a verification found wrong; each names the first thing to look at.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Finding {
    /// The chain has a gap.
    #[error("sequence {0} is missing")]
    Missing(i64),
    /// A link does not follow from the one before.
    #[error("sequence {0} does not follow from the one before: it was reordered or replaced")]
    Broken(i64),
    /// A sealed event is gone.
    #[error("the event {1} of sequence {0} is gone")]
    EventGone(i64, AuditId),
    /// A sealed event was changed.
    #[error("the event {1} of sequence {0} was changed")]
    EventChanged(i64, AuditId),
    /// An event neither sealed nor waiting to be.
    #[error("the event {0} was never sealed: it was added behind the record's back")]
    Unsealed(AuditId),
    /// A checkpoint's signature is not ours.
    #[error("the checkpoint at sequence {0} has a wrong signature")]
    Signature(i64),
    /// A checkpoint says more than the chain holds.
    #[error("the chain ends before sequence {0}, where a checkpoint was signed: its tail was cut")]
    Cut(i64),
    /// A checkpoint says something else than the chain.
    #[error("the chain at sequence {0} is not the one that was signed")]
    Rewritten(i64),
}

/// What was looked at, and what is wrong.
#[derive(Debug, Default)]
pub struct Verified {
    /// Links of the chain.
    pub links: u64,
    /// Checkpoints compared.
    pub checkpoints: u64,
    /// What is wrong, in the order of the chain.
    pub findings: Vec<Finding>,
}

/// A checkpoint kept outside: what it says and its signature.
struct Checkpoint {
    sequence: i64,
    head: Vec<u8>,
    text: String,
    signature: Vec<u8>,
}

impl Audit {
    /// Verifies one tenant's record, also against checkpoints kept elsewhere: JSON lines with `checkpoint` (the text) and
    /// `signature` (base64url), as the log has them.
    ///
    /// # Errors
    /// The database's. What is wrong with the record is no error but a finding.
    pub async fn verify(&self, tenant: TenantId, outside: &str) -> Result<Verified, Error> {
        let mut verified = Verified::default();
        let mut checkpoints = self.checkpoints(tenant).await?;
        checkpoints.extend(outside.lines().filter_map(|line| parse_checkpoint(line, tenant)));
        let key = seal::signer(self)?.public_key().as_ref().to_vec();
        for checkpoint in &checkpoints {
            let key = UnparsedPublicKey::new(&ED25519, &key);
            if key.verify(checkpoint.text.as_bytes(), &checkpoint.signature).is_err() {
                verified.findings.push(Finding::Signature(checkpoint.sequence));
            }
            verified.checkpoints = verified.checkpoints.saturating_add(1);
        }
        let mut sequence = 0_i64;
        let mut head = rules::GENESIS.to_vec();
        loop {
            let mut tx = self.db.read(tenant).await?;
            let links = store::seal_list(&mut tx, sequence, BATCH).await?;
            drop(tx);
            if links.is_empty() {
                break;
            }
            for link in links {
                check_link(&link, sequence, &head, &mut verified);
                (sequence, head) = (link.sequence, link.hash.clone());
                for checkpoint in checkpoints.iter().filter(|checkpoint| checkpoint.sequence == sequence) {
                    if checkpoint.head != head {
                        verified.findings.push(Finding::Rewritten(sequence));
                    }
                }
            }
        }
        let cut = checkpoints.iter().filter(|checkpoint| checkpoint.sequence > sequence);
        verified.findings.extend(cut.map(|checkpoint| Finding::Cut(checkpoint.sequence)));
        let mut tx = self.db.read(tenant).await?;
        let strangers = store::event_list_unsealed(&mut tx).await?;
        verified.findings.extend(strangers.into_iter().map(Finding::Unsealed));
        Ok(verified)
    }

    async fn checkpoints(&self, tenant: TenantId) -> Result<Vec<Checkpoint>, Error> {
        let mut tx = self.db.read(tenant).await?;
        let rows = store::checkpoint_list(&mut tx).await?;
        Ok(rows
            .into_iter()
            .map(|row| Checkpoint {
                text: rules::checkpoint(tenant, row.sequence, &row.head, Timestamp::from_micros(row.at)),
                sequence: row.sequence,
                head: row.head,
                signature: row.signature,
            })
            .collect())
    }
}

fn check_link(link: &store::Link, before: i64, head: &[u8], verified: &mut Verified) {
    verified.links = verified.links.saturating_add(1);
    let findings = &mut verified.findings;
    for missing in before.saturating_add(1)..link.sequence {
        findings.push(Finding::Missing(missing));
    }
    let follows = link.sequence == before.saturating_add(1);
    if follows && link.previous != head {
        findings.push(Finding::Broken(link.sequence));
    }
    match &link.event {
        None => findings.push(Finding::EventGone(link.sequence, link.event_id)),
        Some(event) if !holds(event, link) => {
            findings.push(Finding::EventChanged(link.sequence, link.event_id));
        }
        Some(_) => {}
    }
}

fn holds(event: &AuditEvent, link: &store::Link) -> bool {
    let columns = rules::Columns {
        id: event.id,
        at: event.at,
        action: &event.action,
        requester: &event.requester,
        subject: &event.subject,
        surface: event.surface.as_deref(),
        target: event.target.as_ref(),
        thread: event.thread,
        turn: event.turn,
    };
    rules::link(&event.payload, &link.previous, link.sequence).as_slice() == link.hash
        && serde_json::from_str::<Value>(&event.payload).is_ok_and(|payload| rules::agree(&payload, &columns))
}

fn parse_checkpoint(line: &str, tenant: TenantId) -> Option<Checkpoint> {
    let line: Value = serde_json::from_str(line).ok()?;
    let text = line.get("checkpoint")?.as_str()?.to_owned();
    let said: Value = serde_json::from_str(&text).ok()?;
    if said.get("tenant")?.as_str()? != tenant.to_string() {
        return None;
    }
    Some(Checkpoint {
        sequence: said.get("sequence")?.as_i64()?,
        head: from_hex(said.get("head")?.as_str()?)?,
        signature: base64url(line.get("signature")?.as_str()?)?,
        text,
    })
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

fn base64url(text: &str) -> Option<Vec<u8>> {
    use base64::Engine as _;
    base64::engine::general_purpose::URL_SAFE_NO_PAD.decode(text).ok()
}
