//! What went wrong with the database, as one sentence that says what to do.

use std::io;
use std::path::{Path, PathBuf};

use rusqlite::ErrorCode;

use crate::core::path::display;

#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    #[error("cannot use the state directory {}: {source}; run fim as root or name another with [state] dir", display(.dir))]
    Dir { dir: PathBuf, source: io::Error },
    #[error(
        "the state directory {} can be written by others (mode {mode:04o}), who could forge the records; run: chmod 700 {}, or name a folder of its own with [state] dir",
        display(.dir), display(.dir)
    )]
    Exposed { dir: PathBuf, mode: u32 },
    #[error("there is no database in {} yet; run `fim init` to take the baseline", display(.0))]
    Absent(PathBuf),
    #[error(
        "another fim (pid {}) is using {}; stop it first, or look at its work with `fim status` and `fim log`",
        .pid.map_or("unknown".to_owned(), |p| p.to_string()), display(.dir)
    )]
    Locked { dir: PathBuf, pid: Option<u32> },
    #[error(
        "the database {} is damaged ({detail}); move it and its -wal and -shm files aside and run `fim init`. Evidence in the vault beside it is untouched",
        display(.file)
    )]
    Corrupt { file: PathBuf, detail: String },
    #[error(
        "the database {} was written by a newer fim (schema {found}, this one knows {known}); install that version again or name another [state] dir",
        display(.file)
    )]
    Newer { file: PathBuf, found: i64, known: i64 },
    #[error(
        "the disk that holds {} is full, nothing more can be recorded; make room there. What was recorded before is safe",
        display(.0)
    )]
    Full(PathBuf),
    #[error("the database {} is held by another program for too long; end other programs that have it open (sqlite3?)", display(.0))]
    Busy(PathBuf),
    #[error("cannot open the database {}: {detail}; run fim as root and check the file's permissions", display(.file))]
    Denied { file: PathBuf, detail: String },
    #[error("the database {} failed while {doing}: {source}; look at the disk and the kernel's log, then start fim again", display(.file))]
    Sqlite { file: PathBuf, doing: &'static str, source: rusqlite::Error },
    #[error("the sealing key {} {detail}; make a new one with `fim seal setup --replace`. What was sealed before stays provable with the old verification key", display(.file))]
    SealKey { file: PathBuf, detail: String },
    #[error("a row of the database {} cannot be understood ({detail}); move the file aside and run `fim init`", display(.file))]
    Row { file: PathBuf, detail: String },
}

impl StoreError {
    /// What keeps the state directory from being used.
    pub fn dir(dir: &Path, source: io::Error) -> Self {
        match source.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Self::Full(dir.into()),
            _ => Self::Dir { dir: dir.into(), source },
        }
    }
}

/// Turns an error of the library into a sentence.
pub(super) fn explain(file: &Path, doing: &'static str, source: rusqlite::Error) -> StoreError {
    let dir = || file.parent().unwrap_or(file).to_path_buf();
    let detail = source.to_string();
    match source.sqlite_error_code() {
        // A disk that fails in mid-write reads as a damaged database; moving that aside would be the wrong thing to do.
        Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) if disk_fails(&dir()) => {
            StoreError::Sqlite { file: file.into(), doing, source }
        }
        Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => {
            StoreError::Corrupt { file: file.into(), detail }
        }
        Some(ErrorCode::DiskFull) => StoreError::Full(dir()),
        // A full disk met while the write-ahead log or its index is made reads as an I/O error.
        Some(ErrorCode::SystemIoFailure) if no_room(&dir()) => StoreError::Full(dir()),
        Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => StoreError::Busy(file.into()),
        Some(ErrorCode::CannotOpen | ErrorCode::ReadOnly | ErrorCode::PermissionDenied) => {
            if no_room(&dir()) {
                return StoreError::Full(dir());
            }
            StoreError::Denied { file: file.into(), detail }
        }
        _ => StoreError::Sqlite { file: file.into(), doing, source },
    }
}

/// Whether the file system refuses to bring to the disk what it holds (fsync(2): EIO).
fn disk_fails(dir: &Path) -> bool {
    let synced = std::fs::File::open(dir).and_then(|dir| dir.sync_all());
    synced.is_err_and(|e| e.raw_os_error() == Some(rustix::io::Errno::IO.raw_os_error()))
}

fn no_room(dir: &Path) -> bool {
    rustix::fs::statvfs(dir).is_ok_and(|s| s.f_bavail * s.f_frsize < 64 * 1024)
}
