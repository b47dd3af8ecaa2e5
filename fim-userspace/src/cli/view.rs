//! What the hands-on commands see: baseline, vault and files, with or without a daemon.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::Read;
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context, bail};
use sha2::{Digest as _, Sha256};

use crate::config::Config;
use crate::control::AbsPath;
use crate::core::change::{Change, compare};
use crate::core::entry::{Digest, Entry, FileType, Found};
use crate::core::linediff::MOST_BYTES;
use crate::core::path::{RelPath, escape};
use crate::core::policy::Secrets;
use crate::daemon::hands::place::locate;
use crate::daemon::newcomer::require_baseline;
use crate::daemon::scanner::Approved;
use crate::daemon::watch::Watch;
use crate::sensor::scan::{self, Job, ScanProgress};
use crate::store::Store;
use crate::store::vault::Vault;
use crate::tree::inspect::{inspect, open_content};

pub struct View {
    pub store: Store,
    pub vault: Vault,
    pub watches: Vec<Arc<Watch>>,
    secrets: Secrets,
    /// Secret content was asked for.
    reveal: bool,
}

/// One path in two states.
pub struct Difference {
    pub watch: Arc<Watch>,
    pub change: Change,
}

impl Difference {
    pub fn absolute(&self) -> AbsPath {
        AbsPath(self.watch.absolute(&self.change.path))
    }
}

/// The content of one state, as far as it can be shown.
pub enum Content {
    /// There is none: nothing stands there, or it is no regular file.
    None,
    Whole(Vec<u8>),
    /// Longer than what is compared line by line.
    Long,
    /// Cannot be had, and why.
    Away(String),
}

impl View {
    pub fn open(config: &Config) -> anyhow::Result<Self> {
        crate::daemon::require_privilege("read every watched file")?;
        let store = Store::open_read_only(&config.state.dir)?;
        let watches = Watch::open_all(config)?;
        require_baseline(&store, &watches)?;
        let vault = Vault::open(&config.state.dir.join("vault"))?;
        Ok(Self { store, vault, watches, secrets: config.secrets.clone(), reveal: false })
    }

    /// Also what secret files say, where that was asked for.
    pub fn revealing(self, reveal: bool) -> Self {
        Self { reveal, ..self }
    }

    /// Whether what lines of this file say is not to be shown.
    pub fn masks(&self, absolute: &[u8]) -> bool {
        !self.reveal && self.secrets.cover(Path::new(OsStr::from_bytes(absolute)))
    }

    /// The watch a path given on the command line lies in. A path through links outside of the watches is understood too.
    pub fn locate(&self, given: &Path) -> anyhow::Result<(Arc<Watch>, RelPath)> {
        let absolute = lexical(&std::path::absolute(given).context("a path is empty; name a file")?);
        let first = match locate(&self.watches, absolute.as_os_str().as_bytes()) {
            Ok(place) => return Ok(place),
            Err(sentence) => sentence,
        };
        let real = absolute.parent().and_then(|parent| parent.canonicalize().ok()).zip(absolute.file_name());
        match real.map(|(parent, name)| locate(&self.watches, parent.join(name).as_os_str().as_bytes())) {
            Some(Ok(place)) => Ok(place),
            _ => bail!(first),
        }
    }

    pub fn approved(&self, watch: &Watch, path: &RelPath) -> anyhow::Result<Option<Entry>> {
        Ok(self.store.baseline_get(watch.path(), path)?.map(|found| found.entry))
    }

    pub fn present(&self, watch: &Watch, path: &RelPath) -> anyhow::Result<Option<Found>> {
        Ok(inspect(&watch.root, path, None)?)
    }

    /// The path itself against the baseline; `None` when nothing differs. Fails when there is nothing on either side.
    pub fn one(&self, watch: &Arc<Watch>, path: &RelPath) -> anyhow::Result<Option<Difference>> {
        let (approved, now) = (self.approved(watch, path)?, self.present(watch, path)?);
        let shown = escape(&watch.absolute(path));
        match (&approved, &now) {
            (None, None) => bail!("{shown} is not there and never was approved; check the name"),
            (None, Some(now))
                if watch.policy.exclude.excludes(path, now.entry.kind == FileType::Directory) =>
            {
                bail!("{shown} is excluded from the watch; there is nothing to compare it with")
            }
            _ => {}
        }
        let change = compare(path, approved.as_ref(), now.as_ref());
        Ok(change.map(|change| Difference { watch: watch.clone(), change }))
    }

