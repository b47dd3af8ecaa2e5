//! From criteria to numbers: which of what is named once is asked for.

use rusqlite::{Connection, OptionalExtension, params};

use super::criteria::Criteria;
use crate::store::columns::Who;
use crate::store::unsigned;

/// Paths that are read to begin with: often these are all that can be meant.
const READ: usize = if cfg!(test) { 3 } else { 4_096 };
/// Paths that are looked up one by one, newest record first, before all others are read.
const TRIED: usize = if cfg!(test) { 3 } else { 1_024 };

/// A set of numbers.
#[derive(Default)]
pub(super) struct Bits(Vec<u64>);

impl Bits {
    pub fn add(&mut self, number: u64) {
        let word = (number / 64) as usize;
        if word >= self.0.len() {
            // Numbers are counted from 1 without gaps; beyond 2^33 of them the database would be larger than any disk.
            if word > 1 << 27 {
                return;
            }
            self.0.resize(word + 1, 0);
        }
        self.0[word] |= 1 << (number % 64);
    }

    pub fn has(&self, number: u64) -> bool {
        self.0.get((number / 64) as usize).is_some_and(|word| word >> (number % 64) & 1 == 1)
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// How many of the numbers up to the largest are in it, 0 to 1.
    pub fn share(&self) -> f64 {
        let count: u32 = self.0.iter().map(|word| word.count_ones()).sum();
        f64::from(count) / (64 * self.0.len()) as f64
    }
}

pub(super) fn classes(db: &Connection, criteria: &Criteria) -> rusqlite::Result<Bits> {
    let mut select = db.prepare_cached("SELECT id, kind, severity, verdict FROM ledger_class")?;
    let mut rows = select.query([])?;
    let mut found = Bits::default();
    while let Some(row) = rows.next()? {
        let text = |column| row.get_ref(column).and_then(|value| Ok(value.as_str()?));
        if criteria.has_class(text(1)?, text(2)?, text(3)?) {
            found.add(row.get(0).map(unsigned)?);
        }
    }
    Ok(found)
}

pub(super) fn actors(db: &Connection, criteria: &Criteria) -> rusqlite::Result<Bits> {
    let sql = "SELECT a.id, a.uid, a.gid, a.euid, a.auid, e.path FROM actor a LEFT JOIN executable e ON e.id = a.exe";
    let mut select = db.prepare_cached(sql)?;
    let mut rows = select.query([])?;
    let mut single = Bits::default();
    while let Some(row) = rows.next()? {
        let exe = row.get_ref(5)?.as_str_or_null()?.map(Into::into);
        let who = Who { uid: row.get(1)?, gid: row.get(2)?, euid: row.get(3)?, auid: row.get(4)?, exe };
        if criteria.has_actor(std::iter::once(who)) {
            single.add(row.get(0).map(unsigned)?);
        }
    }
    let mut found = Bits::default();
    if single.is_empty() {
        return Ok(found);
    }
    let mut select = db.prepare_cached("SELECT id, actors FROM ledger_actors")?;
    let mut rows = select.query([])?;
    while let Some(row) = rows.next()? {
        let ids: Vec<u64> = serde_json::from_str(row.get_ref(1)?.as_str()?).unwrap_or_default();
        if ids.iter().any(|id| single.has(*id)) {
            found.add(row.get(0).map(unsigned)?);
        }
    }
    Ok(found)
}

/// Which paths are meant, found out as far as it is needed: few, or those that records name, or in the end all.
pub(super) struct Paths<'a> {
    criteria: &'a Criteria,
    yes: Bits,
    no: Bits,
    /// Where the reading of each pattern's range goes on.
    ranges: Vec<(String, String)>,
    tried: usize,
}

impl<'a> Paths<'a> {
    pub fn new(db: &Connection, criteria: &'a Criteria) -> rusqlite::Result<Self> {
        let ranges = criteria.paths.iter().rev().map(|pattern| pattern.bounds()).collect();
        let mut paths = Self { criteria, yes: Bits::default(), no: Bits::default(), ranges, tried: 0 };
        paths.read(db, READ)?;
        Ok(paths)
    }

    /// All that are meant, if they were found out already.
    pub fn take_known(&mut self) -> Option<Bits> {
        self.ranges.is_empty().then(|| std::mem::take(&mut self.yes))
    }

    pub fn has(&mut self, db: &Connection, id: u64) -> rusqlite::Result<bool> {
        if id == 0 || self.ranges.is_empty() || self.yes.has(id) {
            return Ok(self.yes.has(id));
        }
        if self.no.has(id) {
            return Ok(false);
        }
        self.tried += 1;
        if self.tried > TRIED {
            self.read(db, usize::MAX)?;
            return Ok(self.yes.has(id));
        }
        let mut select = db.prepare_cached("SELECT path FROM ledger_path WHERE id = ?1")?;
        let found = select
            .query_row([id.cast_signed()], |row| {
                Ok(self.criteria.has_path(Some(row.get_ref(0)?.as_str()?), None))
            })
            .optional()?
            .unwrap_or_default();
        if found {
            self.yes.add(id)
        } else {
            self.no.add(id)
        }
        Ok(found)
    }

    /// Reads so many more paths of the ranges.
    fn read(&mut self, db: &Connection, mut many: usize) -> rusqlite::Result<()> {
        while let Some((from, until)) = self.ranges.pop() {
            let mut select = db.prepare_cached(RANGE)?;
            let mut rows = select.query(params![from, until])?;
            while let Some(row) = rows.next()? {
                let path = row.get_ref(0)?.as_str()?;
                if many == 0 {
                    self.ranges.push((path.to_owned(), until));
                    return Ok(());
                }
                many -= 1;
                if self.criteria.has_path(Some(path), None) {
                    self.yes.add(row.get(1).map(unsigned)?);
                }
            }
        }
        Ok(())
    }
}

pub(super) const RANGE: &str =
    "SELECT path, id FROM ledger_path WHERE path >= ?1 AND path < ?2 ORDER BY path";
