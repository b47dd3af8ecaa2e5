//! Retention: the oldest records go, in whole prefixes, and the chain still verifies from where it was cut.
//!
//! First a record tells of it and the checkpoint is noted; then the rows are removed, few at a time, so that nothing
//! waits for them. Records that evidence or a former version refers to stay.

use std::collections::HashMap;
use std::time::Duration;

use rusqlite::{Connection, OptionalExtension, params};
use sha2::{Digest as _, Sha256};

use super::columns::Facets;
use super::ledger::{Hash, Head, head};
use super::span::{self, SPAN};
use super::{Store, StoreError, lines, signed, unsigned};
use crate::core::entry::Digest;
use crate::core::event::{Event, Record};

/// Bytes that a record takes besides its body: hashes, columns, indexes.
const OVERHEAD: u64 = 220;
/// A sink that has delivered nothing for so long, since its last success or since it exists, holds back no record that is
/// older either.
const GIVEN_UP: Duration = Duration::from_secs(30 * 86_400);

/// How much of the ledger is kept; `None` keeps all.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Retention {
    pub max_age: Option<Duration>,
    /// Bytes, about: bodies, hashes and indexes.
    pub max_size: Option<u64>,
}

/// What is to be pruned.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pruning {
    /// The last record that goes.
    pub head: Head,
    /// One sentence: how many, up to when, and why.
    pub why: String,
}

/// Where the ledger begins.
pub(super) struct Checkpoint {
    pub head: Head,
    /// Whether the notes agree among themselves.
    pub intact: bool,
    /// Records before it that are still referred to.
    pub kept: Vec<(u64, Hash)>,
    /// What the record about it names; `None` when nothing was ever pruned.
    pub link: Option<Hash>,
}

/// The checkpoint that a record about pruning names.
pub(super) fn told_checkpoint(message: &str) -> Option<&str> {
    message.strip_suffix(')')?.rsplit_once("(checkpoint ").map(|(_, hex)| hex)
}

fn link(prev: &Hash, id: i64, time: &str, head: Head, kept: &Hash) -> Hash {
    let mut hasher = Sha256::new();
    hasher.update(prev);
    hasher.update(id.to_be_bytes());
    hasher.update(time.as_bytes());
    hasher.update(head.seq.to_be_bytes());
    hasher.update(head.hash);
    hasher.update(kept);
    hasher.finalize().into()
}

fn digest_kept(kept: &[(u64, Hash)]) -> Hash {
    let mut hasher = Sha256::new();
    for (seq, hash) in kept {
        hasher.update(seq.to_be_bytes());
        hasher.update(hash);
    }
    hasher.finalize().into()
}

impl Checkpoint {
    pub fn read(db: &Connection) -> rusqlite::Result<Self> {
        let mut found = Self { head: Head::EMPTY, intact: true, kept: Vec::new(), link: None };
        found.intact = found.read_notes(db).is_ok_and(|sound| sound);
        Ok(found)
    }

    fn read_notes(&mut self, db: &Connection) -> rusqlite::Result<bool> {
        let mut sound = true;
        let mut select =
            db.prepare_cached("SELECT id, time, seq, hash, kept, link FROM pruned ORDER BY id")?;
        let mut rows = select.query([])?;
        let (mut count, mut digest) = (0, digest_kept(&[]));
        while let Some(row) = rows.next()? {
            count += 1;
            let (id, time): (i64, String) = (row.get(0)?, row.get(1)?);
            let head = Head { seq: row.get(2).map(unsigned)?, hash: row.get(3)? };
            let noted: Hash = row.get(5)?;
            digest = row.get(4)?;
            sound &= id == count
                && head.seq > self.head.seq
                && noted == link(&self.link.unwrap_or_default(), id, &time, head, &digest);
            (self.head, self.link) = (head, Some(noted));
        }
        self.kept = db
            .prepare_cached("SELECT seq, hash FROM pruned_kept ORDER BY seq")?
            .query_map([], |row| Ok((row.get(0).map(unsigned)?, row.get(1)?)))?
            .collect::<Result<_, _>>()?;
        Ok(sound && digest == digest_kept(&self.kept))
    }
}

