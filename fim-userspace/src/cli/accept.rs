//! `fim accept`: shows what is to be approved, asks, and gives the order.

use std::ffi::OsString;
use std::io::{self, Write};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::bail;
use base64::Engine;

use super::order::{confirm, give};
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

/// Lines of one file that are shown, and of all together. Nobody reads more before saying yes, and what an attacker wrote
/// shall not hide the rest.
const LINES_EACH: usize = 1_000;
const LINES_ALL: usize = 20_000;

/// What is to be approved. Each is shown when it is added, and only its order is kept.
struct Proposals<W> {
    orders: Vec<Approve>,
    out: W,
    paint: Paint,
    as_json: bool,
    /// With everything below what was named.
    recursive: bool,
    /// How many lines may still be shown.
    lines: usize,
}

impl<W: Write> Proposals<W> {
    fn new(out: W, as_json: bool, recursive: bool) -> Self {
        Self { orders: Vec::new(), out, paint: Paint::for_stdout(), as_json, recursive, lines: LINES_ALL }
    }

    fn add(
        &mut self,
        version: Version,
        difference: &Difference,
        mut shown: Shown,
        new: &'static str,
    ) -> io::Result<()> {
        self.orders.push(Approve { path: difference.absolute(), version, recursive: self.recursive });
        if self.as_json {
            return writeln!(self.out, "{}", render::as_json(difference, &shown));
        }
        let most = LINES_EACH.min(self.lines);
        let hidden = shown.lines.len().saturating_sub(most);
        shown.lines.truncate(most);
        self.lines -= shown.lines.len();
        render::print(&mut self.out, self.paint, difference, &shown, Names { old: "approved", new })?;
        if hidden > 0 {
            writeln!(
                self.out,
                "  ({hidden} more lines are not shown; see them with `fim diff` before you approve them)"
            )?;
        }
        Ok(())
    }
}

pub fn run(config: &Config, args: &Args, as_json: bool) -> anyhow::Result<ExitCode> {
    let view = View::open(config)?;
    let mut proposals = Proposals::new(io::stdout().lock(), as_json, args.recursive);
    for target in &args.targets {
        match named_event(&view, target)? {
            Some(record) => by_event(&view, &record, args.recursive, &mut proposals)?,
            None => by_path(&view, Path::new(target), args.recursive, &mut proposals)?,
        }
    }
    proposals.out.flush()?;
    let Proposals { orders: mut items, .. } = proposals;
    if items.is_empty() {
        if !as_json {
            println!("nothing differs from what is approved");
        }
        return Ok(ExitCode::SUCCESS);
    }
    let question = match items.len() {
        1 => "Approve this?".to_owned(),
        n => format!("Approve these {n}?"),
    };
    if !confirm(&question, args.yes)? {
        eprintln!("fim: nothing was approved");
        return Ok(ExitCode::from(super::REPORT));
    }
    // What goes must go before the folders it is in, and what comes after them, across requests too.
    let order = crate::daemon::hands::in_order(&items);
    items = order.into_iter().cloned().collect();
    items.dedup();
    let reason = args.reason.clone();
    give(config, vec![Act::Approve { items, way: Way::Accept, reason }], as_json)
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

fn by_path(view: &View, path: &Path, recursive: bool, out: &mut Proposals<impl Write>) -> anyhow::Result<()> {
    let (watch, rel) = view.locate(path)?;
    let own = view.one(&watch, &rel)?;
    let differences = if recursive { view.below(&watch, &rel)? } else { own.into_iter().collect() };
    for difference in differences {
        let shown = render::against_present(view, &difference)?;
        let version = match &difference.change.after {
            Some(found) => Version::present(&found.entry),
            None => Version::Absent,
        };
        out.add(version, &difference, shown, "present")?;
    }
    Ok(())
}

/// The version an event saw: kept as evidence, or still there.
fn by_event(
    view: &View,
    record: &Record,
    recursive: bool,
    out: &mut Proposals<impl Write>,
) -> anyhow::Result<()> {
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
        out.add(Version::Gone(seq), &difference, shown, "gone")?;
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
            out.add(Version::Evidence(row.id), &difference, shown, "that event")?;
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::change::{Change, ChangeKind};
    use crate::core::linediff::LineKind;
    use crate::core::path::RelPath;
    use crate::daemon::watch::Watch;

    #[test]
    fn what_an_attacker_wrote_is_shown_up_to_a_point_and_the_rest_is_told_of() {
        let dir = tempfile::tempdir().expect("temporary folder");
        let text = format!("[[watch]]\npath = {:?}\n", dir.path());
        let config = Config::parse(Path::new("fim.toml"), &text).expect("valid");
        let watch = Watch::open_all(&config).expect("opens").remove(0);
        let mut out = Proposals::new(Vec::new(), false, false);
        for n in 0..30 {
            let path = RelPath::new(format!("f{n:02}")).expect("sound");
            let (kind, aspects) = (ChangeKind::Modified, Vec::new());
            let change = Change { kind, path, old_path: None, before: None, after: None, aspects };
            let lines = (0..1_003).map(|_| (LineKind::Added, "+x".to_owned())).collect();
            let shown = Shown { attributes: Vec::new(), lines };
            out.add(Version::Absent, &Difference { watch: watch.clone(), change }, shown, "present")
                .expect("shown");
        }
        let text = String::from_utf8(out.out).expect("text");
        assert_eq!(out.orders.len(), 30, "all of them are to be approved");
        assert_eq!(text.lines().filter(|line| *line == "+x").count(), 20_000);
        assert!(
            text.contains("(3 more lines are not shown") && text.contains("(1003 more lines"),
            "{}",
            text.len()
        );
        assert!(text.contains("f29"), "each is named");
    }
}
