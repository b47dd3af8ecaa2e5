//! `fim status`: whether the daemon watches, with what means, and what is wrong.

use std::fmt::Write as _;
use std::io;
use std::path::Path;
use std::process::ExitCode;

use serde::Serialize;

use super::REPORT;
use super::log::OVERDUE_INTERVALS;
use crate::config::Config;
use crate::core::maintenance::Window;
use crate::core::path::display;
use crate::core::size::show as size;
use crate::sink::alert::plan::lanes;
use crate::sink::line::printable;
use crate::store::status::{Status, WatchStatus};
use crate::store::{SinkState, Store, StoreError};

/// What is printed with `--json`.
#[derive(Debug, Serialize)]
pub(super) struct Report {
    pub running: bool,
    /// One sentence each; empty when all is well.
    pub problems: Vec<String>,
    /// What the daemon said last, whether it still runs or not.
    pub daemon: Option<Status>,
    pub database: Option<Database>,
}

/// What the database says for itself.
#[derive(Debug, Serialize)]
pub(super) struct Database {
    pub baseline_taken: Option<String>,
    pub baseline_by: Option<String>,
    /// Approved entries of each watch, by path.
    pub watches: Vec<(String, u64)>,
    pub ledger_head: u64,
    /// Responses without a recorded end.
    pub open_responses: usize,
    pub sinks: Vec<SinkState>,
    /// The maintenance window that is open.
    pub maintenance: Option<Window>,
}

pub fn run(config: &Config, json: bool) -> anyhow::Result<ExitCode> {
    Ok(ExitCode::from(write(config, json, &mut io::stdout().lock())?))
}

/// The exit code.
pub(super) fn write(config: &Config, json: bool, out: &mut dyn io::Write) -> anyhow::Result<u8> {
    let report = Report::gather(config)?;
    match json {
        true => writeln!(out, "{}", serde_json::to_string(&report)?)?,
        false => write!(out, "{}", report.text())?,
    }
    out.flush()?;
    Ok(report.code())
}

impl Report {
    pub(super) fn gather(config: &Config) -> Result<Self, StoreError> {
        let dir = &config.state.dir;
        let daemon = Status::read(dir).map_err(|source| StoreError::dir(dir, source))?;
        let database = match Store::open_read_only(dir) {
            Ok(store) => Some(Database::gather(&store)?),
            Err(StoreError::Absent(_)) => None,
            Err(e) => return Err(e),
        };
        let running = daemon.as_ref().is_some_and(Status::is_alive);
        let mut report = Self { running, problems: Vec::new(), daemon, database };
        report.problems = report.find_problems(config);
        Ok(report)
    }

    pub(super) fn code(&self) -> u8 {
        if self.problems.is_empty() { 0 } else { REPORT }
    }

    fn find_problems(&self, config: &Config) -> Vec<String> {
        let mut problems = Vec::new();
        let live = self.daemon.as_ref().filter(|_| self.running);
        match (live, &self.daemon) {
            (Some(status), _) if !status.ready => {
                problems.push("fim is still starting; not everything is watched yet".into())
            }
            (Some(_), _) => {}
            (None, Some(last)) => problems.push(format!(
                "fim is not running: the last one (pid {}) began at {} and has ended; start it with `fim run`",
                last.pid, last.started
            )),
            (None, None) => problems.push("fim is not running; start it with `fim run`".into()),
        }
        let taken = self.database.as_ref().is_some_and(|d| d.baseline_taken.is_some());
        if !taken {
            problems
                .push(format!("there is no baseline in {} yet; run `fim init`", display(&config.state.dir)));
        }
        if let Some(status) = live {
            let failed = status
                .self_test_trouble
                .iter()
                .map(|why| format!("the self-test failed: {}", printable(why)));
            problems.extend(failed);
            let troubles = status.trouble.iter().chain(&status.vault_trouble);
            problems.extend(troubles.map(|trouble| printable(trouble)));
            problems.extend(status.attach.iter().filter(|h| h.state == "failed").map(|h| {
                format!(
                    "the hook {} is not attached: {}",
                    h.hook,
                    h.reason.as_deref().unwrap_or("no reason given")
                )
            }));
            problems.extend(seal_overdue(status, config));
            if status.gaps.open > 0 {
                problems.push(format!("{} coverage gap(s) wait for their scan", status.gaps.open));
            }
        }
        let sinks = self.database.as_ref().map(|d| d.sinks.as_slice()).unwrap_or_default();
        problems.extend(sink_problems(config, sinks));
        problems
    }

