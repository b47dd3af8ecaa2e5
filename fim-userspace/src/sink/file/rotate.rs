//! Older parts of a log are called `NAME.1`, `NAME.2` …, the youngest first.

use std::ffi::{OsStr, OsString};
use std::time::Duration;

use rustix::fs::{AtFlags, fsync, renameat, statat, unlinkat};
use rustix::io::Errno;

use super::place::Open;
use crate::config::Rotation;
use crate::core::path::escape;

/// Whether a new file is begun before `next` more bytes are written.
pub(super) fn is_due(rotation: &Rotation, size: u64, next: u64, age: Duration) -> bool {
    // An empty file is as good as a new one.
    size > 0
        && (rotation.max_size.is_some_and(|most| size.saturating_add(next) > most)
            || rotation.max_age.is_some_and(|most| age >= most))
}

/// Moves every part one number up, within the folder, and drops those beyond `keep`. Where a crash left a gap in the
/// numbers, the gap is filled and nothing dropped. Durable on return.
pub(super) fn rotate(open: &Open, keep: u32) -> Result<(), String> {
    let numbered = |n: u32| {
        let mut name = OsString::from(&open.name);
        name.push(format!(".{n}"));
        name
    };
    let mut free = 1;
    while free < keep && exists(open, &numbered(free))? {
        free += 1;
    }
    for n in (1..free).rev() {
        rename(open, &numbered(n), &numbered(n + 1))?;
    }
    rename(open, &open.name, &numbered(1))?;
    // `keep` may have been greater once.
    let mut surplus = keep.saturating_add(1);
    while exists(open, &numbered(surplus))? {
        let name = numbered(surplus);
        unlinkat(open.dir(), &name, AtFlags::empty()).map_err(|e| failed("remove", &name, e))?;
        surplus = surplus.saturating_add(1);
    }
    fsync(open.dir()).map_err(|e| format!("cannot sync the folder: {e}"))
}

fn exists(open: &Open, name: &OsStr) -> Result<bool, String> {
    match statat(open.dir(), name, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(_) => Ok(true),
        Err(Errno::NOENT) => Ok(false),
        Err(e) => Err(failed("examine", name, e)),
    }
}

fn rename(open: &Open, from: &OsStr, to: &OsStr) -> Result<(), String> {
    renameat(open.dir(), from, open.dir(), to).map_err(|e| failed("rename", from, e))
}

fn failed(what: &str, name: &OsStr, e: Errno) -> String {
    format!("cannot {what} {}: {e}", escape(name.as_encoded_bytes()))
}
