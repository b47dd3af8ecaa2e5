//! Spans of the ledger: for each [`SPAN`] records their times' bounds and the beginnings of their ids.
//!
//! Both would otherwise need an index on every row; an index on ids would touch a page of its own for each record.

use rusqlite::{Connection, params};

use super::ledger::Hash;
use super::{bad_row, signed};

/// Records in a span: number n holds the records from `n * SPAN` to `n * SPAN + SPAN - 1`.
/// Unit tests have few records and want many spans.
pub(super) const SPAN: u64 = if cfg!(test) { 16 } else { 1024 };

/// Bytes of each id that a span keeps.
pub(super) const ID_BYTES: usize = 2;

/// What a span's row must hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Span {
    pub min_time_us: i64,
    pub max_time_us: i64,
    /// The first [`ID_BYTES`] of each record's hash, in order.
    pub ids: Vec<u8>,
}

impl Default for Span {
    fn default() -> Self {
        Self { min_time_us: i64::MAX, max_time_us: i64::MIN, ids: Vec::new() }
    }
}

impl Span {
    pub fn add(&mut self, time_us: i64, hash: &Hash) {
        self.min_time_us = self.min_time_us.min(time_us);
        self.max_time_us = self.max_time_us.max(time_us);
        self.ids.extend_from_slice(&hash[..ID_BYTES]);
    }
}

pub(super) fn of(seq: u64) -> u64 {
    seq / SPAN
}

/// Writes the rows of the spans that became full between the records `before` and `now`.
pub(super) fn close(db: &Connection, before: u64, now: u64) -> rusqlite::Result<()> {
    let sql = "SELECT time_us, hash FROM ledger WHERE seq BETWEEN ?1 AND ?2 ORDER BY seq";
    for id in of(before + 1)..of(now + 1) {
        let mut span = Span::default();
        let mut select = db.prepare_cached(sql)?;
        let mut rows = select.query(params![signed(id * SPAN), signed(id * SPAN + SPAN - 1)])?;
        while let Some(row) = rows.next()? {
            let hash = row.get_ref(1)?.as_blob()?;
            span.add(row.get(0)?, hash.try_into().map_err(|_| bad_row("hash"))?);
        }
        db.prepare_cached("INSERT OR REPLACE INTO ledger_span VALUES (?1, ?2, ?3, ?4)")?.execute(params![
            signed(id),
            span.min_time_us,
            span.max_time_us,
            span.ids
        ])?;
    }
    Ok(())
}
