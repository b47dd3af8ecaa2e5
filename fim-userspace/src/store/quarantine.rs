//! Questions about evidence and former versions.

use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use rusqlite::{OptionalExtension, Row, params};

use super::{Store, StoreError, bad_row, signed, unsigned};
use crate::core::entry::{Digest, Entry, Found};
use crate::core::event::Record;
use crate::core::path::RelPath;
use crate::core::quarantine::{Fate, Reason};

/// A row of `evidence`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Held {
    pub id: i64,
    /// The record that it is evidence of.
    pub seq: u64,
    /// Of that record, RFC 3339.
    pub time: String,
    pub watch: PathBuf,
    pub path: RelPath,
    pub found: Found,
    /// In the vault; regular files only.
    pub digest: Option<Digest>,
    pub reason: Reason,
    pub fate: Option<Fate>,
    /// RFC 3339.
    pub fate_time: Option<String>,
}

impl Held {
    /// The state to put back. Its content is in the vault unless a purge took it.
    pub fn entry(&self) -> Entry {
        let mut entry = self.found.entry.clone();
        entry.sha256 = self.digest.or(entry.sha256);
        entry
    }
}

/// A row of `former`: what was approved once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Former {
    pub id: i64,
    pub watch: PathBuf,
    pub path: RelPath,
    pub entry: Entry,
    /// When another version took its place, RFC 3339.
    pub until: String,
    /// The record of that.
    pub seq: Option<u64>,
}

const HELD: &str = "SELECT e.id, e.seq, l.time, e.watch, e.path, e.sha256, e.found, e.reason, e.fate, e.fate_time \
                    FROM evidence e JOIN ledger l ON l.seq = e.seq";
const FORMER: &str = "SELECT id, watch, path, entry, until, seq FROM former";

impl Store {
    /// All evidence, oldest first; without `gone` only what is kept.
    pub fn held(&self, gone: bool) -> Result<Vec<Held>, StoreError> {
        let sql = format!("{HELD} WHERE ?1 OR e.fate IS NULL ORDER BY e.id");
        self.run("reading the evidence", |db| db.prepare_cached(&sql)?.query_map([gone], held)?.collect())
    }

    pub fn held_one(&self, id: i64) -> Result<Option<Held>, StoreError> {
        let sql = format!("{HELD} WHERE e.id = ?1");
        self.run("reading the evidence", |db| db.prepare_cached(&sql)?.query_row([id], held).optional())
    }

    /// Evidence of one record.
    pub fn held_by(&self, seq: u64) -> Result<Vec<Held>, StoreError> {
        let sql = format!("{HELD} WHERE e.seq = ?1 ORDER BY e.id");
        self.run("reading the evidence", |db| {
            db.prepare_cached(&sql)?.query_map([signed(seq)], held)?.collect()
        })
    }

    /// Evidence that was found under this very path, oldest first.
    pub fn held_of(&self, watch: &Path, path: &RelPath) -> Result<Vec<Held>, StoreError> {
        let sql = format!("{HELD} WHERE e.watch = ?1 AND e.path = ?2 ORDER BY e.id");
        self.run("reading the evidence", |db| {
            db.prepare_cached(&sql)?
                .query_map(params![watch.as_os_str().as_bytes(), path.as_bytes()], held)?
                .collect()
        })
    }

    /// What was approved under this path before, oldest first.
    pub fn former_of(&self, watch: &Path, path: &RelPath) -> Result<Vec<Former>, StoreError> {
        let sql = format!("{FORMER} WHERE watch = ?1 AND path = ?2 ORDER BY id");
        self.run("reading former versions", |db| {
            db.prepare_cached(&sql)?
                .query_map(params![watch.as_os_str().as_bytes(), path.as_bytes()], former)?
                .collect()
        })
    }

    pub fn former_one(&self, id: i64) -> Result<Option<Former>, StoreError> {
        let sql = format!("{FORMER} WHERE id = ?1");
        self.run("reading former versions", |db| db.prepare_cached(&sql)?.query_row([id], former).optional())
    }

    pub fn record(&self, seq: u64) -> Result<Option<Record>, StoreError> {
        let Some(before) = seq.checked_sub(1) else { return Ok(None) };
        Ok(self.ledger_after(before, 1)?.pop().filter(|record| record.seq == seq))
    }

    /// Up to two records whose id begins with `prefix`: four hexadecimal digits at least.
    pub fn records_with_id(&self, prefix: &str) -> Result<Vec<Record>, StoreError> {
        self.records_at(&self.find_id(&prefix.to_lowercase())?)
    }

    /// Whether anything but what was purged or evicted needs this content.
    pub fn needs(&self, digest: &Digest) -> Result<bool, StoreError> {
        let sql = "SELECT EXISTS (SELECT 1 FROM baseline WHERE sha256 = ?1)
                       OR EXISTS (SELECT 1 FROM former WHERE sha256 = ?1)
                       OR EXISTS (SELECT 1 FROM evidence
                                  WHERE sha256 = ?1 AND (fate IS NULL OR fate NOT IN ('purged', 'evicted')))";
        self.run("asking what needs a content", |db| {
            db.prepare_cached(sql)?.query_row([digest.to_string()], |row| row.get(0))
        })
    }
}

fn root(row: &Row<'_>, column: usize) -> rusqlite::Result<PathBuf> {
    Ok(std::ffi::OsString::from_vec(row.get(column)?).into())
}

fn rel(row: &Row<'_>, column: usize) -> rusqlite::Result<RelPath> {
    RelPath::new(row.get::<_, Vec<u8>>(column)?).ok_or_else(|| bad_row("path"))
}

fn held(row: &Row<'_>) -> rusqlite::Result<Held> {
    let digest = match row.get::<_, Option<String>>(5)? {
        None => None,
        Some(hex) => Some(Digest::from_hex(&hex).ok_or_else(|| bad_row("sha256"))?),
    };
    let fate = match row.get::<_, Option<String>>(8)? {
        None => None,
        Some(word) => Some(Fate::parse(&word).ok_or_else(|| bad_row("fate"))?),
    };
    Ok(Held {
        id: row.get(0)?,
        seq: unsigned(row.get(1)?),
        time: row.get(2)?,
        watch: root(row, 3)?,
        path: rel(row, 4)?,
        found: serde_json::from_str(row.get_ref(6)?.as_str()?).map_err(|_| bad_row("found"))?,
        digest,
        reason: Reason::parse(row.get_ref(7)?.as_str()?).ok_or_else(|| bad_row("reason"))?,
        fate,
        fate_time: row.get(9)?,
    })
}

fn former(row: &Row<'_>) -> rusqlite::Result<Former> {
    Ok(Former {
        id: row.get(0)?,
        watch: root(row, 1)?,
        path: rel(row, 2)?,
        entry: serde_json::from_str(row.get_ref(3)?.as_str()?).map_err(|_| bad_row("entry"))?,
        until: row.get(4)?,
        seq: row.get::<_, Option<i64>>(5)?.map(unsigned),
    })
}
