//! Why a step of a response cannot be carried out, and what is to be done about it.

use std::io;
use std::os::fd::BorrowedFd;

use rustix::io::Errno;

use crate::core::entry::{Flags, Found};
use crate::core::path::RelPath;
use crate::store::vault::VaultError;
use crate::tree::attributes::NotApplied;
use crate::tree::root::Root;

#[derive(Debug)]
pub enum Failure {
    /// What is there is not what was expected any more.
    Moved,
    ParentMissing,
    NotEmpty,
    Io {
        what: String,
        source: io::Error,
    },
    Vault(VaultError),
    /// What is there can be neither exchanged nor renamed: it is a mount point, or the file system forbids it.
    InPlace(io::Error),
    /// A reason, and what to do about it.
    Other(String),
}

impl Failure {
    pub fn io(what: impl Into<String>, source: impl Into<io::Error>) -> Self {
        Self::Io { what: what.into(), source: source.into() }
    }

    pub fn reason(&self) -> String {
        match self {
            Self::Moved => "it changed again".into(),
            Self::ParentMissing => "a folder above it is missing".into(),
            Self::NotEmpty => "the folder is not empty".into(),
            Self::Io { what, source } => format!("{what} failed ({source}); {}", advice(source)),
            Self::InPlace(source) => format!("it can be neither exchanged nor renamed ({source})"),
            Self::Vault(e) => e.to_string(),
            Self::Other(reason) => reason.clone(),
        }
    }

    pub fn attribute(e: NotApplied) -> Self {
        Self::io(format!("setting {}", e.what), e.source)
    }
}

fn advice(error: &io::Error) -> &'static str {
    match error.raw_os_error().map(Errno::from_raw_os_error) {
        Some(Errno::NOSPC | Errno::DQUOT) => "make room on the file system",
        Some(Errno::ROFS) => "its file system is mounted read-only",
        Some(Errno::BUSY) => "something is mounted over it; look at it with findmnt",
        Some(Errno::XDEV) => "something is mounted below it; look at it with findmnt",
        Some(Errno::PERM | Errno::ACCESS) => "run fim as root, and check the flags with lsattr",
        Some(Errno::MFILE | Errno::NFILE) => "raise the limit on open files (LimitNOFILE=)",
        Some(Errno::NOTSUP) => "its file system does not know this",
        Some(Errno::AGAIN) => "another process holds a lease on it; it is tried again",
        _ => "check the file system and the kernel log",
    }
}

/// What is mounted over a folder of the watch is another tree, in which fim has no business.
pub fn in_the_watch(root: &Root, dir: BorrowedFd<'_>, path: &RelPath) -> Result<(), Failure> {
    let folder = path.parent().unwrap_or_else(RelPath::root);
    match root.owns(dir, &folder).map_err(|e| Failure::io("looking at what is mounted", e))? {
        true => Ok(()),
        false => Err(mounted_above()),
    }
}

pub fn mounted_above() -> Failure {
    Failure::Other(
        "something is mounted over a folder above it, and fim alters nothing in that; look at it with findmnt, and unmount it"
            .into(),
    )
}

/// Something that was mounted since is no change of the file below it: it is neither altered nor removed.
pub fn not_mounted_over(approved: Flags, found: &Found) -> Result<(), Failure> {
    if found.entry.flags.has(Flags::MOUNT) && !approved.has(Flags::MOUNT) {
        return Err(Failure::Other(
            "something is mounted over it, which fim neither alters nor removes; look at it with findmnt, and unmount it"
                .into(),
        ));
    }
    Ok(())
}
