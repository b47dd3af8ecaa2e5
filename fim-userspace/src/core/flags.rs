//! Flags of chattr(1), which every file system has in part.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Flags of chattr(1) in the kernel's numbers (`FS_*_FL`, linux/fs.h), and whether the file is the root of a mount.
///
/// Two values are equal if the same flags are set; what could not be is no part of it.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Flags {
    set: u32,
    #[serde(skip)]
    unsupported: u32,
}

impl PartialEq for Flags {
    fn eq(&self, other: &Self) -> bool {
        self.set == other.set
    }
}

impl Eq for Flags {}

/// What `fim` calls them, in the order of their numbers.
const NAMES: [(u32, &str); 17] = [
    (Flags::SECURE_REMOVAL.set, "secure deletion"),
    (Flags::UNRM.set, "undelete"),
    (Flags::COMPRESS.set, "compress"),
    (Flags::SYNC.set, "sync"),
    (Flags::IMMUTABLE.set, "immutable"),
    (Flags::APPEND.set, "append-only"),
    (Flags::NODUMP.set, "nodump"),
    (Flags::NOATIME.set, "noatime"),
    (Flags::NOCOMPRESS.set, "no compression"),
    (Flags::JOURNAL_DATA.set, "journal data"),
    (Flags::NOTAIL.set, "no tail merging"),
    (Flags::DIRSYNC.set, "dirsync"),
    (Flags::TOPDIR.set, "top of a hierarchy"),
    (Flags::NOCOW.set, "no copy on write"),
    (Flags::DAX.set, "dax"),
    (Flags::PROJECT_INHERIT.set, "project inheritance"),
    (Flags::MOUNT.set, "mount point"),
];

impl Flags {
    pub const SECURE_REMOVAL: Self = Self::from_bits(0x1);
    pub const UNRM: Self = Self::from_bits(0x2);
    pub const COMPRESS: Self = Self::from_bits(0x4);
    pub const SYNC: Self = Self::from_bits(0x8);
    pub const IMMUTABLE: Self = Self::from_bits(0x10);
    pub const APPEND: Self = Self::from_bits(0x20);
    pub const NODUMP: Self = Self::from_bits(0x40);
    pub const NOATIME: Self = Self::from_bits(0x80);
    pub const NOCOMPRESS: Self = Self::from_bits(0x400);
    pub const JOURNAL_DATA: Self = Self::from_bits(0x4000);
    pub const NOTAIL: Self = Self::from_bits(0x8000);
    pub const DIRSYNC: Self = Self::from_bits(0x1_0000);
    pub const TOPDIR: Self = Self::from_bits(0x2_0000);
    pub const NOCOW: Self = Self::from_bits(0x80_0000);
    pub const DAX: Self = Self::from_bits(0x200_0000);
    pub const PROJECT_INHERIT: Self = Self::from_bits(0x2000_0000);
    /// No flag of chattr(1): something is mounted at this very place.
    pub const MOUNT: Self = Self::from_bits(0x8000_0000);
    /// What people set with chattr(1). The kernel sets others by itself: extents, index, inline data, encrypted, verity.
    /// Casefold is left out, since it cannot be set on a folder that holds anything.
    pub const SETTABLE: Self = Self::from_bits(0x2283_c4ff);
    /// These stop even root.
    pub const BLOCKING: Self = Self::from_bits(0x30);

    pub const fn from_bits(set: u32) -> Self {
        Self { set, unsupported: 0 }
    }

    pub const fn bits(self) -> u32 {
        self.set
    }

    pub fn is_empty(&self) -> bool {
        self.set == 0
    }

    pub fn has(self, other: Self) -> bool {
        self.set & other.set != 0
    }

    pub fn with(self, other: Self, on: bool) -> Self {
        Self { set: if on { self.set | other.set } else { self.set & !other.set }, ..self }
    }

    /// As found where the file system can hold no other flags than `supported`, or tells of no others.
    pub fn of_supported(self, supported: Self) -> Self {
        Self { unsupported: Self::SETTABLE.set & !supported.set, ..self }
    }

    /// Those of `known` where this one cannot tell.
    pub fn completed_by(self, known: Self) -> Self {
        Self { set: self.set | known.set & self.unsupported, unsupported: known.unsupported }
    }

    /// Whether `now`, which was found, is not what was approved, as far as its file system can hold it.
    ///
    /// btrfs sets "no compression" by itself on content that does not get smaller.
    pub fn differ(self, now: Self) -> bool {
        let own = now.set & Self::NOCOMPRESS.set;
        (self.set ^ now.set) & !now.unsupported & !own != 0
    }
}

impl fmt::Display for Flags {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let held: Vec<&str> =
            NAMES.into_iter().filter(|(flag, _)| self.set & flag != 0).map(|(_, name)| name).collect();
        f.write_str(&held.join(", "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn flags(set: u32) -> Flags {
        Flags::from_bits(set)
    }

    #[test]
    fn every_flag_has_a_name() {
        let all = NAMES.iter().fold(0, |all, (flag, _)| all | flag);
        assert_eq!(all, Flags::SETTABLE.bits() | Flags::MOUNT.bits());
        assert_eq!(flags(0x8000_0090).to_string(), "immutable, noatime, mount point");
    }

    #[test]
    fn what_a_file_system_cannot_hold_is_no_difference() {
        let (approved, here) = (flags(0x90), Flags::IMMUTABLE);
        assert!(approved.differ(flags(0x10)));
        assert!(!approved.differ(flags(0x10).of_supported(here)));
        assert!(approved.differ(flags(0).of_supported(here)), "it can hold that one");
        assert!(flags(0).differ(flags(0x10).of_supported(here)));
        assert!(flags(0).differ(Flags::MOUNT.of_supported(here)));
    }

    #[test]
    fn no_compression_may_come_by_itself_but_not_go() {
        assert!(!flags(0x80).differ(flags(0x480)));
        assert!(flags(0x480).differ(flags(0x80)));
        assert!(flags(0x4).differ(flags(0x400)));
    }

    #[test]
    fn what_is_not_told_is_taken_over() {
        let known = flags(0x8000_00d0);
        let told = flags(0x10).of_supported(flags(0x70));
        assert_eq!(told.completed_by(known), flags(0x90));
        assert!(!flags(0x90).differ(told.completed_by(known)));
    }
}
