//! The baseline of a watch in 16 bytes a file: enough to see that a file is as it was, which nearly all are.

use std::hash::{BuildHasher, RandomState};
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::core::entry::{Entry, FileType, Flags, Identity};
use crate::core::path::RelPath;
use crate::store::{Store, StoreError};

/// Stands in a slot for what is never told to be as it was, and for no path at all.
const NONE: u64 = 0;

/// What is approved, by path, with a mark for each path that was met. Both are kept as hashes under a key that nobody knows
/// and that is another each time, so nobody can choose a file that looks like the approved one.
pub struct Outline {
    key: RandomState,
    /// Hash of the path, and of what statx(2) must tell of it; open addressing.
    slots: Vec<(u64, u64)>,
    /// One bit for each slot.
    met: Vec<AtomicU64>,
    len: usize,
}

impl Outline {
    /// Of files that changed at `distrust_from_ns` (nanoseconds since the epoch) or later nothing is told.
    pub fn load(store: &Store, watch: &Path, distrust_from_ns: Option<i64>) -> Result<Self, StoreError> {
        loop {
            let key = RandomState::new();
            let mut rows = Vec::new();
            store.baseline_outline(watch, |path, entry, identity| {
                let trusted = distrust_from_ns.is_none_or(|from| identity.ctime_ns < from);
                rows.push((
                    of_path(&key, path),
                    if trusted { of_state(&key, entry, identity) } else { NONE },
                ));
            })?;
            // Two paths with one hash of 64 bits: another key tells them apart.
            if let Some(outline) = Self::of(key, &rows) {
                return Ok(outline);
            }
        }
    }

    fn of(key: RandomState, rows: &[(u64, u64)]) -> Option<Self> {
        let size = rows.len() + rows.len() / 4 + 1;
        let mut outline = Self { key, slots: vec![(NONE, NONE); size], met: Vec::new(), len: rows.len() };
        for row in rows {
            let at = outline.find(row.0);
            if outline.slots[at].0 == row.0 {
                return None;
            }
            outline.slots[at] = *row;
        }
        outline.met.resize_with(size.div_ceil(64), AtomicU64::default);
        Some(outline)
    }

    /// The slot of this hash, or the free one where it would be.
    fn find(&self, hash: u64) -> usize {
        let mut at = ((u128::from(hash) * self.slots.len() as u128) >> 64) as usize;
        while self.slots[at].0 != hash && self.slots[at].0 != NONE {
            at = (at + 1) % self.slots.len();
        }
        at
    }

    /// Whether `path` is approved; it is met then.
    pub fn meet(&self, path: &RelPath) -> bool {
        let at = self.find(of_path(&self.key, path.as_bytes()));
        let approved = self.slots[at].0 != NONE;
        if approved {
            self.met[at / 64].fetch_or(1 << (at % 64), Ordering::Relaxed);
        }
        approved
    }

    /// Whether what statx(2) tells proves that `path` equals its approved entry; it is met then.
    pub fn settles(&self, path: &RelPath, entry: &Entry, identity: &Identity) -> bool {
        let at = self.find(of_path(&self.key, path.as_bytes()));
        let settled = self.slots[at].1 != NONE && self.slots[at].1 == of_state(&self.key, entry, identity);
        if settled {
            self.met[at / 64].fetch_or(1 << (at % 64), Ordering::Relaxed);
        }
        settled
    }

    /// Approved paths that were not met, in path order.
    pub fn missing(&self, store: &Store, watch: &Path) -> Result<Vec<RelPath>, StoreError> {
        let met: u32 = self.met.iter().map(|bits| bits.load(Ordering::Relaxed).count_ones()).sum();
        let mut missing = Vec::new();
        if met as usize == self.len {
            return Ok(missing);
        }
        store.baseline_outline(watch, |path, _, _| {
            let at = self.find(of_path(&self.key, path));
            // What was approved since the scan began has been looked at by whoever approved it.
            let known = self.slots[at].0 != NONE;
            if known && self.met[at / 64].load(Ordering::Relaxed) & (1 << (at % 64)) == 0 {
                missing.extend(RelPath::new(path));
            }
        })?;
        Ok(missing)
    }
}

fn of_path(key: &RandomState, path: &[u8]) -> u64 {
    key.hash_one(path).max(1)
}

