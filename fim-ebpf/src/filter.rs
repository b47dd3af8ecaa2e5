//! Decides whether a file is watched: the one question asked for every operation on the host.

use aya_ebpf::helpers::bpf_get_current_pid_tgid;
use fim_common::{EventHead, Watched};

use crate::kernel::{self, Address};
use crate::maps::{WATCHED, offset, setting};

/// A watched name or inode.
#[derive(Clone, Copy)]
pub struct Subject {
    pub dentry: Address,
    pub dev: u32,
    pub dir: u64,
    /// 0 when the name stands for nothing yet.
    pub ino: u64,
    pub watch: u32,
    /// [`EventHead`]'s flags.
    pub flags: u8,
}

#[inline(always)]
pub fn watched(dev: u32, ino: u64) -> Option<Watched> {
    // SAFETY: a copy is taken at once; an entry being replaced holds the same watch.
    unsafe { WATCHED.get(kernel::key_of(dev, ino)) }.copied()
}

/// What the daemon does itself is no news.
#[inline(always)]
pub fn is_own() -> bool {
    (bpf_get_current_pid_tgid() >> 32) as u32 == setting!(own_tgid)
}

/// The name's directory is watched, or the inode behind it is; `None` for everything else on the host.
#[inline(always)]
pub fn subject(dentry: Address) -> Option<Subject> {
    let subject = describe(dentry)?;
    if subject.flags & (EventHead::BY_NAME | EventHead::BY_INODE) == 0 { None } else { Some(subject) }
}

/// The same, without a verdict.
#[inline(always)]
pub fn describe(dentry: Address) -> Option<Subject> {
    let dev = kernel::device(dentry)?;
    let parent = kernel::pointer(dentry, offset!(dentry_parent))?;
    let dir = kernel::inode_number(parent)?;
    let ino = kernel::inode_number(dentry).unwrap_or(0);
    let mut subject = Subject { dentry, dev, dir, ino, watch: 0, flags: 0 };
    // The root of a file system is its own parent and has no name.
    if parent != dentry
        && let Some(found) = watched(dev, dir)
    {
        subject.watch = found.watch;
        subject.flags = EventHead::BY_NAME;
    } else if ino != 0
        && let Some(found) = watched(dev, ino)
    {
        subject.watch = found.watch;
        subject.flags = EventHead::BY_INODE;
        if found.flags & Watched::DIRECTORY != 0 {
            subject.flags |= EventHead::DIRECTORY;
        }
    }
    Some(subject)
}
