//! What is measured over HTTP by the program in `bench/`: webhooks, the gateway and, when asked for, long lists.

use super::{Bench, Figure, Goal};
use crate::command;
use crate::failure::Failure;
use crate::session::Engine;

/// A figure: its name there, what it is called here, its unit and its goal.
type Row = (&'static str, &'static str, &'static str, Goal);

/// What one call of the program measures on one engine.
const PARTS: &[(&str, Engine, &[Row])] = &[
    ("acceptance", Engine::Sqlite, ACCEPTANCE),
    ("drain", Engine::Sqlite, DRAIN),
    ("drain", Engine::Postgres, DRAIN_ON_POSTGRES),
    ("streams", Engine::Sqlite, STREAMS),
    ("hostile", Engine::Sqlite, HOSTILE),
    ("gateway", Engine::Sqlite, GATEWAY),
];

const ACCEPTANCE: &[Row] = &[
    ("webhook_ratio_64", "webhook acceptance, of a bare handler's rate, 64 connections", "", Goal::AtLeast(0.5)),
    ("webhook_ratio_256", "the same, 256 connections", "", Goal::AtLeast(0.6)),
    ("webhook_accepted_per_second_64", "webhooks accepted, 64 connections", "a second", Goal::Reported),
    ("bare_per_second_64", "requests at the bare handler, 64 connections", "a second", Goal::Reported),
    (
        "webhook_processor_time_ratio_64",
        "processor time of an accepted webhook, of the bare handler's",
        "times",
        Goal::Reported,
    ),
];

const DRAIN: &[Row] = &[
    ("webhook_accepted_with_worker_per_second", "webhooks accepted with the worker on", "a second", Goal::Reported),
    ("webhook_applied_per_second", "webhooks accepted and applied", "a second", Goal::AtLeast(3_000.0)),
    ("webhook_turns_ended_per_second", "webhooks with their turns ended", "a second", Goal::AtLeast(1_200.0)),
];

const DRAIN_ON_POSTGRES: &[Row] = &[
    ("webhook_applied_per_second", "webhooks accepted and applied, on PostgreSQL", "a second", Goal::AtLeast(2_000.0)),
    ("webhook_turns_ended_per_second", "webhooks with their turns ended, on PostgreSQL", "a second", Goal::Reported),
];

const STREAMS: &[Row] = &[
    ("idle_streams_of_a_core", "a server with 2,000 idle streams, of a core", "", Goal::AtMost(0.05)),
    ("drain_with_idle_streams", "events worked on beside them, of the rate without them", "", Goal::AtLeast(0.9)),
];

const HOSTILE: &[Row] = &[
    ("hostile_webhook_p99_ms", "a signed webhook while strangers flood the server, p99", "ms", Goal::AtMost(100.0)),
    ("hostile_page_p99_ms", "a signed-in page meanwhile, p99", "ms", Goal::AtMost(100.0)),
    ("calm_webhook_p99_ms", "the webhook without the flood, p99", "ms", Goal::Reported),
    ("calm_page_p99_ms", "the page without the flood, p99", "ms", Goal::Reported),
    ("half_open_connections", "the flood: connections with half a request", "", Goal::Reported),
    ("unsigned_webhooks_per_second", "the flood: webhooks without a signature", "a second", Goal::Reported),
    ("wrong_sign_ins_per_second", "the flood: sign-ins with a wrong password", "a second", Goal::Reported),
];

const GATEWAY: &[Row] = &[
    ("gateway_added_beside_a_sync_ms", "added by the gateway beside one sync, p50", "ms", Goal::AtMost(0.5)),
    ("gateway_many_added_p99_ms", "added by the gateway, p99 of 32 connections", "ms", Goal::AtMost(2.0)),
    ("gateway_call_ms", "tool call through the gateway, p50", "ms", Goal::Reported),
    ("gateway_full_space_call_ms", "the same in a Space of ten servers with thirty tools each", "ms", Goal::Reported),
    ("effective_tools_ms", "all tools of a Space of 50 servers with 40 tools each, p50", "ms", Goal::Reported),
    ("direct_call_ms", "the same call at the server itself, p50", "ms", Goal::Reported),
    ("sync_ms", "sync of 8 KiB, p50", "ms", Goal::Reported),
];

pub(super) fn figures(bench: &mut Bench<'_>) -> Result<Vec<Figure>, Failure> {
    let mut figures = Vec::new();
    for (part, engine, rows) in PARTS {
        let printed = measure(bench, part, *engine)?;
        for row in *rows {
            figures.push(figure(&printed, row)?);
        }
    }
    Ok(figures)
}

/// Runs one part of the program and returns what it printed.
pub(super) fn measure(bench: &mut Bench<'_>, part: &str, engine: Engine) -> Result<String, Failure> {
    let program = bench.session.target().join("release").join("thinkwork-bench");
    let folder = bench.folder.join(match engine {
        Engine::Sqlite => "sqlite",
        Engine::Postgres => "postgres",
    });
    std::fs::create_dir_all(&folder).map_err(Failure::file(&folder))?;
    let mut measure = command::command(&program, &[part], &folder);
    measure.arg(&bench.binary).arg(&folder);
    if engine == Engine::Postgres {
        measure.arg(bench.session.postgres()?.url());
    }
    command::capture(&mut measure)
}

fn figure(printed: &str, &(key, name, unit, goal): &Row) -> Result<Figure, Failure> {
    let value = printed.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(' ')?.parse().ok());
    let value = value.ok_or_else(|| Failure::new(format!("thinkwork-bench did not measure {key}")))?;
    Ok(Figure { name, value, unit, goal })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_figure_is_read_from_its_own_line() {
        let printed = "sync_ms_more 1\nsync_ms 0.25\n";
        let row = ("sync_ms", "sync", "ms", Goal::Reported);
        assert_eq!(figure(printed, &row).map(|figure| figure.value).ok(), Some(0.25));
        assert!(figure("sync_ms\n", &row).is_err());
    }
}