impl Store {
    /// What is over the limits at `now_us`, if anything.
    pub fn pruning(&self, limits: Retention, now_us: i64) -> Result<Option<Pruning>, StoreError> {
        self.run("looking for old records", |db| {
            let (begin, end) = (Checkpoint::read(db)?.head.seq, head(db)?.seq);
            let by_age = match limits.max_age {
                Some(age) => older_than(db, now_us.saturating_sub(micros(age)), now_us)?,
                None => 0,
            };
            let (by_size, size) = match limits.max_size {
                Some(max) => over_size(db, begin, end, max)?,
                None => (0, 0),
            };
            // The last record stays, whatever its age: the chain needs an end.
            let wanted = by_age.max(by_size).min(end.saturating_sub(1));
            if wanted <= begin {
                return Ok(None);
            }
            let mut why =
                if by_size > by_age { "the ledger is over max_size" } else { "they are over max_age" }
                    .to_owned();
            let behind = behind(db, now_us)?;
            let far_over = limits.max_size.is_some_and(|max| size > 2 * max);
            let wanted = match behind.filter(|(_, seq)| *seq < wanted) {
                Some((sink, _)) if far_over => {
                    why = format!(
                        "the ledger is over twice its max_size; {sink:?} loses what it has not delivered yet"
                    );
                    wanted
                }
                Some((_, seq)) => seq,
                None => wanted,
            };
            let Some(head) = boundary(db, begin, wanted)? else { return Ok(None) };
            let why = format!("records {} to {} are removed, since {why}", begin + 1, head.seq);
            Ok(Some(Pruning { head, why }))
        })
    }

    /// Notes the checkpoint, and tells of it by the record that `event` makes from a sentence. The rows themselves go
    /// by [`prune_some`](Self::prune_some).
    pub fn prune(
        &mut self,
        pruning: &Pruning,
        time: &str,
        event: impl FnOnce(String) -> Event,
    ) -> Result<Vec<Record>, StoreError> {
        let head = pruning.head;
        let (id, kept, link) = self.run("pruning the ledger", |db| {
            let before = Checkpoint::read(db)?;
            let id: i64 = db.query_row("SELECT count(*) FROM pruned", [], |row| row.get(0))?;
            let kept = referred(db, head.seq)?;
            let link = link(&before.link.unwrap_or_default(), id + 1, time, head, &digest_kept(&kept));
            Ok((id + 1, kept, link))
        })?;
        let event = event(format!("{} (checkpoint {})", pruning.why, Digest(link)));
        self.append_in(&[event], |db, records| {
            db.execute(
                "INSERT INTO pruned VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
                params![id, time, signed(head.seq), head.hash, digest_kept(&kept), link],
            )?;
            db.execute("DELETE FROM pruned_kept", [])?;
            let mut keep = db.prepare_cached("INSERT INTO pruned_kept VALUES (?1, ?2)")?;
            for (seq, hash) in &kept {
                keep.execute(params![signed(*seq), hash])?;
            }
            span::prune(db, head.seq, records.last().map_or(0, |record| record.seq))
        })
    }

