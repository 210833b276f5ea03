//! `cargo xtask chaos intake`: something breaks under load, round for round, on both engines; nothing that was accepted is
//! lost, doubled or out of its order. The rounds are in `bench/src/chaos.rs`.

use super::prepare;
use crate::command;
use crate::failure::Failure;
use crate::session::Session;

/// What a run without a number does on each engine.
pub(crate) const ROUNDS: u32 = 60;

pub(crate) fn intake(session: &mut Session, rounds: u32) -> Result<(), Failure> {
    let bench = prepare(session)?;
    let program = bench.session.target().join("release").join("thinkwork-bench");
    for engine in ["sqlite", "postgres"] {
        println!("==> {rounds} rounds on {engine}");
        let folder = bench.folder.join(engine);
        std::fs::create_dir_all(&folder).map_err(Failure::file(&folder))?;
        let mut chaos = command::command(&program, &["chaos", &rounds.to_string()], &folder);
        chaos.arg(&bench.binary).arg(&folder);
        if engine == "postgres" {
            chaos.arg(bench.session.postgres()?.url());
        }
        command::run(&mut chaos)?;
    }
    Ok(())
}
