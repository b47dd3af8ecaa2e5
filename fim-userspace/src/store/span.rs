//! Spans of the ledger: what queries look for, column by column, [`SPAN`] records at a time.
//!
//! An index on each column would touch pages all over the database for every record. A span is written once, when it is
//! full, and a search passes over ten million records of one column in some milliseconds.

use rusqlite::{Connection, OptionalExtension, params};
use sha2::{Digest, Sha256};

use super::ledger::Hash;
use super::{bad_row, signed};

/// Records in a span: number n holds the records from `n * SPAN + 1` to `n * SPAN + SPAN`.
/// Unit tests have few records and want many spans.
pub(super) const SPAN: u64 = if cfg!(test) { 16 } else { 4096 };

/// Bytes of each id that a span keeps.
pub(super) const ID_BYTES: usize = 2;

/// Columns that the table `ledger_column` has room for in each span.
const ROOM: u64 = 8;

/// Its row's number is `ROOM * span + column`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Column {
    /// The first [`ID_BYTES`] of each record's id.
    Id = 0,
    Class = 1,
    Actors = 2,
    Path = 3,
    OldPath = 4,
}

pub(super) const COLUMNS: [Column; 5] =
    [Column::Id, Column::Class, Column::Actors, Column::Path, Column::OldPath];

/// What is stored of one record beside its body; 0 stands for none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Stored {
    pub time_us: i64,
    /// The first bytes of its id.
    pub id: u16,
    pub class: u64,
    pub actors: u64,
    pub path: u64,
    pub old_path: u64,
}

/// The columns of [`Stored`] in the table `ledger`; [`stored`] reads them.
pub(super) const STORED: &str =
    "time_us, substr(hash, 1, 2), class, ifnull(actors, 0), ifnull(path_id, 0), ifnull(old_path_id, 0)";

/// Reads [`STORED`] from the column `from` on.
pub(super) fn stored(row: &rusqlite::Row<'_>, from: usize) -> rusqlite::Result<Stored> {
    let number = |column: usize| row.get::<_, i64>(from + column).map(super::unsigned);
    let id = row.get_ref(from + 1)?.as_blob()?;
    Ok(Stored {
        time_us: row.get(from)?,
        id: id.try_into().map(u16::from_be_bytes).map_err(|_| bad_row("hash"))?,
        class: number(2)?,
        actors: number(3)?,
        path: number(4)?,
        old_path: number(5)?,
    })
}

pub(super) fn id_of(hash: &Hash) -> u16 {
    u16::from_be_bytes([hash[0], hash[1]])
}

/// A span as its records make it.
#[derive(Clone, Debug)]
pub(super) struct Span {
    pub min_time_us: i64,
    pub max_time_us: i64,
    records: Vec<Stored>,
}

/// What tells one span's rows from another's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Print {
    min_time_us: i64,
    max_time_us: i64,
    digest: Hash,
}

impl Span {
    /// Of so many records, of which none is known yet.
    pub fn new(records: usize) -> Self {
        Self { min_time_us: i64::MAX, max_time_us: i64::MIN, records: vec![Stored::default(); records] }
    }

    /// The record at `place`, from 0.
    pub fn set(&mut self, place: usize, record: Stored) {
        self.min_time_us = self.min_time_us.min(record.time_us);
        self.max_time_us = self.max_time_us.max(record.time_us);
        if let Some(there) = self.records.get_mut(place) {
            *there = record;
        }
    }

    pub fn len(&self) -> usize {
        self.records.len()
    }

    pub fn column(&self, column: Column) -> Vec<u8> {
        let of: fn(&Stored) -> u64 = match column {
            Column::Id => return self.records.iter().flat_map(|r| r.id.to_be_bytes()).collect(),
            Column::Class => |r| r.class,
            Column::Actors => |r| r.actors,
            Column::Path => |r| r.path,
            Column::OldPath => |r| r.old_path,
        };
        pack(self.records.iter().map(of))
    }

    pub fn print(&self) -> Print {
        let columns = COLUMNS.map(|column| self.column(column));
        Print { min_time_us: self.min_time_us, max_time_us: self.max_time_us, digest: digest(&columns) }
    }
}

impl Print {
    /// Of the span that is stored; `None` when there is none, or nothing that could be one.
    pub fn read(db: &Connection, id: u64) -> rusqlite::Result<Option<Self>> {
        let sql = "SELECT min_time_us, max_time_us FROM ledger_span WHERE id = ?1";
        let times = db.prepare_cached(sql)?.query_row([signed(id)], |row| Ok((row.get(0)?, row.get(1)?)));
        let Some((min_time_us, max_time_us)) = times.optional()? else { return Ok(None) };
        let mut columns: [Vec<u8>; COLUMNS.len()] = Default::default();
        for (data, column) in columns.iter_mut().zip(COLUMNS) {
            let Some(found) = read(db, id, column)? else { return Ok(None) };
            *data = found;
        }
        Ok(Some(Self { min_time_us, max_time_us, digest: digest(&columns) }))
    }
}

