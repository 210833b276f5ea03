//! Tenants, people, sessions, tokens, idempotency keys; the audit record and its seals.

use thinkwork_database::Migration;

pub(super) const MIGRATION: Migration = Migration {
    name: "m0001_people",
    up: |steps| {
        steps.shared_table("tenant", &["id"], |table| {
            table.uuid("id").text("slug").text("name").int("created_at").unique(&["slug"]);
        });
        steps.tenant_table("user_account", |table| {
            table.text("email").text("email_key").text("name").text("role").text_null("password_hash");
            table.int_null("disabled_at").int("created_at").int("version");
            table.unique(&["tenant_id", "email_key"]);
        });
        steps.tenant_table("session", |table| {
            table.uuid("user_id").bytes("token_hash").int("created_at").int("signed_in_at").int("last_seen_at");
            table.int("expires_at").int_null("revoked_at").text("user_agent");
            table.index(&["tenant_id", "user_id", "id"]);
        });
        steps.tenant_table("token", |table| {
            table.text("name").text("kind").text("audience").text("scope").uuid_null("user_id").bytes("token_hash");
            table.text("last_four").int("created_at").int_null("expires_at").int_null("revoked_at");
            table.int_null("last_used_at").text("created_by");
        });
        // An invitation code sets the password of its user, once: `invitation` for people, `setup` for the owner.
        steps.tenant_table("invitation", |table| {
            table.uuid("user_id").text("purpose").bytes("code_hash").int("created_at").int("expires_at");
            table.int_null("used_at").index(&["tenant_id", "user_id"]);
        });
        steps.tenant_table("idempotency_key", |table| {
            table.bytes("key_hash").bytes("body_hash").text("resource").int("created_at");
            table.unique(&["tenant_id", "key_hash"]).index(&["tenant_id", "created_at"]);
        });
        steps.tenant_table("audit_event", |table| {
            table.int("at").text("action").attribution().text_null("surface").text_null("target_kind");
            table.text_null("target_id").uuid_null("thread_id").uuid_null("turn_id").text("payload");
            table.index(&["tenant_id", "action", "id"]).index(&["tenant_id", "requester_id", "id"]);
            table.index_where(&["tenant_id", "subject_user_id", "id"], "subject_user_id IS NOT NULL");
            table.index_where(&["tenant_id", "thread_id", "id"], "thread_id IS NOT NULL");
        });
        steps.append_only("audit_event");
        // What the sealer has still to chain; ids only, so that one look finds the tenants with work.
        steps.shared_index("audit_unsealed", &["tenant_id", "event_id"], |table| {
            table.uuid("tenant_id").uuid("event_id");
        });
        steps.tenant_table("audit_seal", |table| {
            table.int("sequence").uuid("event_id").bytes("previous_hash").bytes("hash").int("sealed_at");
            table.unique(&["tenant_id", "sequence"]).unique(&["tenant_id", "event_id"]);
        });
        steps.append_only("audit_seal");
        steps.tenant_table("audit_checkpoint", |table| {
            table.int("sequence").bytes("head").int("at").bytes("signature").unique(&["tenant_id", "sequence"]);
        });
        steps.append_only("audit_checkpoint");
    },
};
