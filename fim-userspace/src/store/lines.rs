//! Which lines changed: each pair of versions of a path is compared once, however many records tell of it.

use std::ffi::OsString;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use rusqlite::{Connection, OptionalExtension, Row, params};

use super::{Store, StoreError, bad_row, signed, unsigned};
use crate::core::entry::Digest;

/// Two versions of one path; `None`: no regular file was there.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Pair {
    /// Absolute.
    pub path: PathBuf,
    pub before: Option<Digest>,
    pub after: Option<Digest>,
}

/// What a record's version is compared with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Since {
    /// What was approved.
    Approved,
    /// What was known before, where that was something else.
    Previous,
}

impl Since {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Approved => "approved",
            Self::Previous => "previous",
        }
    }

    fn parse(text: &str) -> Option<Self> {
        [Self::Approved, Self::Previous].into_iter().find(|since| since.as_str() == text)
    }
}

/// What came of a comparison.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The differences are all there.
    Lines,
    /// One of the two is no text.
    Binary,
    /// Changed, too large to compare by line.
    TooLarge,
    /// One of the two is not in the vault.
    NotKept,
    /// It is being written, or was when fim died.
    Unfinished,
}

impl Outcome {
    const ALL: [Self; 5] = [Self::Lines, Self::Binary, Self::TooLarge, Self::NotKept, Self::Unfinished];

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Lines => "lines",
            Self::Binary => "binary",
            Self::TooLarge => "too_large",
            Self::NotKept => "not_kept",
            Self::Unfinished => "unfinished",
        }
    }

    fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|outcome| outcome.as_str() == text)
    }

    /// Whether another attempt would come to the same.
    pub fn is_final(self) -> bool {
        !matches!(self, Self::NotKept | Self::Unfinished)
    }
}

/// Why the text of a difference is not there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Omitted {
    Secret,
    /// With it, more text would be kept of one comparison than is.
    Long,
}

impl Omitted {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Secret => "secret",
            Self::Long => "long",
        }
    }

    fn parse(text: &str) -> Option<Self> {
        [Self::Secret, Self::Long].into_iter().find(|omitted| omitted.as_str() == text)
    }
}

/// Lines of one version.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Side {
    /// The first one, from 1; where there are none, the line before.
    pub line: u64,
    pub lines: u64,
    /// With their newlines.
    pub text: Option<String>,
    /// Keyed (hexadecimal HMAC-SHA256); secrets only.
    pub digest: Option<String>,
}

/// One run of lines that differ.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference {
    /// `insert`, `update` or `delete`.
    pub operation: String,
    pub old: Side,
    pub new: Side,
    pub omitted: Option<Omitted>,
}

/// A row of `comparison`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Compared {
    pub id: i64,
    pub pair: Pair,
    pub outcome: Outcome,
    pub old_encoding: Option<String>,
    pub new_encoding: Option<String>,
}

/// What came of comparing a pair.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finished {
    pub pair: Pair,
    pub outcome: Outcome,
    /// Of the old and the new version.
    pub encodings: Option<(&'static str, &'static str)>,
    /// Those that were not added before.
    pub differences: Vec<Difference>,
}

const COMPARED: &str = "c.id, c.path, c.before, c.after, c.outcome, c.old_encoding, c.new_encoding";

impl Store {
    pub fn compared(&self, pair: &Pair) -> Result<Option<Compared>, StoreError> {
        let sql =
            format!("SELECT {COMPARED} FROM comparison c WHERE path = ?1 AND before = ?2 AND after = ?3");
        self.run("reading what was compared", |db| {
            let (before, after) = (hex(pair.before), hex(pair.after));
            db.prepare_cached(&sql)?.query_row(params![bytes(&pair.path), before, after], compared).optional()
        })
    }

