//! The approved state of every watched file.

use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use rusqlite::{Connection, OptionalExtension, Row, Statement, params};

use super::columns::Dictionaries;
use super::error::explain;
use super::ledger::chain;
use super::versions::put_former;
use super::{Store, StoreError, bad_row, signed, unsigned};
use crate::core::entry::{Digest, Entry, FileType, Flags, Found, Identity, Xattrs};
use crate::core::event::Event;
use crate::core::path::RelPath;

const COLUMNS: &str = "path, type, sha256, size, mode, uid, gid, mtime_ns, xattrs, target, rdev, dev, ino, ctime_ns, nlink, flags";

pub(super) const OF_WATCH: &str = "watch = (SELECT id FROM watch WHERE root = ?1)";

/// Who took a baseline, and when.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Taken {
    /// RFC 3339.
    pub time: String,
    /// The user, as text for people.
    pub by: String,
    pub host: String,
}

impl Store {
    /// The approved entry of `path`, with the identity the file had when last seen equal to it.
    pub fn baseline_get(&self, watch: &Path, path: &RelPath) -> Result<Option<Found>, StoreError> {
        self.run("reading the baseline", |db| get(db, watch, path))
    }

    /// Approves `entries`, over what was approved under the same paths. One transaction.
    pub fn baseline_put_many(
        &mut self,
        watch: &Path,
        entries: &[(RelPath, Found)],
    ) -> Result<(), StoreError> {
        self.transact("writing the baseline", |db| put(db, watch, entries))
    }

    /// Forgets `path` and everything below it. Returns how many entries went.
    pub fn baseline_remove(&mut self, watch: &Path, path: &RelPath) -> Result<usize, StoreError> {
        self.transact("writing the baseline", |db| {
            let sql = format!("DELETE FROM baseline WHERE {OF_WATCH} AND {WITHIN}");
            let (low, high) = inside(path);
            db.prepare_cached(&sql)?.execute(params![
                watch.as_os_str().as_bytes(),
                path.as_bytes(),
                low,
                high
            ])
        })
    }

    /// Notes the identities of files that were seen equal to their entries. Paths that are not approved are passed over.
    pub fn baseline_touch(&mut self, watch: &Path, seen: &[(RelPath, Identity)]) -> Result<(), StoreError> {
        self.transact("writing the baseline", |db| touch(db, watch, seen))
    }

    /// `path` and everything below it, by path; a folder comes before what it holds.
    pub fn baseline_children(
        &self,
        watch: &Path,
        path: &RelPath,
    ) -> Result<Vec<(RelPath, Found)>, StoreError> {
        self.run("reading the baseline", |db| {
            let sql = format!("SELECT {COLUMNS} FROM baseline WHERE {OF_WATCH} AND {WITHIN} ORDER BY path");
            let (low, high) = inside(path);
            db.prepare_cached(&sql)?
                .query_map(params![watch.as_os_str().as_bytes(), path.as_bytes(), low, high], read)?
                .collect()
        })
    }

    /// The first entry after `after` in path order; from the beginning with `None`. For walks that take their time.
    pub fn baseline_next(
        &self,
        watch: &Path,
        after: Option<&RelPath>,
    ) -> Result<Option<(RelPath, Found)>, StoreError> {
        self.run("reading the baseline", |db| {
            let sql = format!(
                "SELECT {COLUMNS} FROM baseline WHERE {OF_WATCH} AND (?2 IS NULL OR path > ?2) ORDER BY path LIMIT 1"
            );
            db.prepare_cached(&sql)?
                .query_row(params![watch.as_os_str().as_bytes(), after.map(RelPath::as_bytes)], read)
                .optional()
        })
    }

    /// What lies directly in the folder `dir`, by path.
    pub fn baseline_list_dir(
        &self,
        watch: &Path,
        dir: &RelPath,
    ) -> Result<Vec<(RelPath, Found)>, StoreError> {
        self.run("reading the baseline", |db| list_dir(db, watch, dir))
    }

    /// Path, digest and size of each approved file of the watch whose content is known.
    pub fn baseline_contents(&self, watch: &Path) -> Result<Vec<(RelPath, Digest, u64)>, StoreError> {
        self.run("reading the baseline", |db| {
            let sql =
                format!("SELECT path, sha256, size FROM baseline WHERE {OF_WATCH} AND sha256 IS NOT NULL");
            db.prepare_cached(&sql)?
                .query_map([watch.as_os_str().as_bytes()], |row| {
                    let path = RelPath::new(row.get::<_, Vec<u8>>(0)?).ok_or_else(|| bad_row("path"))?;
                    let digest =
                        Digest::from_hex(row.get_ref(1)?.as_str()?).ok_or_else(|| bad_row("sha256"))?;
                    Ok((path, digest, unsigned(row.get(2)?)))
                })?
                .collect()
        })
    }

