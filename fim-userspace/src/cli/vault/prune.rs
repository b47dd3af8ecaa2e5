//! Removing by hand what is too old or too much.

use std::io::Write;
use std::process::ExitCode;
use std::time::Duration;

use serde_json::json;

use super::open;
use crate::cli::REPORT;
use crate::config::{Config, parse_duration};
use crate::core::event::{Event, EventKind};
use crate::core::retention::Decision;
use crate::core::size;
use crate::daemon::clock::realtime_ns;
use crate::daemon::limits::{self, Retention};
use crate::daemon::take::open_vault;
use crate::sink::line::printable;
use crate::store::{Lock, Store, StoreError};

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
        tell(&decision, &[], None, true, json, out)?;
        return Ok(code(&decision, &[]));
    }
    // The daemon relies on what it finds in the vault, so nobody else removes anything while it runs.
    let _lock = Lock::acquire(&config.state.dir).map_err(explain)?;
    let mut store = Store::open(&config.state.dir)?;
    let vault = open_vault(config)?;
    let event =
        |message| Event::about_fim(EventKind::Purged, &crate::daemon::host(), "none", realtime_ns(), message);
    let report = limits::prune(&mut store, &vault, &retention, realtime_ns(), event)?;
    for failure in &report.failed {
        eprintln!("fim: {}", printable(failure));
    }
    let seq = report.record.as_ref().map(|record| record.seq);
    tell(&report.decision, &report.failed, seq, false, json, out)?;
    Ok(code(&report.decision, &report.failed))
}

fn explain(error: StoreError) -> anyhow::Error {
    match error {
        StoreError::Locked { pid, .. } => {
            let pid = pid.map_or("unknown".into(), |pid: u32| pid.to_string());
            anyhow::anyhow!(
                "fim runs (pid {pid}) and prunes by itself: at its start, each hour and when the vault is full, as \
                 max_age and max_size in [vault] say; set them and restart it. `--dry-run` works meanwhile"
            )
        }
        other => other.into(),
    }
}

fn code(decision: &Decision, failed: &[String]) -> ExitCode {
    if decision.over == 0 && failed.is_empty() { ExitCode::SUCCESS } else { ExitCode::from(REPORT) }
}

fn tell(
    decision: &Decision,
    failed: &[String],
    seq: Option<u64>,
    dry_run: bool,
    json: bool,
    out: &mut impl Write,
) -> anyhow::Result<()> {
    if json {
        let line = json!({
            "dry_run": dry_run,
            "removed": decision.remove.len() - failed.len(),
            "by_age": decision.by_age,
            "freed": decision.before - decision.after,
            "left": decision.after,
            "baseline": decision.baseline,
            "over": decision.over,
            "failed": failed,
            "seq": seq,
        });
        writeln!(out, "{line}")?;
        return Ok(());
    }
    let would = if dry_run { "would be " } else { "" };
    writeln!(out, "{would}{}", limits::sentence(decision))?;
    Ok(())
}
