//! One run of this tool: where things are, and what was started on the way and ends with it.
//!
//! Peers and PostgreSQL are set up when first asked for, so `--only` needs no list of what depends on what.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::str::FromStr;

use crate::command;
use crate::failure::Failure;
use crate::peers::Peers;
use crate::postgres::Postgres;

/// A database engine that the suite runs on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Engine {
    Sqlite,
    Postgres,
}

impl FromStr for Engine {
    type Err = Failure;

    fn from_str(word: &str) -> Result<Self, Failure> {
        match word {
            "sqlite" => Ok(Self::Sqlite),
            "postgres" => Ok(Self::Postgres),
            _ => Err(Failure::new(format!("`{word}` is no engine: say sqlite or postgres"))),
        }
    }
}

/// The folders of this run and what it started.
pub(crate) struct Session {
    root: PathBuf,
    target: PathBuf,
    peers: Option<Peers>,
    postgres: Option<Postgres>,
}

impl Session {
    pub(crate) fn new() -> Result<Self, Failure> {
        let manifest = Path::new(env!("CARGO_MANIFEST_DIR"));
        let root = manifest.parent().ok_or_else(|| Failure::new("xtask has no folder above it"))?.to_path_buf();
        let target = match std::env::var_os("CARGO_TARGET_DIR") {
            Some(folder) => root.join(folder),
            None => root.join("target"),
        };
        Ok(Self { root, target, peers: None, postgres: None })
    }

    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    pub(crate) fn target(&self) -> &Path {
        &self.target
    }

    /// Where peers, their caches and PostgreSQL live.
    pub(crate) fn peers_folder(&self) -> PathBuf {
        self.target.join("peers")
    }

    /// The product's debug binary, as the `build` stage leaves it.
    pub(crate) fn binary(&self) -> Result<PathBuf, Failure> {
        let binary = self.target.join("debug").join("thinkwork");
        if binary.is_file() {
            return Ok(binary);
        }
        Err(Failure::new(format!("{} is missing: run the `build` stage first", binary.display())))
    }

    /// The installed peers; installs what is missing or out of date.
    pub(crate) fn peers(&mut self) -> Result<&Peers, Failure> {
        if self.peers.is_none() {
            self.peers = Some(Peers::install(&self.root, &self.peers_folder())?);
        }
        self.peers.as_ref().ok_or_else(|| Failure::new("the peers are not there"))
    }

    /// The tests' own PostgreSQL; starts it on first use. It ends with this session.
    pub(crate) fn postgres(&mut self) -> Result<&Postgres, Failure> {
        if self.postgres.is_none() {
            self.postgres = Some(Postgres::start(&self.peers_folder())?);
        }
        self.postgres.as_ref().ok_or_else(|| Failure::new("PostgreSQL is not there"))
    }

    /// What a test reads from its environment to find the engine and the peers.
    pub(crate) fn environment(&mut self, engine: Engine) -> Result<Vec<(&'static str, String)>, Failure> {
        let mut environment = self.peers()?.environment();
        environment.push(("INSTA_UPDATE", "no".to_owned()));
        match engine {
            Engine::Sqlite => environment.push(("THINKWORK_TEST_DATABASE", "sqlite".to_owned())),
            Engine::Postgres => {
                environment.push(("THINKWORK_TEST_DATABASE", "postgres".to_owned()));
                environment.push(("THINKWORK_TEST_POSTGRES_URL", self.postgres()?.url()));
            }
        }
        Ok(environment)
    }
}

/// Runs one command in the environment of the tests, where the person stands.
pub(crate) fn run_with(session: &mut Session, engine: Engine, words: &[&str]) -> Result<(), Failure> {
    let Some((program, arguments)) = words.split_first() else {
        return Err(Failure::new("say which command to run, such as `cargo test -p thinkwork`"));
    };
    let environment = session.environment(engine)?;
    let mut command = Command::new(program);
    command::run(command.args(arguments).envs(environment))
}
