//! Finds records, newest first, without reading them.
//!
//! Spans of the ledger are passed over from the last to the first. Each criterion is a set of numbers that one column may
//! hold; only what all columns leave is a record to be found.

mod block;
mod criteria;
mod plan;
#[cfg(test)]
mod tests;

use std::borrow::Cow;

use rusqlite::{Connection, OptionalExtension};

pub use criteria::{Criteria, Pattern, PatternError};

use super::columns::Who;
use super::ledger::{head, record_id};
use super::retain::Checkpoint;
use super::span::{self, Column, ID_BYTES, SPAN};
use super::{Store, StoreError, signed, unsigned};
use crate::core::event::Record;
use block::Block;
use plan::{Bits, Paths};

impl Store {
    /// The sequence numbers of up to `limit` records that meet all criteria, newest first.
    pub fn find(&self, criteria: &Criteria, limit: usize) -> Result<Vec<u64>, StoreError> {
        self.run("searching the ledger", |db| {
            // One state of all tables.
            let tx = db.unchecked_transaction()?;
            let Some(mut search) = Search::plan(&tx, criteria, limit)? else { return Ok(Vec::new()) };
            search.run()?;
            Ok(search.found)
        })
    }

    /// The records with these numbers, in the same order; those that are not there any more are left out.
    pub fn records_at(&self, seqs: &[u64]) -> Result<Vec<Record>, StoreError> {
        let one =
            |seq: &u64| self.records("SELECT seq, hash, body FROM ledger WHERE seq = ?1 LIMIT ?2", *seq, 1);
        Ok(seqs.iter().map(one).collect::<Result<Vec<_>, _>>()?.into_iter().flatten().collect())
    }

    /// The numbers of up to two records whose id begins with `digits`: four at least, hexadecimal, lower case.
    pub fn find_id(&self, digits: &str) -> Result<Vec<u64>, StoreError> {
        let begins = digits.get(..2 * ID_BYTES).and_then(|digits| u16::from_str_radix(digits, 16).ok());
        let Some(wanted) = begins.map(u16::to_be_bytes) else { return Ok(Vec::new()) };
        let mut found = Vec::new();
        self.run("searching the ledger", |db| {
            let mut check = |seq: u64| -> rusqlite::Result<bool> {
                let id = id_of(db, seq)?;
                if id.is_some_and(|id| id.starts_with(digits)) && !found.contains(&seq) {
                    found.push(seq);
                }
                Ok(found.len() < 2)
            };
            let (checkpoint, end) = (Checkpoint::read(db)?, head(db)?.seq);
            // Those that fill no span yet, then the spans, then what was kept when the ledger was pruned.
            for seq in (span::first(span::full(end))..=end).rev() {
                if !check(seq)? {
                    return Ok(());
                }
            }
            for span in (span::full(checkpoint.head.seq)..span::full(end)).rev() {
                let Some(ids) = span::read(db, span, Column::Id)? else { continue };
                for (seq, id) in (span::first(span)..).zip(ids.chunks_exact(ID_BYTES)) {
                    if id == wanted && !check(seq)? {
                        return Ok(());
                    }
                }
            }
            for (seq, _) in checkpoint.kept {
                if !check(seq)? {
                    return Ok(());
                }
            }
            Ok(())
        })?;
        Ok(found)
    }

    /// Changes when another connection has written.
    pub fn data_version(&self) -> Result<i64, StoreError> {
        self.run("watching the ledger", |db| db.pragma_query_value(None, "data_version", |row| row.get(0)))
    }
}

fn id_of(db: &Connection, seq: u64) -> rusqlite::Result<Option<String>> {
    db.prepare_cached("SELECT hash FROM ledger WHERE seq = ?1")?
        .query_row([signed(seq)], |row| row.get(0).map(|hash| record_id(&hash)))
        .optional()
}

/// One or two columns; a record must have one of the numbers in one of them.
type Named = (&'static [Column], Bits);

/// One search under way.
struct Search<'a> {
    db: &'a Connection,
    criteria: &'a Criteria,
    sets: Vec<Named>,
    /// Only while not all are found out.
    paths: Option<Paths<'a>>,
    limit: usize,
    found: Vec<u64>,
}

