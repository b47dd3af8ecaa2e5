//! Opening a group with all the kernel can do, and marking with advice when it will not.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::os::unix::ffi::OsStrExt;

use serde::Serialize;

use crate::core::path::escape;
use crate::sensor::marks::MarkError;
use crate::sys::fanotify::{Group, InitFlags};

/// What this kernel's fanotify can do beyond the least that fim needs (Linux 5.9).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Features {
    /// Events name the object itself even when it was created, moved or deleted (5.17, some older stable kernels).
    pub target_fid: bool,
    /// Both names of a rename come in one event (5.17, some older stable kernels).
    pub rename: bool,
    /// Events hold on to the process (5.15, some older stable kernels); only in the fanotify tier.
    pub pidfd: bool,
}

/// fanotify cannot be used at all.
#[derive(Debug, thiserror::Error)]
pub enum FanotifyError {
    #[error("fanotify cannot be started ({0}); {advice}", advice = init_advice(.0))]
    Init(#[source] io::Error),
    #[error(
        "the thread that reads fanotify cannot be started ({0}); raise the limits on processes and memory"
    )]
    Thread(#[source] io::Error),
    #[error("the mount table /proc/self/mountinfo cannot be read ({0}); mount /proc")]
    Mounts(#[source] io::Error),
}

fn init_advice(error: &io::Error) -> &'static str {
    match error.raw_os_error() {
        Some(libc::EPERM) => "run fim as root, with CAP_SYS_ADMIN in the host's user namespace",
        Some(libc::ENOSYS) => "this kernel is built without CONFIG_FANOTIFY; fim can only scan here",
        Some(libc::EINVAL) => {
            "fim needs Linux 5.9 or later for live events; set `tier = \"scan\"` on this kernel"
        }
        Some(libc::EMFILE) => "raise fs.fanotify.max_user_groups or the limit on open files",
        Some(libc::ENOMEM) => "free some memory",
        _ => "see the kernel log",
    }
}

const BASE: InitFlags = libc::FAN_CLASS_NOTIF
    | libc::FAN_CLOEXEC
    | libc::FAN_NONBLOCK
    | libc::FAN_UNLIMITED_MARKS
    | libc::FAN_REPORT_DFID_NAME
    | libc::FAN_REPORT_FID;

const FILE_MASK: u64 = libc::FAN_MODIFY | libc::FAN_CLOSE_WRITE | libc::FAN_ATTRIB;
const MOVES: u64 = libc::FAN_MOVED_FROM | libc::FAN_MOVED_TO;
/// A removed directory that is held open tells nobody of it; the one above it does.
const ABOVE_ROOT_MASK: u64 = libc::FAN_DELETE | libc::FAN_ONDIR;

/// A group and what it reports.
#[derive(Debug)]
pub struct Reporter {
    pub group: Group,
    pub features: Features,
}

impl Reporter {
    /// Opens a group with every feature the kernel takes, found out by trying.
    pub fn open(pidfd: bool) -> Result<Self, FanotifyError> {
        let mut last = io::Error::from_raw_os_error(libc::EINVAL);
        for target_fid in [true, false] {
            for pidfd in if pidfd { &[true, false][..] } else { &[false] } {
                let flags = BASE
                    | if target_fid { libc::FAN_REPORT_TARGET_FID } else { 0 }
                    | if *pidfd { libc::FAN_REPORT_PIDFD } else { 0 };
                match Group::new(flags) {
                    Ok(group) => {
                        let rename = group.knows(libc::FAN_RENAME);
                        return Ok(Self { group, features: Features { target_fid, rename, pidfd: *pidfd } });
                    }
                    Err(e) if e.raw_os_error() == Some(libc::EINVAL) => last = e,
                    Err(e) => return Err(FanotifyError::Init(e)),
                }
            }
        }
        Err(FanotifyError::Init(last))
    }

    fn directory_mask(&self, root: bool) -> u64 {
        FILE_MASK
            | libc::FAN_EVENT_ON_CHILD
            | libc::FAN_ONDIR
            | libc::FAN_CREATE
            | libc::FAN_DELETE
            | if self.features.rename { libc::FAN_RENAME } else { MOVES }
            // Of the others the directory above tells.
            | if root { libc::FAN_MOVE_SELF } else { 0 }
    }

    pub fn mark_directory(&self, dir: BorrowedFd<'_>, root: bool) -> Result<(), MarkError> {
        self.group.mark(dir, self.directory_mask(root)).map_err(|e| mark_error("the directory", dir, e))
    }

    /// Marks the directory that holds a watch root, for the removal of the root.
    pub fn mark_above_root(&self, dir: BorrowedFd<'_>) -> Result<(), MarkError> {
        self.group.mark(dir, ABOVE_ROOT_MASK).map_err(|e| mark_error("the directory", dir, e))
    }

    /// Stops watching a directory that left the watch.
    pub fn unmark_directory(&self, dir: BorrowedFd<'_>) -> io::Result<()> {
        self.group.unmark(dir, self.directory_mask(true))
    }

    /// `file` may be `O_PATH`.
    pub fn mark_file(&self, file: BorrowedFd<'_>) -> Result<(), MarkError> {
        self.group.mark_path(file, FILE_MASK).map_err(|e| mark_error("the file", file, e))
    }
}

pub fn mark_error(what: &'static str, file: BorrowedFd<'_>, source: io::Error) -> MarkError {
    MarkError { what, path: name_of(file), advice: mark_advice(&source), source }
}

/// Where the file is now, for people.
pub fn name_of(file: BorrowedFd<'_>) -> String {
    let link = format!("/proc/self/fd/{}", file.as_raw_fd());
    std::fs::read_link(link).map_or_else(|_| "?".into(), |p| escape(p.as_os_str().as_bytes()))
}

fn mark_advice(error: &io::Error) -> &'static str {
    match error.raw_os_error() {
        Some(libc::EXDEV) => {
            "live events in a btrfs subvolume need Linux 6.8 or later; until then set `interval` on this watch"
        }
        Some(libc::ENODEV) => {
            "the file system has no id that events could carry; set `interval` on this watch, or use a newer kernel"
        }
        Some(libc::EOPNOTSUPP | libc::EINVAL) => {
            "the file system gives no file handles (overlayfs before Linux 6.6, network and FUSE file systems); \
             set `interval` on this watch, or use a newer kernel"
        }
        Some(libc::ENOMEM | libc::ENOSPC) => "free some memory, or watch fewer directories",
        Some(libc::EPERM | libc::EACCES) => "run fim as root, and check whether a security module refuses it",
        _ => "set `interval` on this watch and see the kernel log",
    }
}
