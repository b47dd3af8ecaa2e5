//! The single operations.

use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind, Write};
use std::os::unix::fs::{FileExt, OpenOptionsExt, PermissionsExt, chown, lchown, symlink};
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, CWD, Timespec, Timestamps, XattrFlags};

/// What the actor writes.
pub const CONTENT: &[u8] = b"written by fim-actor, which nobody has approved\n";
/// What a truncated file keeps, bytes.
pub const TRUNCATED: u64 = 7;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Op {
    Create,
    /// Over the start of the file, nothing truncated.
    Write,
    Append,
    Truncate,
    MmapWrite,
    Rename,
    /// A temporary file beside it, renamed over it.
    Replace,
    Unlink,
    RmdirTree,
    MkdirTree,
    Link,
    Symlink,
    Chmod,
    Chgrp,
    Utimens,
    Setxattr,
    Recreate,
    /// Like `Write`, but gone at once: nothing closed, nothing freed.
    Quick,
}

impl Op {
    pub const ALL: [(Op, &'static str); 18] = [
        (Op::Create, "create"),
        (Op::Write, "write"),
        (Op::Append, "append"),
        (Op::Truncate, "truncate"),
        (Op::MmapWrite, "mmap-write"),
        (Op::Rename, "rename"),
        (Op::Replace, "replace"),
        (Op::Unlink, "unlink"),
        (Op::RmdirTree, "rmdir-tree"),
        (Op::MkdirTree, "mkdir-tree"),
        (Op::Link, "link"),
        (Op::Symlink, "symlink"),
        (Op::Chmod, "chmod"),
        (Op::Chgrp, "chgrp"),
        (Op::Utimens, "utimens"),
        (Op::Setxattr, "setxattr"),
        (Op::Recreate, "recreate"),
        (Op::Quick, "quick"),
    ];

    pub fn named(name: &str) -> Option<Op> {
        Self::ALL.iter().find(|(_, n)| *n == name).map(|(op, _)| *op)
    }

    pub fn name(self) -> &'static str {
        Self::ALL.iter().find(|(op, _)| *op == self).map_or("?", |(_, n)| n)
    }

    /// Whether it names a second path, the new one.
    pub fn takes_two(self) -> bool {
        matches!(self, Op::Rename | Op::Link | Op::Symlink)
    }
}

/// The content that `op` leaves in a file that held `before`; `None` for what leaves content alone.
pub fn effect(op: Op, before: &[u8]) -> Option<Vec<u8>> {
    match op {
        Op::Create | Op::Replace | Op::Recreate => Some(CONTENT.to_vec()),
        Op::Write | Op::MmapWrite | Op::Quick => {
            let rest = before.get(CONTENT.len()..).unwrap_or_default();
            Some([CONTENT, rest].concat())
        }
        Op::Append => Some([before, CONTENT].concat()),
        Op::Truncate => Some(before[..before.len().min(TRUNCATED as usize)].to_vec()),
        _ => None,
    }
}

/// Does `op`. `second` is the other path of operations that have two, the group of `Chgrp`. Gives the paths that a tree
/// operation really made or removed: the daemon may be faster than the actor, and that is no error.
pub fn perform(op: Op, path: &Path, second: Option<&Path>) -> io::Result<Vec<PathBuf>> {
    let second = || second.ok_or_else(|| io::Error::other("this operation needs a second argument"));
    match op {
        Op::Create => create(path)?,
        Op::Write => OpenOptions::new().write(true).open(path)?.write_all_at(CONTENT, 0)?,
        Op::Append => OpenOptions::new().append(true).open(path)?.write_all(CONTENT)?,
        Op::Truncate => nix::unistd::truncate(path, TRUNCATED as i64)?,
        Op::MmapWrite => crate::sys::store_through_mapping(path, CONTENT)?,
        Op::Rename => fs::rename(path, second()?)?,
        Op::Replace => replace(path)?,
        Op::Unlink => fs::remove_file(path)?,
        Op::RmdirTree => {
            let mut gone = Vec::new();
            remove_tree(path, &mut gone)?;
            return Ok(gone);
        }
        Op::MkdirTree => return make_tree(path),
        Op::Link => fs::hard_link(path, second()?)?,
        Op::Symlink => symlink(path, second()?)?,
        Op::Chmod => fs::set_permissions(path, fs::Permissions::from_mode(0o4711))?,
        Op::Chgrp => change_group(path, second()?)?,
        Op::Utimens => change_times(path)?,
        Op::Setxattr => set_xattr(path)?,
        Op::Recreate => {
            fs::remove_file(path)?;
            File::create(path)?.write_all(CONTENT)?;
        }
        Op::Quick => {
            let file = OpenOptions::new().write(true).open(path)?;
            file.write_all_at(CONTENT, 0)?;
            std::process::exit(0);
        }
    }
    Ok(Vec::new())
}

fn create(path: &Path) -> io::Result<()> {
    OpenOptions::new().write(true).create_new(true).mode(0o640).open(path)?.write_all(CONTENT)
}