    pub(super) fn text(&self) -> String {
        let mut out = String::new();
        // Writing to a String cannot fail.
        let _ = self.write(&mut out);
        out
    }

    fn write(&self, out: &mut String) -> std::fmt::Result {
        if let Some(status) = self.daemon.as_ref().filter(|_| self.running) {
            writeln!(out, "fim runs (pid {}) since {}, tier {}", status.pid, status.started, status.tier)?;
            write_daemon(out, status)?;
        } else {
            writeln!(out, "fim is not running")?;
        }
        if let Some(database) = &self.database {
            write_database(out, database, self.running)?;
        }
        for problem in &self.problems {
            writeln!(out, "! {problem}")?;
        }
        Ok(())
    }
}

/// The daemon makes a seal each interval, whether records came or not.
fn seal_overdue(status: &Status, config: &Config) -> Option<String> {
    let time = |text: &str| text.parse::<jiff::Timestamp>().ok();
    let sealed = status.ledger_sealed.as_deref()?;
    let wait = i64::try_from(config.ledger.seal_interval.as_secs()).ok()?.saturating_mul(OVERDUE_INTERVALS);
    let since = time(&status.written)?.as_second().saturating_sub(time(sealed)?.as_second());
    (since > wait).then(|| {
        format!("the ledger was last sealed at {sealed}, longer ago than {OVERDUE_INTERVALS} intervals; the daemon's log says why")
    })
}

/// Names of all that records go to; sinks that were once configured keep their cursor and are nobody's problem.
pub(super) fn configured_sinks(config: &Config, known: &[SinkState]) -> Vec<String> {
    let known = |name: &str| known.iter().any(|sink| sink.name == name);
    let central = config.central.as_ref().map(|_| crate::config::CENTRAL.to_owned());
    let alerts = config.alerts.iter().flat_map(|alert| lanes(alert, &known)).map(|lane| lane.name);
    let logs = config.logs.iter().map(|log| log.name.clone());
    [crate::config::JOURNALD.to_owned()].into_iter().chain(central).chain(alerts).chain(logs).collect()
}

/// One sentence for each configured sink that has an error.
fn sink_problems(config: &Config, sinks: &[SinkState]) -> Vec<String> {
    let configured = configured_sinks(config, sinks);
    sinks.iter().filter(|s| configured.contains(&s.name)).filter_map(sink_problem).collect()
}

fn sink_problem(sink: &SinkState) -> Option<String> {
    let error = sink.error.as_ref().filter(|_| !sink.idle)?;
    let since = sink.error_at.as_deref().unwrap_or("an unknown time");
    Some(format!("the sink {:?} has an error since {since}: {}", sink.name, printable(error)))
}

impl Database {
    fn gather(store: &Store) -> Result<Self, StoreError> {
        let taken = store.baseline_taken()?;
        let count = |root: &Path| Ok((display(root), store.baseline_count(root)?));
        Ok(Self {
            baseline_taken: taken.as_ref().map(|t| t.time.clone()),
            baseline_by: taken.map(|t| format!("{} on {}", t.by, t.host)),
            watches: store.baseline_watches()?.iter().map(|root| count(root)).collect::<Result<_, _>>()?,
            ledger_head: store.ledger_head()?.seq,
            open_responses: store.intents_open()?.len(),
            sinks: store.sink_states()?,
            maintenance: store.window_open()?,
        })
    }
}

