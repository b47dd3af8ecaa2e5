//! `fim log`: the ledger, oldest first.

mod follow;
mod print;
#[cfg(test)]
mod tests;
mod verify;

use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::bail;
use clap::Subcommand;
use jiff::Zoned;
use nix::unistd::{Uid, User};

use super::{REPORT, when};
use crate::config::Config;
use crate::core::event::EventKind;
use crate::core::policy::Severity;
use crate::store::query::{Criteria, Pattern};
use crate::store::{Anchor, Store};
pub(super) use print::Printer;
pub(super) use verify::OVERDUE_INTERVALS;

/// Records read at once.
const PAGE: usize = 1_000;
/// How many records `--follow` begins with.
const BEFORE_FOLLOWING: usize = 10;

#[derive(Debug, Default, clap::Args)]
#[command(args_conflicts_with_subcommands = true)]
pub struct Args {
    #[command(subcommand)]
    action: Option<Action>,
    #[command(flatten)]
    list: List,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Check that no record was changed, removed or added; 1 when one was
    Verify {
        /// File with the verification key, or - for standard input: proves the seals too
        #[arg(long, value_name = "FILE")]
        key: Option<PathBuf>,
        /// A record that was carried away before must still be there; any of several
        #[arg(long, value_name = "SEQ:HASH")]
        anchor: Vec<Anchor>,
        /// File with an anchor in each line, SEQ:HASH or a record in JSON, or - for standard input
        #[arg(long, value_name = "FILE")]
        anchors: Option<PathBuf>,
    },
}

#[derive(Debug, Default, clap::Args)]
struct List {
    /// One record in full: its number, or the beginning of its id
    #[arg(value_name = "ID", conflicts_with_all = ["lines", "follow"])]
    record: Option<String>,
    /// Only the last N records
    #[arg(short = 'n', long = "lines", value_name = "N")]
    lines: Option<usize>,
    /// Go on as records are made
    #[arg(short, long)]
    follow: bool,
    /// Newest first
    #[arg(short, long, conflicts_with = "follow")]
    reverse: bool,
    /// From this time on: "2 hours ago", "09:30", "yesterday", "2026-11-22 14:00"
    #[arg(long, value_name = "TIME")]
    since: Option<String>,
    /// Up to this time
    #[arg(long, value_name = "TIME")]
    until: Option<String>,
    /// A file, a folder with everything below, or a glob; any of several
    #[arg(long, value_name = "PATH")]
    path: Vec<String>,
    /// created, modified, deleted, renamed, attributes, type, started, …; any of several
    #[arg(long, value_name = "KIND", value_delimiter = ',', value_parser = kind)]
    kind: Vec<EventKind>,
    /// Name or number: who was logged in, or as whom the process ran; any of several
    #[arg(long, value_name = "USER")]
    user: Vec<String>,
    /// The program that did it: its path, a folder, or a glob; any of several
    #[arg(long, value_name = "PATH")]
    exe: Vec<String>,
    /// Only what nobody had authorised
    #[arg(long, visible_alias = "unauthorized")]
    unauthorised: bool,
    /// At least this severe: low, medium, high, critical
    #[arg(long, value_name = "SEVERITY", value_parser = severity)]
    severity: Option<Severity>,
}

fn kind(text: &str) -> Result<EventKind, String> {
    let known = EventKind::ALL.map(EventKind::as_str).join(", ");
    EventKind::ALL.into_iter().find(|k| k.as_str() == text).ok_or_else(|| format!("it is one of {known}"))
}

fn severity(text: &str) -> Result<Severity, String> {
    serde_json::from_value(text.into()).map_err(|_| "it is one of low, medium, high, critical".into())
}

pub fn run(config: &Config, args: &Args, json: bool) -> anyhow::Result<ExitCode> {
    let store = Store::open_read_only(&config.state.dir)?;
    match &args.action {
        Some(Action::Verify { key, anchor, anchors }) => {
            let with = verify::With {
                key: key.as_deref(),
                anchors: verify::read_anchors(anchor, anchors.as_deref())?,
                seal_interval: config.ledger.seal_interval,
            };
            verify::run(&store, &with, json)
        }
        None => {
            let out = io::stdout();
            Ok(ExitCode::from(list(&store, &args.list, json, &mut out.lock(), out.as_fd())?))
        }
    }
}

impl Args {
    /// Not `verify`.
    pub fn only_lists(&self) -> bool {
        self.action.is_none()
    }

