//! `thinkwork demo`: everything at once, offline, in a temporary folder. `--check` does it without a person.

use std::future::Future;
use std::io::BufRead as _;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use clap::Args;
use qrcode::QrCode;
use qrcode::render::unicode::Dense1x2;
use thinkwork_primitives::{Chain, Clock, Secret};
use tokio::net::TcpListener;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;
use tokio::time::{Instant, interval, sleep_until};

use super::{CommandError, GlobalArgs};
use crate::app::App;
use crate::config;
use crate::demo::{AuditPrinter, DemoContext, DemoTenant, OWNER_EMAIL, STEPS, SampleServers, check, password};

/// How often the record is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(400);
/// When the first event is sent by itself, and how long between the others.
const FIRST_EVENT_AFTER: Duration = Duration::from_secs(8);
const EVENT_EVERY: Duration = Duration::from_secs(60);
/// Events that are sent by themselves; a demonstration that is left alone falls silent. Enter always sends one.
const EVENTS_BY_THEMSELVES_MAX: u32 = 30;
/// How long open pages may take to end after Ctrl-C.
const SHUTDOWN_TIMEOUT: Duration = Duration::from_secs(2);

/// Arguments of `demo`.
#[derive(Args)]
pub struct Demo {
    /// Run all steps automatically, print one JSON line per step and exit: 0 on success, 1 on failure.
    #[arg(long)]
    check: bool,
    /// Write a summary to this file (with --check).
    #[arg(long, value_name = "FILE", requires = "check")]
    json_summary: Option<PathBuf>,
}

/// The running server, and what belongs to it.
struct Running {
    app: Arc<App>,
    stage: DemoContext,
    stop: oneshot::Sender<()>,
    server: JoinSet<()>,
    folder: tempfile::TempDir,
}

/// Runs until Ctrl-C, or until the check has ended.
///
/// # Errors
/// Whatever stops the start, and a check that failed.
pub async fn run(shared: &GlobalArgs, command: Demo) -> Result<(), CommandError> {
    let running = start(shared).await?;
    let outcome = if command.check {
        run_check(&running.stage, command.json_summary.as_deref()).await
    } else {
        show(&running.stage).await
    };
    let Running { app, stage, stop, mut server, folder } = running;
    drop((stop, stage));
    // Open pages hold their stream; nobody who presses Ctrl-C wants to wait for them.
    drop(tokio::time::timeout(SHUTDOWN_TIMEOUT, server.join_next()).await);
    server.shutdown().await;
    app.db.close().await;
    folder.close().map_err(|error| CommandError::failed(format!("cannot remove the temporary folder: {error}")))?;
    outcome
}

/// Starts the server on SQLite in a temporary folder, and the sample outside world beside it.
async fn start(shared: &GlobalArgs) -> Result<Running, CommandError> {
    let listen: SocketAddr = (shared.listen.as_deref().unwrap_or("127.0.0.1:0").parse())
        .map_err(|_| CommandError::wrong_use("--listen must be an address and a port, for example 127.0.0.1:8080"))?;
    if !listen.ip().is_loopback() {
        return Err(CommandError::wrong_use("the demo runs on this machine only: --listen must be a loopback address"));
    }
    let busy = |error| CommandError::failed(format!("cannot listen on {listen}: {error}; choose another --listen"));
    let listener = TcpListener::bind(listen).await.map_err(busy)?;
    let address = listener.local_addr().map_err(busy)?;
    let folder = tempfile::Builder::new().prefix("thinkwork-demo-").tempdir().map_err(CommandError::failed)?;
    let place = |name: &str| folder.path().join(name).display().to_string();
    let flags = [
        ("listen", address.to_string()),
        ("data_dir", place("data")),
        ("key_file", place("key")),
        ("outbound.allow_loopback", "true".to_owned()),
        // The account of what happens is not to be lost between lines of the log.
        ("log", shared.log.clone().unwrap_or_else(|| "warn".to_owned())),
    ];
    let config = config::load(None, &[], &flags).map_err(CommandError::wrong_use)?;
    shared.logging.begin(&config).map_err(CommandError::failed)?;
    let url = config.public_url.clone();
    let clock = Clock::system();
    let outside = SampleServers::open(&clock).await.map_err(CommandError::failed)?;
    let app = App::build(config, clock.clone()).await.map_err(CommandError::failed)?;
    app.metrics.add(shared.logging.collectors()).map_err(CommandError::failed)?;
    let made =
        app.access.tenant_create("demo", "Demo company", OWNER_EMAIL, "Olivia").await.map_err(CommandError::failed)?;
    let owner_password = password().map_err(CommandError::failed)?;
    let secret = Secret::from_text(owner_password.clone());
    app.access.password_set(made.tenant, made.owner, &secret).await.map_err(CommandError::failed)?;
    let stage = DemoContext { url, clock, tenant: made.tenant, owner_password, audit: app.audit.clone(), outside };
    let (stop, stopping) = oneshot::channel::<()>();
    let mut server = JoinSet::new();
    server.spawn(super::serve::serve(Arc::clone(&app), listener, async { drop(stopping.await) }));
    Ok(Running { app, stage, stop, server, folder })
}

