//! Which watches have a baseline, and the approval of those that have none: with its record, or not at all.

use anyhow::bail;

use super::keeper::ALTERED;
use super::record::Stamp;
use super::take::{Approved, BEGUN, one_watch, open_vault, take_all};
use super::watch::Watch;
use super::{clock, host};
use crate::config::Config;
use crate::core::entry::{Flags, Found};
use crate::core::event::{Event, EventKind, Record};
use crate::core::path::{RelPath, display};
use crate::core::policy::Severity;
use crate::core::tier::Tier;
use crate::sensor::scan::ScanProgress;
use crate::store::seal::{self, Beside, KeyFile, Sealer};
use crate::store::vault::Vault;
use crate::store::{Lock, NewWatch, Store, StoreError};
use crate::tree;

/// A watch that has no baseline, as it is now; its content is in the vault.
pub struct Newcomer {
    entries: Vec<(RelPath, Found)>,
    pub report: Approved,
}

impl Newcomer {
    pub fn look(watch: &Watch, vault: &Vault, progress: &ScanProgress) -> anyhow::Result<Self> {
        let (entries, report) = one_watch(watch, vault, progress)?;
        vault.commit_batch()?;
        Ok(Self { entries, report })
    }

    /// What people are told.
    pub fn sentence(&self) -> String {
        let unread = match &self.report.unreadable[..] {
            [] => String::new(),
            [first, ..] => format!("; {} could not be read, first: {first}", self.report.unreadable.len()),
        };
        let (watch, entries) = (&self.report.watch, self.report.entries);
        format!("{watch} is watched from now on, {entries} entries approved as they are{unread}")
    }

    fn approval<'a>(&'a self, watch: &'a Watch, stamp: &Stamp) -> NewWatch<'a> {
        let event = stamp.about_watch(EventKind::Accepted, watch, self.sentence());
        NewWatch { event, root: watch.path(), entries: &self.entries }
    }
}

/// Approves them with their records, all or none.
pub fn approve<'a>(
    new: impl Iterator<Item = (&'a Watch, &'a Newcomer)>,
    store: &mut Store,
    stamp: &Stamp,
) -> Result<Vec<Record>, StoreError> {
    let new: Vec<NewWatch<'_>> = new.map(|(watch, newcomer)| newcomer.approval(watch, stamp)).collect();
    store.approve_watches(&new)
}

/// Whether what the watch begins with was ever approved. Its root alone does not tell: a single file is watched through the
/// folder that holds it, and so may others of that folder be.
pub fn has_baseline(store: &Store, watch: &Watch) -> Result<bool, StoreError> {
    Ok(store.baseline_get(watch.path(), &watch.start)?.is_some())
}

/// Approves what is there in those watches alone that have no baseline yet.
pub fn take_missing(config: &Config, progress: &ScanProgress) -> anyhow::Result<Vec<Approved>> {
    let _lock = Lock::acquire(&config.state.dir)?;
    let mut store = Store::open(&config.state.dir)?;
    let masks = config.sensor.masks.clone();
    let stamp = Stamp { host: host(), tier: Tier::Scan.as_str().into(), masks };
    if store.baseline_taken()?.is_none() {
        refuse_if_lost(&store, &open_vault(config)?)?;
        return take_all(config, &mut store, progress, &|reports| Some(first(reports, &stamp)));
    }
    let watches = Watch::open_all(config)?;
    let mut missing = Vec::new();
    for watch in watches {
        if !has_baseline(&store, &watch)? {
            missing.push(watch);
        }
    }
    if missing.is_empty() {
        return Ok(Vec::new());
    }
    let sealer = Sealer::open(store.dir());
    // What is recorded from here on would hide it.
    if matches!(sealer, Ok(Some(_))) && store.beside()? == Beside::Altered {
        store.append(&[stamp.about_fim(EventKind::Trouble, ALTERED.into())], &[])?;
    }
    let vault = open_vault(config)?;
    vault.measure()?;
    let mut new = Vec::with_capacity(missing.len());
    for watch in missing {
        let newcomer = Newcomer::look(&watch, &vault, progress)?;
        new.push((watch, newcomer));
    }
    approve(new.iter().map(|(watch, newcomer)| (&**watch, newcomer)), &mut store, &stamp)?;
    // A damaged key is told of by the daemon.
    if let Ok(Some(mut sealer)) = sealer {
        sealer.seal(&mut store, clock::realtime_ns() / 1_000, seal::STARTED)?;
    }
    Ok(new.into_iter().map(|(_, newcomer)| newcomer.report).collect())
}

/// Where something is left of a baseline that this database knows nothing of, the present state is not approved unasked.
fn refuse_if_lost(store: &Store, vault: &Vault) -> anyhow::Result<()> {
    let left = match KeyFile::peek(store.dir()) {
        Ok(None) if store.meta_get(BEGUN)?.is_some() || vault.objects()?.is_empty() => return Ok(()),
        Ok(None) => "a vault with content",
        _ => "the key of seals",
    };
    let dir = display(store.dir());
    bail!(
        "the database in {dir} holds no baseline, yet there is {left}: the database was lost or replaced. Put fim.db back \
         from a backup while fim is stopped; or look for yourself that everything is as it should be, and approve the present \
         state with `fim init`"
    )
}

fn first(reports: &[Approved], stamp: &Stamp) -> Event {
    let entries: u64 = reports.iter().map(|report| report.entries).sum();
    let message = format!(
        "the first baseline was taken as fim was started: {entries} entries in {} watches approved as they are; if fim ran \
         here before, its records were removed",
        reports.len()
    );
    let mut event = stamp.about_fim(EventKind::Accepted, message);
    event.severity = Severity::High;
    event
}

/// Whether every configured watch has a baseline. If so, the watches know which mounts it holds.
pub fn require_baseline(store: &Store, watches: &[impl AsRef<Watch>]) -> anyhow::Result<()> {
    for watch in watches.iter().map(AsRef::as_ref) {
        if !has_baseline(store, watch)? {
            let path = display(&watch.start.below(watch.path()));
            let how = if store.baseline_taken()?.is_some() { "fim init --missing" } else { "fim init" };
            bail!("{path} has no baseline yet; approve its present state with `{how}`");
        }
        know_mounts(store, watch)?;
    }
    Ok(())
}

/// Mounts that are no part of the approved state are told apart from here on.
pub fn know_mounts(store: &Store, watch: &Watch) -> Result<(), StoreError> {
    watch.root.approve_mounts(store.baseline_mounts(watch.path())?);
    Ok(())
}

/// Whether what is to be mounted at the watches' roots is there: without it, everything in them would count as deleted.
pub fn require_mounts(store: &Store, watches: &[impl AsRef<Watch>]) -> anyhow::Result<()> {
    for watch in watches.iter().map(AsRef::as_ref).filter(|watch| watch.start.is_root()) {
        let approved = store.baseline_get(watch.path(), &watch.start)?;
        if !approved.is_some_and(|root| root.entry.flags.has(Flags::MOUNT)) {
            continue;
        }
        let path = display(watch.path());
        if !tree::flags::told(watch.root.fd()).has(Flags::MOUNT) {
            bail!(
                "nothing is mounted at {path}, which was a mount point when it was approved; mount it. For fim to wait for it \
                 at each start, `systemctl edit fim` and add RequiresMountsFor={path} under [Unit]. If it is none any more, \
                 approve that with `fim accept {path}` or `fim init --replace`"
            );
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
