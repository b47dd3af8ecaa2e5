//! What the ledger's stored columns hold, computed from a record's body: on writing, and again by `fim log verify`.

use std::borrow::Cow;
use std::collections::HashMap;
use std::fmt::Write;

use rusqlite::{Connection, params};
use serde::Deserialize;

use super::bad_row;
use crate::core::actor::Actor;
use crate::core::event::{Event, Verdict};

/// The parts of a record that it can be found by.
#[derive(Deserialize)]
pub(super) struct Facets<'a> {
    #[serde(borrow)]
    pub time: Cow<'a, str>,
    #[serde(borrow)]
    pub kind: Cow<'a, str>,
    #[serde(borrow)]
    pub severity: Cow<'a, str>,
    #[serde(borrow)]
    pub response: Cow<'a, str>,
    pub verdict: Option<Cow<'a, str>>,
    pub watch: Option<Cow<'a, str>>,
    pub path: Option<Cow<'a, str>>,
    pub old_path: Option<Cow<'a, str>>,
    pub actor: Option<Who<'a>>,
    #[serde(default)]
    pub other_actors: Vec<Who<'a>>,
    /// Records about fim itself.
    #[serde(default)]
    pub message: Option<Cow<'a, str>>,
}

/// One who may have written, as far as records are found by him.
#[derive(Clone, Debug, Deserialize)]
pub(super) struct Who<'a> {
    pub uid: Option<u32>,
    pub gid: Option<u32>,
    pub euid: Option<u32>,
    pub auid: Option<u32>,
    pub exe: Option<Cow<'a, str>>,
}

impl<'a> From<&'a Actor> for Who<'a> {
    fn from(actor: &'a Actor) -> Self {
        let Actor { uid, gid, euid, auid, exe, .. } = actor;
        Self { uid: *uid, gid: *gid, euid: *euid, auid: *auid, exe: exe.as_deref().map(Cow::Borrowed) }
    }
}

impl<'a> From<&'a Event> for Facets<'a> {
    fn from(event: &'a Event) -> Self {
        let text = |text: &'a Option<String>| text.as_deref().map(Cow::Borrowed);
        Self {
            time: Cow::Borrowed(&event.time),
            kind: Cow::Borrowed(event.kind.as_str()),
            severity: Cow::Borrowed(event.severity.as_str()),
            response: Cow::Borrowed(event.response.as_str()),
            verdict: event.verdict.map(|v| match v {
                Verdict::Authorised => Cow::Borrowed("authorised"),
                Verdict::Unauthorised => Cow::Borrowed("unauthorised"),
            }),
            watch: text(&event.watch),
            path: text(&event.path),
            old_path: text(&event.old_path),
            actor: event.actor.as_ref().map(Who::from),
            other_actors: event.other_actors.iter().map(Who::from).collect(),
            message: text(&event.message),
        }
    }
}

impl Facets<'_> {
    /// Microseconds since the epoch; 0 for a time that is none.
    pub fn time_us(&self) -> i64 {
        self.time.parse::<jiff::Timestamp>().map_or(0, |t| t.as_microsecond())
    }

    /// Kind, severity, verdict, response, watch; empty where there is none.
    pub fn class(&self) -> [&str; 5] {
        [
            &self.kind,
            &self.severity,
            self.verdict.as_deref().unwrap_or(""),
            &self.response,
            self.watch.as_deref().unwrap_or(""),
        ]
    }

    /// Everybody who may have written, each as [`Who::line`]; `None` when there is nobody to name.
    pub fn who(&self) -> Option<String> {
        let mut text = String::with_capacity(64);
        for who in self.actors() {
            who.line(&mut text);
        }
        Some(text).filter(|text| !text.is_empty())
    }

    fn actors(&self) -> impl Iterator<Item = &Who<'_>> {
        let others = self.other_actors.iter().filter(|_| self.actor.is_some());
        self.actor.iter().chain(others)
    }
}

impl Who<'_> {
    /// Adds `uid gid euid auid exe` and a line's end.
    pub fn line(&self, text: &mut String) {
        for id in [self.uid, self.gid, self.euid, self.auid] {
            // Writing to a String cannot fail.
            let _ = match id {
                Some(id) => write!(text, "{id} "),
                None => write!(text, "- "),
            };
        }
        // Escaped, so it holds no line break.
        text.push_str(self.exe.as_deref().unwrap_or("-"));
        text.push('\n');
    }
}

/// Which number stands for what in the tables that name each thing once.
#[derive(Default)]
pub(super) struct Dictionaries {
    classes: Cache,
    actors: Cache,
    executables: Cache,
    paths: Cache,
}

/// Numbers that were used before. Beyond [`CACHED`] it begins anew: who makes ever new names must not fill the memory.
#[derive(Default)]
struct Cache {
    numbers: HashMap<String, i64>,
    bytes: usize,
}

/// Bytes of names.
const CACHED: usize = 4 << 20;

impl Cache {
    fn get(&self, name: &str) -> Option<i64> {
        self.numbers.get(name).copied()
    }

    fn remember(&mut self, name: String, id: i64) -> i64 {
        if self.bytes + name.len() > CACHED {
            *self = Self::default();
        }
        // What an entry takes besides its name, about.
        self.bytes += name.len() + 64;
        self.numbers.insert(name, id);
        id
    }
}

