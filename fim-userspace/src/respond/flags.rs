//! The immutable and append-only flags (chattr(1)), which stop even root.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{IFlags, OFlags};
use rustix::io::Errno;

use crate::core::entry::FileType;
use crate::tree::{attributes, root::reopen};

const BLOCKING: IFlags = IFlags::IMMUTABLE.union(IFlags::APPEND);

/// A folder whose blocking flags are off for as long as this lives.
#[derive(Debug)]
pub struct Unlocked {
    dir: OwnedFd,
    before: IFlags,
}

/// Clears the blocking flags of a folder; `None` where there are none, or the file system has no such flags.
pub fn unlock_dir(dir: BorrowedFd<'_>) -> Result<Option<Unlocked>, Errno> {
    let Ok(before) = rustix::fs::ioctl_getflags(dir) else {
        return Ok(None);
    };
    if !before.intersects(BLOCKING) {
        return Ok(None);
    }
    let copy = rustix::io::fcntl_dupfd_cloexec(dir, 0)?;
    rustix::fs::ioctl_setflags(dir, before - BLOCKING)?;
    Ok(Some(Unlocked { dir: copy, before }))
}

impl Drop for Unlocked {
    fn drop(&mut self) {
        if let Err(error) = rustix::fs::ioctl_setflags(&self.dir, self.before) {
            tracing::warn!(%error, "the immutable flag of a folder could not be set again; set it with chattr");
        }
    }
}

/// Clears the blocking flags of the object of an `O_PATH` descriptor; whether there were any. Only regular files and
/// folders can be opened without running somebody's code, and only they can have such flags.
pub fn clear(fd: BorrowedFd<'_>) -> bool {
    let Ok(stat) = rustix::fs::fstat(fd) else {
        return false;
    };
    if !matches!(attributes::file_type(&stat), FileType::Regular | FileType::Directory) {
        return false;
    }
    let cleared = || -> Option<()> {
        let file = reopen(fd, OFlags::RDONLY).ok()?;
        let flags = rustix::fs::ioctl_getflags(&file).ok()?;
        if !flags.intersects(BLOCKING) {
            return None;
        }
        rustix::fs::ioctl_setflags(file.as_fd(), flags - BLOCKING).ok()
    };
    cleared().is_some()
}

/// Runs `call`, and once more with the blocking flags of `fd` cleared if it was not permitted.
pub fn insist<T>(fd: BorrowedFd<'_>, mut call: impl FnMut() -> Result<T, Errno>) -> Result<T, Errno> {
    match call() {
        Err(Errno::PERM) if clear(fd) => call(),
        other => other,
    }
}
