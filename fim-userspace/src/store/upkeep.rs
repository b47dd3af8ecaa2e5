//! What the database notes besides the ledger: fresh identities, and changes that are known and stand as they are.

use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use rusqlite::{Connection, OptionalExtension, params};

use super::baseline::touch;
use super::{IntentId, Store, StoreError, bad_row};
use crate::core::entry::{Digest, Entry, Identity};
use crate::core::path::RelPath;

/// Notes of one round of work on one watch, made in one transaction.
#[derive(Clone, Debug, Default)]
pub struct Upkeep {
    /// Equal to the baseline under these identities.
    pub seen: Vec<(RelPath, Identity)>,
    /// Different, recorded, and left as it is; `None` means that nothing is there.
    pub open: Vec<(RelPath, Option<Entry>)>,
    /// No longer different.
    pub resolved: Vec<RelPath>,
    /// Responses that came to nothing and need no record.
    pub closed_intents: Vec<IntentId>,
}

impl Upkeep {
    pub fn is_empty(&self) -> bool {
        self.seen.is_empty()
            && self.open.is_empty()
            && self.resolved.is_empty()
            && self.closed_intents.is_empty()
    }
}

impl Store {
    /// The state of `path` that has been recorded as a change and left so; the inner `None` means deleted.
    pub fn open_change(&self, watch: &Path, path: &RelPath) -> Result<Option<Option<Entry>>, StoreError> {
        self.run("reading open changes", |db| {
            db.prepare_cached("SELECT after FROM open_change WHERE watch = ?1 AND path = ?2")?
                .query_row(params![watch.as_os_str().as_bytes(), path.as_bytes()], |row| {
                    let after: Option<String> = row.get(0)?;
                    after.map(|text| serde_json::from_str(&text).map_err(|_| bad_row("after"))).transpose()
                })
                .optional()
        })
    }

    /// Whether a path of the watch was left with this content, though it is not the approved one.
    pub fn is_open_content(&self, watch: &Path, content: Option<Digest>) -> Result<bool, StoreError> {
        let Some(content) = content else { return Ok(false) };
        self.run("reading open changes", |db| {
            db.prepare_cached(
                "SELECT 1 FROM open_change WHERE watch = ?1 AND json_extract(after, '$.sha256') = ?2",
            )?
            .exists(params![watch.as_os_str().as_bytes(), content.to_string()])
        })
    }

    /// How many paths differ from the baseline and were left so.
    pub fn open_changes(&self) -> Result<u64, StoreError> {
        self.run("reading open changes", |db| {
            db.query_row("SELECT count(*) FROM open_change", [], |row| row.get(0).map(super::unsigned))
        })
    }

    pub fn keep_up(&mut self, watch: &Path, upkeep: &Upkeep) -> Result<(), StoreError> {
        if upkeep.is_empty() {
            return Ok(());
        }
        self.transact("noting what stands", |db| {
            touch(db, watch, &upkeep.seen)?;
            open(db, watch, &upkeep.open)?;
            let mut clear = db.prepare_cached("DELETE FROM open_change WHERE watch = ?1 AND path = ?2")?;
            for path in &upkeep.resolved {
                clear.execute(params![watch.as_os_str().as_bytes(), path.as_bytes()])?;
            }
            let mut close = db.prepare_cached("DELETE FROM intent WHERE id = ?1")?;
            for id in &upkeep.closed_intents {
                close.execute([id.0])?;
            }
            Ok(())
        })
    }
}

fn open(db: &Connection, watch: &Path, changes: &[(RelPath, Option<Entry>)]) -> rusqlite::Result<()> {
    let mut put = db.prepare_cached(
        "INSERT INTO open_change VALUES (?1, ?2, ?3) ON CONFLICT DO UPDATE SET after = excluded.after",
    )?;
    for (path, after) in changes {
        let after = after.as_ref().map(serde_json::to_string).transpose().map_err(|_| bad_row("after"))?;
        put.execute(params![watch.as_os_str().as_bytes(), path.as_bytes(), after])?;
    }
    Ok(())
}
