//! Everything that has to come back, read without fim's own eyes.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read;
use std::os::fd::{AsFd, BorrowedFd};

use fim::core::entry::Digest;
use fim::core::path::RelPath;
use fim::tree::Root;
use rustix::fs::{FileType as Kind, OFlags};
use sha2::{Digest as _, Sha256};

use super::object::{FLAGS, Place, flags, kind, names, proc_path, reopen, stat};

/// One object. A folder's modification time is no part of it, as in `Entry`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct State {
    kind: Kind,
    mode: u32,
    owner: (u32, u32),
    rdev: u64,
    mtime: (i64, i64),
    size: i64,
    pub content: Option<Digest>,
    target: Option<Vec<u8>>,
    xattrs: BTreeMap<String, Vec<u8>>,
    flags: u32,
}

impl State {
    /// Without "no compression", if that came along: btrfs sets it by itself.
    pub fn without_the_kernels_own(mut self, approved: Option<&State>) -> Self {
        if approved.is_some_and(|approved| approved.flags & NOCOMPRESS == 0) {
            self.flags &= !NOCOMPRESS;
        }
        self
    }
}

const NOCOMPRESS: u32 = 0x400;

pub type Snapshot = BTreeMap<RelPath, State>;

/// Every path below the root and the root itself, folders first.
pub fn paths(root: &Root) -> Vec<RelPath> {
    let mut out = vec![RelPath::root()];
    let mut next = 0;
    while let Some(path) = out.get(next).cloned() {
        let fd = root.open_path(&path).expect("there");
        if kind(&stat(fd.as_fd())) == Kind::Directory {
            out.extend(names(fd.as_fd()).into_iter().map(|name| path.join(&name).expect("a sound name")));
        }
        next += 1;
    }
    out
}

pub fn snapshot(root: &Root) -> Snapshot {
    let state = |path: RelPath| {
        let fd = root.open_path(&path).expect("there");
        let state = state(fd.as_fd());
        (path, state)
    };
    paths(root).into_iter().map(state).collect()
}

fn state(fd: BorrowedFd<'_>) -> State {
    let stat = stat(fd);
    let kind = kind(&stat);
    let content = (kind == Kind::RegularFile).then(|| content(fd));
    State {
        kind,
        mode: stat.st_mode,
        owner: (stat.st_uid, stat.st_gid),
        rdev: stat.st_rdev,
        mtime: if kind == Kind::Directory { (0, 0) } else { (stat.st_mtime, stat.st_mtime_nsec as i64) },
        size: if kind == Kind::Directory { 0 } else { stat.st_size },
        content: content.map(|bytes| digest(&bytes)),
        target: (kind == Kind::Symlink)
            .then(|| rustix::fs::readlinkat(fd, c"", Vec::new()).expect("readable").into_bytes()),
        xattrs: xattrs(fd),
        flags: flags(fd).map_or(0, |flags| (flags & FLAGS).bits()),
    }
}

pub fn content(fd: BorrowedFd<'_>) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut file = File::from(reopen(fd, OFlags::RDONLY).expect("readable"));
    file.read_to_end(&mut bytes).expect("readable");
    bytes
}

pub fn digest(bytes: &[u8]) -> Digest {
    Digest(Sha256::digest(bytes).into())
}

fn xattrs(fd: BorrowedFd<'_>) -> BTreeMap<String, Vec<u8>> {
    let (path, mut buffer) = (proc_path(fd), vec![0; 65536]);
    let length = rustix::fs::listxattr(&path, &mut buffer[..]).unwrap_or(0);
    let names: Vec<Vec<u8>> =
        buffer[..length].split(|b| *b == 0).filter(|n| !n.is_empty()).map(<[u8]>::to_vec).collect();
    let value = |name: Vec<u8>| {
        let length = rustix::fs::getxattr(&path, &*name, &mut buffer[..]).expect("readable");
        (name.escape_ascii().to_string(), buffer[..length].to_vec())
    };
    names.into_iter().map(value).collect()
}

/// Contents that are not those of `approved` under the same name.
pub fn altered(root: &Root, approved: &Snapshot) -> Vec<(RelPath, Vec<u8>)> {
    let mut out = Vec::new();
    for path in paths(root) {
        let fd = root.open_path(&path).expect("there");
        if kind(&stat(fd.as_fd())) == Kind::RegularFile {
            let bytes = content(fd.as_fd());
            if approved.get(&path).and_then(|s| s.content) != Some(digest(&bytes)) {
                out.push((path, bytes));
            }
        }
    }
    out
}

/// Files that are mostly holes and take their full room all the same.
pub fn filled_holes(root: &Root) -> Vec<RelPath> {
    let filled = |path: &RelPath| {
        let fd = Place::of(root, path).and_then(|place| place.object());
        fd.is_some_and(|fd| {
            let stat = stat(fd.as_fd());
            if kind(&stat) != Kind::RegularFile || stat.st_size < 2 << 20 {
                return false;
            }
            let data =
                content(fd.as_fd()).chunks(4096).filter(|c| c.iter().any(|b| *b != 0)).count() as i64 * 4096;
            stat.st_size - data >= 2 << 20 && stat.st_blocks * 512 > data + (1 << 20)
        })
    };
    paths(root).into_iter().filter(filled).collect()
}
