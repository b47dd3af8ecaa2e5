//! What lies beside the ledger and has no chain of its own: one digest over all of it, for the seals of a daemon that
//! begins or ends.

use rusqlite::types::ValueRef;
use rusqlite::{Connection, OptionalExtension};
use serde::Serialize;
use sha2::{Digest, Sha256};

use crate::store::ledger::{Hash, head};
use crate::store::{Store, StoreError};

/// All that is covered, in a fixed order. Of the baseline not the identities: they change without a record.
const COVERED: [&str; 4] = [
    "SELECT w.root, b.path, b.type, b.sha256, b.size, b.mode, b.uid, b.gid, b.mtime_ns, b.xattrs, b.target, b.rdev, b.flags
     FROM watch w JOIN baseline b ON b.watch = w.id ORDER BY w.root, b.path",
    "SELECT id, seq, watch, path, sha256, found, reason, fate, fate_time FROM evidence ORDER BY id",
    "SELECT id, watch, path, sha256, size, entry, until, seq FROM former ORDER BY id",
    "SELECT day, kind, severity, verdict, response, watch, user, records FROM summary
     ORDER BY day, kind, severity, verdict, response, watch, user",
];

/// What can be said of it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Beside {
    /// No seal covers the present state: records came since the last that covers one, and they may say why it changed.
    #[default]
    Open,
    /// As it was sealed.
    Sealed,
    /// Altered, though no record says so.
    Altered,
}

/// `None` while pruned records are still being removed: then it changes without a record.
pub(super) fn digest(db: &Connection) -> rusqlite::Result<Option<Hash>> {
    let removing = "SELECT 1 FROM ledger l WHERE l.seq <= (SELECT seq FROM pruned ORDER BY id DESC LIMIT 1)
                    AND NOT EXISTS (SELECT 1 FROM pruned_kept k WHERE k.seq = l.seq)";
    if db.prepare_cached(removing)?.exists([])? {
        return Ok(None);
    }
    let mut hasher = Sha256::new();
    for sql in COVERED {
        let mut select = db.prepare(sql)?;
        let columns = select.column_count();
        let mut rows = select.query([])?;
        while let Some(row) = rows.next()? {
            for column in 0..columns {
                add(&mut hasher, row.get_ref(column)?);
            }
        }
        hasher.update(b"end");
    }
    Ok(Some(hasher.finalize().into()))
}

/// With its type and length, so that no two rows of values look the same.
fn add(hasher: &mut Sha256, value: ValueRef<'_>) {
    let mut bytes = |kind: u8, bytes: &[u8]| {
        hasher.update([kind]);
        hasher.update((bytes.len() as u64).to_be_bytes());
        hasher.update(bytes);
    };
    match value {
        ValueRef::Null => bytes(b'n', &[]),
        ValueRef::Integer(n) => bytes(b'i', &n.to_be_bytes()),
        ValueRef::Real(n) => bytes(b'r', &n.to_be_bytes()),
        ValueRef::Text(text) => bytes(b't', text),
        ValueRef::Blob(blob) => bytes(b'b', blob),
    }
}

/// Holds it against the last seal that covers it.
pub(in crate::store) fn check(db: &Connection) -> rusqlite::Result<Beside> {
    let sql = "SELECT beside FROM seal WHERE seq = ?1 AND beside IS NOT NULL ORDER BY time_us DESC, epoch DESC LIMIT 1";
    let seq = head(db)?.seq.cast_signed();
    let sealed: Option<Vec<u8>> = db.prepare_cached(sql)?.query_row([seq], |row| row.get(0)).optional()?;
    let Some(sealed) = sealed else { return Ok(Beside::Open) };
    Ok(match digest(db)? {
        Some(now) if now[..] == sealed[..] => Beside::Sealed,
        _ => Beside::Altered,
    })
}

impl Store {
    /// Whether what lies beside the ledger is as the last seal has it.
    pub fn beside(&self) -> Result<Beside, StoreError> {
        self.run("comparing the baseline and the evidence with the last seal", |db| {
            let tx = db.unchecked_transaction()?;
            check(&tx)
        })
    }
}
