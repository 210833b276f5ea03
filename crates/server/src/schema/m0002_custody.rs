//! Sealed credentials, OAuth clients, flows and connections.

use thinkwork_database::Migration;

pub(super) const MIGRATION: Migration = Migration {
    name: "m0002_custody",
    up: |steps| {
        steps.tenant_table("credential", |table| {
            table.text("owner_kind").text("owner_id").text("kind").int("version").int("created_at");
            table.int("rotated_at").int_null("revoked_at").int_null("last_used_at");
            table.index(&["tenant_id", "owner_kind", "owner_id"]);
        });
        // Erased versions keep their row, for the record, without material.
        steps.tenant_table("credential_version", |table| {
            table.uuid("credential_id").int("version").text("kek_id").bytes_null("wrapped_key");
            table.bytes_null("ciphertext").text_null("last_four").int("created_at").int_null("ends_at");
            table.int_null("erased_at").unique(&["tenant_id", "credential_id", "version"]);
            table.index(&["tenant_id", "kek_id", "id"]);
        });
        // Fingerprints of the keys in use, so that a wrong key file stops the start.
        steps.shared_table("key_check", &["kek_id"], |table| {
            table.text("kek_id").text("fingerprint");
        });
        // One registration of us as a client at one issuer, with its own redirect URI.
        steps.tenant_table("oauth_client", |table| {
            table.uuid("mcp_server_id").text("registration").text("issuer").text("callback_key").text("client_id");
            table.uuid_null("credential_id").text("token_auth_method").text("authorization_endpoint");
            table.text("token_endpoint").text_null("revocation_endpoint").flag("iss_required");
            table.text("scopes").text_null("resource").int("created_at").int_null("replaced_at");
            table.unique_where(&["tenant_id", "mcp_server_id"], "replaced_at IS NULL");
        });
        steps.tenant_table("oauth_flow", |table| {
            table.uuid("user_id").uuid("oauth_client_id").uuid("mcp_server_id").text("purpose");
            table.bytes("state_hash").text("issuer").text("redirect_uri").text_null("resource").text("scopes");
            table.text("return_to").uuid("verifier_credential_id").bytes("cookie_hash").int("created_at");
            table.int("expires_at").int_null("consumed_at").text_null("outcome").unique(&["tenant_id", "state_hash"]);
        });
        steps.tenant_table("connection", |table| {
            table.uuid("user_id").uuid_null("mcp_server_id").uuid("oauth_client_id").uuid("credential_id");
            table.text("account").text("scopes").text("status").text_null("status_reason");
            table.int_null("access_expires_at").flag("has_refresh_token").uuid_null("refresh_lease");
            table.int_null("refresh_lease_until").int_null("refresh_started_at").int_null("refreshed_at");
            table.int_null("forced_refresh_at").int("created_at").int("connected_at").int_null("ended_at");
            table.int_null("last_used_at");
            table.unique_where(&["tenant_id", "user_id", "mcp_server_id"], "ended_at IS NULL");
            table.index(&["tenant_id", "mcp_server_id"]).index(&["tenant_id", "oauth_client_id"]);
        });
    },
};
