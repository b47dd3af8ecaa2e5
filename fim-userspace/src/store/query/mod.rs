//! Finds records, newest first, without reading the others.
//!
//! Each criterion becomes a stream of sequence numbers in falling order, read from an index; their intersection is what
//! was asked for. So the work grows with what is found and not with the ledger.

mod criteria;
mod stream;
#[cfg(test)]
mod tests;

use std::borrow::Cow;
use std::collections::VecDeque;

use rusqlite::{Connection, OptionalExtension, params};

pub use criteria::{Criteria, Pattern, PatternError};

use super::columns::{Who, parse_who};
use super::ledger::{head, record_id};
use super::retain::Checkpoint;
use super::span::{self, ID_BYTES, SPAN};
use super::{Store, StoreError, signed, unsigned};
use crate::core::event::Record;
use stream::{Key, Stream};

/// Index entries of paths that are gathered and sorted.
const GATHERED: usize = if cfg!(test) { 40 } else { 5_000 };
/// Distinct paths whose records are merged.
const MERGED: usize = if cfg!(test) { 5 } else { 500 };

impl Store {
    /// The sequence numbers of up to `limit` records that meet all criteria, newest first.
    pub fn find(&self, criteria: &Criteria, limit: usize) -> Result<Vec<u64>, StoreError> {
        self.run("searching the ledger", |db| {
            let Some(mut search) = Search::plan(db, criteria)? else { return Ok(Vec::new()) };
            let mut found = Vec::new();
            while found.len() < limit
                && let Some(seq) = search.next(db, criteria)?
            {
                found.push(seq);
            }
            Ok(found)
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
            let end = head(db)?.seq;
            // Those that fill no span yet, then the spans, then what was kept when the ledger was pruned.
            for seq in (span::of(end + 1) * SPAN..=end).rev() {
                if !check(seq)? {
                    return Ok(());
                }
            }
            let mut spans = db.prepare_cached("SELECT id, ids FROM ledger_span ORDER BY id DESC")?;
            let mut rows = spans.query([])?;
            while let Some(row) = rows.next()? {
                let first = row.get(0).map(unsigned)? * SPAN;
                // Number 0 is none.
                let first = first.max(1);
                let ids = row.get_ref(1)?.as_blob()?;
                for (seq, id) in (first..).zip(ids.chunks_exact(ID_BYTES)) {
                    if id == wanted && !check(seq)? {
                        return Ok(());
                    }
                }
            }
            for (seq, _) in Checkpoint::read(db)?.kept {
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

/// One search under way.
struct Search {
    streams: Vec<Stream>,
    /// Paths are compared row by row: too many of them for an index.
    by_path: bool,
    /// Numbers above are done with.
    at: u64,
}

impl Search {
    /// `None` when nothing can meet the criteria.
    fn plan(db: &Connection, criteria: &Criteria) -> rusqlite::Result<Option<Self>> {
        let mut streams = Vec::new();
        let at = head(db)?.seq;
        if criteria.by_class() {
            let keys = classes(db, criteria)?;
            if keys.is_empty() {
                return Ok(None);
            }
            streams.push(Stream::merge(keys));
        }
        if criteria.by_actor() {
            let keys = actors(db, criteria)?;
            if keys.is_empty() {
                return Ok(None);
            }
            streams.push(Stream::merge(keys));
        }
        let mut by_path = false;
        if !criteria.paths.is_empty() {
            match paths(db, criteria)? {
                Some(stream) => streams.push(stream),
                None => by_path = true,
            }
        }
        if streams.is_empty() {
            streams.push(Stream::merge(vec![Key::All]));
        }
        if criteria.by_time() {
            streams.push(Stream::Ranges(ranges(db, criteria, at)?));
        }
        Ok(Some(Self { streams, by_path, at }))
    }

    fn next(&mut self, db: &Connection, criteria: &Criteria) -> rusqlite::Result<Option<u64>> {
        while let Some(seq) = self.meet(db)? {
            self.at = seq.saturating_sub(1);
            if self.check(db, criteria, seq)? {
                return Ok(Some(seq));
            }
        }
        Ok(None)
    }

    /// The next number that all streams hold.
    fn meet(&mut self, db: &Connection) -> rusqlite::Result<Option<u64>> {
        let mut seq = self.at;
        let mut agreed = 0;
        let count = self.streams.len();
        while agreed < count {
            for stream in &mut self.streams {
                if seq == 0 {
                    return Ok(None);
                }
                match stream.seek(db, seq)? {
                    None => {
                        self.at = 0;
                        return Ok(None);
                    }
                    Some(found) if found == seq => agreed += 1,
                    Some(found) => (seq, agreed) = (found, 1),
                }
                if agreed >= count {
                    break;
                }
            }
        }
        Ok(Some(seq))
    }

    /// What no stream can tell.
    fn check(&self, db: &Connection, criteria: &Criteria, seq: u64) -> rusqlite::Result<bool> {
        if !self.by_path && !criteria.by_time() {
            return Ok(true);
        }
        let sql = "SELECT time_us, path, old_path FROM ledger WHERE seq = ?1";
        let mut select = db.prepare_cached(sql)?;
        let mut rows = select.query([signed(seq)])?;
        let Some(row) = rows.next()? else { return Ok(false) };
        let path = |column| row.get_ref(column).and_then(|value| Ok(value.as_str_or_null()?));
        Ok(criteria.in_time(row.get(0)?) && (!self.by_path || criteria.has_path(path(1)?, path(2)?)))
    }
}

fn classes(db: &Connection, criteria: &Criteria) -> rusqlite::Result<Vec<Key>> {
    let mut select = db.prepare_cached("SELECT id, kind, severity, verdict FROM ledger_class")?;
    let mut rows = select.query([])?;
    let mut keys = Vec::new();
    while let Some(row) = rows.next()? {
        let text = |column| row.get_ref(column).and_then(|value| Ok(value.as_str()?));
        if criteria.has_class(text(1)?, text(2)?, text(3)?) {
            keys.push(Key::Class(row.get(0)?));
        }
    }
    Ok(keys)
}

fn actors(db: &Connection, criteria: &Criteria) -> rusqlite::Result<Vec<Key>> {
    let mut select = db.prepare_cached("SELECT id, who FROM ledger_actors")?;
    let mut rows = select.query([])?;
    let mut keys = Vec::new();
    while let Some(row) = rows.next()? {
        if criteria.has_actor(parse_who(row.get_ref(1)?.as_str()?)) {
            keys.push(Key::Actors(row.get(0)?));
        }
    }
    Ok(keys)
}

/// `None` when there are too many paths and too many records of them.
fn paths(db: &Connection, criteria: &Criteria) -> rusqlite::Result<Option<Stream>> {
    let gathered = gather(db, criteria)?;
    if gathered.is_some() {
        return Ok(gathered.map(Stream::listed));
    }
    let mut keys = Vec::new();
    for pattern in &criteria.paths {
        for (sql, old) in [(NEXT_PATH, false), (NEXT_OLD_PATH, true)] {
            let (mut from, until) = pattern.bounds();
            let mut select = db.prepare_cached(sql)?;
            let mut tried = 0;
            while let Some(path) =
                select.query_row(params![from, until], |row| row.get::<_, String>(0)).optional()?
            {
                tried += 1;
                if tried > MERGED {
                    return Ok(None);
                }
                // The next text in the order of bytes.
                from = format!("{path}\0");
                if pattern.matches(&path) {
                    keys.push(if old { Key::OldPath(path) } else { Key::Path(path) });
                }
            }
        }
    }
    Ok(Some(Stream::merge(keys)))
}

const NEXT_PATH: &str = "SELECT path FROM ledger WHERE path >= ?1 AND path < ?2 ORDER BY path LIMIT 1";
const NEXT_OLD_PATH: &str =
    "SELECT old_path FROM ledger WHERE old_path >= ?1 AND old_path < ?2 ORDER BY old_path LIMIT 1";
const RANGE: &str = "SELECT path, seq FROM ledger WHERE path >= ?1 AND path < ?2 ORDER BY path";
const COUNT: &str = "SELECT count(*) FROM (SELECT 1 FROM ledger WHERE path >= ?1 AND path < ?2 LIMIT ?3)";
const OLD_RANGE: &str =
    "SELECT old_path, seq FROM ledger WHERE old_path >= ?1 AND old_path < ?2 ORDER BY old_path";

/// All records of the paths, if they are few.
fn gather(db: &Connection, criteria: &Criteria) -> rusqlite::Result<Option<Vec<u64>>> {
    let mut found = Vec::new();
    let mut read = 0;
    for pattern in &criteria.paths {
        let (from, until) = pattern.bounds();
        read += db
            .prepare_cached(COUNT)?
            .query_row(params![from, until, GATHERED as i64 + 1], |row| row.get::<_, i64>(0))?;
    }
    if read > GATHERED as i64 {
        return Ok(None);
    }
    let mut read = 0;
    for pattern in &criteria.paths {
        let (from, until) = pattern.bounds();
        for sql in [RANGE, OLD_RANGE] {
            let mut select = db.prepare_cached(sql)?;
            let mut rows = select.query(params![from, until])?;
            while let Some(row) = rows.next()? {
                read += 1;
                if read > GATHERED {
                    return Ok(None);
                }
                if pattern.matches(row.get_ref(0)?.as_str()?) {
                    found.push(unsigned(row.get(1)?));
                }
            }
        }
    }
    Ok(Some(found))
}

/// Where in the ledger the times lie, newest first.
fn ranges(db: &Connection, criteria: &Criteria, end: u64) -> rusqlite::Result<VecDeque<(u64, u64)>> {
    let (since, until) = criteria.time_bounds();
    let mut ranges = VecDeque::from([(span::of(end + 1) * SPAN, end)]);
    let sql = "SELECT id FROM ledger_span WHERE max_time_us >= ?1 AND min_time_us <= ?2 ORDER BY id DESC";
    let mut select = db.prepare_cached(sql)?;
    let mut rows = select.query([since, until])?;
    while let Some(row) = rows.next()? {
        let first = row.get(0).map(unsigned)? * SPAN;
        ranges.push_back((first, first + SPAN - 1));
    }
    // Of what was kept when the ledger was pruned the times are not noted.
    ranges.push_back((0, Checkpoint::read(db)?.head.seq));
    Ok(ranges)
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