fn digest(columns: &[Vec<u8>]) -> Hash {
    let mut hasher = Sha256::new();
    for data in columns {
        hasher.update((data.len() as u64).to_be_bytes());
        hasher.update(data);
    }
    hasher.finalize().into()
}

/// Numbers in as many bytes each as the largest needs, least significant first; nothing when all are 0.
fn pack(numbers: impl Iterator<Item = u64> + Clone) -> Vec<u8> {
    let most = numbers.clone().max().unwrap_or_default();
    let width = most.checked_ilog2().map_or(0, |bits| bits as usize / 8 + 1);
    numbers.flat_map(|n| n.to_le_bytes().into_iter().take(width)).collect()
}

/// Which span holds the record.
pub(super) fn of(seq: u64) -> u64 {
    seq.saturating_sub(1) / SPAN
}

/// The first record of a span.
pub(super) fn first(id: u64) -> u64 {
    id * SPAN + 1
}

/// How many spans are full when the ledger ends with the record `last`: the first that is not has this number.
pub(super) fn full(last: u64) -> u64 {
    last / SPAN
}

/// A column of a full span, as [`pack`] made it.
pub(super) fn read(db: &Connection, span: u64, column: Column) -> rusqlite::Result<Option<Vec<u8>>> {
    db.prepare_cached("SELECT data FROM ledger_column WHERE id = ?1")?
        .query_row([signed(span * ROOM + column as u64)], |row| row.get(0))
        .optional()
}

/// Writes the rows of the spans that became full between the records `before` and `now`.
pub(super) fn close(db: &Connection, before: u64, now: u64) -> rusqlite::Result<()> {
    if full(before) == full(now) {
        return Ok(());
    }
    let pruned = "SELECT ifnull(max(seq), 0) FROM pruned";
    let pruned = db.prepare_cached(pruned)?.query_row([], |row| row.get(0).map(super::unsigned))?;
    (full(before)..full(now)).try_for_each(|id| write(db, id, pruned))
}

/// Writes the rows of a full span, without what was pruned.
fn write(db: &Connection, id: u64, pruned: u64) -> rusqlite::Result<()> {
    let span = gather(db, first(id), pruned + 1, first(id) + SPAN - 1)?;
    db.prepare_cached("INSERT OR REPLACE INTO ledger_span VALUES (?1, ?2, ?3)")?.execute(params![
        signed(id),
        span.min_time_us,
        span.max_time_us
    ])?;
    let mut put = db.prepare_cached("INSERT OR REPLACE INTO ledger_column VALUES (?1, ?2)")?;
    COLUMNS.into_iter().try_for_each(|column| {
        put.execute(params![signed(id * ROOM + column as u64), span.column(column)]).map(drop)
    })
}

/// The records `first` to `to`; those that are not there, or come before `from`, are left 0.
pub(super) fn gather(db: &Connection, first: u64, from: u64, to: u64) -> rusqlite::Result<Span> {
    let mut span = Span::new((to + 1 - first) as usize);
    let sql = format!("SELECT seq, {STORED} FROM ledger WHERE seq BETWEEN ?1 AND ?2");
    let mut select = db.prepare_cached(&sql)?;
    let mut rows = select.query(params![signed(first.max(from)), signed(to)])?;
    while let Some(row) = rows.next()? {
        let seq = row.get(0).map(super::unsigned)?;
        span.set((seq - first) as usize, stored(row, 1)?);
    }
    Ok(span)
}

/// Removes what the spans hold of the records up to `pruned`; the ledger goes on to `last`.
pub(super) fn prune(db: &Connection, pruned: u64, last: u64) -> rusqlite::Result<()> {
    db.execute("DELETE FROM ledger_span WHERE id < ?1", [signed(full(pruned))])?;
    db.execute("DELETE FROM ledger_column WHERE id < ?1", [signed(full(pruned) * ROOM)])?;
    if pruned.is_multiple_of(SPAN) || full(pruned) >= full(last) {
        return Ok(());
    }
    write(db, full(pruned), pruned)
}

/// A span before `first` or from `end` on that has rows and must have none.
pub(super) fn stray(db: &Connection, first: u64, end: u64) -> rusqlite::Result<Option<u64>> {
    let sql = "SELECT id FROM ledger_span WHERE id < ?1 OR id >= ?2
               UNION ALL SELECT id / ?3 FROM ledger_column
               WHERE id < ?1 * ?3 OR id >= ?2 * ?3 OR id % ?3 >= ?4 LIMIT 1";
    db.prepare(sql)?
        .query_row(params![signed(first), signed(end), signed(ROOM), COLUMNS.len() as i64], |row| {
            row.get(0).map(super::unsigned)
        })
        .optional()
}

/// The number at `place` of a packed column whose numbers take `W` bytes.
pub(super) fn unpack<const W: usize>(data: &[u8], place: usize) -> u64 {
    let mut bytes = [0; 8];
    if let Some(found) = data.get(place * W..place * W + W) {
        bytes[..W].copy_from_slice(found);
    }
    u64::from_le_bytes(bytes)
}
