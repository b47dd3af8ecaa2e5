//! The append-only, hash-chained record of everything.

use rusqlite::{Connection, OptionalExtension, params};
use sha2::{Digest as _, Sha256};

use super::approve::{Approved, rewrite};
use super::columns::{Dictionaries, Facets};
use super::evidence::{EvidenceRow, put_evidence};
use super::{IntentId, Store, StoreError, bad_row, signed, span, unsigned};
use crate::core::entry::Digest;
use crate::core::event::{Event, Record};

pub(super) type Hash = [u8; 32];

/// The last record of the ledger.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Head {
    /// 0 when the ledger is empty.
    pub seq: u64,
    pub hash: Hash,
}

impl Head {
    pub(super) const EMPTY: Self = Self { seq: 0, hash: [0; 32] };
}

/// `hash = sha256(prev || seq as u64 big endian || body)`.
pub(super) fn link(prev: &Hash, seq: u64, body: &str) -> Hash {
    let mut hasher = Sha256::new();
    hasher.update(prev);
    hasher.update(seq.to_be_bytes());
    hasher.update(body.as_bytes());
    hasher.finalize().into()
}

/// The first 16 bytes of the hash, in hexadecimal.
pub(super) fn record_id(hash: &Hash) -> String {
    hash[..16].iter().map(|b| format!("{b:02x}")).collect()
}

impl Store {
    /// Adds `events` to the chain and closes the intents they settle, in one transaction.
    pub fn append(&mut self, events: &[Event], closes: &[IntentId]) -> Result<Vec<Record>, StoreError> {
        self.append_with(events, closes, &[])
    }

    /// As [`append`](Self::append), with evidence: each row names its event by index in `events`.
    pub fn append_with(
        &mut self,
        events: &[Event],
        closes: &[IntentId],
        evidence: &[(usize, EvidenceRow)],
    ) -> Result<Vec<Record>, StoreError> {
        self.append_approving(events, closes, evidence, &[])
    }

    /// As [`append_with`](Self::append_with), with what authorised changes make the approved state, likewise by index.
    pub fn append_approving(
        &mut self,
        events: &[Event],
        closes: &[IntentId],
        evidence: &[(usize, EvidenceRow)],
        approved: &[(usize, Approved)],
    ) -> Result<Vec<Record>, StoreError> {
        self.append_in(events, |db, records| {
            for (index, Approved { watch, path, baseline }) in approved {
                let record = records.get(*index).ok_or_else(|| bad_row("approved"))?;
                rewrite(db, (watch, path), baseline, record)?;
            }
            for (index, row) in evidence {
                let record = records.get(*index).ok_or_else(|| bad_row("evidence"))?;
                put_evidence(db, record.seq, row)?;
            }
            let mut close = db.prepare_cached("DELETE FROM intent WHERE id = ?1")?;
            closes.iter().try_for_each(|id| close.execute([id.0]).map(drop))
        })
    }

    /// Adds `events` to the chain and does `besides` with their records, in one transaction.
    pub(super) fn append_in(
        &mut self,
        events: &[Event],
        besides: impl FnOnce(&Connection, &[Record]) -> rusqlite::Result<()>,
    ) -> Result<Vec<Record>, StoreError> {
        // What a failed transaction has numbered is forgotten with it.
        let mut dictionaries = std::mem::take(&mut self.dictionaries);
        let records = self.transact("writing the ledger", |db| {
            let records = chain(db, &mut dictionaries, events)?;
            besides(db, &records)?;
            Ok(records)
        })?;
        self.dictionaries = dictionaries;
        Ok(records)
    }

    /// Up to `limit` records that follow `seq`, in order.
    pub fn ledger_after(&self, seq: u64, limit: usize) -> Result<Vec<Record>, StoreError> {
        self.records("SELECT seq, hash, body FROM ledger WHERE seq > ?1 ORDER BY seq LIMIT ?2", seq, limit)
    }

