//! What fanotify can do on the file system of each watch.

use std::fs;
use std::os::fd::{AsFd, BorrowedFd};

use rustix::fs::{AtFlags, StatxFlags, statx};
use serde::Serialize;

use super::Notes;
use super::kernel::TierFinding;
use crate::config::Config;
use crate::core::path::{RelPath, display};
use crate::core::tier::Tier;
use crate::daemon::watch::Watch;
use crate::sensor::fanotify::{Fanotify, Features};

#[derive(Serialize)]
pub struct WatchFinding {
    pub path: String,
    /// As the mount table calls it: `ext4`, `xfs`, …
    pub file_system: Option<String>,
    /// Whether fanotify sees changes there as they are made.
    pub live: bool,
    /// Why not.
    pub reason: Option<String>,
    pub features: Option<Features>,
}

pub fn look(config: &Config, tier: &TierFinding, notes: &mut Notes) -> Vec<WatchFinding> {
    let hooked = tier.in_use().is_some_and(Tier::hooks_files);
    let watches = (0..).zip(&config.watches);
    watches
        .filter_map(|(id, watch)| match Watch::open(id, watch) {
            Ok(watch) => Some(one(&watch, hooked, notes)),
            Err(error) => {
                notes.problem(format!("{error:#}"));
                None
            }
        })
        .collect()
}

fn one(watch: &Watch, hooked: bool, notes: &mut Notes) -> WatchFinding {
    let path = display(watch.path());
    let folder = watch.root.open_dir(&RelPath::root()).map_err(|e| e.to_string());
    let file_system = folder.as_ref().ok().and_then(|dir| file_system(dir.as_fd()));
    let probed = folder.and_then(|dir| Fanotify::probe(dir.as_fd(), true).map_err(|e| e.to_string()));
    let (features, reason) = match probed {
        Ok((features, marked)) => (Some(features), marked.err().map(|e| e.to_string())),
        Err(sentence) => (None, Some(sentence)),
    };
    if let Some(sentence) = &reason {
        let cover = if hooked { "eBPF covers it" } else { "set `interval` for this watch" };
        notes.problem(format!("{path}: {sentence}; {cover}"));
    }
    WatchFinding { path, file_system, live: reason.is_none(), reason, features }
}

fn file_system(dir: BorrowedFd<'_>) -> Option<String> {
    let stat = statx(dir, c"", AtFlags::EMPTY_PATH, StatxFlags::MNT_ID).ok()?;
    let known = stat.stx_mask & StatxFlags::MNT_ID.bits() != 0;
    let table = fs::read("/proc/self/mountinfo").ok()?;
    known.then(|| kind_of_mount(&String::from_utf8_lossy(&table), stat.stx_mnt_id))?
}

/// Of a mount, by the table of proc_pid_mountinfo(5).
fn kind_of_mount(table: &str, id: u64) -> Option<String> {
    let line = table.lines().find(|line| line.split(' ').next() == Some(&id.to_string()))?;
    // The number of fields before the dash differs.
    Some(line.split_once(" - ")?.1.split(' ').next()?.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_mount_table_names_the_file_system() {
        let table = "22 1 8:1 / / rw shared:1 - ext4 /dev/sda1 rw\n\
                     221 22 0:40 / /mnt rw,relatime shared:3 master:1 - xfs /dev/sdb rw\n";
        assert_eq!(kind_of_mount(table, 22).as_deref(), Some("ext4"));
        assert_eq!(kind_of_mount(table, 221).as_deref(), Some("xfs"));
        assert_eq!(kind_of_mount(table, 2), None);
        let proc = fs::File::open("/proc").expect("opens");
        assert_eq!(file_system(proc.as_fd()).as_deref(), Some("proc"));
    }
}