    /// Approved mount points of the watch.
    pub fn baseline_mounts(&self, watch: &Path) -> Result<Vec<RelPath>, StoreError> {
        self.run("reading the baseline", |db| {
            db.prepare_cached(&format!("SELECT path FROM baseline WHERE {OF_WATCH} AND flags & ?2 != 0"))?
                .query_map(params![watch.as_os_str().as_bytes(), Flags::MOUNT.bits()], |row| {
                    RelPath::new(row.get::<_, Vec<u8>>(0)?).ok_or_else(|| bad_row("path"))
                })?
                .collect()
        })
    }

    /// Gives `each` the path, and the part of the approved state that statx(2) tells, of every entry in path order. The change
    /// time is 0 where the state proves nothing: a regular file whose content was not read.
    pub fn baseline_outline(
        &self,
        watch: &Path,
        mut each: impl FnMut(&[u8], &Entry, &Identity),
    ) -> Result<(), StoreError> {
        self.run("reading the baseline", |db| {
            let sql = format!(
                "SELECT path, type, size, mode, uid, gid, mtime_ns, rdev, flags, dev, ino, ctime_ns, nlink,
                    sha256 IS NULL FROM baseline WHERE {OF_WATCH} ORDER BY path"
            );
            let mut select = db.prepare_cached(&sql)?;
            let mut rows = select.query([watch.as_os_str().as_bytes()])?;
            while let Some(row) = rows.next()? {
                let kind = type_from(row.get_ref(1)?.as_str()?).ok_or_else(|| bad_row("type"))?;
                let entry = Entry {
                    kind,
                    sha256: None,
                    size: unsigned(row.get(2)?),
                    mode: row.get(3)?,
                    uid: row.get(4)?,
                    gid: row.get(5)?,
                    mtime_ns: row.get(6)?,
                    xattrs: Xattrs::default(),
                    target: None,
                    rdev: unsigned(row.get(7)?),
                    flags: Flags::from_bits(row.get(8)?),
                };
                let unread = kind == FileType::Regular && row.get(13)?;
                let identity = Identity {
                    dev: unsigned(row.get(9)?),
                    ino: unsigned(row.get(10)?),
                    ctime_ns: if unread { 0 } else { row.get(11)? },
                    nlink: unsigned(row.get(12)?),
                };
                each(row.get_ref(0)?.as_blob()?, &entry, &identity);
            }
            Ok(())
        })
    }

    /// How many entries the watch has; the root is one.
    pub fn baseline_count(&self, watch: &Path) -> Result<u64, StoreError> {
        self.run("reading the baseline", |db| {
            db.prepare_cached(&format!("SELECT count(*) FROM baseline WHERE {OF_WATCH}"))?
                .query_row([watch.as_os_str().as_bytes()], |row| row.get(0).map(unsigned))
        })
    }

    /// The roots that have a baseline.
    pub fn baseline_watches(&self) -> Result<Vec<PathBuf>, StoreError> {
        self.run("reading the baseline", |db| {
            db.prepare_cached("SELECT root FROM watch ORDER BY root")?
                .query_map([], |row| row.get(0).map(|b| PathBuf::from(std::ffi::OsString::from_vec(b))))?
                .collect()
        })
    }

    /// When, by whom and where the baseline was taken as a whole; `None` before the first `fim init`.
    pub fn baseline_taken(&self) -> Result<Option<Taken>, StoreError> {
        let get = |key| self.meta_get(key);
        let (time, by, host) = (get("baseline_time")?, get("baseline_by")?, get("baseline_host")?);
        Ok(time.map(|time| Taken { time, by: by.unwrap_or_default(), host: host.unwrap_or_default() }))
    }

    /// Begins a new baseline for all watches. The old one stays, for every reader and after a crash, until
    /// [`Rebuild::commit`].
    pub fn baseline_rebuild(&mut self) -> Result<Rebuild<'_>, StoreError> {
        let (file, db) = (self.file.clone(), &mut self.db);
        let failed = |e| explain(&file, "beginning a new baseline", e);
        let tx = db.transaction_with_behavior(rusqlite::TransactionBehavior::Immediate).map_err(failed)?;
        tx.execute_batch(&format!(
            "CREATE TABLE replaced AS SELECT {COLUMNS}, w.root AS root FROM baseline b JOIN watch w ON w.id = b.watch
                WHERE b.sha256 IS NOT NULL;
             DELETE FROM baseline; DELETE FROM watch; DELETE FROM open_change"
        ))
        .map_err(failed)?;
        Ok(Rebuild { tx, file })
    }
}

