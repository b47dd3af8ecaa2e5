//! `fim check`: everything compared with the baseline, with or without a daemon, here or in another system's folder.

mod rescue;
#[cfg(test)]
mod tests;

use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Mutex;
use std::sync::atomic::Ordering;

use anyhow::Context;
use serde_json::json;

use super::progress::{self, At, Unit};
use super::{FAILED, REPORT};
use crate::config::Config;
use crate::core::change::{Change, compare_but, mounted_over};
use crate::core::entry::{Entry, FileType, Found};
use crate::core::event::State;
use crate::core::path::{RelPath, display, escape};
use crate::daemon::newcomer::require_baseline;
use crate::daemon::scanner::Approved;
use crate::daemon::watch::Watch;
use crate::sensor::scan::{self, ScanProgress};
use crate::store::Store;

#[derive(Debug, clap::Args)]
pub struct Args {
    /// Read only files whose change time (ctime), size or inode is another than when they were approved
    #[arg(long)]
    quick: bool,
    /// Check another system, mounted at DIR: configuration, records and watches are taken from below it
    #[arg(long, value_name = "DIR")]
    root: Option<PathBuf>,
}

/// What was found in one watch.
#[derive(Default)]
struct Compared {
    entries: u64,
    changes: Vec<Change>,
    /// Path, and why it could not be looked at.
    unreadable: Vec<(RelPath, String)>,
}

pub fn run(file: &Path, args: &Args, as_json: bool) -> anyhow::Result<ExitCode> {
    // The configuration first: a wrong one is told to everybody.
    let (store, watches, _copy) = match &args.root {
        Some(root) => {
            crate::daemon::require_privilege("read every watched file")?;
            let rescued = rescue::open(root, file)?;
            (rescued.store, rescued.watches, Some(rescued.copy))
        }
        None => {
            let config = Config::load(file)?;
            crate::daemon::require_privilege("read every watched file")?;
            (Store::open_read_only(&config.state.dir)?, Watch::open_all(&config)?, None)
        }
    };
    require_baseline(&store, &watches)?;
    let mut out = io::stdout().lock();
    report(&compare(&store, &watches, args.quick)?, &mut out, as_json)
}

fn compare<W: AsRef<Watch> + Clone>(
    store: &Store,
    watches: &[W],
    quick: bool,
) -> anyhow::Result<Vec<(W, Compared)>> {
    let mut approved = Vec::with_capacity(watches.len());
    for watch in watches {
        approved.push(Approved::load(store, watch.as_ref().path())?);
    }
    let total = approved.iter().map(Approved::bytes).sum();
    let progress = ScanProgress::default();
    let at = || At { done: progress.bytes.load(Ordering::Relaxed), total: Some(total) };
    progress::shown("comparing", Unit::Bytes, &at, || {
        watches
            .iter()
            .zip(&approved)
            .map(|(watch, approved)| Ok((watch.clone(), one(watch.as_ref(), approved, quick, &progress)?)))
            .collect()
    })
}

fn one(watch: &Watch, approved: &Approved, quick: bool, progress: &ScanProgress) -> anyhow::Result<Compared> {
    let changes = Mutex::new(Vec::new());
    let add = |path: &RelPath, was: Option<&Entry>, now: Option<&Found>| {
        if let Some(change) = difference(watch, path, was, now) {
            changes.lock().unwrap_or_else(std::sync::PoisonError::into_inner).push(change);
        }
    };
    let known = |path: &RelPath| approved.get(path).filter(|_| quick).cloned();
    let job = watch.scan(None, &known, progress);
    let visit = |path: RelPath, found: Found| {
        add(&path, approved.meet(&path).map(|f| &f.entry), Some(&found));
    };
    let report = scan::walk(&job, &visit)
        .with_context(|| format!("the watch {} cannot be compared", display(watch.path())))?;
    // What lies below a folder that cannot be read is not known to be missing.
    let hidden = |path: &RelPath| {
        report.hides(path) || report.unreadable.iter().any(|(folder, _)| path.is_within(folder))
    };
    for path in approved.missing() {
        let was = approved.get(path);
        let folder = was.is_some_and(|f| f.entry.kind == FileType::Directory);
        if !watch.policy.exclude.excludes(path, folder) && !hidden(path) {
            add(path, was.map(|f| &f.entry), None);
        }
    }
    let mut changes = changes.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner);
    changes.sort_by(|a, b| a.path.cmp(&b.path));
    Ok(Compared { entries: report.files, changes, unreadable: report.unreadable })
}

/// What counts as a change under the policy of this path.
fn difference(watch: &Watch, path: &RelPath, was: Option<&Entry>, now: Option<&Found>) -> Option<Change> {
    let kind = was.map(|e| e.kind).or(now.map(|f| f.entry.kind));
    let policy = watch.policy.of(path, kind == Some(FileType::Directory));
    match now.filter(|now| watch.root.is_mounted_over(path, &now.entry)) {
        Some(now) => Some(mounted_over(path, was, now)),
        None => compare_but(path, was, now, policy.ignore).filter(|c| policy.kinds.contains(c.kind)),
    }
}

fn report<W: AsRef<Watch>>(
    compared: &[(W, Compared)],
    out: &mut impl Write,
    as_json: bool,
) -> anyhow::Result<ExitCode> {
    let (mut entries, mut changes, mut unread) = (0, 0, 0);
    for (watch, found) in compared {
        let watch = watch.as_ref();
        entries += found.entries;
        changes += found.changes.len();
        unread += found.unreadable.len();
        for change in &found.changes {
            line(watch, change, out, as_json)?;
        }
        for (path, why) in &found.unreadable {
            let path = escape(&watch.absolute(path));
            match as_json {
                true => writeln!(out, "{}", json!({ "kind": "unreadable", "path": path, "reason": why }))?,
                false => eprintln!("fim: not compared: {path}: {why}"),
            }
        }
    }
    if !as_json {
        let unread = if unread > 0 { format!(", {unread} could not be read") } else { String::new() };
        writeln!(out, "{entries} entries compared, {changes} differ from the baseline{unread}")?;
    }
    out.flush()?;
    Ok(match (unread, changes) {
        (0, 0) => ExitCode::SUCCESS,
        (0, _) => ExitCode::from(REPORT),
        _ => ExitCode::from(FAILED),
    })
}

fn line(watch: &Watch, change: &Change, out: &mut impl Write, as_json: bool) -> io::Result<()> {
    let path = escape(&watch.absolute(&change.path));
    if as_json {
        let line = json!({
            "kind": change.kind,
            "path": path,
            "differences": change.aspects,
            "before": change.before.as_ref().map(State::from),
            "after": change.after.as_ref().map(|f| State::from(&f.entry)),
        });
        return writeln!(out, "{line}");
    }
    let aspects: Vec<String> = change.aspects.iter().map(|a| format!("{a:?}").to_lowercase()).collect();
    match aspects.as_slice() {
        [] => writeln!(out, "{:<10} {path}", change.kind.as_str()),
        _ => writeln!(out, "{:<10} {path} ({})", change.kind.as_str(), aspects.join(", ")),
    }
}