/// As editors and package managers do it. The daemon may take the temporary file away first; then it is made again.
fn replace(path: &Path) -> io::Result<()> {
    let mut name = path.as_os_str().to_owned();
    name.push(".tmp");
    let temporary = PathBuf::from(name);
    for _ in 0..10_000 {
        match create(&temporary).and_then(|()| fs::rename(&temporary, path)) {
            Err(e) if matches!(e.kind(), ErrorKind::NotFound | ErrorKind::AlreadyExists) => {}
            other => return other,
        }
    }
    Err(io::Error::other("the temporary file was taken away every time"))
}

fn remove_tree(path: &Path, gone: &mut Vec<PathBuf>) -> io::Result<()> {
    for entry in fs::read_dir(path)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            remove_tree(&entry.path(), gone)?;
        } else {
            fs::remove_file(entry.path())?;
            gone.push(entry.path());
        }
    }
    match fs::remove_dir(path) {
        // Something was put back in the meantime.
        Err(e) if e.kind() == ErrorKind::DirectoryNotEmpty => Ok(()),
        other => other.map(|()| gone.push(path.to_owned())),
    }
}

/// Three levels, two files in each, as fast as it goes.
fn make_tree(top: &Path) -> io::Result<Vec<PathBuf>> {
    let mut made = Vec::new();
    let mut dir = top.to_owned();
    for level in 0..3 {
        if level > 0 {
            dir.push(format!("level{level}"));
        }
        if !arrived(fs::create_dir(&dir))? {
            break;
        }
        made.push(dir.clone());
        for name in ["one", "two"] {
            let file = dir.join(name);
            if arrived(create(&file))? {
                made.push(file);
            }
        }
    }
    Ok(made)
}

/// `false` when the folder was taken away before.
fn arrived(result: io::Result<()>) -> io::Result<bool> {
    match result {
        Err(e) if e.kind() == ErrorKind::NotFound => Ok(false),
        other => other.map(|()| true),
    }
}

fn change_group(path: &Path, group: &Path) -> io::Result<()> {
    let group =
        group.to_str().and_then(|g| g.parse().ok()).ok_or_else(|| io::Error::other("not a group id"))?;
    if path.is_symlink() { lchown(path, None, Some(group)) } else { chown(path, None, Some(group)) }
}

fn change_times(path: &Path) -> io::Result<()> {
    let time = |tv_sec| Timespec { tv_sec, tv_nsec: 987_654_321 };
    let times = Timestamps { last_access: time(1_111_111_111), last_modification: time(1_222_222_222) };
    Ok(rustix::fs::utimensat(CWD, path, &times, AtFlags::SYMLINK_NOFOLLOW)?)
}

/// A user attribute, or an ACL where the file system has no user attributes (tmpfs before 6.6).
fn set_xattr(path: &Path) -> io::Result<()> {
    match rustix::fs::setxattr(path, "user.fim_actor", CONTENT, XattrFlags::CREATE) {
        Err(rustix::io::Errno::OPNOTSUPP) => {
            Ok(rustix::fs::setxattr(path, "system.posix_acl_access", &acl(), XattrFlags::empty())?)
        }
        other => Ok(other?),
    }
}

/// `u::rw-,u:3456:r--,g::r--,m::r--,o::r--` as the kernel takes it (linux/posix_acl_xattr.h: version 2, little endian).
fn acl() -> Vec<u8> {
    const NOBODY: u32 = u32::MAX;
    let entries: [(u16, u16, u32); 5] =
        [(1, 6, NOBODY), (2, 4, 3456), (4, 4, NOBODY), (16, 4, NOBODY), (32, 4, NOBODY)];
    let mut out = 2u32.to_le_bytes().to_vec();
    for (tag, rights, id) in entries {
        out.extend(tag.to_le_bytes());
        out.extend(rights.to_le_bytes());
        out.extend(id.to_le_bytes());
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    const BEFORE: &[u8] = b"what was approved, and long enough to hold more than the actor writes over it\n";

    #[test]
    fn content_operations_leave_what_effect_says() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        for op in [Op::Write, Op::Append, Op::Truncate, Op::MmapWrite, Op::Replace, Op::Recreate] {
            let path = dir.path().join(op.name());
            fs::write(&path, BEFORE).expect("written");
            perform(op, &path, None).expect("performed");
            assert_eq!(Some(fs::read(&path).expect("read")), effect(op, BEFORE), "{op:?}");
        }
        assert_eq!(fs::read_dir(dir.path()).expect("listed").count(), 6, "a temporary file was left");
    }

    #[test]
    fn tree_operations_tell_what_they_did() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let top = dir.path().join("top");
        let mut made = perform(Op::MkdirTree, &top, None).expect("made");
        let mut gone = perform(Op::RmdirTree, &top, None).expect("removed");
        made.sort();
        gone.sort();
        assert_eq!(made.len(), 9);
        assert_eq!(made, gone);
        assert!(!top.exists());
    }

    #[test]
    fn names_read_back() {
        for (op, name) in Op::ALL {
            assert_eq!((Op::named(name), op.name()), (Some(op), name));
        }
    }
}
