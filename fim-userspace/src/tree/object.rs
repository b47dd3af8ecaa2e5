//! What every part that reads or sets attributes of a file needs.

use std::io;

use rustix::fs::{FileType as Kind, Stat};

use crate::core::entry::FileType;

pub fn file_type(stat: &Stat) -> FileType {
    type_of_mode(stat.st_mode)
}

/// The type that the bits of `S_IFMT` tell.
pub fn type_of_mode(mode: u32) -> FileType {
    match Kind::from_raw_mode(mode) {
        Kind::Directory => FileType::Directory,
        Kind::Symlink => FileType::Symlink,
        Kind::Fifo => FileType::Fifo,
        Kind::Socket => FileType::Socket,
        Kind::CharacterDevice => FileType::CharDevice,
        Kind::BlockDevice => FileType::BlockDevice,
        _ => FileType::Regular,
    }
}

/// Which attribute could not be put back.
#[derive(Debug)]
pub struct NotApplied {
    pub what: String,
    pub source: io::Error,
}

impl NotApplied {
    pub fn opening(source: io::Error) -> Self {
        Self { what: "chattr flags".into(), source }
    }
}