    /// Begins a comparison, or goes on with one that was not finished.
    pub fn compare_begin(&mut self, pair: &Pair) -> Result<i64, StoreError> {
        self.transact("beginning a comparison", |db| {
            let (before, after) = (hex(pair.before), hex(pair.after));
            db.prepare_cached(
                "INSERT INTO comparison (path, before, after, outcome) VALUES (?1, ?2, ?3, 'unfinished')
                 ON CONFLICT DO UPDATE SET outcome = outcome RETURNING id",
            )?
            .query_row(params![bytes(&pair.path), before, after], |row| row.get(0))
        })
    }

    /// Adds differences to a comparison that is not finished; those that are there already stay.
    pub fn compare_add(&mut self, id: i64, differences: &[Difference]) -> Result<(), StoreError> {
        self.transact("writing differences", |db| add(db, id, differences))
    }

    /// Ends comparisons, and notes which records tell of which pair. What was pruned meanwhile is left out.
    pub fn compare_finish(
        &mut self,
        finished: &[Finished],
        links: &[(u64, Since, Pair)],
    ) -> Result<(), StoreError> {
        self.transact("writing differences", |db| {
            let mut end = db.prepare_cached(
                "INSERT INTO comparison (path, before, after, outcome, old_encoding, new_encoding)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6)
                 ON CONFLICT DO UPDATE SET outcome = excluded.outcome, old_encoding = excluded.old_encoding,
                     new_encoding = excluded.new_encoding RETURNING id",
            )?;
            for Finished { pair, outcome, encodings, differences } in finished {
                let (old, new) = encodings.unzip();
                let (path, before, after) = (bytes(&pair.path), hex(pair.before), hex(pair.after));
                let values = params![path, before, after, outcome.as_str(), old, new];
                let id = end.query_row(values, |row| row.get(0))?;
                add(db, id, differences)?;
            }
            let mut link = db.prepare_cached(
                "INSERT INTO event_comparison SELECT ?1, ?2, id FROM comparison
                 WHERE path = ?3 AND before = ?4 AND after = ?5 AND EXISTS (SELECT 1 FROM ledger WHERE seq = ?1)
                 ON CONFLICT DO UPDATE SET comparison = excluded.comparison",
            )?;
            for (seq, since, pair) in links {
                let (path, before, after) = (bytes(&pair.path), hex(pair.before), hex(pair.after));
                link.execute(params![signed(*seq), since.as_str(), path, before, after])?;
            }
            Ok(())
        })
    }

    /// The comparisons that the records `first` to `last` tell of, by record.
    pub fn compared_by(&self, first: u64, last: u64) -> Result<Vec<(u64, Since, Compared)>, StoreError> {
        let sql = format!(
            "SELECT {COMPARED}, e.seq, e.since FROM event_comparison e JOIN comparison c ON c.id = e.comparison
             WHERE e.seq BETWEEN ?1 AND ?2 ORDER BY e.seq, e.since"
        );
        self.run("reading what was compared", |db| {
            db.prepare_cached(&sql)?.query_map([signed(first), signed(last)], told)?.collect()
        })
    }

    /// The first record after `seq` whose lines are compared.
    pub fn compared_next(&self, seq: u64) -> Result<Option<u64>, StoreError> {
        let sql = "SELECT min(seq) FROM event_comparison WHERE seq > ?1";
        self.run("reading what was compared", |db| {
            let next: Option<i64> = db.prepare_cached(sql)?.query_row([signed(seq)], |row| row.get(0))?;
            Ok(next.map(unsigned))
        })
    }

    /// Every comparison of versions of `path` that a record tells of, by record.
    pub fn compared_at(&self, path: &Path) -> Result<Vec<(u64, Since, Compared)>, StoreError> {
        let sql = format!(
            "SELECT {COMPARED}, e.seq, e.since FROM comparison c JOIN event_comparison e ON e.comparison = c.id
             WHERE c.path = ?1 ORDER BY e.seq, e.since"
        );
        self.run("reading what was compared", |db| {
            db.prepare_cached(&sql)?.query_map([bytes(path)], told)?.collect()
        })
    }

