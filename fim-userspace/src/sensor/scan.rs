//! The third witness: walks a watch and looks at everything in it.

use std::sync::atomic::{AtomicBool, AtomicU64};

use crate::core::entry::{Entry, FileType, Found, Identity};
use crate::core::observation::WatchId;
use crate::core::path::RelPath;
use crate::core::policy::Exclusions;
use crate::sensor::marks::Marks;
use crate::tree::{Root, TreeError};

mod queue;
#[cfg(test)]
mod tests;
mod walk;

/// How far a scan has come; read while it runs, and told to stop by it.
#[derive(Debug, Default)]
pub struct ScanProgress {
    /// Directories read.
    pub dirs: AtomicU64,
    /// Objects of every type seen, directories included.
    pub files: AtomicU64,
    /// Size of the regular files seen, read or not.
    pub bytes: AtomicU64,
    /// Set: the scan ends early.
    pub stop: AtomicBool,
}

/// What to scan, and how.
pub struct Job<'a> {
    pub root: &'a Root,
    pub watch: WatchId,
    /// The subtree, or the single file, to look at.
    pub start: &'a RelPath,
    /// Told of each directory before it is read and of each file with several links before its content is.
    pub marks: Option<&'a dyn Marks>,
    pub exclude: &'a Exclusions,
    /// What was there when last seen: a regular file whose identity is still the same is not read again. `None` for every
    /// path makes a deep scan.
    pub known: &'a (dyn Fn(&RelPath) -> Option<Found> + Sync),
    /// Whether what statx(2) alone tells of a path proves that it is as it was: then it is neither looked at any further nor
    /// visited. Only asked where a change of anything moves the change time.
    pub settled: Option<Settled<'a>>,
    pub threads: usize,
    /// Also what was mounted since the state was approved is entered: for people who decide about it.
    pub all_mounts: bool,
    pub progress: &'a ScanProgress,
}

/// Has the entry without digest, link target and extended attributes, and only with the flags that statx(2) tells.
pub type Settled<'a> = &'a (dyn Fn(&RelPath, &Entry, &Identity) -> bool + Sync);

#[derive(Debug, Default)]
pub struct ScanReport {
    /// Objects seen.
    pub files: u64,
    /// What could not be looked at, and why.
    pub unreadable: Vec<(RelPath, String)>,
    /// Where something has been mounted since the state was approved: what lies below was not looked at.
    pub mounted_over: Vec<RelPath>,
    /// How many directories and files could not be marked: changes there are found by scans only.
    pub unmarked: u64,
    /// The first of them, and why.
    pub unmarked_why: Vec<(RelPath, String)>,
    /// Ended early, as [`ScanProgress::stop`] asked.
    pub stopped: bool,
}

impl ScanReport {
    /// Whether something that was mounted since hides what is under this name.
    pub fn hides(&self, path: &RelPath) -> bool {
        self.mounted_over.iter().any(|mount| path != mount && path.is_within(mount))
    }
}

/// Looks at everything from `start` on, itself included, and gives it to `visit`, from several threads, in no order.
///
/// Mounts below are entered where they are approved (all are, before anything is); symbolic links are not followed. Names fim itself is working under are passed over. Nothing
/// at `start` is an empty report, not an error. An error: `start` itself cannot be looked at.
pub fn walk(job: &Job<'_>, visit: &(dyn Fn(RelPath, Found) + Sync)) -> Result<ScanReport, TreeError> {
    let walk = walk::Walk::new(job, visit);
    if walk.start()? == Some(FileType::Directory) {
        walk.below_start();
    }
    Ok(walk.finish())
}