impl<'a> Search<'a> {
    /// `None` when nothing can meet the criteria.
    fn plan(db: &'a Connection, criteria: &'a Criteria, limit: usize) -> rusqlite::Result<Option<Self>> {
        let mut sets: Vec<Named> = Vec::new();
        if criteria.by_class() {
            sets.push((&[Column::Class], plan::classes(db, criteria)?));
        }
        if criteria.by_actor() {
            sets.push((&[Column::Actors], plan::actors(db, criteria)?));
        }
        let paths = (!criteria.paths.is_empty()).then(|| Paths::new(db, criteria)).transpose()?;
        let mut search = Self { db, criteria, sets, paths, limit, found: Vec::new() };
        search.arrange();
        Ok((!search.done()).then_some(search))
    }

    /// Paths that are all found out by now are a set like the others. What leaves least comes first.
    fn arrange(&mut self) {
        if let Some(set) = self.paths.as_mut().and_then(Paths::take_known) {
            self.sets.push((&[Column::Path, Column::OldPath], set));
            self.paths = None;
        }
        self.sets.sort_by(|(_, a), (_, b)| a.share().total_cmp(&b.share()));
    }

    fn run(&mut self) -> rusqlite::Result<()> {
        let (checkpoint, end) = (Checkpoint::read(self.db)?, head(self.db)?.seq);
        let (begin, full) = (checkpoint.head.seq, span::full(end));
        let loose = span::first(full).max(begin + 1);
        if loose <= end {
            let block = Block::loose(self.db, loose, end)?;
            self.look(block)?;
        }
        for (id, in_time) in self.spans(span::full(begin), full)? {
            if self.done() {
                return Ok(());
            }
            self.look(Block::of_span(id, begin, in_time))?;
        }
        let kept: Vec<u64> = checkpoint.kept.iter().map(|(seq, _)| *seq).collect();
        for seqs in kept.rchunks(SPAN as usize) {
            if self.done() {
                return Ok(());
            }
            let block = Block::listed(self.db, seqs)?;
            self.look(block)?;
        }
        Ok(())
    }

    fn done(&self) -> bool {
        self.found.len() >= self.limit || self.sets.iter().any(|(_, set)| set.is_empty())
    }

    /// The spans from `first` on and before `end` that may hold records of the time, newest first; and whether all of
    /// theirs are of it.
    fn spans(&self, first: u64, end: u64) -> rusqlite::Result<Vec<(u64, bool)>> {
        if !self.criteria.by_time() {
            return Ok((first..end).rev().map(|id| (id, true)).collect());
        }
        let (since, until) = self.criteria.time_bounds();
        let sql = "SELECT id, min_time_us >= ?1 AND max_time_us <= ?2 FROM ledger_span
                   WHERE max_time_us >= ?1 AND min_time_us <= ?2 AND id BETWEEN ?3 AND ?4 ORDER BY id DESC";
        self.db
            .prepare_cached(sql)?
            .query_map([since, until, signed(first), signed(end) - 1], |row| {
                Ok((row.get(0).map(unsigned)?, row.get(1)?))
            })?
            .collect()
    }

    fn look(&mut self, mut block: Block) -> rusqlite::Result<()> {
        if self.paths.is_some() {
            self.arrange();
        }
        let Self { db, criteria, sets, paths, limit, found } = self;
        for (columns, set) in sets.iter() {
            if !block.keep(db, columns, set)? {
                return Ok(());
            }
        }
        let mut by_path = match paths {
            None => None,
            Some(paths) => Some((block.column(db, Column::Path)?, block.column(db, Column::OldPath)?, paths)),
        };
        let by_time = criteria.by_time() && !block.in_time;
        for place in block.places().iter().rev() {
            if let Some((path, old_path, paths)) = &mut by_path
                && !paths.has(db, path.at(*place))?
                && !paths.has(db, old_path.at(*place))?
            {
                continue;
            }
            let seq = block.seq(*place);
            if !by_time || in_time(db, criteria, seq)? {
                found.push(seq);
                if found.len() >= *limit {
                    break;
                }
            }
        }
        Ok(())
    }
}

/// What a span's bounds do not tell.
fn in_time(db: &Connection, criteria: &Criteria, seq: u64) -> rusqlite::Result<bool> {
    let mut select = db.prepare_cached("SELECT time_us FROM ledger WHERE seq = ?1")?;
    let time: Option<i64> = select.query_row([signed(seq)], |row| row.get(0)).optional()?;
    Ok(time.is_some_and(|time| criteria.in_time(time)))
}

/// What [`Criteria`] see of an actor.
impl<'a> Who<'a> {
    pub(super) fn exe(&self) -> Option<&Cow<'a, str>> {
        self.exe.as_ref()
    }

    pub(super) fn is_user(&self, uid: u32) -> bool {
        [self.uid, self.euid, self.auid].contains(&Some(uid))
    }
}
