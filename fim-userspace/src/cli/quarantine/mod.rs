//! `fim quarantine`: what was taken out of its place, and what becomes of it.

mod copy;
mod list;
mod show;
#[cfg(test)]
mod tests;

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, bail};
use clap::Subcommand;

use super::order::{confirm, give};
use super::view::View;
use crate::config::Config;
use crate::control::{AbsPath, Act, Approve, Version, Way};
use crate::core::entry::FileType;
use crate::core::quarantine::{Fate, Piece, group};
use crate::daemon::hands::remains;
use crate::store::vault::Vault;
use crate::store::{Held, Store};

#[derive(Debug, Subcommand)]
pub enum Command {
    /// What is kept; a whole tree is one line
    List {
        /// Also what was released, purged or evicted
        #[arg(long)]
        all: bool,
    },
    /// Everything about one of them: attributes, actor, event
    Show {
        id: i64,
        /// Also the first lines, where it is text
        #[arg(long)]
        content: bool,
        /// Also those of a secret file: keys, passwords
        #[arg(long)]
        secret: bool,
    },
    /// Put it back at its place and approve it, or write a copy elsewhere
    Release {
        id: i64,
        /// A copy below this folder, for looking at: plain files of root; what is kept stays kept
        #[arg(long, value_name = "DIR")]
        to: Option<PathBuf>,
        /// Also of a secret file: keys, passwords
        #[arg(long)]
        secret: bool,
        /// Why; kept in the ledger
        #[arg(long, value_name = "TEXT")]
        reason: Option<String>,
    },
    /// Remove it for good; the ledger remembers that there was something
    Purge {
        #[arg(required_unless_present = "older_than")]
        ids: Vec<i64>,
        /// Everything that was taken away longer ago than this: 90d, 12h
        #[arg(long, value_name = "TIME", value_parser = duration)]
        older_than: Option<Duration>,
        /// Do not ask
        #[arg(short, long)]
        yes: bool,
        /// Why; kept in the ledger
        #[arg(long, value_name = "TEXT")]
        reason: Option<String>,
    },
}

pub fn run(config: &Config, command: &Command, as_json: bool) -> anyhow::Result<ExitCode> {
    crate::daemon::require_privilege("read what is in quarantine")?;
    match command {
        Command::List { all } => list::run(&Store::open_read_only(&config.state.dir)?, *all, as_json),
        Command::Show { id, content, secret } => show::run(config, *id, (*content, *secret), as_json),
        Command::Release { id, to: Some(dir), secret, .. } => copy::run(config, *id, (dir, *secret), as_json),
        Command::Release { id, to: None, reason, .. } => release(config, *id, reason.as_ref(), as_json),
        Command::Purge { ids, older_than, yes, reason } => {
            purge(config, ids, *older_than, *yes, reason.as_ref(), as_json)
        }
    }
}

/// What belongs together; the top first.
struct Tree(Vec<Held>);

impl Tree {
    fn top(&self) -> Option<&Held> {
        self.0.first()
    }

    /// What can still be given out.
    fn kept(&self) -> impl Iterator<Item = &Held> {
        self.0.iter().filter(|held| !is_gone(held))
    }
}

fn is_gone(held: &Held) -> bool {
    matches!(held.fate, Some(Fate::Purged | Fate::Evicted))
}

fn seconds(time: &str) -> i64 {
    time.parse::<jiff::Timestamp>().map_or(0, |t| t.as_second())
}

/// Everything that was taken away, in trees, by the number of their tops.
fn trees(store: &Store, gone: bool) -> anyhow::Result<Vec<Tree>> {
    let rows: Vec<Held> = store.held(gone)?.into_iter().filter(|held| held.reason.is_away()).collect();
    let pieces: Vec<Piece<'_>> = rows
        .iter()
        .map(|held| Piece {
            watch: &held.watch,
            path: &held.path,
            directory: held.found.entry.kind == FileType::Directory,
            time: seconds(&held.time),
        })
        .collect();
    let groups = group(&pieces);
    let tree = |members: Vec<usize>| Tree(members.into_iter().filter_map(|i| rows.get(i).cloned()).collect());
    Ok(groups.into_iter().map(tree).collect())
}

/// The tree whose top has this number; a piece inside one can be named as well, and is then alone.
fn find(store: &Store, id: i64) -> anyhow::Result<Tree> {
    among(&trees(store, true)?, store, id)
}

/// As [`find`], where all trees are known.
fn among(all: &[Tree], store: &Store, id: i64) -> anyhow::Result<Tree> {
    if let Some(tree) = all.iter().find(|tree| tree.top().is_some_and(|top| top.id == id)) {
        return Ok(Tree(tree.0.clone()));
    }
    let held = store.held_one(id)?.filter(|held| held.reason.is_away());
    let held = held
        .with_context(|| format!("nothing in quarantine has the number {id}; see `fim quarantine list`"))?;
    Ok(Tree(vec![held]))
}

