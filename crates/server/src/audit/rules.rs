//! Pure parts of sealing: how a link of the chain is hashed, and what a checkpoint says.

use serde_json::{Value, json};
use thinkwork_primitives::{AuditId, CredentialSubject, Requester, TenantId, ThreadId, Timestamp, TurnId, crypto};

/// The hash before the first.
pub(super) const GENESIS: [u8; 32] = [0; 32];

/// The hash of one link: SHA-256 over the canonical JSON (RFC 8785) of event, previous hash and sequence. `payload` is
/// canonical already, and the three keys are in order.
pub(super) fn link(payload: &str, previous: &[u8], sequence: i64) -> [u8; 32] {
    let text = format!(r#"{{"event":{payload},"previous":"{}","sequence":{sequence}}}"#, crypto::hex(previous));
    crypto::sha256(text.as_bytes())
}

/// What a checkpoint signs: canonical JSON of head, sequence, tenant and time.
pub(super) fn checkpoint(tenant: TenantId, sequence: i64, head: &[u8], at: Timestamp) -> String {
    json!({ "at": at, "head": crypto::hex(head), "sequence": sequence, "tenant": tenant }).to_string()
}

/// The columns that repeat what the payload says, so that neither can be changed alone.
pub(super) struct Columns<'a> {
    pub id: AuditId,
    pub at: Timestamp,
    pub action: &'a str,
    pub requester: &'a Requester,
    pub subject: &'a CredentialSubject,
    pub surface: Option<&'a str>,
    pub target: Option<&'a (String, String)>,
    pub thread: Option<ThreadId>,
    pub turn: Option<TurnId>,
}

/// Whether the columns say what the payload says.
pub(super) fn agree(payload: &Value, columns: &Columns<'_>) -> bool {
    let target = columns.target.map(|(kind, id)| json!({ "kind": kind, "id": id }));
    let expected = [
        ("id", json!(columns.id)),
        ("at", json!(columns.at)),
        ("action", json!(columns.action)),
        ("requester", json!({ "kind": columns.requester.kind(), "id": columns.requester.id() })),
        ("credential_subject", subject(columns.subject)),
        ("surface", json!(columns.surface)),
        ("target", json!(target)),
        ("thread_id", json!(columns.thread)),
        ("turn_id", json!(columns.turn)),
    ];
    expected.into_iter().all(|(key, value)| payload.get(key) == Some(&value))
}

/// A credential subject as payloads write it.
pub(super) fn subject(subject: &CredentialSubject) -> Value {
    json!({ "kind": subject.kind(), "user_id": subject.user(), "connection_id": subject.connection() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_link_depends_on_all_it_covers() {
        let base = link("{}", &GENESIS, 1);
        assert_ne!(base, link(r#"{"a":1}"#, &GENESIS, 1));
        assert_ne!(base, link("{}", &base, 1));
        assert_ne!(base, link("{}", &GENESIS, 2));
    }
}
