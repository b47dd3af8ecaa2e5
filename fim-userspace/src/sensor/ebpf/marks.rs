//! Tells the programs which inodes are watched.

use std::io;
use std::os::fd::BorrowedFd;
use std::sync::{Mutex, PoisonError};

use aya::maps::{HashMap, MapData, MapError};
use fim_common::{InodeKey, Watched};

use crate::core::observation::WatchId;
use crate::core::path::RelPath;
use crate::sensor::dirs::DirKey;
use crate::sensor::marks::{MarkError, Marks};

/// The map of watched inodes.
pub struct WatchedInodes(Mutex<HashMap<MapData, InodeKey, Watched>>);

impl WatchedInodes {
    pub fn new(map: HashMap<MapData, InodeKey, Watched>) -> Self {
        Self(Mutex::new(map))
    }

    /// These inodes are watched no more, so that others that get their numbers are not taken for them.
    pub fn forget(&self, keys: &[DirKey]) {
        let mut map = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        for key in keys {
            // Not being there is as good.
            let _ = map.remove(&InodeKey { dev: key.dev, ino: key.ino });
        }
    }

    /// Forgets a directory, unless it turns out that it became known meanwhile.
    pub fn forget_unless(&self, key: DirKey, watch: WatchId, known: impl Fn() -> bool) {
        self.forget(&[key]);
        if known() {
            // It was marked before it became known, and that mark has just been taken away.
            let watched = Watched { watch: watch.0, flags: Watched::DIRECTORY };
            if let Err(error) = self.enter(key, watched) {
                tracing::warn!(%error, "a directory that came late is watched by fanotify and scans alone");
            }
        }
    }

    /// Whether the kernel watches this inode, by our mark or by its own.
    pub fn holds(&self, key: DirKey) -> bool {
        let map = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        map.get(&InodeKey { dev: key.dev, ino: key.ino }, 0).is_ok()
    }

    fn mark(&self, fd: BorrowedFd<'_>, watched: Watched) -> io::Result<()> {
        self.enter(DirKey::of(fd)?, watched)
    }

    fn enter(&self, key: DirKey, watched: Watched) -> io::Result<()> {
        let mut map = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        map.insert(InodeKey { dev: key.dev, ino: key.ino }, watched, 0).map_err(|error| match error {
            MapError::SyscallError(call) => call.io_error,
            other => io::Error::other(other.to_string()),
        })
    }
}

const FULL: &str = "the kernel program's map of watched inodes is full or refused; watch fewer directories, or rely on \
                    fanotify and scans for this one";

impl Marks for WatchedInodes {
    fn directory(&self, dir: BorrowedFd<'_>, watch: WatchId, path: &RelPath) -> Result<(), MarkError> {
        let watched = Watched { watch: watch.0, flags: Watched::DIRECTORY };
        self.mark(dir, watched).map_err(|source| MarkError {
            what: "the directory",
            path: path.to_string(),
            advice: FULL,
            source,
        })
    }

    fn hard_linked(&self, file: BorrowedFd<'_>, watch: WatchId, path: &RelPath) -> Result<(), MarkError> {
        let watched = Watched { watch: watch.0, flags: 0 };
        self.mark(file, watched).map_err(|source| MarkError {
            what: "the file with several links",
            path: path.to_string(),
            advice: FULL,
            source,
        })
    }
}
