//! `fim accept`: shows what is to be approved, asks, and gives the order.

use std::ffi::OsString;
use std::io::{self, Write};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::bail;
use base64::Engine;

use super::order::{AT_ONCE, confirm, give};
use super::render::{self, Names, Paint, Shown};
use super::versions::{self, Name};
use super::view::{Difference, View};
use crate::config::Config;
use crate::control::{Act, Approve, Version, Way};
use crate::core::change::compare;
use crate::core::entry::{Entry, Found, Identity};
use crate::core::event::{EventKind, Record, State};
use crate::core::path::{escape, unescape};
use crate::core::quarantine::Fate;
use crate::store::Held;

#[derive(Debug, clap::Args)]
pub struct Args {
    /// What to approve: a path as it is now (created, altered or gone), or an event by its number or id, with the version
    /// that it saw. A file whose name looks like a number is written ./42
    #[arg(required = true, value_name = "PATH|EVENT")]
    targets: Vec<OsString>,
    /// Do not ask
    #[arg(short, long)]
    yes: bool,
    /// With everything below
    #[arg(short, long)]
    recursive: bool,
    /// Why; kept in the ledger
    #[arg(long, value_name = "TEXT")]
    reason: Option<String>,
}

/// One thing to approve, and what it looks like.
struct Proposal {
    order: Approve,
    difference: Difference,
    shown: Shown,
    new: &'static str,
}

pub fn run(config: &Config, args: &Args, as_json: bool) -> anyhow::Result<ExitCode> {
    let view = View::open(config)?;
    let mut proposals = Vec::new();
    for target in &args.targets {
        match named_event(&view, target)? {
            Some(record) => by_event(&view, &record, args.recursive, &mut proposals)?,
            None => by_path(&view, Path::new(target), args.recursive, &mut proposals)?,
        }
    }
    if proposals.is_empty() {
        if !as_json {
            println!("nothing differs from what is approved");
        }
        return Ok(ExitCode::SUCCESS);
    }
    show_all(&proposals, as_json)?;
    let question = match proposals.len() {
        1 => "Approve this?".to_owned(),
        n => format!("Approve these {n}?"),
    };
    if !confirm(&question, args.yes)? {
        eprintln!("fim: nothing was approved");
        return Ok(ExitCode::from(super::REPORT));
    }
    let mut items: Vec<Approve> = proposals.into_iter().map(|p| p.order).collect();
    // What goes must go before the folders it is in, and what comes after them, across requests too.
    let order = crate::daemon::hands::in_order(&items);
    items = order.into_iter().cloned().collect();
    items.dedup();
    let act = |items: &[Approve]| Act::Approve {
        items: items.to_vec(),
        way: Way::Accept,
        reason: args.reason.clone(),
    };
    give(config, items.chunks(AT_ONCE).map(act).collect(), as_json)
}

fn show_all(proposals: &[Proposal], as_json: bool) -> io::Result<()> {
    let (mut out, paint) = (io::stdout().lock(), Paint::for_stdout());
    for Proposal { difference, shown, new, .. } in proposals {
        if as_json {
            writeln!(out, "{}", render::as_json(difference, shown))?;
        } else {
            render::print(&mut out, paint, difference, shown, Names { old: "approved", new })?;
        }
    }
    out.flush()
}

/// A number or an id is an event; what has a slash, or is there under that name, is a path.
fn named_event(view: &View, target: &OsString) -> anyhow::Result<Option<Record>> {
    let text = target.to_string_lossy();
    let Some(name) = Name::parse(&text).filter(|_| !target.as_bytes().contains(&b'/')) else {
        return Ok(None);
    };
    match versions::event(&view.store, &name)? {
        Some(record) => Ok(Some(record)),
        None if Path::new(target).symlink_metadata().is_ok() => Ok(None),
        None => bail!("there is no event {text}; see `fim log`"),
    }
}

fn by_path(view: &View, path: &Path, recursive: bool, out: &mut Vec<Proposal>) -> anyhow::Result<()> {
    let (watch, rel) = view.locate(path)?;
    let own = view.one(&watch, &rel)?;
    let differences = if recursive { view.below(&watch, &rel)? } else { own.into_iter().collect() };
    for difference in differences {
        let shown = render::against_present(view, &difference)?;
        let version = match &difference.change.after {
            Some(found) => Version::Present(Box::new(found.entry.clone())),
            None => Version::Absent,
        };
        let order = Approve { path: difference.absolute(), version };
        out.push(Proposal { order, difference, shown, new: "present" });
    }
    Ok(())
}

/// The version an event saw: kept as evidence, or still there.
fn by_event(view: &View, record: &Record, recursive: bool, out: &mut Vec<Proposal>) -> anyhow::Result<()> {
    let (seq, event) = (record.seq, &record.event);
    let Some(path) = path_of(record).filter(|_| event.kind.is_change()) else {
        bail!(
            "event {seq} ({}) is about no change of a file; there is nothing to approve",
            event.kind.as_str()
        );
    };
    let shown = escape(path.as_os_str().as_bytes());
    let (watch, rel) = view.locate(&path)?;
    if event.kind == EventKind::Renamed {
        bail!(
            "event {seq} renamed {shown}, which concerns two names; rename it again while fim is stopped, then accept both paths"
        );
    }
    if event.kind == EventKind::Deleted {
        let approved = view.approved(&watch, &rel)?;
        let Some(change) = compare(&rel, approved.as_ref(), None) else {
            return Ok(());
        };
        let difference = Difference { watch, change };
        let shown = render::against_kept(view, &difference);
        let order = Approve { path: difference.absolute(), version: Version::Gone(seq) };
        out.push(Proposal { order, difference, shown, new: "gone" });
        return Ok(());
    }
    let rows = match recursive {
        true => super::quarantine::tree_of(view, seq)?,
        false => view.store.held_by(seq)?,
    };
    // Where a writer was put right several times over, the last of what it wrote is meant.
    let mut latest: std::collections::BTreeMap<_, Held> = std::collections::BTreeMap::new();
    for row in rows.into_iter().filter(|row| !matches!(row.fate, Some(Fate::Purged | Fate::Evicted))) {
        latest.insert((row.watch.clone(), row.path.clone()), row);
    }
    if latest.is_empty() {
        let now = view.present(&watch, &rel)?;
        if event.after.is_some() && now.as_ref().map(|f| State::from(&f.entry)) == event.after {
            return by_path(view, &path, recursive, out);
        }
        bail!("the version of {shown} that event {seq} saw is not kept, and something else is there now");
    }
    for row in latest.into_values() {
        let (watch, rel) = view.locate(&row.path.below(&row.watch))?;
        let approved = view.approved(&watch, &rel)?;
        let change = compare(&rel, approved.as_ref(), Some(&found(row.entry())));
        if let Some(change) = change {
            let difference = Difference { watch, change };
            let shown = render::against_kept(view, &difference);
            let order = Approve { path: difference.absolute(), version: Version::Evidence(row.id) };
            out.push(Proposal { order, difference, shown, new: "that event" });
        }
    }
    Ok(())
}

/// A state that stands nowhere at present.
fn found(entry: Entry) -> Found {
    Found { entry, identity: Identity { dev: 0, ino: 0, ctime_ns: 0, nlink: 0 } }
}

/// The real bytes of the path a record is about.
fn path_of(record: &Record) -> Option<PathBuf> {
    let event = &record.event;
    let bytes = match &event.path_raw {
        Some(raw) => base64::engine::general_purpose::STANDARD.decode(raw).ok()?,
        None => unescape(event.path.as_deref()?)?,
    };
    Some(OsString::from_vec(bytes).into())
}
