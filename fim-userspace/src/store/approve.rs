//! What a person decides, as one transaction each: the baseline, what was approved before, the record.

use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rusqlite::{Connection, params};

use super::error::explain;
use super::evidence::put_evidence;
use super::versions::put_former;
use super::{EvidenceRow, IntentId, Store, StoreError, bad_row};
use crate::core::entry::Found;
use crate::core::event::{Event, Record};
use crate::core::path::RelPath;
use crate::core::quarantine::Fate;

/// What becomes of the baseline entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Baseline {
    Keep,
    Put(Found),
    /// This very path; what is below it has approvals of its own.
    Remove,
}

/// One decision about one path.
#[derive(Clone, Debug)]
pub struct Approval {
    pub watch: PathBuf,
    pub path: RelPath,
    pub baseline: Baseline,
    pub event: Event,
    /// What was taken out of the place on the way.
    pub evidence: Vec<EvidenceRow>,
    pub closes: Option<IntentId>,
    /// The row of `evidence` that was put back.
    pub released: Option<i64>,
}

/// What an authorised change makes the approved state of one path.
#[derive(Clone, Debug)]
pub struct Approved {
    pub watch: PathBuf,
    pub path: RelPath,
    pub baseline: Baseline,
}

/// A watch that gets a baseline.
pub struct NewWatch<'a> {
    pub event: Event,
    pub root: &'a Path,
    pub entries: &'a [(RelPath, Found)],
}

/// A row of `evidence` whose content goes, and the record of it.
#[derive(Clone, Debug)]
pub struct Purge {
    pub id: i64,
    pub event: Event,
}

impl Store {
    /// Carries out a decision: the baseline entry, the former one among the former, the record with its evidence; what was
    /// open about the path no longer is. All of it or nothing.
    pub fn approve(&mut self, approval: &Approval) -> Result<Record, StoreError> {
        let one = self.append_in(std::slice::from_ref(&approval.event), |db, records| {
            let record = first(records)?;
            rewrite(db, (&approval.watch, &approval.path), &approval.baseline, record)?;
            approval.evidence.iter().try_for_each(|row| put_evidence(db, record.seq, row))?;
            let root = approval.watch.as_os_str().as_bytes();
            db.prepare_cached("DELETE FROM open_change WHERE watch = ?1 AND path = ?2")?
                .execute(params![root, approval.path.as_bytes()])?;
            if let Some(id) = approval.released {
                decide(db, id, Fate::Released, &record.event.time)?;
            }
            if let Some(intent) = approval.closes {
                db.prepare_cached("DELETE FROM intent WHERE id = ?1")?.execute([intent.0])?;
            }
            Ok(())
        })?;
        first(&one).cloned().map_err(|e| explain(&self.file, "writing what was approved", e))
    }

    /// Approves watches that had no baseline, each with its record: all of it or nothing. What is approved already under one
    /// of the paths stays.
    pub fn approve_watches(&mut self, new: &[NewWatch<'_>]) -> Result<Vec<Record>, StoreError> {
        let events: Vec<Event> = new.iter().map(|new| new.event.clone()).collect();
        self.append_in(&events, |db, _| {
            new.iter().try_for_each(|new| super::baseline::put_new(db, new.root, new.entries))
        })
    }

    /// Notes that the content of these rows goes, each with a record. The content itself is removed afterwards.
    pub fn purge(&mut self, purges: &[Purge]) -> Result<Vec<Record>, StoreError> {
        let events: Vec<Event> = purges.iter().map(|purge| purge.event.clone()).collect();
        self.append_in(&events, |db, records| {
            purges
                .iter()
                .zip(records)
                .try_for_each(|(purge, record)| decide(db, purge.id, Fate::Purged, &record.event.time))
        })
    }
}

fn first(records: &[Record]) -> rusqlite::Result<&Record> {
    records.first().ok_or_else(|| bad_row("seq"))
}

fn decide(db: &Connection, id: i64, fate: Fate, time: &str) -> rusqlite::Result<()> {
    let sql = "UPDATE evidence SET fate = ?2, fate_time = ?3 WHERE id = ?1";
    db.prepare_cached(sql)?.execute(params![id, fate.as_str(), time]).map(drop)
}

/// Makes the baseline entry what `baseline` says; what was approved before becomes a former version.
pub(super) fn rewrite(
    db: &Connection,
    (watch, path): (&Path, &RelPath),
    baseline: &Baseline,
    record: &Record,
) -> rusqlite::Result<()> {
    let root = watch.as_os_str().as_bytes();
    let before = super::baseline::get(db, watch, path)?;
    let entry = match baseline {
        Baseline::Keep => return Ok(()),
        Baseline::Put(found) => {
            super::baseline::put(db, watch, &[(path.clone(), found.clone())])?;
            Some(&found.entry)
        }
        Baseline::Remove => {
            let sql = format!("DELETE FROM baseline WHERE {} AND path = ?2", super::baseline::OF_WATCH);
            db.prepare_cached(&sql)?.execute(params![root, path.as_bytes()])?;
            None
        }
    };
    let Some(before) = before.map(|b| b.entry).filter(|b| Some(b) != entry) else { return Ok(()) };
    put_former(db, watch, path, &before, &record.event.time, Some(record.seq))
}
