//! What was found by records, and what became of it.

use std::collections::HashMap;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

use rusqlite::{Connection, params};

use super::error::explain;
use super::{Store, StoreError, bad_row, signed, unsigned};
use crate::core::entry::{Digest, Found};
use crate::core::event::{Event, Record};
use crate::core::path::RelPath;
use crate::core::quarantine::Reason;

/// What was found in the place of something approved, or where nothing should have been.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EvidenceRow {
    pub watch: PathBuf,
    pub path: RelPath,
    pub found: Found,
    /// In the vault; regular files only.
    pub digest: Option<Digest>,
    pub reason: Reason,
}

/// How often an object of the vault is referred to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct References {
    /// Paths whose present approved content it is.
    pub baseline: u64,
    /// Versions that were approved once.
    pub former: u64,
    /// Pieces of evidence that are kept.
    pub evidence: u64,
    /// The newest of the latter two, RFC 3339.
    pub newest: Option<String>,
}

/// The count of one kind of reference.
type Count = fn(&mut References) -> &mut u64;

impl Store {
    /// What was found by the event `seq`.
    pub fn evidence_of(&self, seq: u64) -> Result<Vec<EvidenceRow>, StoreError> {
        self.run("reading the evidence", |db| {
            db.prepare_cached(
                "SELECT watch, path, sha256, found, reason FROM evidence WHERE seq = ?1 ORDER BY id",
            )?
            .query_map([signed(seq)], |row| {
                let watch: Vec<u8> = row.get(0)?;
                let digest: Option<String> = row.get(2)?;
                Ok(EvidenceRow {
                    watch: PathBuf::from(std::ffi::OsStr::from_bytes(&watch)),
                    path: RelPath::new(row.get::<_, Vec<u8>>(1)?).ok_or_else(|| bad_row("path"))?,
                    digest: digest.and_then(|hex| Digest::from_hex(&hex)),
                    found: serde_json::from_str(row.get_ref(3)?.as_str()?).map_err(|_| bad_row("found"))?,
                    reason: Reason::parse(row.get_ref(4)?.as_str()?).ok_or_else(|| bad_row("reason"))?,
                })
            })?
            .collect()
        })
    }

    /// Who refers to which object.
    pub fn references(&self) -> Result<HashMap<Digest, References>, StoreError> {
        self.run("reading what needs the vault", |db| {
            let mut all: HashMap<Digest, References> = HashMap::new();
            let kinds: [(&str, Count); 3] = [
                (
                    "SELECT sha256, count(*), NULL FROM baseline WHERE sha256 IS NOT NULL GROUP BY sha256",
                    |r| &mut r.baseline,
                ),
                (
                    "SELECT sha256, count(*), max(until) FROM former WHERE sha256 IS NOT NULL GROUP BY sha256",
                    |r| &mut r.former,
                ),
                (
                    "SELECT e.sha256, count(*), max(l.time) FROM evidence e JOIN ledger l ON l.seq = e.seq
                     WHERE e.sha256 IS NOT NULL AND e.fate IS NULL GROUP BY e.sha256",
                    |r| &mut r.evidence,
                ),
            ];
            for (sql, count) in kinds {
                let mut select = db.prepare(sql)?;
                let mut rows = select.query([])?;
                while let Some(row) = rows.next()? {
                    let hex = row.get_ref(0)?.as_str()?;
                    let digest = Digest::from_hex(hex).ok_or_else(|| bad_row("sha256"))?;
                    let refs = all.entry(digest).or_default();
                    *count(refs) = unsigned(row.get(1)?);
                    refs.newest = refs.newest.take().max(row.get(2)?);
                }
            }
            Ok(all)
        })
    }

    /// Whether the vault keeps evidence or a former version from before this time (RFC 3339).
    pub fn has_content_before(&self, time: &str) -> Result<bool, StoreError> {
        self.run("reading what needs the vault", |db| {
            db.prepare_cached(
                "SELECT EXISTS (SELECT 1 FROM former WHERE sha256 IS NOT NULL AND until < ?1)
                     OR EXISTS (SELECT 1 FROM evidence e JOIN ledger l ON l.seq = e.seq
                                WHERE e.sha256 IS NOT NULL AND e.fate IS NULL AND l.time < ?1)",
            )?
            .query_row([time], |row| row.get(0))
        })
    }

    /// Notes that these objects leave the vault: their evidence is marked, former versions keep their state without
    /// content, and `event` says so in the ledger. One transaction; the objects themselves go afterwards.
    pub fn evict(&mut self, digests: &[Digest], event: &Event) -> Result<Record, StoreError> {
        let records = self.append_in(std::slice::from_ref(event), |db, _| {
            let mut mark = db.prepare_cached(
                "UPDATE evidence SET fate = 'evicted', fate_time = ?2 WHERE sha256 = ?1 AND fate IS NULL",
            )?;
            let mut forget = db.prepare_cached("UPDATE former SET sha256 = NULL WHERE sha256 = ?1")?;
            for digest in digests {
                let hex = digest.to_string();
                mark.execute(params![hex, event.time])?;
                forget.execute([hex])?;
            }
            Ok(())
        })?;
        let gone = || explain(&self.file, "noting what leaves the vault", bad_row("seq"));
        records.into_iter().next().ok_or_else(gone)
    }
}

pub(super) fn put_evidence(db: &Connection, seq: u64, row: &EvidenceRow) -> rusqlite::Result<()> {
    let found = serde_json::to_string(&row.found).map_err(|_| bad_row("found"))?;
    let sql =
        "INSERT INTO evidence (seq, watch, path, sha256, found, reason) VALUES (?1, ?2, ?3, ?4, ?5, ?6)";
    db.prepare_cached(sql)?.execute(params![
        signed(seq),
        row.watch.as_os_str().as_bytes(),
        row.path.as_bytes(),
        row.digest.map(|d| d.to_string()),
        found,
        row.reason.as_str()
    ])?;
    Ok(())
}
