//! Sequence numbers in falling order, from an index or from memory.

use std::collections::{BinaryHeap, VecDeque};

use rusqlite::{Connection, params};

use crate::store::{signed, unsigned};

/// Numbers read from an index at once: few at first, since often few are wanted.
const FIRST: usize = 16;
const MOST: usize = 1024;

/// What stands in an index.
pub(super) enum Key {
    All,
    Class(i64),
    Actors(i64),
    Path(String),
    OldPath(String),
}

pub(super) const ALL: &str = "SELECT seq FROM ledger WHERE seq <= ?1 ORDER BY seq DESC LIMIT ?2";
pub(super) const CLASS: &str =
    "SELECT seq FROM ledger WHERE class = ?3 AND seq <= ?1 ORDER BY seq DESC LIMIT ?2";
pub(super) const ACTORS: &str =
    "SELECT seq FROM ledger WHERE actors = ?3 AND seq <= ?1 ORDER BY seq DESC LIMIT ?2";
pub(super) const PATH: &str =
    "SELECT seq FROM ledger WHERE path = ?3 AND seq <= ?1 ORDER BY seq DESC LIMIT ?2";
pub(super) const OLD_PATH: &str =
    "SELECT seq FROM ledger WHERE old_path = ?3 AND seq <= ?1 ORDER BY seq DESC LIMIT ?2";

pub(super) enum Stream {
    /// First and last of each range, in falling order. They may overlap.
    Ranges(VecDeque<(u64, u64)>),
    Listed(Vec<u64>),
    Merged {
        cursors: Vec<Cursor>,
        heap: BinaryHeap<(u64, usize)>,
        begun: bool,
    },
}

impl Stream {
    pub fn merge(keys: Vec<Key>) -> Self {
        let cursors = keys.into_iter().map(Cursor::new).collect();
        Self::Merged { cursors, heap: BinaryHeap::new(), begun: false }
    }

    pub fn listed(mut seqs: Vec<u64>) -> Self {
        seqs.sort_unstable();
        Self::Listed(seqs)
    }

    /// The largest number that is not above `at`. From call to call `at` never grows.
    pub fn seek(&mut self, db: &Connection, at: u64) -> rusqlite::Result<Option<u64>> {
        match self {
            Self::Ranges(ranges) => {
                while ranges.front().is_some_and(|(first, _)| *first > at) {
                    ranges.pop_front();
                }
                Ok(ranges.front().map(|(_, last)| at.min(*last)).filter(|seq| *seq > 0))
            }
            Self::Listed(seqs) => {
                seqs.truncate(seqs.partition_point(|seq| *seq <= at));
                Ok(seqs.last().copied())
            }
            Self::Merged { cursors, heap, begun } => {
                if !*begun {
                    *begun = true;
                    for (index, cursor) in cursors.iter_mut().enumerate() {
                        heap.extend(cursor.seek(db, at)?.map(|seq| (seq, index)));
                    }
                }
                while let Some((_, index)) = heap.peek().copied().filter(|(seq, _)| *seq > at) {
                    heap.pop();
                    heap.extend(cursors[index].seek(db, at)?.map(|seq| (seq, index)));
                }
                Ok(heap.peek().map(|(seq, _)| *seq))
            }
        }
    }
}

/// A place in an index.
pub(super) struct Cursor {
    key: Key,
    ahead: VecDeque<u64>,
    /// How many to read next.
    chunk: usize,
    ended: bool,
}

impl Cursor {
    fn new(key: Key) -> Self {
        Self { key, ahead: VecDeque::new(), chunk: FIRST, ended: false }
    }

    fn seek(&mut self, db: &Connection, at: u64) -> rusqlite::Result<Option<u64>> {
        while self.ahead.front().is_some_and(|seq| *seq > at) {
            self.ahead.pop_front();
        }
        if self.ahead.is_empty() && !self.ended {
            self.read(db, at)?;
        }
        Ok(self.ahead.front().copied())
    }

    fn read(&mut self, db: &Connection, at: u64) -> rusqlite::Result<()> {
        let (at, limit) = (signed(at), self.chunk as i64);
        let number = |row: &rusqlite::Row<'_>| row.get(0).map(unsigned);
        let rows: rusqlite::Result<_> = match &self.key {
            Key::All => db.prepare_cached(ALL)?.query_map(params![at, limit], number)?.collect(),
            Key::Class(id) => db.prepare_cached(CLASS)?.query_map(params![at, limit, id], number)?.collect(),
            Key::Actors(id) => {
                db.prepare_cached(ACTORS)?.query_map(params![at, limit, id], number)?.collect()
            }
            Key::Path(path) => {
                db.prepare_cached(PATH)?.query_map(params![at, limit, path], number)?.collect()
            }
            Key::OldPath(path) => {
                db.prepare_cached(OLD_PATH)?.query_map(params![at, limit, path], number)?.collect()
            }
        };
        self.ahead = rows?;
        self.ended = self.ahead.len() < self.chunk;
        self.chunk = (self.chunk * 4).min(MOST);
        Ok(())
    }
}
