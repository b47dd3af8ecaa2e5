//! A watch as the daemon holds it: the open root and its rules.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use rustix::fs::{FileType as FileKind, OFlags, fstat};
use rustix::io::Errno;

use crate::config::WatchConfig;
use crate::core::entry::{Entry, FileType, Found};
use crate::core::observation::WatchId;
use crate::core::path::{RelPath, display};
use crate::core::policy::WatchPolicy;
use crate::sensor::marks::Marks;
use crate::sensor::scan::{Job, ScanProgress};
use crate::tree::reach::reach;
use crate::tree::{Root, Sysroot};

pub struct Watch {
    pub id: WatchId,
    pub root: Arc<Root>,
    pub policy: WatchPolicy,
    /// Scan the whole watch this often, where no live sensor does the work.
    pub interval: Option<Duration>,
    /// Where scans begin: the root, or the one file that is watched.
    pub start: RelPath,
}

impl Watch {
    /// Opens the root once; from here on nothing is reached by its absolute path.
    pub fn open(id: u32, config: &WatchConfig) -> anyhow::Result<Self> {
        let path = config.path.as_path();
        let folder = is_folder(path).with_context(|| {
            format!(
                "the watch {} cannot be opened; create it, correct `path`, or remove the [[watch]]",
                display(path)
            )
        })?;
        let (folder, start) = if folder { (path, RelPath::root()) } else { single_file(path)? };
        Ok(Self::at(id, config, Root::open(folder)?, start))
    }

    /// As [`Self::open`], of another system: its path means what it means there.
    pub fn open_in(system: &Sysroot, id: u32, config: &WatchConfig) -> anyhow::Result<Self> {
        let path = config.path.as_path();
        let advice = || {
            format!(
                "the watch {} cannot be opened below {}; mount the file system that it lies on",
                display(path),
                display(system.path())
            )
        };
        let folder = system.is_dir(path).with_context(advice)?;
        let (folder, start) = if folder { (path, RelPath::root()) } else { single_file(path)? };
        let root = system.open(folder, OFlags::RDONLY | OFlags::DIRECTORY).with_context(advice)?;
        Ok(Self::at(id, config, Root::from_fd(root, std::path::absolute(folder)?), start))
    }

    fn at(id: u32, config: &WatchConfig, root: Root, start: RelPath) -> Self {
        let mut policy = config.policy.clone();
        if !start.is_root() {
            policy.exclude = policy.exclude.only(start.clone());
        }
        Self { id: WatchId(id), root: Arc::new(root), policy, interval: config.interval, start }
    }

    pub fn open_all(config: &crate::config::Config) -> anyhow::Result<Vec<Arc<Self>>> {
        (0..).zip(&config.watches).map(|(id, watch)| Self::open(id, watch).map(Arc::new)).collect()
    }

    /// A scan of all that is watched, on every processor.
    pub fn scan<'a>(
        &'a self,
        marks: Option<&'a dyn Marks>,
        known: &'a (dyn Fn(&RelPath) -> Option<Found> + Sync),
        progress: &'a ScanProgress,
    ) -> Job<'a> {
        Job {
            root: &self.root,
            watch: self.id,
            start: &self.start,
            marks,
            exclude: &self.policy.exclude,
            known,
            settled: None,
            threads: std::thread::available_parallelism().map_or(1, usize::from),
            all_mounts: false,
            progress,
        }
    }

    /// Whether `now` is as good as `approved`, which is what `path` must be.
    pub fn satisfied(&self, path: &RelPath, approved: &Entry, now: &Entry) -> bool {
        let directory = approved.kind == FileType::Directory;
        approved == now || self.policy.of(path, directory).satisfied(approved, now)
    }

    pub fn path(&self) -> &Path {
        self.root.path()
    }

    /// The absolute path of something in this watch, as bytes for the ledger.
    pub fn absolute(&self, path: &RelPath) -> Vec<u8> {
        use std::os::unix::ffi::OsStrExt;
        path.below(self.path()).as_os_str().as_bytes().to_vec()
    }
}

/// A link that is not to be followed is watched itself, like a single file.
fn is_folder(path: &Path) -> anyhow::Result<bool> {
    let absolute = std::path::absolute(path)?;
    match reach(&absolute) {
        Ok(found) => Ok(FileKind::from_raw_mode(fstat(&found)?.st_mode) == FileKind::Directory),
        Err(e) if e.raw_os_error() == Some(Errno::LOOP.raw_os_error()) => {
            let link = std::fs::symlink_metadata(&absolute).is_ok_and(|found| found.is_symlink());
            if link { Ok(false) } else { Err(e.into()) }
        }
        Err(e) => Err(e.into()),
    }
}

/// A single file is watched through the folder that holds it.
fn single_file(path: &Path) -> anyhow::Result<(&Path, RelPath)> {
    use std::os::unix::ffi::OsStrExt;
    let parts = path.parent().zip(path.file_name());
    let (folder, name) = parts.with_context(|| format!("the watch {} has no name", display(path)))?;
    let start = RelPath::root().join(name.as_bytes());
    Ok((folder, start.with_context(|| format!("the watch {} has no usable name", display(path)))?))
}
