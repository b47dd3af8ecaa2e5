//! Walks the hash chain.

use std::fmt;

use super::ledger::{Hash, Head, link};
use super::{Store, StoreError, unsigned};
use crate::core::entry::Digest;
use crate::core::event::Event;

/// The first place where the ledger is not what was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The record's content, predecessor or hash was altered.
    Altered { seq: u64 },
    /// Records are missing from `seq` on, before the record `next`.
    Missing { seq: u64, next: u64 },
    /// The chain ends at `last`, but went on to `noted` once.
    Truncated { last: u64, noted: u64 },
    /// The note of the chain's end is missing or does not agree with the chain.
    HeadAltered,
    /// The columns cannot be read as what was written.
    Unreadable { after: u64 },
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Altered { seq } => write!(f, "record {seq} was altered"),
            Self::Missing { seq, next } if *next == seq + 1 => write!(f, "record {seq} is missing"),
            Self::Missing { seq, next } => write!(f, "records {seq} to {} are missing", next - 1),
            Self::Truncated { last, noted } => {
                write!(f, "records {} to {noted} are missing from the end", last + 1)
            }
            Self::HeadAltered => f.write_str("the note of the ledger's end was altered"),
            Self::Unreadable { after } => write!(f, "the record after {after} cannot be read"),
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VerifyReport {
    /// Records that are as they were written, from the first on.
    pub sound: u64,
    pub head: Head,
    /// The first fault; `None` when all is sound.
    pub fault: Option<Fault>,
}

impl Store {
    /// Recomputes every hash from the first record on, and stops at the first fault.
    pub fn verify_chain(&self) -> Result<VerifyReport, StoreError> {
        let noted = self.meta_get("ledger_head")?;
        let mut last = Head::EMPTY;
        let fault = self.run("verifying the ledger", |db| {
            let mut select = db.prepare_cached("SELECT seq, body, prev, hash FROM ledger ORDER BY seq")?;
            let mut rows = select.query([])?;
            while let Some(row) = rows.next()? {
                let read = || -> rusqlite::Result<(i64, String, Hash, Hash)> {
                    Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?))
                };
                let Ok((seq, body, prev, hash)) = read() else {
                    return Ok(Some(Fault::Unreadable { after: last.seq }));
                };
                let seq = unsigned(seq);
                if seq != last.seq + 1 {
                    let fault = match seq.checked_sub(last.seq + 1) {
                        // A negative or zero number was slipped in before the first record.
                        None => Fault::Altered { seq },
                        Some(_) if seq > i64::MAX as u64 => Fault::Altered { seq },
                        Some(_) => Fault::Missing { seq: last.seq + 1, next: seq },
                    };
                    return Ok(Some(fault));
                }
                let readable = serde_json::from_str::<Event>(&body).is_ok();
                if prev != last.hash || hash != link(&prev, seq, &body) || !readable {
                    return Ok(Some(Fault::Altered { seq }));
                }
                last = Head { seq, hash };
            }
            Ok(None)
        })?;
        let fault = fault.or_else(|| check_end(last, noted.as_deref()));
        Ok(VerifyReport { sound: last.seq, head: last, fault })
    }
}

fn check_end(last: Head, noted: Option<&str>) -> Option<Fault> {
    let Some(text) = noted else {
        return (last.seq != 0).then_some(Fault::HeadAltered);
    };
    let parsed =
        text.split_once(' ').and_then(|(seq, hex)| Some((seq.parse::<u64>().ok()?, Digest::from_hex(hex)?)));
    match parsed {
        Some((seq, hash)) if seq == last.seq && hash.0 == last.hash => None,
        Some((seq, _)) if seq > last.seq => Some(Fault::Truncated { last: last.seq, noted: seq }),
        _ => Some(Fault::HeadAltered),
    }
}