    /// The differences of a comparison, by line.
    pub fn differences(&self, id: i64) -> Result<Vec<Difference>, StoreError> {
        let sql = "SELECT operation, old_line, old_lines, new_line, new_lines, old_text, new_text, omitted,
                          old_digest, new_digest FROM difference WHERE comparison = ?1 ORDER BY old_line, new_line";
        self.run("reading differences", |db| db.prepare_cached(sql)?.query_map([id], difference)?.collect())
    }
}

fn add(db: &Connection, id: i64, differences: &[Difference]) -> rusqlite::Result<()> {
    let mut put = db.prepare_cached(
        "INSERT INTO difference (comparison, operation, old_line, old_lines, new_line, new_lines,
             old_text, new_text, omitted, old_digest, new_digest)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11) ON CONFLICT DO NOTHING",
    )?;
    for Difference { operation, old, new, omitted } in differences {
        put.execute(params![
            id,
            operation,
            signed(old.line),
            signed(old.lines),
            signed(new.line),
            signed(new.lines),
            old.text,
            new.text,
            omitted.map(Omitted::as_str),
            old.digest,
            new.digest
        ])?;
    }
    Ok(())
}

/// Forgets what only these records told of.
pub(super) fn forget(db: &Connection, seqs: &[i64]) -> rusqlite::Result<()> {
    let mut unlink = db.prepare_cached("DELETE FROM event_comparison WHERE seq = ?1 RETURNING comparison")?;
    let mut drop_one = db.prepare_cached(
        "DELETE FROM comparison WHERE id = ?1
         AND NOT EXISTS (SELECT 1 FROM event_comparison WHERE comparison = ?1)",
    )?;
    for seq in seqs {
        let ids: Vec<i64> = unlink.query_map([seq], |row| row.get(0))?.collect::<Result<_, _>>()?;
        ids.iter().try_for_each(|id| drop_one.execute([id]).map(drop))?;
    }
    Ok(())
}

fn bytes(path: &Path) -> &[u8] {
    path.as_os_str().as_bytes()
}

/// UNIQUE would not compare what is NULL.
fn hex(digest: Option<Digest>) -> String {
    digest.map_or(String::new(), |digest| digest.to_string())
}

fn digest(row: &Row<'_>, column: usize) -> rusqlite::Result<Option<Digest>> {
    match row.get_ref(column)?.as_str()? {
        "" => Ok(None),
        hex => Digest::from_hex(hex).map(Some).ok_or_else(|| bad_row("sha256")),
    }
}

fn compared(row: &Row<'_>) -> rusqlite::Result<Compared> {
    Ok(Compared {
        id: row.get(0)?,
        pair: Pair {
            path: OsString::from_vec(row.get(1)?).into(),
            before: digest(row, 2)?,
            after: digest(row, 3)?,
        },
        outcome: Outcome::parse(row.get_ref(4)?.as_str()?).ok_or_else(|| bad_row("outcome"))?,
        old_encoding: row.get(5)?,
        new_encoding: row.get(6)?,
    })
}

fn told(row: &Row<'_>) -> rusqlite::Result<(u64, Since, Compared)> {
    let since = Since::parse(row.get_ref(8)?.as_str()?).ok_or_else(|| bad_row("since"))?;
    Ok((unsigned(row.get(7)?), since, compared(row)?))
}

fn difference(row: &Row<'_>) -> rusqlite::Result<Difference> {
    let omitted = match row.get::<_, Option<String>>(7)? {
        None => None,
        Some(word) => Some(Omitted::parse(&word).ok_or_else(|| bad_row("omitted"))?),
    };
    let side = |at: usize, text: usize| -> rusqlite::Result<Side> {
        Ok(Side {
            line: unsigned(row.get(at)?),
            lines: unsigned(row.get(at + 1)?),
            text: row.get(text)?,
            digest: row.get(text + 3)?,
        })
    };
    Ok(Difference { operation: row.get(0)?, old: side(1, 5)?, new: side(3, 6)?, omitted })
}
