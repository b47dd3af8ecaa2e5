//! `fim log verify`.

use std::fmt::Write as _;
use std::io::{self, Read, Write};
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, bail};
use jiff::Timestamp;
use zeroize::Zeroizing;

use crate::cli::{REPORT, progress};
use crate::core::entry::Digest;
use crate::core::path::display;
use crate::store::seal::{Beside, VerificationKey};
use crate::store::{Anchor, Store, Verification, VerifyReport};

/// Intervals after which a seal is missed: one may be late, and a machine may sleep.
pub(in crate::cli) const OVERDUE_INTERVALS: i64 = 3;
/// No key's text is longer.
const LONGEST: u64 = 4096;

/// With what to verify, as the user gave it.
pub(super) struct With<'a> {
    pub key: Option<&'a Path>,
    pub anchors: Vec<Anchor>,
    pub seal_interval: Duration,
}

pub(super) fn run(store: &Store, with: &With<'_>, json: bool) -> anyhow::Result<ExitCode> {
    let key = with.key.map(read_key).transpose()?;
    let show = !json && progress::wanted();
    let mut progress = |done: u64, total: u64| {
        if show {
            eprint!("\r{done} of {total} records checked");
        }
    };
    let report = store.verify(Verification {
        key: key.as_ref(),
        anchors: &with.anchors,
        progress: Some(&mut progress),
    })?;
    if show {
        eprint!("\r\x1b[K");
    }
    let told = text(&report, key.is_some(), with.anchors.len(), with.seal_interval);
    let mut out = io::stdout().lock();
    match json {
        true => {
            let mut value = serde_json::to_value(&report)?;
            value["head"] =
                serde_json::json!({ "seq": report.head.seq, "hash": Digest(report.head.hash).to_string() });
            value["seal_overdue"] = overdue(&report, with.seal_interval).into();
            value["told"] = told.into();
            writeln!(out, "{value}")?;
        }
        false => write!(out, "{told}")?,
    }
    out.flush()?;
    Ok(if report.fault.is_some() { ExitCode::from(REPORT) } else { ExitCode::SUCCESS })
}

/// Those of the command line and those of a file.
pub(super) fn read_anchors(given: &[Anchor], file: Option<&Path>) -> anyhow::Result<Vec<Anchor>> {
    let mut anchors = given.to_vec();
    let Some(file) = file else { return Ok(anchors) };
    let text = match file.as_os_str() == "-" {
        true => io::read_to_string(io::stdin().lock()),
        false => std::fs::read_to_string(file),
    };
    let text = text.with_context(|| format!("the anchors cannot be read from {}", display(file)))?;
    for line in text.lines().filter(|line| !line.trim().is_empty()) {
        anchors.push(line.parse()?);
    }
    Ok(anchors)
}

/// Whether records came long after the last seal: a daemon that runs would have made another.
fn overdue(report: &VerifyReport, seal_interval: Duration) -> bool {
    let wait = i64::try_from(seal_interval.as_micros()).unwrap_or(i64::MAX).saturating_mul(OVERDUE_INTERVALS);
    let unsealed = report.head.seq > report.sealed.seq;
    unsealed && report.sealed.time_us.is_some_and(|time| report.last_time_us.saturating_sub(time) > wait)
}

fn read_key(file: &Path) -> anyhow::Result<VerificationKey> {
    let mut text = Zeroizing::new(String::new());
    if file.as_os_str() == "-" {
        io::stdin()
            .lock()
            .take(LONGEST)
            .read_to_string(&mut text)
            .context("the key cannot be read from standard input")?;
    } else {
        let file_of = std::fs::File::open(file);
        let read = file_of.and_then(|file| file.take(LONGEST).read_to_string(&mut text));
        read.with_context(|| format!("the verification key cannot be read from {}", display(file)))?;
    }
    match VerificationKey::parse(&text) {
        Some(key) => Ok(key),
        None => bail!(
            "{} does not hold a verification key; copy the whole text that `fim init` printed, beginning with fim-seal-1",
            display(file)
        ),
    }
}

/// What was found, for people.
pub(super) fn text(report: &VerifyReport, with_key: bool, anchors: usize, seal_interval: Duration) -> String {
    let mut out = String::new();
    // Writing to a String cannot fail.
    let _ = tell(&mut out, report, with_key);
    if overdue(report, seal_interval) {
        let _ = writeln!(
            out,
            "WARNING: no seal was made for more than {OVERDUE_INTERVALS} intervals, though records came: {} of them are not \
             sealed; see why with `fim status`",
            report.head.seq - report.sealed.seq
        );
    }
    if anchors > 0 {
        let _ = writeln!(
            out,
            "{} of {anchors} anchors agree; what was pruned cannot be compared",
            report.anchors
        );
    }
    let beside = match report.beside {
        Beside::Sealed => "baseline, evidence, former versions and summaries are as they were sealed",
        Beside::Open => {
            "baseline, evidence, former versions and summaries are not covered by a seal of this moment: records came since"
        }
        Beside::Altered => "baseline, evidence, former versions or summaries are not as they were sealed",
    };
    let _ = writeln!(out, "{beside}");
    let _ = writeln!(out, "head: {}:{}", report.head.seq, Digest(report.head.hash));
    out
}

fn tell(out: &mut String, report: &VerifyReport, with_key: bool) -> std::fmt::Result {
    let first = report.pruned + 1;
    match &report.fault {
        Some(fault) => {
            writeln!(out, "TAMPERED: {fault}")?;
            if report.affected > 1 {
                writeln!(out, "records altered or missing, as far as can be told: {}", report.affected)?;
            }
            if report.sound >= first {
                writeln!(out, "the chain is sound from record {first} to {}", report.sound)?;
            }
        }
        None => {
            writeln!(out, "the chain is sound: {} records, the last is {}", report.checked, report.head.seq)?
        }
    }
    if report.pruned > 0 {
        writeln!(out, "records up to {} were pruned", report.pruned)?;
    }
    let sealed = &report.sealed;
    let time = sealed.time_us.and_then(|us| Timestamp::from_microsecond(us).ok());
    let time = time.map_or(String::new(), |t| format!(" at {t:.0}"));
    match (sealed.seals, with_key) {
        (0, _) => writeln!(out, "nothing is sealed: set sealing up with `fim seal setup`")?,
        (seals, false) => writeln!(
            out,
            "{seals} seals, the last{time}; only the verification key proves them: fim log verify --key FILE"
        )?,
        (_, true) => writeln!(
            out,
            "{} seals were made by this host's key, the last{time} about record {}",
            sealed.proven, sealed.seq
        )?,
    }
    Ok(())
}