    /// Removes up to `limit` pruned records that follow `after`, and counts them in the summary. Returns the last one
    /// that was removed; `None` when none was left.
    pub fn prune_some(&mut self, after: u64, limit: usize) -> Result<Option<u64>, StoreError> {
        let sql = "SELECT l.seq, l.body FROM ledger l
                   WHERE l.seq > ?1 AND l.seq <= (SELECT seq FROM pruned ORDER BY id DESC LIMIT 1)
                   AND NOT EXISTS (SELECT 1 FROM pruned_kept k WHERE k.seq = l.seq) ORDER BY l.seq LIMIT ?2";
        self.transact("pruning the ledger", |db| {
            let mut sums: HashMap<[String; 7], i64> = HashMap::new();
            let mut gone = Vec::with_capacity(limit);
            let mut select = db.prepare_cached(sql)?;
            let mut rows = select.query(params![signed(after), limit as i64])?;
            while let Some(row) = rows.next()? {
                gone.push(row.get::<_, i64>(0)?);
                if let Ok(facets) = serde_json::from_str::<Facets<'_>>(row.get_ref(1)?.as_str()?) {
                    *sums.entry(summary_key(&facets)).or_default() += 1;
                }
            }
            drop(rows);
            sum_up(db, &sums)?;
            // The content of such evidence went before; only its record kept the row.
            let mut evidence =
                db.prepare_cached("DELETE FROM evidence WHERE seq = ?1 AND fate IS NOT NULL")?;
            let mut delete = db.prepare_cached("DELETE FROM ledger WHERE seq = ?1")?;
            for seq in &gone {
                evidence.execute([seq])?;
                delete.execute([seq])?;
            }
            lines::forget(db, &gone)?;
            Ok(gone.last().copied().map(unsigned))
        })
    }
}

fn micros(age: Duration) -> i64 {
    i64::try_from(age.as_micros()).unwrap_or(i64::MAX)
}

/// The last record before the first one from between `cutoff` and `now`; times to come are taken for mistakes.
fn older_than(db: &Connection, cutoff: i64, now: i64) -> rusqlite::Result<u64> {
    let sql = "SELECT min(id) FROM ledger_span
               WHERE max_time_us BETWEEN ?1 AND ?2 OR min_time_us BETWEEN ?1 AND ?2";
    let span: Option<i64> = db.prepare_cached(sql)?.query_row([cutoff, now], |row| row.get(0))?;
    // Without one: the records that fill no span yet.
    let from = match span {
        Some(span) => span::first(unsigned(span)),
        None => span::first(span::full(head(db)?.seq)),
    };
    let sql = "SELECT min(seq) FROM (SELECT seq, time_us FROM ledger WHERE seq >= ?1 ORDER BY seq LIMIT ?2)
               WHERE time_us BETWEEN ?3 AND ?4";
    let first: Option<i64> = db
        .prepare_cached(sql)?
        .query_row(params![signed(from), signed(SPAN), cutoff, now], |row| row.get(0))?;
    Ok(first.map_or(head(db)?.seq, |first| unsigned(first).saturating_sub(1)))
}

/// The record up to which the oldest must go to be a tenth below `max`, and the present size as far as `2 * max`. Each
/// record counts with its own length: whoever can have a few long ones written would make an estimate be any size.
fn over_size(db: &Connection, begin: u64, end: u64, max: u64) -> rusqlite::Result<(u64, u64)> {
    let pragma = |name| db.pragma_query_value(None, name, |row| row.get(0).map(unsigned));
    let pages = pragma("page_count")?.saturating_sub(pragma("freelist_count")?);
    // The whole database is no larger: nothing has to be read.
    if pages.saturating_mul(pragma("page_size")?) <= max {
        return Ok((0, 0));
    }
    let sql = "SELECT seq, octet_length(body) FROM ledger WHERE seq > ?1 AND seq <= ?2 ORDER BY seq DESC";
    let mut select = db.prepare_cached(sql)?;
    let mut rows = select.query([signed(begin), signed(end)])?;
    let (mut size, mut goes) = (0u64, 0);
    while let Some(row) = rows.next()? {
        size = size.saturating_add(row.get(1).map(unsigned)?).saturating_add(OVERHEAD);
        if goes == 0 && size > max / 10 * 9 {
            goes = row.get(0).map(unsigned)?;
        }
        if size > max.saturating_mul(2) {
            break;
        }
    }
    Ok((if size > max { goes } else { 0 }, size))
}

