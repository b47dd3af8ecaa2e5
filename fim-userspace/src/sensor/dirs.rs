//! The watched directories, by the names kernels give them: device and inode, or file handle.
//!
//! Names and parent links only, so that 100,000 directories stay a matter of megabytes and the rename of a directory
//! is one changed link. The same directory may be known under several paths: overlapping watches, bind mounts.

use std::collections::HashMap;
use std::io;
use std::os::fd::BorrowedFd;
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use rustix::fs::{AtFlags, StatxFlags};

use crate::core::observation::WatchId;
use crate::core::path::RelPath;
pub use crate::sys::handle::FileHandle;

/// An inode as the kernel knows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct DirKey {
    /// `super_block.s_dev` in the kernel's own form, `MKDEV`: major << 20 | minor. Not what stat(2) says on btrfs.
    pub dev: u64,
    pub ino: u64,
}

impl DirKey {
    /// The key of an open file or directory, `O_PATH` included.
    pub fn of(fd: BorrowedFd<'_>) -> io::Result<Self> {
        let stat = rustix::fs::statx(fd, c"", AtFlags::EMPTY_PATH, StatxFlags::INO | StatxFlags::MNT_ID)?;
        let st_dev = mkdev(stat.stx_dev_major, stat.stx_dev_minor);
        let dev = if stat.stx_mask & StatxFlags::MNT_ID.bits() != 0 {
            mounted_device(stat.stx_mnt_id, st_dev)?
        } else {
            st_dev
        };
        Ok(Self { dev, ino: stat.stx_ino })
    }
}

/// `MKDEV` of include/linux/kdev_t.h.
pub fn mkdev(major: u32, minor: u32) -> u64 {
    u64::from(major) << 20 | u64::from(minor)
}

/// A mount and the `st_dev` seen on it.
type MountKey = (u64, u64);

/// `s_dev` of the mount. Both ids are part of the key since mount ids are used again.
fn mounted_device(mount: u64, st_dev: u64) -> io::Result<u64> {
    static KNOWN: RwLock<Option<HashMap<MountKey, u64>>> = RwLock::new(None);
    let key = (mount, st_dev);
    let known = KNOWN.read().unwrap_or_else(PoisonError::into_inner);
    if let Some(dev) = known.as_ref().and_then(|k| k.get(&key)) {
        return Ok(*dev);
    }
    drop(known);
    let table = std::fs::read("/proc/self/mountinfo")?;
    // A detached mount is not in the table.
    let dev = device_in_mountinfo(&table, mount).unwrap_or(st_dev);
    let mut known = KNOWN.write().unwrap_or_else(PoisonError::into_inner);
    known.get_or_insert_default().insert(key, dev);
    Ok(dev)
}

/// proc(5): `ID PARENT MAJOR:MINOR …` on each line.
fn device_in_mountinfo(table: &[u8], mount: u64) -> Option<u64> {
    table.split(|b| *b == b'\n').find_map(|line| {
        let mut fields = line.splitn(4, |b| *b == b' ').map(|f| std::str::from_utf8(f).unwrap_or(""));
        let id: u64 = fields.next()?.parse().ok()?;
        let (major, minor) = fields.nth(1)?.split_once(':')?;
        (id == mount).then_some(mkdev(major.parse().ok()?, minor.parse().ok()?))
    })
}

/// Shared by all sensors.
#[derive(Default)]
pub struct Directories {
    inner: RwLock<Table>,
}

impl Directories {
    pub fn new() -> Arc<Self> {
        Arc::default()
    }

    /// Makes a directory known under `path`, in place of what was known there under another key.
    pub fn register(&self, watch: WatchId, path: &RelPath, key: DirKey, handle: Option<FileHandle>) {
        self.write().register(watch, path, key, handle, false);
    }

    /// Makes a file with several links known under one of its paths.
    pub fn register_file(&self, watch: WatchId, path: &RelPath, key: DirKey, handle: Option<FileHandle>) {
        self.write().register(watch, path, key, handle, true);
    }

