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

/// Clears the blocking flags of the object of an `O_PATH` descriptor; `None` where there were none. Only regular files and
/// folders can be opened without running somebody's code, and only they can have such flags.
pub fn lift(fd: BorrowedFd<'_>) -> Option<Lifted> {
    let stat = rustix::fs::fstat(fd).ok()?;
    if !matches!(attributes::file_type(&stat), FileType::Regular | FileType::Directory) {
        return None;
    }
    let file = reopen(fd, OFlags::RDONLY).ok()?;
    let before = rustix::fs::ioctl_getflags(&file).ok()?;
    if !before.intersects(BLOCKING) {
        return None;
    }
    rustix::fs::ioctl_setflags(file.as_fd(), before - BLOCKING).ok()?;
    Some(Lifted { file, before, back: Back::WithMoreNames(1) })
}

/// As [`lift`], for good.
pub fn clear(fd: BorrowedFd<'_>) {
    if let Some(lifted) = lift(fd) {
        lifted.stays_off();
    }
}

/// As [`lift`], for work on the object itself: until [`stays_off`](Lifted::stays_off), every end of it sets them again.
pub fn lift_for_work(fd: BorrowedFd<'_>) -> Option<Lifted> {
    let mut lifted = lift(fd)?;
    lifted.back = Back::Always;
    Some(lifted)
}

/// When flags are set again.
#[derive(Clone, Copy, Debug)]
enum Back {
    Always,
    Never,
    /// If it has more names than so many of its own by then: the others may be somebody else's.
    WithMoreNames(u64),
}

/// An object whose blocking flags are off. It gets them back when this goes, if it should.
#[derive(Debug)]
pub struct Lifted {
    file: OwnedFd,
    before: IFlags,
    back: Back,
}

impl Lifted {
    /// The flags are right as they are.
    pub fn stays_off(mut self) {
        self.back = Back::Never;
    }

    fn goes_back(&self) -> bool {
        match self.back {
            Back::Always => true,
            Back::Never => false,
            Back::WithMoreNames(own) => rustix::fs::fstat(&self.file)
                .is_ok_and(|stat| attributes::file_type(&stat) != FileType::Directory && stat.st_nlink > own),
        }
    }
}

impl Drop for Lifted {
    fn drop(&mut self) {
        if self.goes_back()
            && let Err(error) = rustix::fs::ioctl_setflags(&self.file, self.before)
        {
            tracing::warn!(
                %error,
                "the immutable flag of a file could not be set again; find it with `find -inum` and set it with chattr"
            );
        }
    }
}

/// Runs a renaming `call`, and once more with the blocking flags of `objects` off if it was not permitted.
pub fn insist<T>(objects: &[BorrowedFd<'_>], mut call: impl FnMut() -> Result<T, Errno>) -> Result<T, Errno> {
    match call() {
        Err(Errno::PERM) => {
            let lifted: Vec<Lifted> = objects.iter().filter_map(|fd| lift(*fd)).collect();
            if lifted.is_empty() { Err(Errno::PERM) } else { call() }
        }
        other => other,
    }
}

/// As [`insist`], for a `call` that removes the name in the watch.
pub fn insist_on_removal<T>(
    fd: BorrowedFd<'_>,
    mut call: impl FnMut() -> Result<T, Errno>,
) -> Result<T, Errno> {
    match call() {
        Err(Errno::PERM) => {
            let Some(mut lifted) = lift(fd) else { return Err(Errno::PERM) };
            let done = call();
            lifted.back = Back::WithMoreNames(u64::from(done.is_err()));
            done
        }
        other => other,
    }
}