/// [`NONE`] for a state that proves nothing: a change time that was too fresh, content that was never read.
fn of_state(key: &RandomState, entry: &Entry, identity: &Identity) -> u64 {
    if identity.ctime_ns == 0 {
        return NONE;
    }
    let attributes = (entry.mode, entry.uid, entry.gid, entry.mtime_ns, entry.rdev);
    // A link's size is that of its target, which changes with nothing but the inode.
    let size = if entry.kind == FileType::Regular { entry.size } else { 0 };
    let mount = entry.flags.has(Flags::MOUNT);
    let what = (entry.kind as u8, size, attributes, mount);
    key.hash_one((what, identity.dev, identity.ino, identity.ctime_ns)).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::entry::Found;
    use crate::core::entry::tests::regular;

    fn found(number: u64) -> Found {
        let identity =
            Identity { dev: 5, ino: 1000 + number, ctime_ns: 1_700_000_000_000 + number as i64, nlink: 1 };
        Found { entry: regular(number as u8), identity }
    }

    fn path(number: u64) -> RelPath {
        RelPath::new(format!("d{}/f{number}", number / 10)).expect("sound")
    }

    fn filled(dir: &Path, watch: &Path, rows: u64) -> Store {
        let mut store = Store::open(dir).expect("opens");
        let rows: Vec<_> = (0..rows).map(|n| (path(n), found(n))).collect();
        store.baseline_put_many(watch, &rows).expect("writes");
        store
    }

    #[test]
    fn what_is_as_it_was_is_settled_and_nothing_else() {
        let dir = tempfile::tempdir().expect("temporary directory");
        let watch = Path::new("/w");
        let store = filled(&dir.path().join("state"), watch, 1000);
        let outline = Outline::load(&store, watch, None).expect("loads");
        for number in 0..1000 {
            let now = found(number);
            assert!(outline.settles(&path(number), &now.entry, &now.identity), "{number}");
            assert!(!outline.settles(&path(number + 1000), &now.entry, &now.identity), "{number}");
            assert!(!outline.settles(&path((number + 1) % 1000), &now.entry, &now.identity), "{number}");
        }
        type Alter = fn(&mut Found);
        let alters: [(&str, Alter); 11] = [
            ("type", |f| f.entry.kind = FileType::Fifo),
            ("size", |f| f.entry.size += 1),
            ("mode", |f| f.entry.mode ^= 0o4000),
            ("owner", |f| f.entry.uid += 1),
            ("group", |f| f.entry.gid += 1),
            ("mtime", |f| f.entry.mtime_ns += 1),
            ("mounted over", |f| f.entry.flags = f.entry.flags.with(Flags::MOUNT, true)),
            ("device", |f| f.identity.dev += 1),
            ("inode", |f| f.identity.ino += 1),
            ("change time", |f| f.identity.ctime_ns += 1),
            ("no change time", |f| f.identity.ctime_ns = 0),
        ];
        for (what, alter) in alters {
            let mut now = found(7);
            alter(&mut now);
            assert!(!outline.settles(&path(7), &now.entry, &now.identity), "{what}");
        }
    }

    #[test]
    fn what_proves_nothing_is_never_settled() {
        let dir = tempfile::tempdir().expect("temporary directory");
        let watch = Path::new("/w");
        let mut store = Store::open(&dir.path().join("state")).expect("opens");
        let (mut unread, mut fresh, late) = (found(1), found(2), found(3));
        unread.entry.sha256 = None;
        fresh.identity.ctime_ns = 0;
        let rows = [(path(1), unread.clone()), (path(2), fresh.clone()), (path(3), late.clone())];
        store.baseline_put_many(watch, &rows).expect("writes");
        let from = late.identity.ctime_ns;
        let outline = Outline::load(&store, watch, Some(from)).expect("loads");
        for (path, now) in rows {
            assert!(!outline.settles(&path, &now.entry, &now.identity), "{path}");
            assert!(outline.meet(&path), "{path}");
        }
        let trusting = Outline::load(&store, watch, Some(from + 1)).expect("loads");
        assert!(trusting.settles(&path(3), &late.entry, &late.identity));
    }

    #[test]
    fn what_was_not_met_is_missing() {
        let dir = tempfile::tempdir().expect("temporary directory");
        let watch = Path::new("/w");
        let store = filled(&dir.path().join("state"), watch, 300);
        let outline = Outline::load(&store, watch, None).expect("loads");
        for number in (0..300).filter(|n| *n != 17 && *n != 230) {
            assert!(outline.meet(&path(number)));
        }
        assert!(!outline.meet(&path(300)));
        assert_eq!(outline.missing(&store, watch).expect("reads"), [path(17), path(230)]);
        outline.meet(&path(17));
        outline.meet(&path(230));
        assert_eq!(outline.missing(&store, watch).expect("reads"), []);
    }

    #[test]
    fn two_paths_with_one_hash_want_another_key() {
        assert!(Outline::of(RandomState::new(), &[(5, 1), (5, 2)]).is_none());
        assert!(Outline::of(RandomState::new(), &[(5, 1), (6, 2), (u64::MAX, 3)]).is_some());
        assert!(Outline::of(RandomState::new(), &[]).is_some());
    }
}
