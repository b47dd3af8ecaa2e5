//! SQLite: baseline, ledger, cursors; and the vault.
//!
//! One connection writes (the daemon's [`Store`]); sinks and the command line have connections of their own and never
//! make it wait for longer than a cursor's update. `docs/database.md` says what lies where.

mod approve;
mod baseline;
mod columns;
mod cursor;
mod error;
mod evidence;
mod intent;
mod ledger;
pub mod lines;
mod links;
mod lock;
mod maintenance;
mod quarantine;
pub mod query;
mod retain;
mod schema;
pub mod seal;
mod span;
pub mod status;
#[cfg(test)]
mod tests;
mod upkeep;
pub mod vault;
mod verify;
pub mod versions;

use std::fs::{DirBuilder, OpenOptions};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::{Connection, OpenFlags};

pub use approve::{Approval, Approved, Baseline, NewWatch, Purge};
pub use baseline::{Rebuild, Taken};
pub use cursor::SinkState;
pub use error::StoreError;
pub use evidence::{EvidenceRow, References};
pub use intent::{Intent, IntentId, Planned};
pub use ledger::Head;
pub use links::{EvidenceCopy, Link};
pub use lock::Lock;
pub use maintenance::WindowTally;
pub use quarantine::{Former, Held};
pub use retain::{Pruning, Retention};
pub use upkeep::Upkeep;
pub use verify::{Anchor, Fault, Verification, VerifyReport};

use error::explain;

/// The database's name in the state directory.
pub const DATABASE: &str = "fim.db";

/// Above this size only the baseline is checked page by page at start: the check reads everything it checks.
const CHECK_WHOLE_BELOW: u64 = 64 * 1024 * 1024;

/// A checkpoint waits for the disk; in a flood most pages are written again before the next one.
const CHECKPOINT_PAGES: u32 = 8_192;

/// KiB of the database that a connection keeps in memory: the daemon's own, so that what a flood of records touches in the
/// indexes is read once; one that searches all of it, in a process of its own; and one that goes through it in order.
const KEPT_BY_WRITER: u32 = 8 * 1024;
const KEPT_BY_SEARCH: u32 = 64 * 1024;
const KEPT_BY_WALK: u32 = 2 * 1024;

pub struct Store {
    db: Connection,
    file: PathBuf,
    dictionaries: columns::Dictionaries,
}

/// Steps of SQLite's machine between two signs of life.
const BEAT_STEPS: i32 = 100_000;

impl Store {
    /// Opens the database in `dir` for writing; makes both if need be, and brings an older one up to date.
    pub fn open(dir: &Path) -> Result<Self, StoreError> {
        ensure_dir(dir)?;
        let file = dir.join(DATABASE);
        // SQLite would make it readable for all; its -wal and -shm files take over the mode.
        OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(&file)
            .map_err(|source| StoreError::dir(dir, source))?;
        let mut store = Self::connect(file, OpenFlags::SQLITE_OPEN_READ_WRITE, KEPT_BY_WRITER)?;
        store.run("opening it", |db| {
            db.pragma_update(None, "journal_mode", "wal")?;
            db.pragma_update(None, "wal_autocheckpoint", CHECKPOINT_PAGES)?;
            db.pragma_update(None, "journal_size_limit", 64 * 1024 * 1024)
        })?;
        store.check()?;
        let file = store.file.clone();
        schema::migrate(&mut store.db).map_err(|e| explain(&file, "bringing it up to date", e))?;
        Ok(store)
    }

    /// A second connection beside the daemon's, for reading the ledger and moving a cursor. The database is there.
    pub fn open_beside(dir: &Path) -> Result<Self, StoreError> {
        Self::connect_existing(dir, OpenFlags::SQLITE_OPEN_READ_WRITE, KEPT_BY_WALK)
    }

    /// For `fim log` and `fim status`, while a daemon runs or not. Fails with [`StoreError::Absent`] before `fim init`.
    pub fn open_read_only(dir: &Path) -> Result<Self, StoreError> {
        Self::connect_existing(dir, OpenFlags::SQLITE_OPEN_READ_ONLY, KEPT_BY_SEARCH)
    }

