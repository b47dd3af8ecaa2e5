//! How far each sink has read the ledger.

use rusqlite::{OptionalExtension, params};
use serde::{Deserialize, Serialize};

use super::{Store, StoreError, signed, unsigned};

/// A sink as the database knows it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SinkState {
    pub name: String,
    /// The last record that was delivered, or passed over.
    pub cursor: u64,
    /// RFC 3339.
    pub last_success: Option<String>,
    /// Why the last attempt failed; `None` once it works again.
    pub error: Option<String>,
    /// When that was, RFC 3339.
    pub error_at: Option<String>,
    /// Records that the receiver refused for good.
    pub parked: u64,
    /// Why the last of them was.
    pub parked_reason: Option<String>,
    /// There is no receiver on this machine, which is no fault; `error` says which.
    pub idle: bool,
}

impl Store {
    /// `None` for a sink that was never seen.
    pub fn cursor_get(&self, sink: &str) -> Result<Option<u64>, StoreError> {
        self.run("reading a cursor", |db| {
            db.prepare_cached("SELECT seq FROM cursor WHERE sink = ?1")?
                .query_row([sink], |row| row.get(0).map(unsigned))
                .optional()
        })
    }

    /// Moves the cursor. It never moves back.
    pub fn cursor_set(&mut self, sink: &str, seq: u64) -> Result<(), StoreError> {
        let sql =
            "INSERT INTO cursor (sink, seq, created) VALUES (?1, ?2, strftime('%Y-%m-%dT%H:%M:%fZ', 'now'))
                   ON CONFLICT DO UPDATE SET seq = max(seq, excluded.seq)";
        self.transact("moving a cursor", |db| db.prepare_cached(sql)?.execute(params![sink, signed(seq)]))?;
        Ok(())
    }

    /// The cursor of `sink`; a new one begins at the ledger's present end, not with its history.
    pub fn cursor_or_head(&mut self, sink: &str) -> Result<u64, StoreError> {
        let sql = "INSERT OR IGNORE INTO cursor (sink, seq, created)
                   SELECT ?1, coalesce(max(seq), 0), strftime('%Y-%m-%dT%H:%M:%fZ', 'now') FROM ledger";
        self.transact("beginning a cursor", |db| {
            db.prepare_cached(sql)?.execute([sink])?;
            db.prepare_cached("SELECT seq FROM cursor WHERE sink = ?1")?
                .query_row([sink], |row| row.get(0).map(unsigned))
        })
    }

    /// Writes cursor and state of a sink as one.
    pub fn sink_state_set(&mut self, state: &SinkState) -> Result<(), StoreError> {
        let sql = "INSERT INTO cursor (sink, seq, last_success, error, error_at, parked, parked_reason, idle, created)
                   VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, strftime('%Y-%m-%dT%H:%M:%fZ', 'now'))
                   ON CONFLICT DO UPDATE SET seq = max(seq, excluded.seq), last_success = excluded.last_success,
                   error = excluded.error, error_at = excluded.error_at, parked = excluded.parked,
                   parked_reason = excluded.parked_reason, idle = excluded.idle";
        self.transact("moving a cursor", |db| {
            db.prepare_cached(sql)?.execute(params![
                state.name,
                signed(state.cursor),
                state.last_success,
                state.error,
                state.error_at,
                signed(state.parked),
                state.parked_reason,
                state.idle
            ])
        })?;
        Ok(())
    }

    /// Every sink that ever had a cursor, by name.
    pub fn sink_states(&self) -> Result<Vec<SinkState>, StoreError> {
        let sql = "SELECT sink, seq, last_success, error, error_at, parked, parked_reason, idle FROM cursor ORDER BY sink";
        self.run("reading cursors", |db| {
            db.prepare_cached(sql)?
                .query_map([], |row| {
                    Ok(SinkState {
                        name: row.get(0)?,
                        cursor: unsigned(row.get(1)?),
                        last_success: row.get(2)?,
                        error: row.get(3)?,
                        error_at: row.get(4)?,
                        parked: unsigned(row.get(5)?),
                        parked_reason: row.get(6)?,
                        idle: row.get(7)?,
                    })
                })?
                .collect()
        })
    }
}