    /// Whether it goes on as records are made.
    pub fn follows(&self) -> bool {
        self.list.follow
    }
}

/// As [`run`], of what only lists; the exit code. `reader` is who reads what is written: once it hangs up, following ends.
pub fn write(
    config: &Config,
    args: &Args,
    json: bool,
    out: &mut dyn io::Write,
    reader: BorrowedFd<'_>,
) -> anyhow::Result<u8> {
    list(&Store::open_read_only(&config.state.dir)?, &args.list, json, out, reader)
}

fn list(
    store: &Store,
    args: &List,
    json: bool,
    out: &mut dyn io::Write,
    reader: BorrowedFd<'_>,
) -> anyhow::Result<u8> {
    let mut printer = Printer::new(out, json);
    if let Some(text) = &args.record {
        return one(store, text, &mut printer);
    }
    let criteria = args.criteria()?;
    let limit = args.lines.or(args.follow.then_some(BEFORE_FOLLOWING));
    // Noted before anything is printed: what comes meanwhile is the follower's.
    let end = store.ledger_head()?.seq;
    match limit {
        None if criteria.is_empty() && !args.reverse => everything(store, end, &mut printer)?,
        limit => {
            let mut found = store.find(&criteria, limit.unwrap_or(usize::MAX))?;
            if !args.reverse {
                found.reverse();
            }
            for page in found.chunks(PAGE) {
                printer.print(&store.records_at(page)?)?;
            }
        }
    }
    if args.follow {
        follow::follow(store, &criteria, end, &mut printer, reader)?;
    }
    Ok(0)
}

/// From the first record on, page by page.
fn everything<W: io::Write>(store: &Store, end: u64, printer: &mut Printer<W>) -> anyhow::Result<()> {
    let mut last = 0;
    while last < end {
        let records = store.ledger_after(last, PAGE)?;
        printer.print(&records)?;
        let Some(record) = records.last() else { break };
        last = record.seq;
    }
    Ok(())
}

fn one<W: io::Write>(store: &Store, text: &str, printer: &mut Printer<W>) -> anyhow::Result<u8> {
    const SHORTEST: usize = 4;
    let by_number = match text.parse() {
        Ok(seq) => store.records_at(&[seq])?,
        Err(_) => Vec::new(),
    };
    let digits = text.to_ascii_lowercase();
    let records = if !by_number.is_empty() {
        by_number
    } else if digits.len() < SHORTEST || !digits.bytes().all(|b| b.is_ascii_hexdigit()) {
        bail!(
            "there is no record {text:?}; name its number, or at least {SHORTEST} digits of its id as `fim log --json` prints them"
        );
    } else {
        store.records_at(&store.find_id(&digits)?)?
    };
    match &records[..] {
        [record] => printer.in_full(record)?,
        [] => {
            eprintln!("fim: there is no record {text:?}; `fim log --json` prints each one's seq and id");
            return Ok(REPORT);
        }
        [first, second, ..] => bail!(
            "more than one record's id begins with {text:?}, among them {} and {}; write more of its digits",
            first.id,
            second.id
        ),
    }
    Ok(0)
}

impl List {
    fn criteria(&self) -> anyhow::Result<Criteria> {
        let now = Zoned::now();
        let time = |text: &Option<String>| {
            let at = text.as_deref().map(|text| when::parse(text, &now)).transpose();
            at.map(|at| at.map(|at| at.timestamp().as_microsecond()))
        };
        let patterns =
            |texts: &[String]| texts.iter().map(|text| Pattern::new(text)).collect::<Result<_, _>>();
        Ok(Criteria {
            since_us: time(&self.since)?,
            until_us: time(&self.until)?,
            paths: patterns(&self.path)?,
            kinds: self.kind.clone(),
            users: self.user.iter().map(|user| uid_of(user)).collect::<Result<_, _>>()?,
            exes: patterns(&self.exe)?,
            unauthorised: self.unauthorised,
            min_severity: self.severity,
        })
    }
}

fn uid_of(user: &str) -> anyhow::Result<u32> {
    if let Ok(uid) = user.parse() {
        return Ok(uid);
    }
    match User::from_name(user)? {
        Some(user) => Ok(user.uid.as_raw()),
        None => bail!("there is no user {user:?} on this host; write the number of one that is gone"),
    }
}

pub(super) fn user_name(uid: u32) -> Option<String> {
    User::from_uid(Uid::from_raw(uid)).ok().flatten().map(|user| user.name)
}
