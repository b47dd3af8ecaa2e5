//! Mounts come and go over watched paths without an event of the file system; the kernel tells of them by
//! /proc/self/mountinfo becoming ready (proc(5)).

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read, Seek};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use crate::core::path::RelPath;

/// Mounts by id; a mount moved elsewhere keeps its id.
type Mounts = BTreeMap<u64, PathBuf>;

pub struct MountTable {
    file: File,
    mounts: Mounts,
}

/// A place where the mount table has changed.
#[derive(Debug, PartialEq, Eq)]
pub struct MountChange {
    pub at: PathBuf,
    /// Something is mounted there now; else something was.
    pub mounted: bool,
}

impl MountTable {
    pub fn open() -> io::Result<Self> {
        let mut table = Self { file: File::open("/proc/self/mountinfo")?, mounts: Mounts::new() };
        table.changes()?;
        Ok(table)
    }

    /// Ready with `POLLPRI` when mounts have changed.
    pub fn fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }

    /// What has changed since the last call.
    pub fn changes(&mut self) -> io::Result<Vec<MountChange>> {
        let mut text = Vec::new();
        self.file.rewind()?;
        self.file.read_to_end(&mut text)?;
        let now = parse(&text);
        let changes = difference(&self.mounts, &now);
        self.mounts = now;
        Ok(changes)
    }
}

fn difference(before: &Mounts, now: &Mounts) -> Vec<MountChange> {
    let missing_in = |from: &Mounts, other: &Mounts, mounted| {
        let changed = from.iter().filter(|(id, at)| other.get(id) != Some(at));
        changed.map(|(_, at)| MountChange { at: at.clone(), mounted }).collect::<Vec<_>>()
    };
    let mut changes = missing_in(before, now, false);
    changes.extend(missing_in(now, before, true));
    changes
}

/// `ID PARENT MAJOR:MINOR ROOT MOUNTPOINT …` on each line, with space, tab, newline and backslash in octal.
fn parse(text: &[u8]) -> Mounts {
    let mount = |line: &[u8]| {
        let mut fields = line.split(|b| *b == b' ');
        let id = std::str::from_utf8(fields.next()?).ok()?.parse().ok()?;
        Some((id, PathBuf::from(std::ffi::OsStr::from_bytes(&unescape(fields.nth(3)?)))))
    };
    text.split(|b| *b == b'\n').filter_map(mount).collect()
}

fn unescape(field: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(field.len());
    let mut rest = field;
    while let [first, tail @ ..] = rest {
        let octal = tail.get(..3).filter(|_| *first == b'\\').and_then(|d| std::str::from_utf8(d).ok());
        match octal.and_then(|digits| u8::from_str_radix(digits, 8).ok()) {
            Some(byte) => {
                out.push(byte);
                rest = &tail[3..];
            }
            None => {
                out.push(*first);
                rest = tail;
            }
        }
    }
    out
}

/// Where a mount lies in a watch: below its root, or, as the root itself, over it or over a folder above it.
pub fn place_in(root: &Path, at: &Path) -> Option<RelPath> {
    if root.starts_with(at) {
        return Some(RelPath::root());
    }
    RelPath::new(at.strip_prefix(root).ok()?.as_os_str().as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mounts_that_come_go_and_move_are_told_apart() {
        let before = parse(b"21 1 0:5 / / rw - ext4 a rw\n22 21 0:6 / /mnt/a\\040b rw - tmpfs t rw\n");
        let now =
            parse(b"21 1 0:5 / / rw - ext4 a rw\n22 21 0:6 / /moved rw - tmpfs t rw\n23 21 0:7 / /n rw");
        let change = |at: &str, mounted| MountChange { at: at.into(), mounted };
        let expected = [change("/mnt/a b", false), change("/moved", true), change("/n", true)];
        assert_eq!(difference(&before, &now), expected);
        assert_eq!(difference(&now, &now), []);
    }

    #[test]
    fn only_mounts_over_a_watch_concern_it() {
        let place = |at: &str| place_in(Path::new("/srv/www"), Path::new(at)).map(|p| p.to_string());
        assert_eq!(place("/srv/www/a/b"), Some("a/b".into()));
        assert_eq!(place("/srv/www"), Some(String::new()));
        assert_eq!(place("/srv"), Some(String::new()));
        assert_eq!(place("/srv/www2"), None);
        assert_eq!(place("/home"), None);
    }
}
