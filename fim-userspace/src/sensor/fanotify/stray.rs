//! Directories that are marked and that nobody knows: found again where they are now, or let go.
//!
//! A folder that was renamed before it could be marked takes marked ones along without a word: the kernel reports a move
//! only from the marked side. What they report afterwards says which they are, and the kernel knows where.

use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;

use super::Shared;
use super::adopt::is_gone;
use super::outbox::Outbox;
use super::pump::{place_of, take_under_watch};
use crate::core::observation::{Deed, Observation, Source, WatchId};
use crate::core::path::{RelPath, display};
use crate::sensor::dirs::{DirKey, FileHandle};
use crate::sys::handle;
use crate::tree::Root;
use crate::tree::private::is_in_flight;

/// Attempts at a directory that is moved on while it is taken under watch.
const ATTEMPTS: usize = 4;

/// Where a directory was looked for.
enum Search {
    /// It is watched again, or nothing can be in it any more.
    Settled,
    /// It is under this watch, and was elsewhere a moment ago.
    Moving(WatchId),
    /// It lies outside, or below what is excluded.
    Outside(OwnedFd),
    /// This watch's file system does not have it.
    NotHere,
}

/// What the directory's events are about is told under its present path from here on. At the topmost folder that was not
/// known a look is due, which takes in everything below it.
pub fn find_again(shared: &Shared, outbox: &mut Outbox, handle: &FileHandle, at_ns: u64) {
    let (mut outside, mut watched) = (None, false);
    for (watch, root) in shared.roots() {
        let mut search = Search::NotHere;
        for _ in 0..ATTEMPTS {
            search = look_for(shared, outbox, watch, &root, handle, at_ns);
            if !matches!(search, Search::Moving(_)) {
                break;
            }
        }
        match search {
            Search::Settled => watched = true,
            Search::Moving(watch) => {
                watched = true;
                let at = handle::open_directory(root.fd(), handle).ok().and_then(|dir| place_of(dir.as_fd()));
                let at = at.map_or("somewhere".into(), |at| display(&at));
                outbox.gap(Some(watch), format!("the directory {at} had been lost sight of"));
            }
            Search::Outside(dir) => outside = Some(dir),
            Search::NotHere => {}
        }
    }
    if let Some(dir) = outside.filter(|_| !watched) {
        // It may be gone by now; then so is its mark.
        let _ = shared.reporter.unmark_directory(dir.as_fd());
    }
}

fn look_for(
    shared: &Shared,
    outbox: &mut Outbox,
    watch: WatchId,
    root: &Root,
    handle: &FileHandle,
    at_ns: u64,
) -> Search {
    if !handle::file_system_id(root.fd()).is_ok_and(|id| id == handle.fsid) {
        return Search::NotHere;
    }
    let Ok(dir) = handle::open_directory(root.fd(), handle) else {
        return Search::NotHere;
    };
    // Removed, and held open by somebody: nothing can be under it any more.
    if rustix::fs::fstat(&dir).is_ok_and(|stat| stat.st_nlink == 0) {
        return Search::Settled;
    }
    let (Some(top), Some(at)) = (place_of(root.fd()), place_of(dir.as_fd())) else {
        return Search::NotHere;
    };
    let below = at.strip_prefix(&top).ok().and_then(|below| RelPath::new(below.as_os_str().as_bytes()));
    let Some(path) = below.filter(|path| !(shared.exclude)(watch, path, true)) else {
        return Search::Outside(dir);
    };
    // What a response has set aside is fim's own.
    if path.components().any(is_in_flight) {
        return Search::Moving(watch);
    }
    match first_unknown(shared, watch, root, &path) {
        Ok(Some(unknown)) => {
            take_under_watch(shared, outbox, watch, &unknown, false);
            if !shared.dirs.by_handle(handle).iter().any(|(of, _)| *of == watch) {
                return Search::Moving(watch);
            }
            outbox.observed(Observation {
                source: Source::Fanotify,
                watch,
                path: unknown,
                deed: Deed::MovedHere { from: None },
                directory: true,
                actor: None,
                at_ns,
            });
            Search::Settled
        }
        // btrfs counts no links of directories: removed, if nothing has its name and it has no other.
        Err(e) if is_gone(&e) && place_of(dir.as_fd()).as_ref() == Some(&at) => Search::Settled,
        _ => Search::Moving(watch),
    }
}

/// The topmost folder on the way to `path` that is not known as what it is; `None` when all are.
fn first_unknown(
    shared: &Shared,
    watch: WatchId,
    root: &Root,
    path: &RelPath,
) -> std::io::Result<Option<RelPath>> {
    let above = |path: &RelPath| path.parent().filter(|above| !above.is_root());
    let mut way: Vec<RelPath> = std::iter::successors(Some(path.clone()), above).collect();
    while let Some(step) = way.pop() {
        let key = DirKey::of(root.open_dir(&step)?.as_fd())?;
        if shared.dirs.key_of(watch, &step) != Some(key) {
            return Ok(Some(step));
        }
    }
    Ok(None)
}