fn write_daemon(out: &mut String, status: &Status) -> std::fmt::Result {
    for refused in &status.refused {
        writeln!(out, "  no {}: {}", refused.tier, printable(&refused.reason))?;
    }
    if !status.attach.is_empty() {
        let count = |state: &str| status.attach.iter().filter(|h| h.state == state).count();
        writeln!(out, "hooks: {} attached, {} not used in this tier", count("attached"), count("unused"))?;
        // Hooks of other tiers are no news; `--json` has the whole table.
        for hook in status.attach.iter().filter(|h| !matches!(h.state.as_str(), "attached" | "unused")) {
            let reason = hook.reason.as_deref().map_or(String::new(), |r| format!(": {}", printable(r)));
            writeln!(out, "  {} {}{reason}", hook.hook, hook.state)?;
        }
    }
    let (mut seen, mut kept, mut dropped, mut skipped) = (0, 0, 0, 0);
    for counters in status.counters.values() {
        seen += counters.seen;
        kept += counters.kept;
        dropped += counters.dropped;
        skipped += counters.skipped;
    }
    writeln!(out, "reports: {seen} seen, {kept} kept, {dropped} dropped, {skipped} skipped by the kernel")?;
    if let Some(passed) = &status.self_test_passed {
        writeln!(out, "self-test: succeeded last at {passed}")?;
    }
    writeln!(out, "watches:")?;
    for WatchStatus { path, files, coverage, last_scan } in &status.watches {
        let scan = last_scan.as_deref().unwrap_or("not yet");
        writeln!(out, "  {path}  {files} entries, last scan {scan}; {}", printable(coverage))?;
    }
    let gaps = &status.gaps;
    if gaps.count > 0 {
        let last = gaps.last.as_deref().unwrap_or("unknown");
        writeln!(
            out,
            "coverage gaps: {} since the start, {} open, the last at {last}",
            gaps.count, gaps.open
        )?;
    }
    if status.waiting + status.unwritten > 0 {
        writeln!(out, "queue: {} paths to look at, {} records to write", status.waiting, status.unwritten)?;
    }
    writeln!(out, "vault: {}", size(status.vault_bytes))
}

fn write_database(out: &mut String, database: &Database, running: bool) -> std::fmt::Result {
    if let Some(time) = &database.baseline_taken {
        let by = printable(database.baseline_by.as_deref().unwrap_or("somebody"));
        writeln!(out, "baseline: taken {time} by {by}")?;
    }
    if !running {
        for (path, entries) in &database.watches {
            writeln!(out, "  {path}  {entries} entries")?;
        }
        if database.open_responses > 0 {
            let count = database.open_responses;
            writeln!(out, "responses cut short: {count}; the next start looks at them again")?;
        }
    }
    if let Some(window) = &database.maintenance {
        let left = crate::daemon::window_left(window).map(|(_, text)| text).unwrap_or_default();
        let by = printable(&window.opened_by);
        writeln!(out, "maintenance: window {} is open until {} ({left}); {by}", window.id, window.ends())?;
    }
    writeln!(out, "ledger: {} records", database.ledger_head)?;
    if !database.sinks.is_empty() {
        writeln!(out, "sinks:")?;
    }
    for sink in &database.sinks {
        let behind = database.ledger_head.saturating_sub(sink.cursor);
        let success = sink.last_success.as_deref().unwrap_or("never");
        let mut line = format!("  {}  {behind} behind, last success {success}", printable(&sink.name));
        if sink.parked > 0 {
            let reason = printable(sink.parked_reason.as_deref().unwrap_or("no reason given"));
            write!(line, ", {} refused for good ({reason})", sink.parked)?;
        }
        if let Some(error) = &sink.error {
            write!(line, "; {}", printable(error))?;
        }
        writeln!(out, "{line}")?;
    }
    Ok(())
}
