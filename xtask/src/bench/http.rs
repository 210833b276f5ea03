//! What is measured over HTTP by the program in `bench/`: the acceptance of webhooks and the gateway's overhead.

use super::{Bench, Figure, Goal};
use crate::command;
use crate::failure::Failure;

/// Its name there, what it is called here, its unit and its goal.
type Row = (&'static str, &'static str, &'static str, Goal);

const ROWS: &[Row] = &[
    ("webhook_ratio", "webhook acceptance, of a bare handler's rate", "", Goal::AtLeast(0.3)),
    ("webhook_accepted_per_second", "webhooks accepted", "a second", Goal::Reported),
    ("bare_per_second", "requests at the bare handler", "a second", Goal::Reported),
    (
        "webhook_processor_time_ratio",
        "processor time of an accepted webhook, of the bare handler's",
        "times",
        Goal::Reported,
    ),
    ("webhook_accepted_with_worker_per_second", "webhooks accepted with the worker on", "a second", Goal::Reported),
    ("webhook_applied_per_second", "webhooks accepted and applied", "a second", Goal::Reported),
    ("webhook_turns_ended_per_second", "webhooks with their turns ended", "a second", Goal::Reported),
    ("gateway_added_beside_a_sync_ms", "added by the gateway beside one sync, p50", "ms", Goal::AtMost(1.0)),
    ("gateway_call_ms", "tool call through the gateway, p50", "ms", Goal::Reported),
    ("gateway_full_space_call_ms", "the same in a Space of ten servers with thirty tools each", "ms", Goal::Reported),
    ("direct_call_ms", "the same call at the server itself, p50", "ms", Goal::Reported),
    ("sync_ms", "sync of 8 KiB, p50", "ms", Goal::Reported),
];

pub(super) fn figures(bench: &Bench<'_>) -> Result<Vec<Figure>, Failure> {
    let program = bench.session.target().join("release").join("thinkwork-bench");
    let mut printed = String::new();
    for part in ["acceptance", "drain", "gateway"] {
        let mut measure = command::command(&program, &[part], &bench.folder);
        printed.push_str(&command::capture(measure.arg(&bench.binary).arg(&bench.folder))?);
    }
    ROWS.iter().map(|row| figure(&printed, row)).collect()
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
