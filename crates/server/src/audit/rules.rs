//! Pure parts of the record: how an event is written, authenticated and linked to the one before.

use serde_json::{Value, json};
use thinkwork_primitives::{AuditId, CredentialSubject, RecordKey, TenantId, crypto};

use super::AuditEvent;
use super::store::StoredEvent;

/// The hash before the first.
pub(super) const GENESIS: [u8; 32] = [0; 32];

/// The event as canonical JSON (RFC 8785): keys sorted, which serde_json's map does, and whole numbers only.
///
/// It says what the columns say, so that an event whose columns were changed is not written as it was recorded. A field
/// that is added later must be left out where it is not set, or earlier events would not be written as they were.
pub(super) fn payload(tenant: TenantId, event: &AuditEvent) -> String {
    json!({
        "id": event.id,
        "tenant": tenant,
        "at": event.at,
        "action": event.action,
        "requester": { "kind": event.requester.kind(), "id": event.requester.id() },
        "acting_client": { "kind": event.client.kind(), "id": event.client.id() },
        "credential_subject": subject(&event.subject),
        "surface": event.surface,
        "target": event.target.as_ref().map(|(kind, id)| json!({ "kind": kind, "id": id })),
        "thread_id": event.thread,
        "turn_id": event.turn,
        "detail": event.detail,
    })
    .to_string()
}

/// A credential subject as payloads write it.
pub(super) fn subject(subject: &CredentialSubject) -> Value {
    json!({ "kind": subject.kind(), "user_id": subject.user(), "connection_id": subject.connection() })
}

/// What authenticates an event: made when it is recorded.
pub(super) fn event_mac(key: &RecordKey, tenant: TenantId, id: AuditId, payload: &str) -> [u8; 32] {
    key.mac(&[b"event:", tenant.uuid().as_bytes(), id.uuid().as_bytes(), payload.as_bytes()])
}

/// Whether this server recorded the event, and its columns still say what it recorded.
pub(super) fn is_authentic(key: &RecordKey, tenant: TenantId, stored: &StoredEvent) -> bool {
    crypto::constant_time_eq(&event_mac(key, tenant, stored.id, &stored.payload), &stored.mac)
        && stored.event.as_ref().is_some_and(|event| payload(tenant, event) == stored.payload)
}

/// The hash of one link: HMAC-SHA-256 over the canonical JSON (RFC 8785) of event, previous hash and sequence, so that
/// nobody without the key makes a chain. `payload` is canonical already, and the three keys are in order.
pub(super) fn link(key: &RecordKey, payload: &str, previous: &[u8], sequence: i64) -> [u8; 32] {
    let text = format!(r#"{{"event":{payload},"previous":"{}","sequence":{sequence}}}"#, crypto::hex(previous));
    key.mac(&[b"link:", text.as_bytes()])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_link_depends_on_all_it_covers() {
        let key = RecordKey::new(&[1; 32], &[2; 32]).unwrap();
        let base = link(&key, "{}", &GENESIS, 1);
        assert_ne!(base, link(&key, r#"{"a":1}"#, &GENESIS, 1));
        assert_ne!(base, link(&key, "{}", &base, 1));
        assert_ne!(base, link(&key, "{}", &GENESIS, 2));
        assert_ne!(base, link(&RecordKey::new(&[3; 32], &[2; 32]).unwrap(), "{}", &GENESIS, 1));
    }
}