/// A new baseline in the making; dropped without [`commit`](Self::commit), nothing has changed.
pub struct Rebuild<'a> {
    tx: rusqlite::Transaction<'a>,
    file: PathBuf,
}

impl Rebuild<'_> {
    pub fn put(&mut self, watch: &Path, entries: &[(RelPath, Found)]) -> Result<(), StoreError> {
        put(&self.tx, watch, entries).map_err(|e| explain(&self.file, "writing the new baseline", e))
    }

    pub fn commit(self, taken: &Taken) -> Result<(), StoreError> {
        self.commit_telling(taken, &[])
    }

    /// With what the ledger is to tell of it.
    pub fn commit_telling(self, taken: &Taken, events: &[Event]) -> Result<(), StoreError> {
        let finish = || {
            keep_former(&self.tx, &taken.time)?;
            chain(&self.tx, &mut Dictionaries::default(), events)?;
            {
                let mut set = self.tx.prepare("INSERT OR REPLACE INTO meta VALUES (?1, ?2)")?;
                set.execute(["baseline_time", &taken.time])?;
                set.execute(["baseline_by", &taken.by])?;
                set.execute(["baseline_host", &taken.host])?;
            }
            self.tx.commit()
        };
        finish().map_err(|e| explain(&self.file, "writing the new baseline", e))
    }
}

/// What the new baseline approves no more becomes a former version.
fn keep_former(db: &Connection, until: &str) -> rusqlite::Result<()> {
    let sql = format!(
        "SELECT {COLUMNS}, root FROM replaced r WHERE NOT EXISTS (
            SELECT 1 FROM baseline b JOIN watch w ON w.id = b.watch
            WHERE w.root = r.root AND b.path = r.path AND b.sha256 = r.sha256)"
    );
    {
        let mut select = db.prepare(&sql)?;
        let mut rows = select.query([])?;
        while let Some(row) = rows.next()? {
            let (path, found) = read(row)?;
            let root = PathBuf::from(std::ffi::OsString::from_vec(row.get("root")?));
            put_former(db, &root, &path, &found.entry, until, None)?;
        }
    }
    db.execute_batch("DROP TABLE replaced")
}

/// Rows of `?2` itself and of what lies between `?3` and `?4`.
const WITHIN: &str = "(path = ?2 OR (path >= ?3 AND (?4 IS NULL OR path < ?4)))";

/// The bounds of what lies below `path`: from `path/` to `path0`, as `0` follows `/`. No upper bound for the root.
fn inside(path: &RelPath) -> (Vec<u8>, Option<Vec<u8>>) {
    if path.is_root() {
        return (vec![1], None);
    }
    let with = |last| [path.as_bytes(), &[last]].concat();
    (with(b'/'), Some(with(b'0')))
}

pub(super) fn touch(db: &Connection, watch: &Path, seen: &[(RelPath, Identity)]) -> rusqlite::Result<()> {
    let sql = format!(
        "UPDATE baseline SET dev = ?3, ino = ?4, ctime_ns = ?5, nlink = ?6 WHERE {OF_WATCH} AND path = ?2"
    );
    let mut update = db.prepare_cached(&sql)?;
    for (path, id) in seen {
        update.execute(params![
            watch.as_os_str().as_bytes(),
            path.as_bytes(),
            signed(id.dev),
            signed(id.ino),
            id.ctime_ns,
            signed(id.nlink)
        ])?;
    }
    Ok(())
}

pub(super) fn put(db: &Connection, watch: &Path, entries: &[(RelPath, Found)]) -> rusqlite::Result<()> {
    insert(db, watch, entries, "REPLACE")
}

/// As [`put`]; what is approved already under a path stays.
pub(super) fn put_new(db: &Connection, watch: &Path, entries: &[(RelPath, Found)]) -> rusqlite::Result<()> {
    insert(db, watch, entries, "IGNORE")
}

/// `or`: what becomes of a row that is there.
fn insert(db: &Connection, watch: &Path, entries: &[(RelPath, Found)], or: &str) -> rusqlite::Result<()> {
    let root = watch.as_os_str().as_bytes();
    db.prepare_cached("INSERT OR IGNORE INTO watch (root) VALUES (?1)")?.execute([root])?;
    let id: i64 =
        db.prepare_cached("SELECT id FROM watch WHERE root = ?1")?.query_row([root], |row| row.get(0))?;
    let sql = format!(
        "INSERT OR {or} INTO baseline (watch, {COLUMNS})
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16, ?17)"
    );
    let mut insert = db.prepare_cached(&sql)?;
    entries.iter().try_for_each(|(path, found)| put_one(&mut insert, id, path, found))
}

