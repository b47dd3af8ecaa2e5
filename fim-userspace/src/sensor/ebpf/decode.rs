//! From the bytes of a record to what was done to which path.

use fim_common::{EventHead, Hook};

use crate::core::observation::{Deed, WatchId};
use crate::core::path::RelPath;
use crate::sensor::dirs::{DirKey, Directories};

/// One record of the ring.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    pub head: EventHead,
    pub hook: Hook,
    pub name: Vec<u8>,
    pub name2: Vec<u8>,
}

/// What one record means for one path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Meaning {
    pub watch: WatchId,
    pub path: RelPath,
    pub deed: Deed,
}

const HEAD: usize = size_of::<EventHead>();

// linux/fs.h
const ATTR_SIZE: u32 = 1 << 3;
const FICLONE: u32 = 0x4004_9409;
const FICLONERANGE: u32 = 0x4020_940d;
const RENAME_EXCHANGE: u32 = 2;

impl Event {
    /// `None` when the bytes are no record of ours.
    pub fn parse(bytes: &[u8]) -> Option<Self> {
        let head = head(bytes)?;
        let name = bytes.get(HEAD..HEAD + usize::from(head.name_len))?.to_vec();
        let at = usize::from(head.name2_at);
        let name2 = bytes.get(at..at + usize::from(head.name2_len))?.to_vec();
        Some(Self { head, hook: Hook::from_index(head.hook)?, name, name2 })
    }

    fn key(&self, ino: u64) -> DirKey {
        DirKey { dev: u64::from(self.head.dev), ino }
    }

    fn has(&self, flag: u8) -> bool {
        self.head.flags & flag != 0
    }

    /// The directory of this object: for the new name where `new`.
    fn places(&self, dirs: &Directories, new: bool) -> Vec<(WatchId, RelPath)> {
        let (ino, name) = if new { (self.head.dir2, &self.name2) } else { (self.head.dir, &self.name) };
        dirs.by_key(self.key(ino)).into_iter().filter_map(|(w, dir)| Some((w, dir.join(name)?))).collect()
    }

    /// The paths of the object's own inode, where that is watched.
    fn own_paths(&self, dirs: &Directories) -> Vec<(WatchId, RelPath)> {
        let key = self.key(self.head.ino);
        if self.has(EventHead::DIRECTORY) { dirs.by_key(key) } else { dirs.file_by_key(key) }
    }

    /// What happened to which path. Empty when `dirs` does not know the place (yet).
    pub fn meanings(&self, dirs: &Directories) -> Vec<Meaning> {
        match self.hook {
            Hook::InodeRename => self.renamed(dirs),
            Hook::InodeLink => self.linked(dirs),
            _ if self.has(EventHead::BY_NAME) => meanings(self.places(dirs, false), &self.deed()),
            // Seen by its inode, under a name that is not watched: what becomes of that name is only a link count here.
            _ => {
                let deed = match self.deed() {
                    Deed::Created | Deed::Deleted => Deed::Attributes,
                    deed => deed,
                };
                meanings(self.own_paths(dirs), &deed)
            }
        }
    }

    /// Whether `dirs` knows every place that the kernel matched, so that [`Self::meanings`] is the whole story.
    pub fn placed(&self, dirs: &Directories) -> bool {
        let by_name = !self.has(EventHead::BY_NAME) || !self.places(dirs, false).is_empty();
        let by_new_name = !self.has(EventHead::BY_NEW_NAME) || !self.places(dirs, true).is_empty();
        let by_inode = !self.has(EventHead::BY_INODE) || !self.own_paths(dirs).is_empty();
        by_name && by_new_name && by_inode
    }

    /// The watched directories of this event that `dirs` does not know.
    pub fn unknown_directories(&self, dirs: &Directories) -> Vec<DirKey> {
        [(EventHead::BY_NAME, self.head.dir), (EventHead::BY_NEW_NAME, self.head.dir2)]
            .into_iter()
            .filter(|(flag, _)| self.has(*flag))
            .map(|(_, ino)| self.key(ino))
            .filter(|key| dirs.by_key(*key).is_empty())
            .collect()
    }