    /// The last `limit` records, oldest first.
    pub fn ledger_tail(&self, limit: usize) -> Result<Vec<Record>, StoreError> {
        let sql = "SELECT seq, hash, body FROM ledger WHERE seq > ?1 ORDER BY seq DESC LIMIT ?2";
        let mut records = self.records(sql, 0, limit)?;
        records.reverse();
        Ok(records)
    }

    pub fn ledger_head(&self) -> Result<Head, StoreError> {
        self.run("reading the ledger", head)
    }

    /// How many records there are: the numbers have no gaps, and pruning takes the oldest.
    pub fn ledger_rows(&self) -> Result<u64, StoreError> {
        // Apart, each is a look at one end.
        let sql = "SELECT coalesce((SELECT max(seq) FROM ledger) - (SELECT min(seq) FROM ledger) + 1, 0)";
        self.run("reading the ledger", |db| db.query_row(sql, [], |row| row.get(0).map(unsigned)))
    }

    pub(super) fn records(&self, sql: &str, seq: u64, limit: usize) -> Result<Vec<Record>, StoreError> {
        let limit = i64::try_from(limit).unwrap_or(i64::MAX);
        let rows: Vec<(i64, Hash, String)> = self.run("reading the ledger", |db| {
            db.prepare_cached(sql)?
                .query_map(params![signed(seq), limit], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))?
                .collect()
        })?;
        rows.into_iter()
            .map(|(seq, hash, body)| {
                let event = serde_json::from_str(&body).map_err(|e| StoreError::Row {
                    file: self.file.clone(),
                    detail: format!("ledger record {seq}: {e}"),
                })?;
                Ok(Record { seq: unsigned(seq), id: record_id(&hash), event })
            })
            .collect()
    }
}

pub(super) fn head(db: &Connection) -> rusqlite::Result<Head> {
    let mut select = db.prepare_cached("SELECT seq, hash FROM ledger ORDER BY seq DESC LIMIT 1")?;
    let last = select.query_row([], |row| Ok(Head { seq: row.get(0).map(unsigned)?, hash: row.get(1)? }));
    Ok(last.optional()?.unwrap_or(Head::EMPTY))
}

/// The body of a record.
fn encode(event: &Event) -> rusqlite::Result<String> {
    // Most fit in.
    let mut body = Vec::with_capacity(2048);
    serde_json::to_writer(&mut body, event).map_err(|_| bad_row("body"))?;
    String::from_utf8(body).map_err(|_| bad_row("body"))
}

/// Adds `events` at the end of the chain.
pub(super) fn chain(
    db: &Connection,
    dictionaries: &mut Dictionaries,
    events: &[Event],
) -> rusqlite::Result<Vec<Record>> {
    let before = head(db)?;
    let mut last = before;
    let mut insert = db.prepare_cached(
        "INSERT INTO ledger (seq, time_us, class, actors, path_id, old_path_id, prev, hash, body)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)",
    )?;
    let mut records = Vec::with_capacity(events.len());
    for event in events {
        let body = encode(event)?;
        let facets = Facets::from(event);
        let (class, actors) = (dictionaries.class(db, &facets)?, dictionaries.actors(db, &facets)?);
        let seq = last.seq + 1;
        let hash = link(&last.hash, seq, &body);
        let path = dictionaries.path(db, facets.path.as_deref())?;
        let old = dictionaries.path(db, facets.old_path.as_deref())?;
        let time = facets.time_us();
        insert.execute(params![signed(seq), time, class, actors, path, old, last.hash, hash, body])?;
        last = Head { seq, hash };
        records.push(Record { seq, id: record_id(&hash), event: event.clone() });
    }
    if !events.is_empty() {
        span::close(db, before.seq, last.seq)?;
        // A chain that was cut at its end is whole in itself; this tells that there was more.
        let text = format!("{} {}", last.seq, Digest(last.hash));
        db.prepare_cached("INSERT OR REPLACE INTO meta VALUES ('ledger_head', ?1)")?.execute([text])?;
    }
    Ok(records)
}
