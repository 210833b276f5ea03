//! What meets the outside: webhooks and deliveries, MCP servers and their tools.

use thinkwork_database::Migration;

pub(super) const MIGRATION: Migration = Migration {
    name: "m0004_outside",
    up: |steps| {
        steps.tenant_table("webhook", |table| {
            table.uuid("space_id").text("name").text("scheme").text("verification").uuid("credential_id");
            table.text_null("event_id").text_null("correlation").text_null("prompt").int("rate_limit_per_minute");
            table.text_null("allowed_cidrs").text_null("default_priority").flag("enabled").text("created_by");
            table.int("created_at").int_null("deleted_at").int("version").index(&["tenant_id", "space_id"]);
        });
        // The row of an accepted delivery is written when it is applied; until then the intake log holds it.
        steps.tenant_table("delivery", |table| {
            table.uuid("webhook_id").int("received_at").text("result").text_null("reason").uuid_null("thread_id");
            table.uuid_null("turn_id").uuid_null("duplicate_of").text("headers").text("body_preview").int("body_bytes");
            table.bytes("body_hash").text_null("event_id").attribution().int_null("applied_at").int("count");
            table.index(&["tenant_id", "webhook_id", "id"]).index(&["tenant_id", "received_at"]);
        });
        // What was sent, whole, for a replay: of accepted deliveries only; its id is the delivery's.
        steps.tenant_table("delivery_envelope", |table| {
            table.bytes("envelope");
        });
        steps.tenant_table("mcp_server", |table| {
            table.text("name").text("slug").text("url").text("transport").text("auth_mode").text("auth");
            table.text_null("tool_allowlist").uuid_null("credential_id").text("status").text("definition_hash");
            table.text_null("approved_hash").text_null("decided_by").int_null("decided_at").text_null("reason");
            table.text_null("issuer").flag("outside_spaces").text_null("last_error").int_null("checked_at");
            table.text("created_by").int("created_at").int_null("deleted_at").int("version");
            table.unique_where(&["tenant_id", "slug"], "deleted_at IS NULL");
        });
        // The last known definition of each tool, and what the operator decided of it.
        steps.tenant_table("mcp_tool", |table| {
            table.uuid("mcp_server_id").text("name").text("description").text("input_schema").text("annotations");
            table.text("definition_hash").text_null("approved_hash").text_null("effect").flag("idempotent");
            table.int("seen_at").int_null("gone_at").unique(&["tenant_id", "mcp_server_id", "name"]);
        });
    },
};
