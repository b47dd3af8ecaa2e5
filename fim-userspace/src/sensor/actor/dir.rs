//! One process's folder in /proc, held open: what is read through it is about that very process, or fails.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{AtFlags, Mode, OFlags, Stat};

use crate::core::path::escape;

/// Nearly all that the kernel tells of a process is shorter, and read in one piece.
const PIECE: usize = 4096;

/// Stands for the process that had the id when it was opened (proc_pid_lookup, fs/proc/base.c): once that is reaped nothing
/// can be read any more, whoever has the id by then.
pub struct ProcessDir(OwnedFd);

impl ProcessDir {
    /// # Errors
    /// `ENOENT` when there is no such process.
    pub fn open(pid: u32) -> io::Result<Self> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        Ok(Self(rustix::fs::open(format!("/proc/{pid}"), flags, Mode::empty())?))
    }

    /// A whole file, however long.
    pub fn read(&self, name: &str) -> io::Result<Vec<u8>> {
        self.read_at_most(name, usize::MAX)
    }

    /// The first `limit` bytes of a file.
    pub fn read_at_most(&self, name: &str, limit: usize) -> io::Result<Vec<u8>> {
        read_at(self.0.as_fd(), name, limit)
    }

    /// Where one of its links leads, escaped.
    pub fn link(&self, name: &str) -> Option<String> {
        let target = rustix::fs::readlinkat(&self.0, name, Vec::with_capacity(PIECE)).ok()?;
        Some(escape(target.as_bytes()))
    }

    /// What the file is that one of its links leads to.
    pub fn stat(&self, name: &str) -> Option<Stat> {
        rustix::fs::statat(&self.0, name, AtFlags::empty()).ok()
    }
}

/// The first `limit` bytes of a file that the kernel writes when it is read, as those in /proc.
pub fn read_at(dir: BorrowedFd<'_>, name: &str, limit: usize) -> io::Result<Vec<u8>> {
    let file = rustix::fs::openat(dir, name, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())?;
    let mut text = vec![0; PIECE.min(limit)];
    let mut length = 0;
    loop {
        let room = text.len() - length;
        match rustix::io::read(&file, &mut text[length..]) {
            Ok(n) => {
                length += n;
                // It fills the room there is, unless that is all.
                if n < room || length == limit {
                    break;
                }
                text.resize((length * 2).min(limit), 0);
            }
            Err(rustix::io::Errno::INTR) => {}
            Err(e) => return Err(e.into()),
        }
    }
    text.truncate(length);
    Ok(text)
}
