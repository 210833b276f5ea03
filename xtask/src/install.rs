//! The programs that the checks need. On Debian as root they are installed; elsewhere one sentence says what to install.

use std::path::Path;

use crate::command;
use crate::failure::Failure;
use crate::postgres;

/// A need, the Debian packages that meet it, and how to see that it is met.
struct Need {
    what: &'static str,
    packages: &'static [&'static str],
    met: fn() -> bool,
}

const NEEDS: &[Need] = &[
    Need { what: "a C compiler", packages: &["gcc", "libc6-dev"], met: || command::exists("cc") },
    Need {
        what: "Node 20 or newer with npm",
        packages: &["nodejs", "npm"],
        met: || command::exists("node") && command::exists("npm"),
    },
    Need { what: "Python 3.11 or newer with venv", packages: &["python3", "python3-venv"], met: python_has_venv },
    Need { what: "PostgreSQL's server programs", packages: &["postgresql"], met: || postgres::programs().is_ok() },
    Need { what: "Chromium", packages: &["chromium", "fonts-liberation"], met: || chromium().is_some() },
];

const CHROMIUM_NAMES: &[&str] = &["chromium", "chromium-browser", "google-chrome"];

/// Installs what is missing, or says in one sentence what to install.
pub(crate) fn missing() -> Result<(), Failure> {
    toolchain()?;
    let missing: Vec<&Need> = NEEDS.iter().filter(|need| !(need.met)()).collect();
    if missing.is_empty() {
        return Ok(());
    }
    let packages: Vec<&str> = missing.iter().flat_map(|need| need.packages).copied().collect();
    if !(is_root()? && command::exists("apt-get")) {
        let whats: Vec<&str> = missing.iter().map(|need| need.what).collect();
        return Err(Failure::new(format!(
            "please install {} (on Debian: `apt-get install {}`)",
            whats.join(", "),
            packages.join(" ")
        )));
    }
    println!("    installing {}", packages.join(" "));
    apt_get(&["update"])?;
    let mut install = vec!["install", "--yes", "--no-install-recommends"];
    install.extend(&packages);
    apt_get(&install)?;
    match NEEDS.iter().find(|need| !(need.met)()) {
        None => Ok(()),
        Some(need) => {
            Err(Failure::new(format!("{} is still missing after `apt-get install {}`", need.what, packages.join(" "))))
        }
    }
}

/// The browser of the page tests.
pub(crate) fn chromium() -> Option<std::path::PathBuf> {
    CHROMIUM_NAMES.iter().find_map(|name| command::find(name))
}

/// Whether this process runs as root.
pub(crate) fn is_root() -> Result<bool, Failure> {
    let id = command::capture(&mut command::command("id", &["-u"], Path::new("/")))?;
    Ok(id.trim() == "0")
}

fn apt_get(arguments: &[&str]) -> Result<(), Failure> {
    let mut apt = command::command("apt-get", arguments, Path::new("/"));
    command::capture(apt.env("DEBIAN_FRONTEND", "noninteractive")).map(drop)
}

fn toolchain() -> Result<(), Failure> {
    for (component, arguments) in [("rustfmt", ["fmt", "--version"]), ("clippy", ["clippy", "--version"])] {
        let mut cargo = command::cargo(&arguments, Path::new("/"));
        command::capture(&mut cargo)
            .map_err(|_| Failure::new(format!("please install {component}: `rustup component add {component}`")))?;
    }
    Ok(())
}

fn python_has_venv() -> bool {
    let mut python = command::command("python3", &["-c", "import ensurepip, venv"], Path::new("/"));
    command::capture(&mut python).is_ok()
}
