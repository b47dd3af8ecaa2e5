//! Taking the baseline: the present state of every watch becomes the approved one.

use std::os::fd::AsFd;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use anyhow::{Context, bail};

use crate::config::Config;
use crate::core::entry::{FileType, Found};
use crate::core::event::Event;
use crate::core::path::{RelPath, display};
use crate::sensor::scan;
use crate::store::vault::{Limits, Vault, VaultError};
use crate::store::{Lock, Store, Taken};
use crate::tree::inspect;

use super::watch::Watch;
use super::{clock, host};

/// The note in the database that a baseline was begun, which content in the vault then belongs to.
pub(super) const BEGUN: &str = "baseline_begun";

/// Attempts at a file that changes while it is read.
const ATTEMPTS: u32 = 4;

/// What was approved in one watch.
pub struct Approved {
    pub watch: String,
    pub entries: u64,
    /// Regular files whose content is in the vault.
    pub kept: u64,
    pub bytes: u64,
    /// Regular files that are larger than `max_file_size`: watched, and not restorable.
    pub too_large: u64,
    /// Could not be read, one sentence each.
    pub unreadable: Vec<String>,
}

/// The vault as the configuration limits it.
pub fn open_vault(config: &Config) -> Result<Vault, VaultError> {
    let limits = Limits { max_size: config.vault.max_size, min_free: config.vault.min_free };
    Ok(Vault::open(&config.state.dir.join("vault"))?.with_limits(limits))
}

/// Approves everything as it is. Refuses to replace an older baseline unless `replace`.
pub fn take(config: &Config, replace: bool) -> anyhow::Result<Vec<Approved>> {
    take_telling(config, replace, &scan::ScanProgress::default())
}

/// As [`take`]; `progress` counts over all watches.
pub fn take_telling(
    config: &Config,
    replace: bool,
    progress: &scan::ScanProgress,
) -> anyhow::Result<Vec<Approved>> {
    let _lock = Lock::acquire(&config.state.dir)?;
    let mut store = Store::open(&config.state.dir)?;
    if let Some(taken) = store.baseline_taken()?.filter(|_| !replace) {
        bail!(
            "there is a baseline already, taken {} by {}; see with `fim check` what differs from it, then approve the \
             present state with `fim init --replace`",
            taken.time,
            taken.by
        );
    }
    take_all(config, &mut store, progress, &|_| None)
}

/// Approves everything as it is, over any older baseline. `told`: what the ledger tells of it, if anything.
pub(super) fn take_all(
    config: &Config,
    store: &mut Store,
    progress: &scan::ScanProgress,
    told: &dyn Fn(&[Approved]) -> Option<Event>,
) -> anyhow::Result<Vec<Approved>> {
    let now = || crate::core::event::rfc3339(clock::realtime_ns());
    store.meta_set(BEGUN, &now())?;
    let vault = open_vault(config)?;
    // Nothing else works on it: the account is right from here on.
    vault.measure()?;
    let mut all = Vec::new();
    let mut reports = Vec::new();
    for (id, watch) in (0..).zip(&config.watches) {
        let watch = Watch::open(id, watch)?;
        let (entries, report) = one_watch(&watch, &vault, progress)?;
        all.push((watch.path().to_path_buf(), entries));
        reports.push(report);
    }
    vault.commit_batch()?;
    let mut rebuild = store.baseline_rebuild()?;
    for (watch, entries) in &all {
        rebuild.put(watch, entries)?;
    }
    let by = nix::unistd::User::from_uid(nix::unistd::getuid()).ok().flatten();
    let by = std::env::var("SUDO_USER").ok().or(by.map(|u| u.name)).unwrap_or_default();
    let events: Vec<Event> = told(&reports).into_iter().collect();
    rebuild.commit_telling(&Taken { time: now(), by, host: host() }, &events)?;
    Ok(reports)
}

/// What is there now, its content in the vault; not durable before the vault's batch is.
pub(super) fn one_watch(
    watch: &Watch,
    vault: &Vault,
    progress: &scan::ScanProgress,
) -> anyhow::Result<(Vec<(RelPath, Found)>, Approved)> {
    let entries = Mutex::new(Vec::new());
    let failures = Mutex::new(Vec::new());
    let (kept, bytes, too_large) = (AtomicU64::new(0), AtomicU64::new(0), AtomicU64::new(0));
    let full = Mutex::new(None);
    let job = watch.scan(None, &|_| None, progress);
    let visit = |path: RelPath, found: Found| {
        let regular = found.entry.kind == FileType::Regular;
        let policy = watch.policy.of(&path, false);
        let wanted = regular && policy.keep_versions;
        let found = if wanted && !policy.keeps(found.entry.size) {
            too_large.fetch_add(1, Ordering::Relaxed);
            found
        } else if wanted {
            match keep(watch, vault, &path, found) {
                Ok(None) => return,
                Ok(Some(found)) => {
                    kept.fetch_add(1, Ordering::Relaxed);
                    bytes.fetch_add(found.entry.size, Ordering::Relaxed);
                    found
                }
                Err(error) if matches!(error.downcast_ref(), Some(VaultError::Full { .. })) => {
                    // Half a baseline would be worse than none.
                    progress.stop.store(true, Ordering::Relaxed);
                    lock(&full).get_or_insert(error);
                    return;
                }
                Err(error) => {
                    lock(&failures).push(format!("{path}: {error:#}"));
                    return;
                }
            }
        } else {
            found
        };
        lock(&entries).push((path, found));
    };
    let report = scan::walk(&job, &visit)
        .with_context(|| format!("the watch {} cannot be read", display(watch.path())))?;
    if let Some(full) = lock(&full).take() {
        let advice = "keep less of this watch with max_file_size, or nothing with keep_versions = false";
        return Err(full.context(format!("{} cannot be approved ({advice})", display(watch.path()))));
    }
    let mut unreadable: Vec<String> =
        report.unreadable.into_iter().map(|(path, why)| format!("{path}: {why}")).collect();
    unreadable.extend(std::mem::take(&mut *lock(&failures)));
    let mut entries = std::mem::take(&mut *lock(&entries));
    // In the order of the table they are appended to it.
    entries.sort_unstable_by(|a, b| a.0.cmp(&b.0));
    let approved = Approved {
        watch: display(watch.path()),
        entries: entries.len() as u64,
        kept: kept.into_inner(),
        bytes: bytes.into_inner(),
        too_large: too_large.into_inner(),
        unreadable,
    };
    Ok((entries, approved))
}

/// Puts the content into the vault and makes sure that it is the content that is approved.
pub(super) fn keep(
    watch: &Watch,
    vault: &Vault,
    path: &RelPath,
    found: Found,
) -> anyhow::Result<Option<Found>> {
    let mut found = found;
    for _ in 0..ATTEMPTS {
        let Some(digest) = found.entry.sha256 else {
            bail!("its content cannot be read, so it could not be restored");
        };
        if vault.contains(&digest) {
            return Ok(Some(found));
        }
        let object = watch.root.open_path(path)?;
        let content = inspect::open_content(object.as_fd())?;
        if vault.keep_deferred(&mut std::fs::File::from(content))? == digest {
            return Ok(Some(found));
        }
        match inspect::inspect(&watch.root, path, None)? {
            None => return Ok(None),
            Some(now) if now.entry.kind != FileType::Regular => return Ok(Some(now)),
            Some(now) => found = now,
        }
    }
    bail!("it keeps changing while it is read; exclude it, or stop its writer and take the baseline again")
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}
