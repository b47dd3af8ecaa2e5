//! Forward-secure seals: statements about the ledger's head, each made with a key that is gone afterwards.
//!
//! Epochs are counted, not timed: each seal uses one key up. So the number of seals that there must be follows from the
//! key that is left, and a seal that was removed shows whether fim ran all the time or not. `docs/ledger.md` says what
//! this promises.

mod beside;
mod check;
mod file;
mod key;
#[cfg(test)]
mod tests;

use std::path::Path;

use rusqlite::{Connection, OptionalExtension, Row, params};

pub use beside::Beside;
pub use check::{SealFault, Sealed};
pub use file::{FILE, KeyFile, KeyState};
pub use key::{EpochKey, VerificationKey};

pub(super) use beside::check as check_beside;
pub(super) use check::{Expected, check};

use super::ledger::{Hash, Head, head};
use super::{Store, StoreError, signed, unsigned};

/// Why a seal was made.
pub const STARTED: &str = "started";
pub const TIME: &str = "time";
pub const STOPPED: &str = "stopped";
/// The last one of its setup.
pub const REPLACED: &str = "replaced";

/// One row of the table `seal`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seal {
    /// Names the verification key.
    pub setup: String,
    pub epoch: u64,
    /// Microseconds since the epoch of the clock.
    pub time_us: i64,
    pub reason: String,
    /// The ledger's head at that time.
    pub seq: u64,
    pub hash: Hash,
    /// Digest of what lies beside the ledger; only of a daemon that begins or ends, since it is read whole.
    pub beside: Option<Hash>,
    pub mac: [u8; 32],
}

/// Makes seals: the daemon's.
pub struct Sealer {
    file: KeyFile,
}

impl Sealer {
    /// `None` when sealing is not set up.
    pub fn open(dir: &Path) -> Result<Option<Self>, StoreError> {
        Ok(KeyFile::open(dir)?.map(|file| Self { file }))
    }

    /// Sets sealing up, from the present end of the ledger on. The key is kept nowhere: show it, then drop it. Where
    /// sealing is set up already, the setup before is closed with a last seal.
    pub fn set_up(store: &mut Store, time_us: i64) -> Result<VerificationKey, StoreError> {
        let dir = store.dir().to_path_buf();
        // A key that is damaged cannot make a last seal, and is replaced all the same.
        if let Ok(Some(mut before)) = Self::open(&dir) {
            before.seal(store, time_us, REPLACED)?;
        }
        let key = VerificationKey::generate().map_err(|source| StoreError::dir(&dir, source))?;
        let mut sealer = Self { file: KeyFile::create(&dir, &key)? };
        sealer.seal(store, time_us, STARTED)?;
        Ok(key)
    }

    /// Seals the head and erases the key that did it. The database is on the disk before the key is gone, so a power
    /// cut never leaves a key that is ahead of its seals.
    pub fn seal(&mut self, store: &mut Store, time_us: i64, reason: &str) -> Result<Head, StoreError> {
        // A crash came between a seal and its key's end, or an older copy of the key was put back.
        while store.has_seal(&self.file.state)? {
            self.file.advance()?;
        }
        let state = &self.file.state;
        let sealed = store.durably(true, |store| {
            store.transact("sealing the ledger", |db| {
                let head = head(db)?;
                let mut seal = Seal {
                    setup: state.setup.clone(),
                    epoch: state.epoch,
                    time_us,
                    reason: reason.into(),
                    seq: head.seq,
                    hash: head.hash,
                    beside: if reason == TIME { None } else { beside::digest(db)? },
                    mac: [0; 32],
                };
                seal.mac = state.key.sign(&seal);
                put(db, &seal)?;
                Ok(head)
            })
        })?;
        self.file.advance()?;
        Ok(sealed)
    }
}

impl Store {
    fn has_seal(&self, state: &KeyState) -> Result<bool, StoreError> {
        self.run("reading the seals", |db| {
            db.prepare_cached("SELECT 1 FROM seal WHERE setup = ?1 AND epoch = ?2")?
                .exists(params![state.setup, signed(state.epoch)])
        })
    }

    /// The last seal; `None` before the first.
    pub fn last_seal(&self) -> Result<Option<Seal>, StoreError> {
        self.run("reading the seals", |db| {
            let sql = "SELECT setup, epoch, time_us, reason, seq, hash, beside, mac FROM seal
                       ORDER BY time_us DESC, epoch DESC LIMIT 1";
            db.prepare_cached(sql)?.query_row([], read).optional()
        })
    }
}

fn put(db: &Connection, seal: &Seal) -> rusqlite::Result<()> {
    db.prepare_cached("INSERT INTO seal VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)")?.execute(params![
        seal.setup,
        signed(seal.epoch),
        seal.time_us,
        seal.reason,
        signed(seal.seq),
        seal.hash,
        seal.beside,
        seal.mac
    ])?;
    Ok(())
}

/// Every seal, by setup and epoch.
pub(super) fn all(db: &Connection) -> rusqlite::Result<Vec<Seal>> {
    db.prepare_cached(
        "SELECT setup, epoch, time_us, reason, seq, hash, beside, mac FROM seal ORDER BY setup, epoch",
    )?
    .query_map([], read)?
    .collect()
}

fn read(row: &Row<'_>) -> rusqlite::Result<Seal> {
    Ok(Seal {
        setup: row.get(0)?,
        epoch: row.get(1).map(unsigned)?,
        time_us: row.get(2)?,
        reason: row.get(3)?,
        seq: row.get(4).map(unsigned)?,
        hash: row.get(5)?,
        beside: row.get(6)?,
        mac: row.get(7)?,
    })
}
