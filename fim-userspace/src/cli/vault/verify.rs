//! Every object read and compared, on every processor.

use std::collections::HashSet;
use std::io::Write;
use std::process::ExitCode;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use serde_json::json;

use super::{open, place};
use crate::cli::REPORT;
use crate::cli::progress::{self, At, Unit};
use crate::config::Config;
use crate::core::entry::Digest;
use crate::core::size::show;
use crate::sink::line::printable;
use crate::store::Store;
use crate::store::vault::{Object, Vault, VaultError};

/// Paths that are named for one object.
const NAMED: usize = 20;

struct Problem {
    digest: Digest,
    /// `damaged`, `missing` or `unreadable`.
    what: &'static str,
    reason: String,
}

pub fn run(config: &Config, json: bool, out: &mut impl Write) -> anyhow::Result<ExitCode> {
    let (store, vault) = open(config)?;
    let objects = vault.objects()?;
    let read = AtomicU64::new(0);
    let total = objects.iter().map(|object| object.size).sum();
    let at = || At { done: read.load(Ordering::Relaxed), total: Some(total) };
    let (mut problems, bytes) =
        progress::shown("verifying", Unit::Bytes, &at, || read_all(&vault, &objects, &read));
    let there: HashSet<Digest> = objects.iter().map(|object| object.digest).collect();
    for digest in needed(config, &store)?.difference(&there) {
        // Another look: the daemon may have stored it meanwhile.
        if !vault.contains(digest) {
            let reason = "there is no such object".into();
            problems.push(Problem { digest: *digest, what: "missing", reason });
        }
    }
    problems.sort_by_key(|problem| problem.digest);
    for problem in &problems {
        tell(&store, problem, json, out)?;
    }
    let count = |what| problems.iter().filter(|p| p.what == what).count();
    let (damaged, missing, unreadable) = (count("damaged"), count("missing"), count("unreadable"));
    if json {
        let line = json!({"objects": objects.len(), "bytes": bytes, "damaged": damaged, "missing": missing,
                          "unreadable": unreadable});
        writeln!(out, "{line}")?;
    } else {
        let unread = if unreadable > 0 { format!(", {unreadable} could not be read") } else { String::new() };
        writeln!(
            out,
            "{} objects read ({} of content): {damaged} damaged, {missing} missing{unread}",
            objects.len(),
            show(bytes)
        )?;
    }
    Ok(if problems.is_empty() { ExitCode::SUCCESS } else { ExitCode::from(REPORT) })
}

/// `read` counts what was read of the disk.
fn read_all(vault: &Vault, objects: &[Object], read: &AtomicU64) -> (Vec<Problem>, u64) {
    let (next, bytes) = (AtomicUsize::new(0), AtomicU64::new(0));
    let problems = Mutex::new(Vec::new());
    let work = || {
        while let Some(object) = objects.get(next.fetch_add(1, Ordering::Relaxed)) {
            let verified = vault.verify(&object.digest);
            read.fetch_add(object.size, Ordering::Relaxed);
            let (what, reason) = match verified {
                Ok(length) => {
                    bytes.fetch_add(length, Ordering::Relaxed);
                    continue;
                }
                // Pruned since it was listed; if somebody needs it all the same, it is told as missing.
                Err(VaultError::Missing { .. }) => continue,
                Err(VaultError::Corrupt { reason, .. }) => ("damaged", reason),
                Err(error) => ("unreadable", error.to_string()),
            };
            let problem = Problem { digest: object.digest, what, reason };
            problems.lock().unwrap_or_else(std::sync::PoisonError::into_inner).push(problem);
        }
    };
    std::thread::scope(|scope| {
        for _ in 1..std::thread::available_parallelism().map_or(1, usize::from) {
            scope.spawn(work);
        }
        work();
    });
    (problems.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner), bytes.into_inner())
}

/// What the vault has to hold: all that is referred to, but for approved content that the configuration keeps out.
fn needed(config: &Config, store: &Store) -> anyhow::Result<HashSet<Digest>> {
    let references = store.references()?;
    let kept = references.iter().filter(|(_, refs)| refs.former + refs.evidence > 0);
    let mut needed: HashSet<Digest> = kept.map(|(digest, _)| *digest).collect();
    for watch in store.baseline_watches()? {
        // A watched file has its folder as root.
        let policy = config.watches.iter().find(|w| w.path == watch || w.path.parent() == Some(&watch));
        let Some(policy) = policy.map(|w| &w.policy) else { continue };
        for (path, digest, size) in store.baseline_contents(&watch)? {
            if policy.of(&path, false).keeps(size) {
                needed.insert(digest);
            }
        }
    }
    Ok(needed)
}

fn tell(store: &Store, problem: &Problem, json: bool, out: &mut impl Write) -> anyhow::Result<()> {
    let mut paths: Vec<String> = store.paths_of(&problem.digest)?.iter().map(place).collect();
    paths.dedup();
    if json {
        let line = json!({"sha256": problem.digest.to_string(), "problem": problem.what,
                          "reason": problem.reason, "paths": paths});
        writeln!(out, "{line}")?;
        return Ok(());
    }
    writeln!(out, "{}  {}: {}", problem.digest, problem.what, printable(&problem.reason))?;
    for path in paths.iter().take(NAMED) {
        writeln!(out, "  needed for {path}")?;
    }
    match paths.len() {
        0 => writeln!(out, "  needed for nothing")?,
        n if n > NAMED => writeln!(out, "  and {} more", n - NAMED)?,
        _ => {}
    }
    Ok(())
}