    /// As [`open_read_only`](Self::open_read_only), for a thread of the daemon that goes through the database in order.
    pub fn open_for_walk(dir: &Path) -> Result<Self, StoreError> {
        Self::connect_existing(dir, OpenFlags::SQLITE_OPEN_READ_ONLY, KEPT_BY_WALK)
    }

    /// Gives up what is kept of the database in memory, until it is read again.
    pub fn keep_nothing(&self) -> Result<(), StoreError> {
        self.run("freeing memory", |db| db.execute_batch("PRAGMA shrink_memory"))
    }

    fn connect_existing(dir: &Path, access: OpenFlags, kept_kib: u32) -> Result<Self, StoreError> {
        let file = dir.join(DATABASE);
        match std::fs::metadata(&file) {
            Ok(_) => {}
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Err(StoreError::Absent(dir.into())),
            Err(source) => {
                return Err(StoreError::dir(dir, source));
            }
        }
        let store = Self::connect(file, access, kept_kib)?;
        match store.schema_version()? {
            0 => Err(StoreError::Absent(dir.into())),
            _ => Ok(store),
        }
    }

    fn connect(file: PathBuf, access: OpenFlags, kept_kib: u32) -> Result<Self, StoreError> {
        let open = || {
            let mut db = Connection::open_with_flags(&file, access | OpenFlags::SQLITE_OPEN_NO_MUTEX)?;
            // A statement that reads a large table is at work all the while.
            let beat = || {
                crate::pulse::beat();
                false
            };
            db.progress_handler(BEAT_STEPS, Some(beat))?;
            db.busy_timeout(Duration::from_secs(10))?;
            db.pragma_update(None, "synchronous", "normal")?;
            db.pragma_update(None, "cache_size", -i64::from(kept_kib))?;
            db.pragma_update(None, "foreign_keys", true)?;
            db.pragma_update(None, "trusted_schema", false)?;
            db.pragma_update(None, "cell_size_check", true)?;
            db.set_prepared_statement_cache_capacity(64);
            Ok(db)
        };
        let db = open().map_err(|e| explain(&file, "opening it", e))?;
        let store = Self { db, file, dictionaries: Default::default() };
        let found = store.schema_version()?;
        if found > schema::VERSION {
            return Err(StoreError::Newer { file: store.file, found, known: schema::VERSION });
        }
        Ok(store)
    }

    fn schema_version(&self) -> Result<i64, StoreError> {
        self.run("reading its version", schema::version)
    }

    /// Looks for damage that would otherwise show in the middle of the work.
    fn check(&self) -> Result<(), StoreError> {
        if self.schema_version()? == 0 {
            return Ok(());
        }
        let small = std::fs::metadata(&self.file).is_ok_and(|m| m.len() < CHECK_WHOLE_BELOW);
        let pragma = if small { "PRAGMA quick_check(1)" } else { "PRAGMA quick_check('baseline')" };
        let verdict: String = self.run("checking it", |db| db.query_row(pragma, [], |row| row.get(0)))?;
        if verdict != "ok" {
            return Err(StoreError::Corrupt { file: self.file.clone(), detail: verdict.replace('\n', " ") });
        }
        Ok(())
    }

    /// The state directory.
    pub fn dir(&self) -> &Path {
        self.file.parent().unwrap_or(&self.file)
    }

    pub fn meta_get(&self, key: &str) -> Result<Option<String>, StoreError> {
        use rusqlite::OptionalExtension;
        self.run("reading its notes", |db| {
            db.prepare_cached("SELECT value FROM meta WHERE key = ?1")?
                .query_row([key], |row| row.get(0))
                .optional()
        })
    }

    /// When the newest record was made, RFC 3339.
    pub fn last_record_time(&self) -> Result<Option<String>, StoreError> {
        use rusqlite::OptionalExtension;
        self.run("reading the ledger", |db| {
            db.query_row("SELECT time FROM ledger ORDER BY seq DESC LIMIT 1", [], |row| row.get(0)).optional()
        })
    }

