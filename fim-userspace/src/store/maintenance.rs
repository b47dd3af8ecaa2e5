//! Maintenance windows: at most one is open.

use std::collections::BTreeMap;

use rusqlite::{Connection, OptionalExtension, Row, params};

use super::{Store, StoreError, bad_row, signed, unsigned};
use crate::core::event::{Event, Record};
use crate::core::maintenance::{Window, authority};

/// What was recorded under a window.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct WindowTally {
    /// Changes by kind.
    pub kinds: BTreeMap<String, u64>,
    /// Changes by the folder that they were in.
    pub folders: BTreeMap<String, u64>,
}

impl Store {
    /// The window that is open, or has not been told the end of.
    pub fn window_open(&self) -> Result<Option<Window>, StoreError> {
        self.run("reading the maintenance window", |db| {
            let sql =
                "SELECT id, reason, opened_by, watches, boot, start_boot_ns, start_wall_ns, length_ns, seq
                       FROM maintenance WHERE ended IS NULL ORDER BY id DESC LIMIT 1";
            db.prepare_cached(sql)?.query_row([], read).optional()
        })
    }

    /// The number that the next window gets.
    pub fn window_next(&self) -> Result<u64, StoreError> {
        self.run("reading the maintenance windows", |db| {
            db.query_row("SELECT coalesce(max(id), 0) + 1 FROM maintenance", [], |row| {
                row.get(0).map(unsigned)
            })
        })
    }

    /// Opens a window with its record; `seq` in it is set from that.
    pub fn window_begin(&mut self, window: &mut Window, event: &Event) -> Result<Vec<Record>, StoreError> {
        let records = self.append_in(std::slice::from_ref(event), |db, records| {
            window.seq = records.first().map(|record| record.seq).ok_or_else(|| bad_row("seq"))?;
            put(db, window)
        })?;
        Ok(records)
    }

    /// Notes that a window is over, with its record.
    pub fn window_end(&mut self, id: u64, event: &Event) -> Result<Vec<Record>, StoreError> {
        self.append_in(std::slice::from_ref(event), |db, _| {
            db.execute("UPDATE maintenance SET ended = ?2 WHERE id = ?1", params![signed(id), event.time])
                .map(drop)
        })
    }

    /// Counts what was recorded under a window, reading the ledger from its start on.
    pub fn window_tally(&self, window: &Window) -> Result<WindowTally, StoreError> {
        self.run("counting what was done in the maintenance window", |db| {
            let mut select = db.prepare_cached(
                "SELECT kind, path FROM ledger WHERE seq > ?1 AND body ->> '$.authorised_by' = ?2 AND path IS NOT NULL",
            )?;
            let mut rows = select.query(params![signed(window.seq), authority(window.id)])?;
            let mut tally = WindowTally::default();
            while let Some(row) = rows.next()? {
                *tally.kinds.entry(row.get(0)?).or_default() += 1;
                let path: String = row.get(1)?;
                let folder = path.rsplit_once('/').map_or("/", |(folder, _)| if folder.is_empty() { "/" } else { folder });
                *tally.folders.entry(folder.to_owned()).or_default() += 1;
            }
            Ok(tally)
        })
    }
}

fn put(db: &Connection, window: &Window) -> rusqlite::Result<()> {
    let watches = serde_json::to_string(&window.watches).map_err(|_| bad_row("watches"))?;
    db.execute(
        "INSERT INTO maintenance (id, reason, opened_by, watches, boot, start_boot_ns, start_wall_ns, length_ns, seq)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)",
        params![
            signed(window.id),
            window.reason,
            window.opened_by,
            watches,
            window.boot,
            signed(window.start_boot_ns),
            window.start_wall_ns,
            signed(window.length_ns),
            signed(window.seq)
        ],
    )
    .map(drop)
}

fn read(row: &Row<'_>) -> rusqlite::Result<Window> {
    Ok(Window {
        id: row.get(0).map(unsigned)?,
        reason: row.get(1)?,
        opened_by: row.get(2)?,
        watches: serde_json::from_str(row.get_ref(3)?.as_str()?).map_err(|_| bad_row("watches"))?,
        boot: row.get(4)?,
        start_boot_ns: row.get(5).map(unsigned)?,
        start_wall_ns: row.get(6)?,
        length_ns: row.get(7).map(unsigned)?,
        seq: row.get(8).map(unsigned)?,
    })
}