    /// The path and everything below it, by path.
    pub fn below(&self, watch: &Arc<Watch>, path: &RelPath) -> anyhow::Result<Vec<Difference>> {
        let approved = Approved::load(&self.store, watch.path())?;
        let changes = Mutex::new(Vec::new());
        let lock = || changes.lock().unwrap_or_else(PoisonError::into_inner);
        let visit = |path: RelPath, found: Found| {
            lock().extend(compare(&path, approved.meet(&path).map(|f| &f.entry), Some(&found)));
        };
        let progress = ScanProgress::default();
        let job = Job { start: path, all_mounts: true, ..watch.scan(None, &|_| None, &progress) };
        let report = scan::walk(&job, &visit)?;
        if let Some((path, why)) = report.unreadable.first() {
            bail!(
                "{} could not be looked at ({why}); {} in all",
                escape(&watch.absolute(path)),
                report.unreadable.len()
            );
        }
        for missing in approved.missing().into_iter().filter(|missing| missing.is_within(path)) {
            let was = approved.get(missing).map(|f| &f.entry);
            let folder = was.is_some_and(|e| e.kind == FileType::Directory);
            // What has been excluded since it was approved is not missing.
            if !watch.policy.exclude.excludes(missing, folder) {
                lock().extend(compare(missing, was, None));
            }
        }
        let mut changes = changes.into_inner().unwrap_or_else(PoisonError::into_inner);
        changes.sort_by(|a, b| a.path.cmp(&b.path));
        Ok(changes.into_iter().map(|change| Difference { watch: watch.clone(), change }).collect())
    }

    /// Content that the vault has.
    pub fn kept(&self, entry: Option<&Entry>) -> Content {
        match entry.and_then(|e| e.sha256.map(|d| (e, d))) {
            Some((entry, digest)) => kept(&self.vault, &digest, entry.size),
            None => Content::None,
        }
    }

    /// Content of what is there, which must still be `entry`.
    pub fn standing(&self, watch: &Watch, path: &RelPath, entry: Option<&Entry>) -> anyhow::Result<Content> {
        let Some((entry, digest)) = entry.and_then(|e| e.sha256.map(|d| (e, d))) else {
            return Ok(Content::None);
        };
        if entry.size > MOST_BYTES {
            return Ok(Content::Long);
        }
        let changed = || format!("{} changes while it is read; look again", escape(&watch.absolute(path)));
        let object = watch.root.open_path(path).with_context(changed)?;
        let (now, _) = crate::tree::attributes::read_unopened(object.as_fd()).with_context(changed)?;
        if now.kind != FileType::Regular {
            bail!(changed());
        }
        let mut content = Vec::new();
        let file = File::from(open_content(object.as_fd()).with_context(changed)?);
        file.take(MOST_BYTES + 1).read_to_end(&mut content).with_context(changed)?;
        if Digest(Sha256::digest(&content).into()) != digest {
            bail!(changed());
        }
        Ok(Content::Whole(content))
    }
}

/// Content that the vault has; `size`: its bytes.
pub fn kept(vault: &Vault, digest: &Digest, size: u64) -> Content {
    if size > MOST_BYTES {
        return Content::Long;
    }
    match vault.read(digest) {
        Ok(content) => Content::Whole(content),
        Err(_) if !vault.contains(digest) => Content::Away("its content is not in the vault".into()),
        Err(e) => Content::Away(e.to_string()),
    }
}

/// Without `.` and `..`, by the names alone.
fn lexical(path: &Path) -> PathBuf {
    let mut out = PathBuf::new();
    for part in path.components() {
        match part {
            Component::ParentDir => drop(out.pop()),
            Component::CurDir => {}
            other => out.push(OsString::from(other.as_os_str())),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dots_are_understood_by_the_names() {
        for (given, expected) in [("/a/./b/../c", "/a/c"), ("/../a", "/a"), ("/a/b/..", "/a"), ("/", "/")] {
            assert_eq!(lexical(Path::new(given)), Path::new(expected), "{given}");
        }
    }
}
