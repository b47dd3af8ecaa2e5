//! The ledger of a period, told to an auditor: what was watched, what changed, by whom, and whether the record is whole.
//!
//! Gathering reads the database; everything after it is pure: one [`Report`] becomes a page, an object or a table.

mod chart;
mod controls;
mod coverage;
pub mod csv;
pub mod html;
mod packages;
mod tally;
#[cfg(test)]
mod tests;

use serde::Serialize;

pub use controls::{Control, Standing};
pub use coverage::{Coverage, Gap, Run, WatchCoverage};
pub use tally::{Change, Counts, Day, Share, Tally};

use crate::config::Config;
use crate::core::event::{EventKind, Record, rfc3339};
use crate::store::query::Criteria;
use crate::store::{Store, StoreError, Verification};

/// Records read from the ledger at once.
const PAGE: usize = 4_096;

/// Calls `work` for every record that meets the criteria, oldest first.
fn each<E: From<StoreError>>(
    store: &Store,
    criteria: &Criteria,
    mut work: impl FnMut(&Record) -> Result<(), E>,
) -> Result<(), E> {
    let mut found = store.find(criteria, usize::MAX)?;
    found.reverse();
    for page in found.chunks(PAGE) {
        store.records_at(page)?.iter().try_for_each(&mut work)?;
    }
    Ok(())
}

/// The time that is told of, nanoseconds since the epoch: from `since` on, before `until`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Period {
    pub since_ns: i64,
    pub until_ns: i64,
}

impl Period {
    /// RFC 3339 in UTC, which sorts.
    fn times(self) -> (String, String) {
        (rfc3339(self.since_ns), rfc3339(self.until_ns))
    }

    /// What finds its records, and a few at its ends.
    fn criteria(self) -> Criteria {
        Criteria {
            since_us: Some(self.since_ns.div_euclid(1_000)),
            until_us: Some(self.until_ns.div_euclid(1_000)),
            ..Criteria::default()
        }
    }
}

#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Report {
    pub host: String,
    pub version: &'static str,
    /// RFC 3339, as all times here.
    pub generated: String,
    pub since: String,
    pub until: String,
    pub coverage: Coverage,
    pub changes: Tally,
    pub by_package: Vec<Share>,
    pub chain: Chain,
    pub controls: Vec<Control>,
}

/// What a walk over the whole ledger says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Chain {
    /// Records that are as they were written, from the first on.
    pub sound: u64,
    /// Hash of the last of them, hexadecimal.
    pub head: String,
    pub fault: Option<String>,
}

impl Report {
    /// Reads the whole ledger once for its chain, and by their time and kind the records that it tells of.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub fn gather(store: &Store, config: &Config, period: Period, now_ns: i64) -> Result<Self, StoreError> {
        Self::gather_telling(store, config, period, now_ns, &mut |_, _| {})
    }

    /// As [`Self::gather`]; `tell` hears how many records were read of about how many.
    pub fn gather_telling(
        store: &Store,
        config: &Config,
        period: Period,
        now_ns: i64,
        tell: &mut dyn FnMut(u64, u64),
    ) -> Result<Self, StoreError> {
        // The ledger is read twice: for what it tells, and for its chain.
        let head = store.ledger_head()?.seq;
        let (since, until) = period.times();
        let mut changes = Tally::default();
        each(store, &period.criteria(), |record| {
            tell(record.seq, 2 * head);
            if record.event.time >= since && record.event.time < until {
                changes.take(record);
            }
            Ok::<(), StoreError>(())
        })?;
        changes.finish();
        // What began before the period may reach into it.
        let mut telling = |done: u64, _: u64| tell(head + done, 2 * head);
        let verified =
            store.verify(Verification { progress: Some(&mut telling), ..Verification::default() })?;
        let first = match verified.pruned {
            0 => None,
            pruned => store.ledger_after(pruned, 1)?.pop().map(|record| record.event.time),
        };
        let mut watching = coverage::Watching::since(first);
        let of_watching = Criteria { kinds: coverage::KINDS.to_vec(), ..Criteria::default() };
        each(store, &of_watching, |record| {
            if record.event.kind == EventKind::Started {
                // The last sign of the life before.
                let before = store.records_at(&[record.seq.saturating_sub(1)])?;
                before.iter().for_each(|record| watching.seen(record));
            }
            watching.take(record);
            Ok::<(), StoreError>(())
        })?;
        let coverage = coverage::gather(store, config, watching, (&since, &until))?;
        let chain = Chain {
            sound: verified.sound,
            head: crate::core::entry::Digest(verified.head.hash).to_string(),
            fault: verified.fault.map(|fault| fault.to_string()),
        };
        let by_package = packages::Packages::of_this_host().shares(&changes.by_path);
        let controls = controls::assess(config, &coverage, &changes, &chain);
        Ok(Self {
            host: crate::daemon::host(),
            version: env!("CARGO_PKG_VERSION"),
            generated: rfc3339(now_ns),
            since,
            until,
            coverage,
            changes,
            by_package,
            chain,
            controls,
        })
    }
}