    /// Every path of the directory; empty when it is not watched.
    pub fn by_key(&self, key: DirKey) -> Vec<(WatchId, RelPath)> {
        let table = self.read();
        table.paths(key, |node| !node.file)
    }

    /// As [`Self::by_key`].
    pub fn by_handle(&self, handle: &FileHandle) -> Vec<(WatchId, RelPath)> {
        self.read().by_handle(handle, false)
    }

    /// Whether a directory is known by this handle, under whatever path.
    pub fn knows(&self, handle: &FileHandle) -> bool {
        let table = self.read();
        let Some(key) = table.handles.get(handle) else { return false };
        let first = table.keys.get(key).copied().unwrap_or(NONE);
        table.chain(first).any(|id| !table.node(id).file && table.node(id).handle.as_deref() == Some(handle))
    }

    /// Every known path of a file with several links.
    pub fn file_by_key(&self, key: DirKey) -> Vec<(WatchId, RelPath)> {
        self.read().paths(key, |node| node.file)
    }

    /// As [`Self::file_by_key`].
    pub fn file_by_handle(&self, handle: &FileHandle) -> Vec<(WatchId, RelPath)> {
        self.read().by_handle(handle, true)
    }

    /// Whether the directory known under this path has no handle, so that fanotify cannot report on it.
    pub fn without_handle(&self, watch: WatchId, path: &RelPath) -> bool {
        let table = self.read();
        table.find(watch, path).is_some_and(|id| {
            let node = table.node(id);
            node.key.is_some() && node.handle.is_none()
        })
    }

    /// The key of the directory or file known under this path.
    pub fn key_of(&self, watch: WatchId, path: &RelPath) -> Option<DirKey> {
        let table = self.read();
        table.node(table.find(watch, path)?).key
    }

    /// Whether the object is what is known under this path; `None` when nothing is. Objects that carry no handle on
    /// either side count as the same.
    pub fn holds(&self, watch: WatchId, path: &RelPath, object: Option<&FileHandle>) -> Option<bool> {
        let table = self.read();
        let node = table.node(table.find(watch, path)?);
        node.key?;
        Some(object.is_none_or(|o| node.handle.as_deref().is_none_or(|h| h == o)))
    }

    /// The whole subtree at `old` is at `new` from now on, in place of what was known there.
    pub fn renamed(&self, watch: WatchId, old: &RelPath, new: &RelPath) {
        self.write().renamed(watch, old, new);
    }

    /// Forgets the subtree; the root forgets the watch. Returns the keys nothing is known under any more.
    pub fn removed(&self, watch: WatchId, path: &RelPath) -> Vec<DirKey> {
        let mut table = self.write();
        let Some(id) = table.find(watch, path) else {
            return Vec::new();
        };
        let mut keys = Vec::new();
        table.detach(id);
        table.free(id, &mut keys);
        keys.retain(|key| !table.keys.contains_key(key));
        keys
    }

    /// How many directories are known.
    pub fn count(&self) -> usize {
        self.read().directories
    }

    fn read(&self) -> RwLockReadGuard<'_, Table> {
        self.inner.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, Table> {
        self.inner.write().unwrap_or_else(PoisonError::into_inner)
    }
}

/// No node.
const NONE: u32 = u32::MAX;

struct Node {
    parent: u32,
    watch: WatchId,
    name: Box<[u8]>,
    /// Sorted by name.
    children: Vec<u32>,
    /// `None`: only a step on the way to something known.
    key: Option<DirKey>,
    handle: Option<Arc<FileHandle>>,
    /// Next node with the same key.
    same: u32,
    file: bool,
}

#[derive(Default)]
struct Table {
    nodes: Vec<Option<Node>>,
    free: Vec<u32>,
    roots: HashMap<WatchId, u32>,
    /// First node of each key; the others follow by `same`.
    keys: HashMap<DirKey, u32>,
    handles: HashMap<Arc<FileHandle>, DirKey>,
    directories: usize,
}

