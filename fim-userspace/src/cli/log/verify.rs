//! `fim log verify`.

use std::fmt::Write as _;
use std::io::{self, IsTerminal, Read, Write};
use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context, bail};
use jiff::Timestamp;
use zeroize::Zeroizing;

use crate::cli::REPORT;
use crate::core::entry::Digest;
use crate::core::path::display;
use crate::store::seal::VerificationKey;
use crate::store::{Store, Verification, VerifyReport};

/// No key's text is longer.
const LONGEST: u64 = 4096;

pub(super) fn run(store: &Store, key: Option<&Path>, json: bool) -> anyhow::Result<ExitCode> {
    let key = key.map(read_key).transpose()?;
    let show = !json && io::stderr().is_terminal();
    let mut progress = |done: u64, total: u64| {
        if show {
            eprint!("\r{done} of {total} records checked");
        }
    };
    let report = store.verify(Verification { key: key.as_ref(), progress: Some(&mut progress) })?;
    if show {
        eprint!("\r\x1b[K");
    }
    let mut out = io::stdout().lock();
    match json {
        true => {
            let mut value = serde_json::to_value(&report)?;
            value["head"] =
                serde_json::json!({ "seq": report.head.seq, "hash": Digest(report.head.hash).to_string() });
            value["told"] = text(&report, key.is_some()).into();
            writeln!(out, "{value}")?;
        }
        false => write!(out, "{}", text(&report, key.is_some()))?,
    }
    out.flush()?;
    Ok(if report.fault.is_some() { ExitCode::from(REPORT) } else { ExitCode::SUCCESS })
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
pub(super) fn text(report: &VerifyReport, with_key: bool) -> String {
    let mut out = String::new();
    // Writing to a String cannot fail.
    let _ = tell(&mut out, report, with_key);
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
    writeln!(out, "head: {} {}", report.head.seq, Digest(report.head.hash))
}
