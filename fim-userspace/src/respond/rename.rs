//! Renames within one folder that never put anything over something else.

use std::os::fd::{AsFd, BorrowedFd};

use rustix::fs::{AtFlags, RenameFlags};
use rustix::io::Errno;

use super::evidence::look;
use super::flags::insist;
use crate::tree::root::open_name;

/// As [`rename_to_free`], also for what is immutable.
pub fn give_place_back(dir: BorrowedFd<'_>, from: &[u8], to: &[u8]) -> Result<(), Errno> {
    match (rename_to_free(dir, from, to), open_name(dir, from)) {
        (Err(Errno::PERM), Ok(fd)) => insist(&[fd.as_fd()], || rename_to_free(dir, from, to)),
        (result, _) => result,
    }
}

/// Renames within a folder and never over anything.
pub fn rename_to_free(dir: BorrowedFd<'_>, from: &[u8], to: &[u8]) -> Result<(), Errno> {
    match rustix::fs::renameat_with(dir, from, dir, to, RenameFlags::NOREPLACE) {
        Err(Errno::INVAL | Errno::NOSYS | Errno::NOTSUP) => rename_without_flags(dir, from, to),
        other => other,
    }
}

/// A plain rename replaces silently, a link does not; folders cannot be linked, but a folder only ever replaces an
/// empty one.
pub fn rename_without_flags(dir: BorrowedFd<'_>, from: &[u8], to: &[u8]) -> Result<(), Errno> {
    match rustix::fs::linkat(dir, from, dir, to, AtFlags::empty()) {
        Ok(()) => rustix::fs::unlinkat(dir, from, AtFlags::empty()),
        Err(Errno::PERM | Errno::NOTSUP) if matches!(look(dir, to), Ok(None)) => {
            rustix::fs::renameat(dir, from, dir, to)
        }
        Err(Errno::PERM | Errno::NOTSUP) => Err(Errno::EXIST),
        other => other,
    }
}
