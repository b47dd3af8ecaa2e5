//! A folder of a watch, held open while one thing after the other is done in it.

use std::cell::OnceCell;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::flags::System;
use super::inspect::inspect_at;
use super::root::{Root, TreeError};
use crate::core::entry::Found;
use crate::core::path::RelPath;

/// How long it is relied on what a path led to. A folder that is moved away meanwhile is as one that was moved right after;
/// whoever relies on it looks at the path again afterwards, or is told of the move.
const FRESH: Duration = Duration::from_millis(5);

/// Lies on the watch's own mounts.
#[derive(Debug)]
pub struct Near {
    fd: Arc<OwnedFd>,
    path: RelPath,
    opened: Instant,
    /// Asked for once it is needed.
    system: OnceCell<Option<System>>,
}

impl Near {
    /// The folder `path`: the last one where that is it, or opened from the root down. `None` where something was mounted
    /// over it, or over a folder above it.
    pub fn of(root: &Root, path: RelPath, last: Option<Self>) -> io::Result<Option<Self>> {
        let opened = Instant::now();
        if let Some(last) = last.filter(|l| l.path == path && opened.duration_since(l.opened) < FRESH) {
            return Ok(Some(last));
        }
        let fd = root.open_dir(&path)?;
        Ok(root.owns(fd.as_fd(), &path)?.then(|| Self {
            fd: Arc::new(fd),
            path,
            opened,
            system: OnceCell::new(),
        }))
    }

    pub fn fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }

    /// The state of what stands under `name` in it; `None` when nothing does.
    pub fn inspect(&self, name: &[u8]) -> Result<Option<Found>, TreeError> {
        let system = *self.system.get_or_init(|| System::of(self.fd()).ok());
        inspect_at(system, self.fd(), name)
    }

    pub fn shared(&self) -> Arc<OwnedFd> {
        self.fd.clone()
    }
}