pub(super) fn get(db: &Connection, watch: &Path, path: &RelPath) -> rusqlite::Result<Option<Found>> {
    db.prepare_cached(&format!("SELECT {COLUMNS} FROM baseline WHERE {OF_WATCH} AND path = ?2"))?
        .query_row(params![watch.as_os_str().as_bytes(), path.as_bytes()], read)
        .optional()
        .map(|row| row.map(|(_, found)| found))
}

fn put_one(insert: &mut Statement<'_>, watch: i64, path: &RelPath, found: &Found) -> rusqlite::Result<()> {
    let Found { entry: e, identity: i } = found;
    let xattrs = match e.xattrs.0.is_empty() {
        true => None,
        false => Some(serde_json::to_string(&e.xattrs).map_err(|_| bad_row("xattrs"))?),
    };
    insert.execute(params![
        watch,
        path.as_bytes(),
        type_name(e.kind),
        e.sha256.map(|d| d.to_string()),
        signed(e.size),
        e.mode,
        e.uid,
        e.gid,
        e.mtime_ns,
        xattrs,
        e.target,
        signed(e.rdev),
        signed(i.dev),
        signed(i.ino),
        i.ctime_ns,
        signed(i.nlink),
        e.flags.bits()
    ])?;
    Ok(())
}

/// Reads in path order and jumps over what lies deeper: a folder's subtree costs one step, however large.
fn list_dir(db: &Connection, watch: &Path, dir: &RelPath) -> rusqlite::Result<Vec<(RelPath, Found)>> {
    let sql = format!(
        "SELECT {COLUMNS} FROM baseline WHERE {OF_WATCH} AND path >= ?2 AND (?3 IS NULL OR path < ?3) ORDER BY path"
    );
    let mut select = db.prepare_cached(&sql)?;
    let (mut from, end) = inside(dir);
    let mut out = Vec::new();
    'seek: loop {
        let mut rows = select.query(params![watch.as_os_str().as_bytes(), from, end])?;
        while let Some(row) = rows.next()? {
            let bytes = row.get_ref(0)?.as_blob()?;
            let start = if dir.is_root() { 0 } else { dir.as_bytes().len() + 1 };
            if let Some(deeper) = bytes[start..].iter().position(|b| *b == b'/') {
                from = [&bytes[..start + deeper], b"0"].concat();
                continue 'seek;
            }
            out.push(read(row)?);
        }
        return Ok(out);
    }
}

fn read(row: &Row<'_>) -> rusqlite::Result<(RelPath, Found)> {
    let path = RelPath::new(row.get::<_, Vec<u8>>(0)?).ok_or_else(|| bad_row("path"))?;
    let sha256 = match row.get_ref(2)?.as_str_or_null()? {
        None => None,
        Some(hex) => Some(Digest::from_hex(hex).ok_or_else(|| bad_row("sha256"))?),
    };
    let xattrs = match row.get_ref(8)?.as_str_or_null()? {
        None => Xattrs::default(),
        Some(json) => serde_json::from_str(json).map_err(|_| bad_row("xattrs"))?,
    };
    let entry = Entry {
        kind: type_from(row.get_ref(1)?.as_str()?).ok_or_else(|| bad_row("type"))?,
        sha256,
        size: unsigned(row.get(3)?),
        mode: row.get(4)?,
        uid: row.get(5)?,
        gid: row.get(6)?,
        mtime_ns: row.get(7)?,
        xattrs,
        target: row.get(9)?,
        rdev: unsigned(row.get(10)?),
        flags: Flags::from_bits(row.get(15)?),
    };
    let identity = Identity {
        dev: unsigned(row.get(11)?),
        ino: unsigned(row.get(12)?),
        ctime_ns: row.get(13)?,
        nlink: unsigned(row.get(14)?),
    };
    Ok((path, Found { entry, identity }))
}

const TYPES: [(FileType, &str); 7] = [
    (FileType::Regular, "regular"),
    (FileType::Directory, "directory"),
    (FileType::Symlink, "symlink"),
    (FileType::Fifo, "fifo"),
    (FileType::Socket, "socket"),
    (FileType::CharDevice, "char_device"),
    (FileType::BlockDevice, "block_device"),
];

fn type_name(kind: FileType) -> &'static str {
    TYPES.iter().find(|(k, _)| *k == kind).map_or("regular", |(_, name)| name)
}

fn type_from(name: &str) -> Option<FileType> {
    TYPES.iter().find(|(_, n)| *n == name).map(|(kind, _)| *kind)
}