impl Table {
    fn node(&self, id: u32) -> &Node {
        self.nodes[id as usize].as_ref().expect("ids in use stand for nodes")
    }

    fn node_mut(&mut self, id: u32) -> &mut Node {
        self.nodes[id as usize].as_mut().expect("ids in use stand for nodes")
    }

    /// Where the child is among its siblings, or belongs.
    fn child(&self, parent: u32, name: &[u8]) -> Result<usize, usize> {
        self.node(parent).children.binary_search_by(|id| (*self.node(*id).name).cmp(name))
    }

    fn find(&self, watch: WatchId, path: &RelPath) -> Option<u32> {
        path.components().try_fold(*self.roots.get(&watch)?, |at, name| {
            self.child(at, name).ok().map(|i| self.node(at).children[i])
        })
    }

    fn find_or_make(&mut self, watch: WatchId, path: &RelPath) -> u32 {
        let mut at = match self.roots.get(&watch) {
            Some(id) => *id,
            None => {
                let id = self.make(NONE, watch, b"");
                self.roots.insert(watch, id);
                id
            }
        };
        for name in path.components() {
            at = match self.child(at, name) {
                Ok(i) => self.node(at).children[i],
                Err(i) => {
                    let id = self.make(at, watch, name);
                    self.node_mut(at).children.insert(i, id);
                    id
                }
            };
        }
        at
    }

    fn make(&mut self, parent: u32, watch: WatchId, name: &[u8]) -> u32 {
        let node = Node {
            parent,
            watch,
            name: name.into(),
            children: Vec::new(),
            key: None,
            handle: None,
            same: NONE,
            file: false,
        };
        if let Some(id) = self.free.pop() {
            self.nodes[id as usize] = Some(node);
            return id;
        }
        self.nodes.push(Some(node));
        (self.nodes.len() - 1) as u32
    }

    fn register(
        &mut self,
        watch: WatchId,
        path: &RelPath,
        key: DirKey,
        handle: Option<FileHandle>,
        file: bool,
    ) {
        let id = self.find_or_make(watch, path);
        let node = self.node(id);
        let same_key = node.key == Some(key) && node.file == file;
        if same_key && node.handle.as_deref() == handle.as_ref() {
            return;
        }
        if !same_key && node.key.is_some() {
            // Another object took the name: what was below the old one is not below this one.
            for child in std::mem::take(&mut self.node_mut(id).children) {
                self.free(child, &mut Vec::new());
            }
        }
        self.unlink(id);
        self.link(id, key, handle.map(Arc::new), file);
    }

    fn link(&mut self, id: u32, key: DirKey, handle: Option<Arc<FileHandle>>, file: bool) {
        let next = self.keys.insert(key, id).unwrap_or(NONE);
        if let Some(handle) = &handle {
            self.handles.insert(handle.clone(), key);
        }
        let node = self.node_mut(id);
        node.key = Some(key);
        node.handle = handle;
        node.same = next;
        node.file = file;
        self.directories += usize::from(!file);
    }

    /// Takes the node out of the indexes.
    fn unlink(&mut self, id: u32) {
        let node = self.node_mut(id);
        let (Some(key), handle, next) = (node.key.take(), node.handle.take(), node.same) else {
            return;
        };
        node.same = NONE;
        self.directories -= usize::from(!self.node(id).file);
        let first = self.keys.get(&key).copied().unwrap_or(NONE);
        if first == id {
            if next == NONE {
                self.keys.remove(&key);
            } else {
                self.keys.insert(key, next);
            }
        } else {
            let before = self.chain(first).find(|n| self.node(*n).same == id);
            if let Some(before) = before {
                self.node_mut(before).same = next;
            }
        }
        if let Some(handle) = handle {
            let first = self.keys.get(&key).copied().unwrap_or(NONE);
            if !self.chain(first).any(|n| self.node(n).handle.as_ref() == Some(&handle)) {
                self.handles.remove(&handle);
            }
        }
    }