/// The sink that is furthest behind, and its last record.
fn behind(db: &Connection, now_us: i64) -> rusqlite::Result<Option<(String, u64)>> {
    let since = now_us.saturating_sub(micros(GIVEN_UP)) / 1_000_000;
    // One that had nothing to say for long may have something now, and be kept from it by quiet hours or a dead receiver.
    let sql = "SELECT sink, seq FROM cursor
               WHERE NOT idle AND (unixepoch(coalesce(last_success, created)) >= ?1 OR ?1 * 1000000 <=
                   (SELECT time_us FROM ledger WHERE ledger.seq > cursor.seq ORDER BY ledger.seq LIMIT 1))
               ORDER BY seq LIMIT 1";
    db.prepare_cached(sql)?.query_row([since], |row| Ok((row.get(0)?, row.get(1).map(unsigned)?))).optional()
}

/// The last place up to `wanted` where the ledger may be cut: where it was sealed, so that a seal proves the
/// checkpoint; anywhere if it never was.
fn boundary(db: &Connection, begin: u64, wanted: u64) -> rusqlite::Result<Option<Head>> {
    let sealed = db.prepare_cached("SELECT 1 FROM seal")?.exists([])?;
    let seq = if sealed {
        let sql = "SELECT max(seq) FROM seal WHERE seq > ?1 AND seq <= ?2";
        db.prepare_cached(sql)?
            .query_row([signed(begin), signed(wanted)], |row| row.get::<_, Option<i64>>(0))?
    } else {
        Some(signed(wanted)).filter(|_| wanted > begin)
    };
    let Some(seq) = seq else { return Ok(None) };
    db.prepare_cached("SELECT seq, hash FROM ledger WHERE seq = ?1")?
        .query_row([seq], |row| Ok(Head { seq: row.get(0).map(unsigned)?, hash: row.get(1)? }))
        .optional()
}

/// Records up to `seq` that rows of other tables refer to. Evidence whose content is gone does not count.
fn referred(db: &Connection, seq: u64) -> rusqlite::Result<Vec<(u64, Hash)>> {
    let sql = "SELECT m.name, f.\"from\" FROM sqlite_schema m, pragma_foreign_key_list(m.name) f
               WHERE m.type = 'table' AND f.\"table\" = 'ledger'";
    let tables: Vec<(String, String)> = db
        .prepare_cached(sql)?
        .query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?
        .collect::<Result<_, _>>()?;
    let parts: Vec<String> = tables
        .iter()
        .map(|(table, column)| {
            let alive = if table == "evidence" { "AND fate IS NULL" } else { "" };
            format!("SELECT \"{column}\" FROM \"{table}\" WHERE \"{column}\" <= ?1 {alive}")
        })
        .collect();
    if parts.is_empty() {
        return Ok(Vec::new());
    }
    let sql = format!("SELECT seq, hash FROM ledger WHERE seq IN ({}) ORDER BY seq", parts.join(" UNION "));
    db.prepare(&sql)?.query_map([signed(seq)], |row| Ok((row.get(0).map(unsigned)?, row.get(1)?)))?.collect()
}

fn summary_key(facets: &Facets<'_>) -> [String; 7] {
    let day = facets.time.get(..10).unwrap_or_default();
    let user =
        facets.actor.as_ref().and_then(|a| a.auid.or(a.uid)).map_or(String::new(), |uid| uid.to_string());
    let [kind, severity, verdict, response, watch] = facets.class().map(str::to_owned);
    [day.to_owned(), kind, severity, verdict, response, watch, user]
}

fn sum_up(db: &Connection, sums: &HashMap<[String; 7], i64>) -> rusqlite::Result<()> {
    let mut put = db.prepare_cached(
        "INSERT INTO summary VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)
         ON CONFLICT DO UPDATE SET records = records + excluded.records",
    )?;
    for ([day, kind, severity, verdict, response, watch, user], records) in sums {
        put.execute(params![day, kind, severity, verdict, response, watch, user, records])?;
    }
    Ok(())
}