    pub fn meta_set(&mut self, key: &str, value: &str) -> Result<(), StoreError> {
        self.run("writing its notes", |db| {
            db.prepare_cached(
                "INSERT INTO meta VALUES (?1, ?2) ON CONFLICT DO UPDATE SET value = excluded.value",
            )?
            .execute([key, value])
        })?;
        Ok(())
    }

    /// Runs `work`; with `durably` each of its transactions waits for the disk.
    pub fn durably<T>(
        &mut self,
        durably: bool,
        work: impl FnOnce(&mut Self) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        let level = |store: &Self, level| {
            store.run("setting when to sync", |db| db.pragma_update(None, "synchronous", level))
        };
        if !durably {
            return work(self);
        }
        level(self, "full")?;
        let out = work(self);
        level(self, "normal")?;
        out
    }

    /// Runs `work`, which reads much and writes nothing, on one state of the database: locking it for each row costs more
    /// than finding the row.
    pub fn at_one_moment<T>(&self, work: impl FnOnce() -> Result<T, StoreError>) -> Result<T, StoreError> {
        let failed = |e| explain(&self.file, "reading it", e);
        let moment = self.db.unchecked_transaction().map_err(failed)?;
        let out = work();
        moment.commit().map_err(failed)?;
        out
    }

    /// Runs `work`, whose transactions leave a checkpoint that is due to a later one.
    fn without_checkpoint<T>(
        &mut self,
        work: impl FnOnce(&mut Self) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        let at = |store: &Self, pages: u32| {
            store.run("setting when to checkpoint", |db| {
                db.pragma_update_and_check(None, "wal_autocheckpoint", pages, |_| Ok(()))
            })
        };
        at(self, 0)?;
        let out = work(self);
        at(self, CHECKPOINT_PAGES)?;
        out
    }

    fn run<T>(
        &self,
        doing: &'static str,
        f: impl FnOnce(&Connection) -> rusqlite::Result<T>,
    ) -> Result<T, StoreError> {
        f(&self.db).map_err(|e| explain(&self.file, doing, e))
    }

    /// Runs `f` as one transaction: all of it or nothing.
    fn transact<T>(
        &mut self,
        doing: &'static str,
        f: impl FnOnce(&Connection) -> rusqlite::Result<T>,
    ) -> Result<T, StoreError> {
        let work = || {
            // Immediate: a reader's snapshot that is upgraded later could fail without waiting.
            let tx = self.db.transaction_with_behavior(rusqlite::TransactionBehavior::Immediate)?;
            let out = f(&tx)?;
            tx.commit()?;
            Ok(out)
        };
        work().map_err(|e| explain(&self.file, doing, e))
    }
}

/// Makes the state directory (0700), and refuses one that others can write.
fn ensure_dir(dir: &Path) -> Result<(), StoreError> {
    let failed = |source| StoreError::dir(dir, source);
    if let Some(parent) = dir.parent() {
        std::fs::create_dir_all(parent).map_err(failed)?;
    }
    match DirBuilder::new().mode(0o700).create(dir) {
        Err(e) if e.kind() != std::io::ErrorKind::AlreadyExists => return Err(failed(e)),
        _ => {}
    }
    let meta = std::fs::metadata(dir).map_err(failed)?;
    if !meta.is_dir() {
        return Err(failed(std::io::ErrorKind::NotADirectory.into()));
    }
    if meta.mode() & 0o022 != 0 {
        return Err(StoreError::Exposed { dir: dir.into(), mode: meta.mode() & 0o7777 });
    }
    Ok(())
}

/// An unsigned number in SQLite's signed column, bit for bit.
fn signed(n: u64) -> i64 {
    n.cast_signed()
}

fn unsigned(n: i64) -> u64 {
    n.cast_unsigned()
}

/// A value of a row that is not what was written there.
fn bad_row(column: &str) -> rusqlite::Error {
    rusqlite::Error::InvalidColumnName(column.to_owned())
}
