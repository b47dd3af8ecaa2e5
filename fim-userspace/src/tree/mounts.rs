//! Which mounts below a watch's root belong to it: those that were approved. Whatever was mounted since hides the
//! approved tree and is somebody else's: nothing in it is compared, put back or taken away.

use std::collections::BTreeSet;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::{PoisonError, RwLock};

use rustix::fs::{AtFlags, StatxFlags};

use super::root::{Root, is_absent};
use crate::core::entry::{Entry, Flags};
use crate::core::path::{RelPath, escape};

/// The approved mount points below a root; `None` before anything has been approved, when every mount counts as approved.
pub type Approved = RwLock<Option<BTreeSet<RelPath>>>;

impl Root {
    /// From here on these are the approved mount points, and no other.
    pub fn approve_mounts(&self, at: impl IntoIterator<Item = RelPath>) {
        *self.mounts.write().unwrap_or_else(PoisonError::into_inner) = Some(at.into_iter().collect());
    }

    /// A decision about one path: whether it is a mount point from here on.
    pub fn approve_mount(&self, path: &RelPath, mounted: bool) {
        let mut approved = self.mounts.write().unwrap_or_else(PoisonError::into_inner);
        let Some(approved) = approved.as_mut() else { return };
        if mounted {
            approved.insert(path.clone());
        } else {
            approved.remove(path);
        }
    }

    fn approves(&self, path: &RelPath) -> bool {
        let approved = self.mounts.read().unwrap_or_else(PoisonError::into_inner);
        approved.as_ref().is_none_or(|approved| approved.contains(path))
    }

    /// Whether `now`, which was found at `path`, has been mounted there since its state was approved.
    pub fn is_mounted_over(&self, path: &RelPath, now: &Entry) -> bool {
        !path.is_root() && now.flags.has(Flags::MOUNT) && !self.approves(path)
    }

    /// Whether the object of `fd`, which was reached as `path`, lies on the root's own mount, or on approved ones below it.
    pub fn owns(&self, fd: BorrowedFd<'_>, path: &RelPath) -> io::Result<bool> {
        let (here, mut at) = (mount_id(fd)?, mount_id(self.fd())?);
        let approved: Vec<RelPath> = {
            let approved = self.mounts.read().unwrap_or_else(PoisonError::into_inner);
            let Some(approved) = approved.as_ref().filter(|_| here != at) else { return Ok(true) };
            from_the_top(path).into_iter().filter(|path| approved.contains(path)).collect()
        };
        // Each has to stand on the one above: a mount point approved elsewhere may be found again inside of another mount.
        for mount in approved {
            let above = mount.parent().unwrap_or_else(RelPath::root);
            if mount_id(self.open_path(&above)?.as_fd())? != at {
                return Ok(false);
            }
            at = mount_id(self.open_path(&mount)?.as_fd())?;
        }
        Ok(here == at)
    }

    /// The topmost folder above `path` over which something has been mounted since; `None` when there is none.
    pub fn mounted_above(&self, path: &RelPath) -> io::Result<Option<RelPath>> {
        let mut above = path.parent();
        // What is missing, or let nobody in, lies in the first folder that is not.
        while let Some(folder) = above {
            match self.open_path(&folder) {
                Err(e) if is_absent(&e) || e.kind() == io::ErrorKind::PermissionDenied => {
                    above = folder.parent()
                }
                Err(e) => return Err(e),
                Ok(fd) if self.owns(fd.as_fd(), &folder)? => return Ok(None),
                Ok(_) => return self.first_not_owned(&folder),
            }
        }
        Ok(None)
    }

    fn first_not_owned(&self, path: &RelPath) -> io::Result<Option<RelPath>> {
        for folder in from_the_top(path) {
            if !self.owns(self.open_path(&folder)?.as_fd(), &folder)? {
                return Ok(Some(folder));
            }
        }
        Ok(None)
    }

    /// What is mounted at `path`, as `ext4 from /dev/vda1[/folder]`.
    pub fn mount_at(&self, path: &RelPath) -> io::Result<String> {
        let id = mount_id(self.open_path(path)?.as_fd())?;
        let table = std::fs::read("/proc/self/mountinfo")?;
        Ok(named(&table, id).unwrap_or_else(|| "a file system that is not in the mount table".into()))
    }
}

/// `a`, `a/b`, `a/b/c` of the last; nothing of the root.
fn from_the_top(path: &RelPath) -> Vec<RelPath> {
    let mut all: Vec<RelPath> = std::iter::successors(Some(path.clone()), RelPath::parent).collect();
    all.retain(|path| !path.is_root());
    all.reverse();
    all
}

/// Linux 5.8 and later tell it; before, every mount has the number 0, and nothing is told apart. It comes unasked; a FUSE
/// file system refuses root every other question (fuse_getattr, fs/fuse/dir.c).
fn mount_id(fd: BorrowedFd<'_>) -> io::Result<u64> {
    let stat = rustix::fs::statx(fd, c"", AtFlags::EMPTY_PATH, StatxFlags::empty())?;
    Ok(if stat.stx_mask & StatxFlags::MNT_ID.bits() != 0 { stat.stx_mnt_id } else { 0 })
}

/// `ID PARENT MAJOR:MINOR ROOT MOUNTPOINT OPTIONS [TAGS …] - TYPE SOURCE …` (proc(5)).
fn named(table: &[u8], id: u64) -> Option<String> {
    table.split(|b| *b == b'\n').find_map(|line| {
        let mut fields = line.split(|b| *b == b' ');
        let number: u64 = std::str::from_utf8(fields.next()?).ok()?.parse().ok()?;
        let root = fields.nth(2).filter(|_| number == id)?;
        let mut rest = fields.skip_while(|field| *field != b"-").skip(1);
        let (kind, source) = (rest.next()?, rest.next()?);
        let part = if root == b"/" { String::new() } else { format!("[{}]", escape(root)) };
        Some(format!("{} from {}{part}", escape(kind), escape(source)))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mount_is_named_by_type_source_and_part() {
        let table = b"21 1 0:5 / / rw shared:1 - ext4 /dev/vda1 rw\n22 21 0:5 /out /w/a rw - ext4 /dev/vda1 rw\n23 21 0:9 / /t rw master:2 - tmpfs none rw";
        let of = |id| named(table, id);
        assert_eq!(of(21).as_deref(), Some("ext4 from /dev/vda1"));
        assert_eq!(of(22).as_deref(), Some("ext4 from /dev/vda1[/out]"));
        assert_eq!(of(23).as_deref(), Some("tmpfs from none"));
        assert_eq!(of(2), None);
    }

    #[test]
    fn folders_come_before_what_is_in_them() {
        let path = |text: &str| RelPath::new(text).expect("sound");
        assert_eq!(from_the_top(&path("a/b/c")), [path("a"), path("a/b"), path("a/b/c")]);
        assert_eq!(from_the_top(&RelPath::root()), []);
    }
}