    fn deed(&self) -> Deed {
        match self.hook {
            Hook::FileOpen | Hook::FileReceive => Deed::OpenedForWrite,
            Hook::MmapFile | Hook::FileMprotect => Deed::MappedForWrite,
            Hook::InodeSetattr if self.head.detail & ATTR_SIZE != 0 => Deed::Written,
            Hook::FileIoctl | Hook::FileIoctlCompat if matches!(self.head.detail, FICLONE | FICLONERANGE) => {
                Deed::Written
            }
            Hook::InodeCreate | Hook::InodeMkdir | Hook::InodeMknod | Hook::InodeSymlink => Deed::Created,
            Hook::InodeUnlink | Hook::InodeRmdir => Deed::Deleted,
            Hook::SbMount | Hook::MoveMount => Deed::MountedOver,
            _ => Deed::Attributes,
        }
    }

    fn renamed(&self, dirs: &Directories) -> Vec<Meaning> {
        let from = if self.has(EventHead::BY_NAME) { self.places(dirs, false) } else { Vec::new() };
        let to = if self.has(EventHead::BY_NEW_NAME) { self.places(dirs, true) } else { Vec::new() };
        let mut out = moved(&from, &to);
        // The two change places (only fentry tells; to an LSM program the kernel reports both moves).
        if self.head.detail & RENAME_EXCHANGE != 0 {
            out.extend(moved(&to, &from));
        }
        if out.is_empty() {
            out = meanings(self.own_paths(dirs), &Deed::Attributes);
        }
        out
    }

    fn linked(&self, dirs: &Directories) -> Vec<Meaning> {
        let old = if self.has(EventHead::BY_NAME) { self.places(dirs, false) } else { self.own_paths(dirs) };
        let new = if self.has(EventHead::BY_NEW_NAME) { self.places(dirs, true) } else { Vec::new() };
        let mut out: Vec<Meaning> = old
            .into_iter()
            .map(|(watch, path)| {
                let to = new.iter().find(|(w, _)| *w == watch).map(|(_, path)| path.clone());
                Meaning { watch, path, deed: Deed::Linked { to } }
            })
            .collect();
        out.extend(meanings(new, &Deed::Created));
        out
    }
}

fn meanings(places: Vec<(WatchId, RelPath)>, deed: &Deed) -> Vec<Meaning> {
    places.into_iter().map(|(watch, path)| Meaning { watch, path, deed: deed.clone() }).collect()
}

/// A move within one watch is one meaning; across watches, or the edge of one, each side is its own.
fn moved(from: &[(WatchId, RelPath)], to: &[(WatchId, RelPath)]) -> Vec<Meaning> {
    let mut out = Vec::new();
    for (watch, path) in to {
        let from = from.iter().find(|(w, _)| w == watch).map(|(_, old)| old.clone());
        out.push(Meaning { watch: *watch, path: path.clone(), deed: Deed::MovedHere { from } });
    }
    for (watch, path) in from.iter().filter(|(w, _)| !to.iter().any(|(other, _)| other == w)) {
        out.push(Meaning { watch: *watch, path: path.clone(), deed: Deed::MovedAway });
    }
    out
}

/// Reads the fixed start, field by field, in the order of [`EventHead`].
fn head(bytes: &[u8]) -> Option<EventHead> {
    let mut rest = bytes.get(..HEAD)?;
    let mut long = || {
        let (word, after) = rest.split_first_chunk::<8>()?;
        rest = after;
        Some(u64::from_ne_bytes(*word))
    };
    let (time_ns, start_ns, dir, ino, dir2) = (long()?, long()?, long()?, long()?, long()?);
    let mut int = || {
        let (word, after) = rest.split_first_chunk::<4>()?;
        rest = after;
        Some(u32::from_ne_bytes(*word))
    };
    let (dev, tgid, tid, uid, gid, euid) = (int()?, int()?, int()?, int()?, int()?, int()?);
    let (auid, session, detail, watch) = (int()?, int()?, int()?, int()?);
    let (small, mut rest) = rest.split_first_chunk::<8>()?;
    let [hook, flags, name_len, name2_len, low, high, ..] = *small;
    let mut int = || {
        let (word, after) = rest.split_first_chunk::<4>()?;
        rest = after;
        Some(u32::from_ne_bytes(*word))
    };
    let (fsuid, exec_id) = (int()?, int()?);
    Some(EventHead {
        time_ns,
        start_ns,
        dir,
        ino,
        dir2,
        dev,
        tgid,
        tid,
        uid,
        gid,
        euid,
        auid,
        session,
        detail,
        watch,
        hook,
        flags,
        name_len,
        name2_len,
        name2_at: u16::from_ne_bytes([low, high]),
        pad: 0,
        fsuid,
        exec_id,
    })
}

#[cfg(test)]
#[path = "decode_tests.rs"]
mod tests;
