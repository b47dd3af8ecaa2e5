//! `fim check`: everything compared with the baseline, with or without a daemon.

use std::process::ExitCode;
use std::sync::Mutex;

use anyhow::Context;
use serde_json::json;

use crate::config::Config;
use crate::core::change::{Change, compare_but, mounted_over};
use crate::core::entry::{Entry, FileType, Found};
use crate::core::event::State;
use crate::core::path::{RelPath, display, escape};
use crate::daemon::scanner::Approved;
use crate::daemon::take::require_baseline;
use crate::daemon::watch::Watch;
use crate::sensor::scan;
use crate::store::Store;

/// Exit codes: 0 nothing differs, 1 something does.
pub fn run(config: &Config, as_json: bool) -> anyhow::Result<ExitCode> {
    crate::daemon::require_privilege("read every watched file")?;
    let store = Store::open_read_only(&config.state.dir)?;
    let mut watches = Vec::new();
    for (id, watch) in (0..).zip(&config.watches) {
        watches.push(std::sync::Arc::new(Watch::open(id, watch)?));
    }
    require_baseline(&store, &watches)?;
    let (mut files, mut changes) = (0, 0);
    let mut unread = false;
    for watch in &watches {
        let (compared, found, unreadable) = compare_all(&store, watch)?;
        files += compared;
        changes += found.len();
        unread |= !unreadable.is_empty();
        found.iter().for_each(|change| print(watch, change, as_json));
        unreadable.iter().for_each(|sentence| eprintln!("fim: not compared: {sentence}"));
    }
    if !as_json {
        println!("{files} entries compared, {changes} differ from the baseline");
    }
    Ok(match (unread, changes) {
        (true, _) => ExitCode::from(2),
        (false, 0) => ExitCode::SUCCESS,
        _ => ExitCode::from(1),
    })
}

fn compare_all(store: &Store, watch: &Watch) -> anyhow::Result<(u64, Vec<Change>, Vec<String>)> {
    let approved = Approved::load(store, watch.path())?;
    let changes = Mutex::new(Vec::new());
    let add = |path: &RelPath, was: Option<&Entry>, now: Option<&Found>| {
        let kind = was.map(|e| e.kind).or(now.map(|f| f.entry.kind));
        let policy = watch.policy.of(path, kind == Some(FileType::Directory));
        let over = now.filter(|now| watch.root.is_mounted_over(path, &now.entry));
        let change = match over {
            Some(now) => Some(mounted_over(path, was, now)),
            None => compare_but(path, was, now, policy.ignore).filter(|c| policy.kinds.contains(c.kind)),
        };
        if let Some(change) = change {
            changes.lock().unwrap_or_else(std::sync::PoisonError::into_inner).push(change);
        }
    };
    let progress = scan::ScanProgress::default();
    let job = watch.scan(None, &|_| None, &progress);
    let visit = |path: RelPath, found: Found| {
        add(&path, approved.meet(&path).map(|f| &f.entry), Some(&found));
    };
    let report = scan::walk(&job, &visit)
        .with_context(|| format!("the watch {} cannot be compared", display(watch.path())))?;
    for path in approved.missing() {
        let was = approved.get(path);
        let folder = was.is_some_and(|f| f.entry.kind == FileType::Directory);
        if !watch.policy.exclude.excludes(path, folder) && !report.hides(path) {
            add(path, was.map(|f| &f.entry), None);
        }
    }
    let mut changes = changes.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner);
    changes.sort_by(|a, b| a.path.cmp(&b.path));
    let unreadable = report.unreadable.into_iter().map(|(path, why)| format!("{path}: {why}")).collect();
    Ok((report.files, changes, unreadable))
}

fn print(watch: &Watch, change: &Change, as_json: bool) {
    let path = escape(&watch.absolute(&change.path));
    if as_json {
        let line = json!({
            "kind": change.kind,
            "path": path,
            "differences": change.aspects,
            "before": change.before.as_ref().map(State::from),
            "after": change.after.as_ref().map(|f| State::from(&f.entry)),
        });
        println!("{line}");
        return;
    }
    let aspects: Vec<String> = change.aspects.iter().map(|a| format!("{a:?}").to_lowercase()).collect();
    match aspects.as_slice() {
        [] => println!("{:<10} {path}", change.kind.as_str()),
        _ => println!("{:<10} {path} ({})", change.kind.as_str(), aspects.join(", ")),
    }
}
