//! The ledger as the chain protects it, for whoever keeps a copy elsewhere.

use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

use rusqlite::{OptionalExtension, params};

use super::ledger::{Hash, link, record_id};
use super::{Store, StoreError, bad_row, signed, unsigned};
use crate::core::path::RelPath;

/// The note that tells this ledger from one that was begun anew on the same host.
const GENERATION: &str = "ledger_generation";

/// One record with its place in the chain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Link {
    pub seq: u64,
    pub prev: Hash,
    pub hash: Hash,
    /// Exactly as it was hashed.
    pub body: String,
    /// The hash is that of the content.
    pub sound: bool,
}

/// A copy in the vault of what was found by a record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EvidenceCopy {
    pub seq: u64,
    /// Place among the copies of its record, from 0.
    pub number: u64,
    pub watch: PathBuf,
    pub path: RelPath,
    /// Hexadecimal.
    pub sha256: String,
    pub size: Option<u64>,
    pub reason: String,
}

impl Store {
    /// Tells this ledger from every other, also from a later one of this host, whose numbers begin at 1 again: the id of
    /// the oldest record that was there when this was first asked. `None` while the ledger is empty.
    pub fn ledger_generation(&mut self) -> Result<Option<String>, StoreError> {
        if let Some(known) = self.meta_get(GENERATION)? {
            return Ok(Some(known));
        }
        let first = self.run("reading the ledger", |db| {
            db.query_row("SELECT hash FROM ledger ORDER BY seq LIMIT 1", [], |row| row.get::<_, Hash>(0))
                .optional()
        })?;
        let Some(hash) = first else { return Ok(None) };
        let generation = record_id(&hash);
        self.meta_set(GENERATION, &generation)?;
        Ok(Some(generation))
    }

    /// Up to `limit` records after `after` and not after `through`, in order.
    pub fn ledger_links(&self, after: u64, through: u64, limit: usize) -> Result<Vec<Link>, StoreError> {
        let sql =
            "SELECT seq, prev, hash, body FROM ledger WHERE seq > ?1 AND seq <= ?2 ORDER BY seq LIMIT ?3";
        let limit = i64::try_from(limit).unwrap_or(i64::MAX);
        self.run("reading the ledger", |db| {
            db.prepare_cached(sql)?
                .query_map(params![signed(after), signed(through), limit], |row| {
                    let (seq, prev, hash) = (unsigned(row.get(0)?), row.get(1)?, row.get(2)?);
                    let body: String = row.get(3)?;
                    let sound = hash == link(&prev, seq, &body);
                    Ok(Link { seq, prev, hash, body, sound })
                })?
                .collect()
        })
    }

    /// The copies in the vault that belong to the records `first` to `last`, by record.
    pub fn evidence_copies(&self, first: u64, last: u64) -> Result<Vec<EvidenceCopy>, StoreError> {
        let sql = "SELECT seq, watch, path, sha256, found ->> '$.entry.size', reason,
                          row_number() OVER (PARTITION BY seq ORDER BY id) - 1
                   FROM evidence WHERE seq BETWEEN ?1 AND ?2 AND sha256 IS NOT NULL ORDER BY seq, id";
        self.run("reading the evidence", |db| {
            db.prepare_cached(sql)?
                .query_map([signed(first), signed(last)], |row| {
                    let watch: Vec<u8> = row.get(1)?;
                    Ok(EvidenceCopy {
                        seq: unsigned(row.get(0)?),
                        watch: PathBuf::from(std::ffi::OsStr::from_bytes(&watch)),
                        path: RelPath::new(row.get::<_, Vec<u8>>(2)?).ok_or_else(|| bad_row("path"))?,
                        sha256: row.get(3)?,
                        size: row.get::<_, Option<i64>>(4)?.map(unsigned),
                        reason: row.get(5)?,
                        number: unsigned(row.get(6)?),
                    })
                })?
                .collect()
        })
    }
}