async fn run_check(stage: &DemoContext, summary_file: Option<&Path>) -> Result<(), CommandError> {
    let mut print = |line: &serde_json::Value| say!("{line}");
    let summary = check(stage, &mut print).await.map_err(CommandError::failed)?;
    if let Some(file) = summary_file {
        let text = format!("{:#}\n", summary.json());
        std::fs::write(file, text)
            .map_err(|error| CommandError::failed(format!("cannot write {}: {error}", file.display())))?;
    }
    if summary.ok {
        return Ok(());
    }
    let failed = STEPS.get(summary.steps.len().saturating_sub(1)).copied().unwrap_or("the beginning");
    let skipped = summary.skipped.len();
    Err(CommandError::failed(format!("the check failed at {failed}; {skipped} later steps were skipped")))
}

/// Furnishes the house, prints where to go, and tells what happens until Ctrl-C.
async fn show(stage: &DemoContext) -> Result<(), CommandError> {
    let mut house = DemoTenant::new(stage.url.clone(), stage.owner_password.clone()).map_err(CommandError::failed)?;
    house.furnish(&stage.outside).await.map_err(CommandError::failed)?;
    let mut narrator = AuditPrinter::default();
    narrator.begin(&mut house).await.map_err(CommandError::failed)?;
    say!("{}", welcome(&house, &stage.outside));
    let mut enter = lines();
    let mut look = interval(LOOK_EVERY);
    let mut next_event = Instant::now() + FIRST_EVENT_AFTER;
    let mut left: u32 = EVENTS_BY_THEMSELVES_MAX;
    let mut shutdown_signal = std::pin::pin!(super::serve::shutdown_signal());
    loop {
        let send = tokio::select! {
            () = &mut shutdown_signal => break,
            Some(()) = enter.recv() => true,
            () = sleep_until(next_event), if left > 0 => {
                left = left.saturating_sub(1);
                true
            }
            _ = look.tick() => false,
        };
        if send {
            next_event = Instant::now() + EVENT_EVERY;
            say!("{}", sent(stage.outside.sender.send_next()).await);
        }
        match narrator.look(&mut house).await {
            Ok(lines) => lines.iter().for_each(|line| say!("{line}")),
            Err(error) => tracing::warn!(error = %Chain(&error), "some events could not be shown"),
        }
    }
    say!("\nStopped. The temporary folder was removed.");
    Ok(())
}

async fn sent(sending: impl Future<Output = Option<crate::demo::Sent>>) -> String {
    match sending.await {
        Some(sent) => {
            let time = sent.at.to_string();
            let time = time.get(11..19).unwrap_or_default();
            let status = sent.status.unwrap_or_default();
            format!("{time}  Sample Billing sent {} (signed): response {status}", sent.about)
        }
        None => "Sample Billing has no endpoint".to_owned(),
    }
}

/// A message for each line typed, until the input ends. A thread of its own, because reading a terminal cannot be
/// called off; it ends with the process.
fn lines() -> mpsc::Receiver<()> {
    let (typed, lines) = mpsc::channel(1);
    std::thread::spawn(move || {
        for line in std::io::stdin().lock().lines() {
            if line.is_err() || typed.blocking_send(()).is_err() {
                return;
            }
        }
    });
    lines
}

fn welcome(house: &DemoTenant, outside: &SampleServers) -> String {
    let admin = house.at("/admin");
    let me = house.at("/me");
    let olivia = &house.olivia;
    let ben = &house.ben;
    let qr = QrCode::new(me.as_str()).map(|code| {
        // Light on dark, as most terminals are.
        code.render::<Dense1x2>().dark_color(Dense1x2::Light).light_color(Dense1x2::Dark).build()
    });
    let port = house.url.port_or_known_default().unwrap_or_default();
    format!(
        "\nThinkWork demo. It runs on this machine only. Press Ctrl-C to stop; all data is then deleted.\n\n\
         Admin             {admin}\n\
         My work           {me}\n    \
         sign in as {}, password {}\n    \
         ({} is the owner and the first member)\n\n\
         Second member     {me}   (open it in a private window)\n    \
         sign in as {}, password {}\n\n{}\n\
         Scan the code to open My work on a phone. Forward port {port} to the phone first\n\
         (Android: adb reverse tcp:{port} tcp:{port}).\n\n\
         Sample services:\n    \
         Sample ID (sign-in service)      {}\n    \
         Notes (an MCP server)            {}\n    \
         Sample Billing (sends events)    {}\n\n\
         Try this:\n    \
         1. As {}, connect Notes on {}.\n    \
         2. In the Space “Invoices” ({}), start a thread with\n         /tool notes__search {{\"query\":\"invoice\"}}\n    \
         3. As {}, send the same message in that thread: you get a link to connect your own account.\n    \
         4. Press Enter here: Sample Billing sends a signed event. It also sends events automatically.\n    \
         5. Wait two minutes and repeat step 2: the token is refreshed. Then disconnect: the tool is no longer available.\n\n\
         Activity (times in UTC):\n",
        olivia.email,
        olivia.password,
        olivia.name,
        ben.email,
        ben.password,
        qr.unwrap_or_default(),
        outside.sample_id,
        outside.notes_endpoint(),
        outside.billing,
        olivia.name,
        house.at("/me/mcp-servers"),
        house.at(&format!("/me/spaces/{}", house.space)),
        ben.name,
    )
}
