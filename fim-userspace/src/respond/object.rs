//! Objects under names of the folder that a step works in.

use std::os::fd::OwnedFd;
use std::sync::Arc;

use rustix::fs::Stat;

use crate::core::entry::{FileType, Found};
use crate::tree::attributes::{self, NotApplied};
use crate::tree::private::PrivateName;

/// Which object a descriptor or name stands for. The type belongs to it, since an inode number is free for something
/// else as soon as its file is gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Id {
    dev: u64,
    ino: u64,
    kind: FileType,
}

impl Id {
    pub fn of(stat: &Stat) -> Self {
        Self { dev: stat.st_dev, ino: stat.st_ino, kind: attributes::file_type(stat) }
    }

    pub fn kind(self) -> FileType {
        self.kind
    }

    pub fn expected(found: &Found) -> Self {
        Self { dev: found.identity.dev, ino: found.identity.ino, kind: found.entry.kind }
    }
}

/// A finished object. The `O_PATH` descriptor keeps its inode number from being given to anything else.
pub struct Built {
    pub name: Arc<PrivateName>,
    pub id: Id,
    pub held: OwnedFd,
    /// Whether it has the approved flags, but for those that are set last. Without them it is better than what was there.
    pub flagged: Result<(), NotApplied>,
}
