//! Walks the hash chain, and holds it against its seals, its checkpoint and its indexes.

mod anchor;
mod rows;
mod walk;

use rusqlite::Connection;
use serde::Serialize;
use std::fmt;

pub use anchor::Anchor;

use super::ledger::Head;
use super::seal::{self, Beside, KeyFile, KeyState, SealFault, Sealed, VerificationKey};
use super::{Store, StoreError};

/// A place where the ledger is not what was written.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Fault {
    /// The record's content, predecessor or hash was altered.
    Altered {
        seq: u64,
    },
    /// A column that queries use does not say what the record says.
    Columns {
        seq: u64,
    },
    /// Records are missing from `seq` on, before the record `next`.
    Missing {
        seq: u64,
        next: u64,
    },
    /// The chain ends at `last`, but went on to `noted` once.
    Truncated {
        last: u64,
        noted: u64,
    },
    /// Every hash is right, but the record `seq` is not the one that was sealed: some after `after` were written anew.
    Rewritten {
        after: u64,
        seq: u64,
    },
    /// The note of the chain's end is missing or does not agree with the chain.
    HeadAltered,
    /// The columns cannot be read as what was written.
    Unreadable {
        after: u64,
    },
    /// What was noted when the ledger was pruned is missing or was altered.
    Checkpoint,
    /// The table `ledger_span`, by which queries find records, was altered.
    Spans {
        id: u64,
    },
    Seal(SealFault),
    /// The record with this number is not the one that an anchor names, or is missing.
    Anchor {
        seq: u64,
    },
    /// What lies beside the ledger is not as it was sealed, and no record says that it changed.
    Beside,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Altered { seq } => write!(f, "record {seq} was altered"),
            Self::Columns { seq } => write!(f, "the columns of record {seq} that queries use were altered"),
            Self::Missing { seq, next } if *next == seq + 1 => write!(f, "record {seq} is missing"),
            Self::Missing { seq, next } => write!(f, "records {seq} to {} are missing", next - 1),
            Self::Truncated { last, noted } => {
                write!(f, "records {} to {noted} are missing from the end", last + 1)
            }
            Self::Rewritten { after, seq } => {
                write!(
                    f,
                    "records between {} and {seq} were written anew after they had been sealed",
                    after + 1
                )
            }
            Self::HeadAltered => f.write_str("the note of the ledger's end was altered"),
            Self::Unreadable { after } => write!(f, "the record after {after} cannot be read"),
            Self::Checkpoint => {
                f.write_str("the note of where the ledger was pruned is missing or was altered")
            }
            Self::Spans { id } => write!(f, "row {id} of the table ledger_span was altered"),
            Self::Seal(fault) => write!(f, "{fault}"),
            Self::Anchor { seq } => write!(
                f,
                "record {seq} is not the one that was carried away: the ledger was written anew from there or before"
            ),
            Self::Beside => f.write_str(
                "a row of baseline, evidence, former or summary was altered since the last seal, and no record says so",
            ),
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct VerifyReport {
    /// Records that were looked at.
    pub checked: u64,
    /// The last record before which nothing is wrong with the chain.
    pub sound: u64,
    #[serde(skip)]
    pub head: Head,
    /// The first fault; `None` when all is sound.
    pub fault: Option<Fault>,
    /// Records that are altered or missing, as far as they can be told.
    pub affected: u64,
    /// The chain begins after this record; 0 when nothing was pruned.
    pub pruned: u64,
    pub sealed: Sealed,
    /// When the last record was made, microseconds since the epoch.
    pub last_time_us: i64,
    /// Anchors that agree; of those before what was pruned nothing can be said.
    pub anchors: u64,
    pub beside: Beside,
}

/// With what to verify.
#[derive(Default)]
pub struct Verification<'a> {
    pub key: Option<&'a VerificationKey>,
    /// Records that were carried away before.
    pub anchors: &'a [Anchor],
    /// Told now and then how many records of how many are done.
    pub progress: Option<&'a mut dyn FnMut(u64, u64)>,
}

impl Store {
    /// Verifies without key and without a word.
    pub fn verify_chain(&self) -> Result<VerifyReport, StoreError> {
        self.verify(Verification::default())
    }

    /// Recomputes every hash and holds it against what the ledger itself, its checkpoint and its seals say.
    pub fn verify(&self, with: Verification<'_>) -> Result<VerifyReport, StoreError> {
        // Read before the seals: a seal that is made meanwhile is then one more, never one too few.
        let key_file = match KeyFile::peek(self.dir()) {
            // A damaged key proves no more than none.
            Err(StoreError::SealKey { .. }) => None,
            state => state?,
        };
        self.run("verifying the ledger", |db| {
            // One state of all tables, however long it takes.
            let tx = db.unchecked_transaction()?;
            let state = Some(key_file.as_ref());
            verify_in(&tx, state, with)
        })
    }
}

/// As [`Store::verify`]; `state`: the key that is left.
pub(super) fn verify_in(
    db: &Connection,
    state: Option<Option<&KeyState>>,
    with: Verification<'_>,
) -> rusqlite::Result<VerifyReport> {
    let (sealed, expected) = seal::check(db, with.key, state);
    let mut report = walk::walk(db, sealed, expected, with.anchors, with.progress)?;
    report.fault = report.fault.or_else(|| report.sealed.fault.clone().map(Fault::Seal));
    if report.fault.is_none() {
        // A table that cannot be read was altered.
        report.beside = seal::check_beside(db).unwrap_or(Beside::Altered);
        report.fault = (report.beside == Beside::Altered).then_some(Fault::Beside);
    }
    Ok(report)
}