/// All evidence of the tree that the event `seq` took away the top of, or of that event alone.
pub fn tree_of(view: &View, seq: u64) -> anyhow::Result<Vec<Held>> {
    let mut rows = view.store.held_by(seq)?;
    let known: Vec<i64> = rows.iter().map(|held| held.id).collect();
    for tree in trees(&view.store, true)? {
        if tree.top().is_some_and(|top| known.contains(&top.id)) {
            rows.extend(tree.0.into_iter().filter(|held| !known.contains(&held.id)));
        }
    }
    rows.sort_by_key(|held| held.id);
    Ok(rows)
}

fn release(config: &Config, id: i64, reason: Option<&String>, as_json: bool) -> anyhow::Result<ExitCode> {
    let view = View::open(config)?;
    let tree = find(&view.store, id)?;
    let Some(top) = tree.top() else { bail!("nothing in quarantine has the number {id}") };
    if let Some(fate @ (Fate::Purged | Fate::Evicted)) = top.fate {
        bail!("{id} was {} already; only the record of it is left", fate.as_str());
    }
    if view.watches.iter().all(|watch| watch.path() != top.watch) {
        bail!("{} is watched no more; release a copy with --to DIR", crate::core::path::display(&top.watch));
    }
    let mut latest = std::collections::BTreeMap::new();
    for held in tree.kept() {
        latest.insert(held.path.clone(), held);
    }
    let order = |held: &&Held| Approve {
        path: AbsPath(abs(held)),
        version: Version::Evidence(held.id),
        recursive: false,
    };
    let items: Vec<Approve> = latest.values().map(order).collect();
    give(config, vec![Act::Approve { items, way: Way::Release, reason: reason.cloned() }], as_json)
}

fn abs(held: &Held) -> Vec<u8> {
    use std::os::unix::ffi::OsStrExt;
    held.path.below(&held.watch).as_os_str().as_bytes().to_vec()
}

fn purge(
    config: &Config,
    ids: &[i64],
    older_than: Option<Duration>,
    yes: bool,
    reason: Option<&String>,
    as_json: bool,
) -> anyhow::Result<ExitCode> {
    let rows = to_purge(config, ids, older_than)?;
    if rows.is_empty() {
        if !as_json {
            println!("nothing is that old");
        }
        return Ok(ExitCode::SUCCESS);
    }
    if !confirm(&format!("Remove {} from the vault for good?", count(rows.len())), yes)? {
        eprintln!("fim: nothing was removed");
        return Ok(ExitCode::from(super::REPORT));
    }
    give(config, vec![Act::Purge { evidence: rows, reason: reason.cloned() }], as_json)
}

/// The rows that are meant, and can still be removed.
fn to_purge(config: &Config, ids: &[i64], older_than: Option<Duration>) -> anyhow::Result<Vec<i64>> {
    let store = Store::open_read_only(&config.state.dir)?;
    let vault = Vault::open(&config.state.dir.join("vault"))?;
    let all = if ids.is_empty() { Vec::new() } else { trees(&store, true)? };
    let mut rows = Vec::new();
    for id in ids {
        let tree = among(&all, &store, *id)?;
        let before = rows.len();
        for held in &tree.0 {
            if !is_gone(held) || remains(&store, &vault, held)? {
                rows.push(held.id);
            }
        }
        if let Some(fate) = tree.top().and_then(|top| top.fate).filter(|_| rows.len() == before) {
            bail!("{id} was {} already", fate.as_str());
        }
    }
    if let Some(age) = older_than {
        let now = jiff::Timestamp::now().as_second();
        let limit = now.saturating_sub(i64::try_from(age.as_secs()).unwrap_or(i64::MAX));
        let old = |held: &&Held| held.reason.is_away() && seconds(&held.time) < limit;
        rows.extend(store.held(false)?.iter().filter(old).map(|held| held.id));
    }
    rows.sort_unstable();
    rows.dedup();
    Ok(rows)
}

fn count(n: usize) -> String {
    if n == 1 { "this one".into() } else { format!("these {n}") }
}

/// `1h30m`, as in the configuration.
fn duration(text: &str) -> Result<Duration, String> {
    let units = [("ms", 1u64), ("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1000)];
    let wrong = || "write it like 90d, 12h or 1h30m".to_owned();
    let (mut total, mut rest) = (0u64, text);
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit()).ok_or_else(wrong)?;
        let number: u64 = rest[..digits].parse().map_err(|_| wrong())?;
        rest = &rest[digits..];
        let (unit, scale) = units.into_iter().find(|(u, _)| rest.starts_with(u)).ok_or_else(wrong)?;
        rest = &rest[unit.len()..];
        total = number.checked_mul(scale).and_then(|n| total.checked_add(n)).ok_or_else(wrong)?;
    }
    if text.is_empty() { Err(wrong()) } else { Ok(Duration::from_millis(total)) }
}