    fn chain(&self, first: u32) -> impl Iterator<Item = u32> + '_ {
        let some = |id: u32| (id != NONE).then_some(id);
        std::iter::successors(some(first), move |id| some(self.node(*id).same))
    }

    fn paths(&self, key: DirKey, wanted: impl Fn(&Node) -> bool) -> Vec<(WatchId, RelPath)> {
        let first = self.keys.get(&key).copied().unwrap_or(NONE);
        self.chain(first)
            .filter(|id| wanted(self.node(*id)))
            .map(|id| (self.node(id).watch, self.path(id)))
            .collect()
    }

    fn by_handle(&self, handle: &FileHandle, file: bool) -> Vec<(WatchId, RelPath)> {
        let Some(key) = self.handles.get(handle) else {
            return Vec::new();
        };
        self.paths(*key, |node| node.file == file && node.handle.as_deref() == Some(handle))
    }

    fn path(&self, id: u32) -> RelPath {
        let names: Vec<&[u8]> =
            std::iter::successors(Some(self.node(id)), |n| (n.parent != NONE).then(|| self.node(n.parent)))
                .map(|n| &*n.name)
                .collect();
        let bytes: Vec<&[u8]> = names.into_iter().rev().skip(1).collect();
        RelPath::new(bytes.join(&b'/')).expect("made of the components of sound paths")
    }

    /// Takes the node out of its parent's list.
    fn detach(&mut self, id: u32) {
        let (parent, watch) = (self.node(id).parent, self.node(id).watch);
        if parent == NONE {
            self.roots.remove(&watch);
            return;
        }
        let at = self.child(parent, &self.node(id).name);
        if let Ok(i) = at {
            self.node_mut(parent).children.remove(i);
        }
    }

    /// Forgets a detached subtree; its keys go to `keys`.
    fn free(&mut self, id: u32, keys: &mut Vec<DirKey>) {
        let mut todo = vec![id];
        while let Some(id) = todo.pop() {
            keys.extend(self.node(id).key);
            self.unlink(id);
            if let Some(node) = self.nodes[id as usize].take() {
                todo.extend(node.children);
            }
            self.free.push(id);
        }
    }

    fn renamed(&mut self, watch: WatchId, old: &RelPath, new: &RelPath) {
        let Some(id) = self.find(watch, old) else { return };
        let (Some(new_name), Some(new_parent)) = (new.name(), new.parent()) else {
            return;
        };
        if old.is_root() || new.is_within(old) || old.is_within(new) {
            return;
        }
        self.detach(id);
        if let Some(there) = self.find(watch, new) {
            if self.node(there).key == self.node(id).key {
                // A scan was quicker and knows it by its new name already, perhaps not yet all that is below.
                self.merge(id, there);
                return;
            }
            self.detach(there);
            self.free(there, &mut Vec::new());
        }
        let parent = self.find_or_make(watch, &new_parent);
        self.attach(id, parent, new_name);
    }

    fn attach(&mut self, id: u32, parent: u32, name: &[u8]) {
        let node = self.node_mut(id);
        node.parent = parent;
        node.name = name.into();
        let (Ok(at) | Err(at)) = self.child(parent, name);
        self.node_mut(parent).children.insert(at, id);
    }

    /// Moves what `into` lacks of the detached `from` there and forgets the rest.
    fn merge(&mut self, from: u32, into: u32) {
        for child in std::mem::take(&mut self.node_mut(from).children) {
            let name = self.node(child).name.clone();
            match self.child(into, &name) {
                Ok(i) => {
                    let there = self.node(into).children[i];
                    self.merge(child, there);
                }
                Err(_) => self.attach(child, into, &name),
            }
        }
        self.free(from, &mut Vec::new());
    }
}

#[cfg(test)]
mod tests;
