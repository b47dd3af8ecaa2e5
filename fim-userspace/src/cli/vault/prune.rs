//! Removing by hand what is too old or too much.

use std::io::Write;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, bail};
use serde_json::json;

use super::open;
use crate::cli::REPORT;
use crate::config::{Config, parse_duration};
use crate::control::{Act, Answer, Pruned, Request};
use crate::core::event::{Event, EventKind};
use crate::core::size;
use crate::daemon::clock::realtime_ns;
use crate::daemon::control::{Client, ClientError};
use crate::daemon::hands::Person;
use crate::daemon::limits::{self, Retention};
use crate::daemon::take::open_vault;
use crate::sink::line::printable;
use crate::store::{Lock, Store};

#[derive(Debug, Default, clap::Args)]
pub struct Args {
    /// Only say what would go
    #[arg(long)]
    pub dry_run: bool,
    /// Remove evidence and former versions older than this, such as 30d (default: [vault] max_age)
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    pub older_than: Option<Duration>,
    /// Remove the oldest until all is no larger than this, such as 5GiB (default: [vault] max_size)
    #[arg(long, value_name = "SIZE", value_parser = bytes)]
    pub max_size: Option<u64>,
}

fn duration(text: &str) -> Result<Duration, String> {
    parse_duration(text).ok_or_else(|| "write a duration such as 12h or 30d".into())
}

fn bytes(text: &str) -> Result<u64, String> {
    size::parse(text).ok_or_else(|| "write a size such as 10GiB, 512MB or a plain number of bytes".into())
}

/// Exit codes: 0 all is within its limits, 1 something is not and cannot go.
pub fn run(config: &Config, args: &Args, json: bool, out: &mut impl Write) -> anyhow::Result<ExitCode> {
    let retention = Retention {
        max_age: args.older_than.or(config.vault.max_age),
        max_size: args.max_size.or(config.vault.max_size),
    };
    if retention == Retention::default() {
        anyhow::bail!(
            "there is no limit to keep; say --older-than 30d or --max-size 5GiB, or set max_age or max_size in [vault]"
        );
    }
    if args.dry_run {
        let (store, vault) = open(config)?;
        let decision = limits::look(&store, &vault, &retention, realtime_ns())?;
        let mut told = limits::told(&decision);
        told.removed = decision.remove.len() as u64;
        tell(&told, true, json, out)?;
        return Ok(code(&told));
    }
    let told = match by_daemon(config, &retention)? {
        Some(told) => told,
        None => alone(config, &retention)?,
    };
    for failure in &told.failed {
        eprintln!("fim: {}", printable(failure));
    }
    tell(&told, false, json, out)?;
    Ok(code(&told))
}

/// The daemon relies on what it finds in the vault, so nobody else removes anything while it runs. `None` where none does.
fn by_daemon(config: &Config, retention: &Retention) -> anyhow::Result<Option<Pruned>> {
    let Some(client) = Client::connect(&config.state.dir)? else { return Ok(None) };
    let max_age = retention.max_age.map(|age| age.as_secs());
    let act = Act::Prune { max_age, max_size: retention.max_size };
    let mut last = None;
    client.ask(Request::Act(act), &mut |answer| last = Some(answer))?;
    match last {
        Some(Answer::Pruned(told)) => Ok(Some(told)),
        Some(Answer::Failed { sentence }) => bail!(sentence),
        _ => Err(ClientError::Strange.into()),
    }
}

fn alone(config: &Config, retention: &Retention) -> anyhow::Result<Pruned> {
    let _lock = Lock::acquire(&config.state.dir)
        .context("no daemon answers on the control socket, and the work cannot be done without it")?;
    let mut store = Store::open(&config.state.dir)?;
    let vault = open_vault(config)?;
    let said =
        Person::behind(std::process::id(), nix::unistd::getuid().as_raw()).says("fim vault prune", None);
    let event = |message: String| {
        let message = format!("{message}, {said}");
        let mut event =
            Event::about_fim(EventKind::Purged, &crate::daemon::host(), "none", realtime_ns(), message);
        event.authorised_by = Some(said.clone());
        event
    };
    Ok(limits::prune(&mut store, &vault, retention, realtime_ns(), event)?.told())
}

fn code(told: &Pruned) -> ExitCode {
    if told.over == 0 && told.failed.is_empty() { ExitCode::SUCCESS } else { ExitCode::from(REPORT) }
}

fn tell(told: &Pruned, dry_run: bool, json: bool, out: &mut impl Write) -> anyhow::Result<()> {
    if json {
        let line = json!({
            "dry_run": dry_run,
            "removed": told.removed,
            "by_age": told.by_age,
            "freed": told.freed,
            "left": told.left,
            "baseline": told.baseline,
            "over": told.over,
            "failed": told.failed,
            "seq": told.seq,
        });
        writeln!(out, "{line}")?;
        return Ok(());
    }
    let would = if dry_run { "would be " } else { "" };
    writeln!(out, "{would}{}", told.sentence)?;
    Ok(())
}