impl Dictionaries {
    pub fn class(&mut self, db: &Connection, facets: &Facets<'_>) -> rusqlite::Result<i64> {
        let class = facets.class();
        let key = class.join("\n");
        if let Some(id) = self.classes.get(&key) {
            return Ok(id);
        }
        let insert = "INSERT OR IGNORE INTO ledger_class (kind, severity, verdict, response, watch)
                      VALUES (?1, ?2, ?3, ?4, ?5)";
        let select = "SELECT id FROM ledger_class
                      WHERE kind = ?1 AND severity = ?2 AND verdict = ?3 AND response = ?4 AND watch = ?5";
        let id = number(db, insert, select, params![class[0], class[1], class[2], class[3], class[4]])?;
        Ok(self.classes.remember(key, id))
    }

    pub fn actors(&mut self, db: &Connection, facets: &Facets<'_>) -> rusqlite::Result<Option<i64>> {
        let Some(who) = facets.who() else { return Ok(None) };
        if let Some(id) = self.actors.get(&who) {
            return Ok(Some(id));
        }
        let ids = facets.actors().map(|who| self.actor(db, who)).collect::<rusqlite::Result<Vec<_>>>()?;
        let ids = serde_json::to_string(&ids).map_err(|_| bad_row("actors"))?;
        let insert = "INSERT OR IGNORE INTO ledger_actors (actors) VALUES (?1)";
        let id = number(db, insert, "SELECT id FROM ledger_actors WHERE actors = ?1", params![ids])?;
        Ok(Some(self.actors.remember(who, id)))
    }

    fn actor(&mut self, db: &Connection, who: &Who<'_>) -> rusqlite::Result<i64> {
        let exe = who.exe.as_deref().map(|exe| -> rusqlite::Result<i64> {
            match self.executables.get(exe) {
                Some(id) => Ok(id),
                None => {
                    let insert = "INSERT OR IGNORE INTO executable (path) VALUES (?1)";
                    let id = number(db, insert, "SELECT id FROM executable WHERE path = ?1", params![exe])?;
                    Ok(self.executables.remember(exe.to_owned(), id))
                }
            }
        });
        let exe = exe.transpose()?;
        let insert = "INSERT OR IGNORE INTO actor (uid, gid, euid, auid, exe) VALUES (?1, ?2, ?3, ?4, ?5)";
        let select = "SELECT id FROM actor WHERE ifnull(uid, -1) = ifnull(?1, -1)
                      AND ifnull(gid, -1) = ifnull(?2, -1) AND ifnull(euid, -1) = ifnull(?3, -1)
                      AND ifnull(auid, -1) = ifnull(?4, -1) AND ifnull(exe, 0) = ifnull(?5, 0)";
        number(db, insert, select, params![who.uid, who.gid, who.euid, who.auid, exe])
    }

    pub fn path(&mut self, db: &Connection, path: Option<&str>) -> rusqlite::Result<Option<i64>> {
        let Some(path) = path else { return Ok(None) };
        if let Some(id) = self.paths.get(path) {
            return Ok(Some(id));
        }
        let insert = "INSERT OR IGNORE INTO ledger_path (path) VALUES (?1)";
        let id = number(db, insert, "SELECT id FROM ledger_path WHERE path = ?1", params![path])?;
        Ok(Some(self.paths.remember(path.to_owned(), id)))
    }
}

/// The number of a row that is put there, or is there already.
fn number(
    db: &Connection,
    insert: &str,
    select: &str,
    values: &[&dyn rusqlite::ToSql],
) -> rusqlite::Result<i64> {
    match db.prepare_cached(insert)?.execute(values)? {
        0 => db.prepare_cached(select)?.query_row(values, |row| row.get(0)),
        _ => Ok(db.last_insert_rowid()),
    }
}

/// What the numbers in the column `actors` stand for, as [`Facets::who`] writes it.
pub(super) fn all_actors(db: &Connection) -> rusqlite::Result<HashMap<i64, String>> {
    let mut lines: HashMap<i64, String> = HashMap::new();
    let sql = "SELECT a.id, a.uid, a.gid, a.euid, a.auid, e.path FROM actor a LEFT JOIN executable e ON e.id = a.exe";
    let mut select = db.prepare(sql)?;
    let mut rows = select.query([])?;
    while let Some(row) = rows.next()? {
        let exe = row.get_ref(5)?.as_str_or_null()?.map(Cow::Borrowed);
        let who = Who { uid: row.get(1)?, gid: row.get(2)?, euid: row.get(3)?, auid: row.get(4)?, exe };
        let mut line = String::new();
        who.line(&mut line);
        lines.insert(row.get(0)?, line);
    }
    let mut all = HashMap::new();
    let mut select = db.prepare("SELECT id, actors FROM ledger_actors")?;
    let mut rows = select.query([])?;
    while let Some(row) = rows.next()? {
        // A number that is none, or of nobody, makes a text that agrees with no record.
        let ids: Vec<i64> = serde_json::from_str(row.get_ref(1)?.as_str()?).unwrap_or_default();
        let who = ids.iter().map(|id| lines.get(id).map_or("?", String::as_str)).collect();
        all.insert(row.get(0)?, who);
    }
    Ok(all)
}
