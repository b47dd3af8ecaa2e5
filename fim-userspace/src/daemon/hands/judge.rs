//! Checks before anything is approved.

use std::fs::File;
use std::os::fd::AsFd;

use crate::control::Way;
use crate::core::entry::{Entry, FileType, Flags, Found};
use crate::core::path::RelPath;
use crate::daemon::watch::Watch;
use crate::tree::inspect::{inspect, open_content};

use super::{Desk, Refused};

impl Desk<'_> {
    pub(super) fn look(&self, watch: &Watch, path: &RelPath) -> Result<Option<Found>, Refused> {
        inspect(&watch.root, path, None).map_err(|e| Refused::one(e.to_string()))
    }

    /// What is approved has to hang together: nothing without its folder, nothing below what is no folder.
    pub(super) fn hangs_together(
        &self,
        watch: &Watch,
        path: &RelPath,
        wanted: Option<&Entry>,
    ) -> Result<(), Refused> {
        let is_dir = |entry: &Entry| entry.kind == FileType::Directory;
        if !wanted.is_some_and(is_dir) {
            let below = self.store.baseline_list_dir(watch.path(), path)?.len();
            if below > 0 {
                return Err(Refused::one(format!(
                    "{below} names below it are approved; approve that they are gone as well, with --recursive"
                )));
            }
        }
        if wanted.is_none() || *path == watch.start {
            return Ok(());
        }
        let Some(folder) = path.parent() else { return Ok(()) };
        match self.store.baseline_get(watch.path(), &folder)? {
            Some(found) if is_dir(&found.entry) => Ok(()),
            _ => Err(Refused::one(
                "the folder it is in is not approved; accept the folder first, or with --recursive",
            )),
        }
    }

    /// A folder that became a mount point, or is one no more, shows another tree: what was approved below it would be put
    /// into that one, and what is in it taken away.
    pub(super) fn comes_without_a_mount(
        &self,
        watch: &Watch,
        path: &RelPath,
        before: Option<&Entry>,
        wanted: Option<&Entry>,
    ) -> Result<(), Refused> {
        let mounted = |entry: Option<&Entry>| entry.is_some_and(|entry| entry.flags.has(Flags::MOUNT));
        if wanted.is_none_or(|entry| entry.kind != FileType::Directory) || mounted(before) == mounted(wanted)
        {
            return Ok(());
        }
        if !mounted(wanted) {
            return Err(Refused::one(
                "it was approved as a mount point, and nothing is mounted there now; mount it again, or accept the folder \
                 with what is in it, with --recursive",
            ));
        }
        let what = watch.root.mount_at(path).unwrap_or_else(|_| "another file system".into());
        Err(Refused::one(format!(
            "{what} is mounted there, and what was approved of the folder is hidden below it; accept the mount with all that \
             is in it, with --recursive, or unmount it"
        )))
    }

    /// Only what is watched can be approved.
    pub(super) fn not_excluded(
        &self,
        watch: &Watch,
        path: &RelPath,
        wanted: Option<&Entry>,
    ) -> Result<(), Refused> {
        let directory = wanted.is_some_and(|entry| entry.kind == FileType::Directory);
        if wanted.is_some() && watch.policy.exclude.excludes(path, directory) {
            return Err(Refused::one("it is excluded from the watch; there is nothing to approve"));
        }
        Ok(())
    }

    /// The content of what is approved as it stands goes to the vault, and must be what was shown.
    pub(super) fn keep(&self, watch: &Watch, path: &RelPath, shown: &Entry) -> Result<(), Refused> {
        if shown.kind != FileType::Regular || !watch.policy.of(path, false).keeps(shown.size) {
            return Ok(());
        }
        let unreadable = |e: std::io::Error| {
            Refused::one(format!("its content cannot be read ({e}); it could not be restored later"))
        };
        let Some(digest) = shown.sha256 else {
            return Err(Refused::one(
                "its content cannot be read, so it could not be restored; make it readable, or exclude it",
            ));
        };
        let object = watch.root.open_path(path).map_err(unreadable)?;
        let (now, _) = crate::tree::attributes::read_unopened(object.as_fd()).map_err(unreadable)?;
        if now.kind != FileType::Regular {
            return Err(Refused::one(CHANGED));
        }
        let content = File::from(open_content(object.as_fd()).map_err(unreadable)?);
        // What grows without end is not what was shown.
        let mut content = std::io::Read::take(content, shown.size.saturating_add(1));
        let stored = self.vault.put(&mut content).map_err(|e| Refused::one(e.to_string()))?;
        if stored == digest {
            return Ok(());
        }
        // Nobody refers to what was stored by mistake, unless somebody did before.
        if !self.store.needs(&stored)? {
            self.vault.remove(&stored).map_err(|e| Refused::one(e.to_string()))?;
        }
        Err(Refused::one(CHANGED))
    }

    /// Whether a version can be put there: its content is at hand, and the place is free where it has to be.
    pub(super) fn can_be_put(&self, entry: &Entry, now: Option<&Found>, way: Way) -> Result<(), Refused> {
        if way == Way::Release && now.is_some() {
            return Err(Refused::one(
                "something else is in its place; move that away, or release a copy with --to DIR",
            ));
        }
        match (entry.kind, entry.sha256) {
            (FileType::Socket, _) => Err(Refused::one(
                "a socket can only be made by the program that listens on it; start that program",
            )),
            (FileType::Regular, Some(digest)) if !self.vault.contains(&digest) => Err(Refused::one(format!(
                "its content ({digest}) is not in the vault any more, or never was (keep_versions = false)"
            ))),
            (FileType::Regular, None) => Err(Refused::one("its content could not be read when it was seen")),
            _ => Ok(()),
        }
    }
}

pub(super) const CHANGED: &str = "it changed since you were shown it; look again";
