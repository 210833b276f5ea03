//! Spaces, threads, messages, turns and their steps; the tenant platform agent.

use thinkwork_database::Migration;

pub(super) const MIGRATION: Migration = Migration {
    name: "m0003_work",
    up: |steps| {
        steps.tenant_table("space", |table| {
            table.text("slug").text("name").text("access").text_null("prompt").flag("reopen").text("created_by");
            table.int("created_at").int("version").unique(&["tenant_id", "slug"]);
        });
        steps.tenant_table("space_member", |table| {
            table.uuid("space_id").uuid("user_id").text("added_by").int("joined_at");
            table.unique(&["tenant_id", "space_id", "user_id"]).index(&["tenant_id", "user_id"]);
        });
        // Which MCP server serves which Space, with which tools.
        steps.tenant_table("space_mcp_server", |table| {
            table.uuid("space_id").uuid("mcp_server_id").text_null("tool_allowlist").text("approvals");
            table.text("added_by").int("added_at").unique(&["tenant_id", "space_id", "mcp_server_id"]);
            table.index(&["tenant_id", "mcp_server_id"]);
        });
        steps.tenant_table("thread", |table| {
            table.uuid("space_id").text("channel").text("title").text("status").text("priority").attribution();
            table.text_null("correlation_source").text_null("correlation_key").int("message_sequence");
            table.int("event_sequence").int("created_at").int("updated_at").int("version");
            table.unique_where(&["tenant_id", "correlation_source", "correlation_key"], "correlation_key IS NOT NULL");
            table.index(&["tenant_id", "space_id", "updated_at"]).index(&["tenant_id", "updated_at"]);
        });
        steps.tenant_table("message", |table| {
            table.uuid("thread_id").int("sequence").text("role").text("text").text_null("data").attribution();
            table.uuid_null("turn_id").uuid_null("source_event_id").flag("mark_private").flag("mark_untrusted");
            // Typed by the requester in a browser session: then `/tool` in it is the approval of that very call.
            table.flag("typed_in_session").int("created_at").unique(&["tenant_id", "thread_id", "sequence"]);
            table.unique_where(&["tenant_id", "source_event_id"], "source_event_id IS NOT NULL");
        });
        steps.tenant_table("turn", |table| {
            table.uuid("thread_id").uuid("space_id").uuid("message_id").text("status").attribution();
            table.flag("mark_private").flag("mark_untrusted").text_null("tools_offered").text_null("tools_left_out");
            table.text_null("failure").int("created_at").int_null("started_at").int_null("finished_at");
            table.index(&["tenant_id", "thread_id", "id"]).index(&["tenant_id", "created_at"]);
            table.unique_where(&["tenant_id", "thread_id"], "status = 'running'");
            table.index_where(&["tenant_id", "thread_id", "id"], "finished_at IS NULL");
        });
        steps.tenant_table("step", |table| {
            table.uuid("turn_id").uuid("thread_id").int("position").text("kind").text("name").text("status");
            table.text_null("effect").flag("idempotent").attribution().uuid_null("mcp_server_id");
            table.uuid_null("credential_id").int_null("credential_version").text_null("definition_hash");
            table.text_null("call_hash").text_null("input").text_null("output").text_null("input_preview");
            table.text_null("output_preview").text_null("failure").int("started_at").int_null("finished_at");
            table.unique(&["tenant_id", "turn_id", "position"]).index(&["tenant_id", "subject_user_id", "id"]);
        });
        steps.tenant_table("thread_event", |table| {
            table.uuid("thread_id").int("sequence").text("kind").uuid("ref_id").int("at");
            table.unique(&["tenant_id", "thread_id", "sequence"]);
        });
        steps.tenant_table("agent", |table| {
            table.text_null("model_base_url").text_null("model").text("instructions").uuid_null("credential_id");
            table.int("updated_at").int("version").unique(&["tenant_id"]);
        });
    },
};
