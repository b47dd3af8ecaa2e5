//! What the ledger's stored columns hold, computed from a record's body: on writing, and again by `fim log verify`.

use std::borrow::Cow;
use std::collections::HashMap;
use std::fmt::Write;

use rusqlite::{Connection, OptionalExtension, params};
use serde::Deserialize;

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
    pub euid: Option<u32>,
    pub auid: Option<u32>,
    pub exe: Option<Cow<'a, str>>,
}

impl<'a> From<&'a Actor> for Who<'a> {
    fn from(actor: &'a Actor) -> Self {
        let Actor { uid, euid, auid, exe, .. } = actor;
        Self { uid: *uid, euid: *euid, auid: *auid, exe: exe.as_deref().map(Cow::Borrowed) }
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

    /// Everybody who may have written, as `uid euid auid exe` lines; `None` when there is nobody to name.
    pub fn who(&self) -> Option<String> {
        let actor = self.actor.as_ref()?;
        let mut text = String::with_capacity(64);
        for who in std::iter::once(actor).chain(&self.other_actors) {
            if !text.is_empty() {
                text.push('\n');
            }
            for id in [who.uid, who.euid, who.auid] {
                // Writing to a String cannot fail.
                let _ = match id {
                    Some(id) => write!(text, "{id} "),
                    None => write!(text, "- "),
                };
            }
            // Escaped, so it holds no line break.
            text.push_str(who.exe.as_deref().unwrap_or("-"));
        }
        Some(text)
    }
}

/// The lines of [`Facets::who`] again.
pub(super) fn parse_who(text: &str) -> impl Iterator<Item = Who<'_>> {
    text.lines().map(|line| {
        let mut parts = line.splitn(4, ' ');
        let mut id = || parts.next().and_then(|p| p.parse().ok());
        let (uid, euid, auid) = (id(), id(), id());
        let exe = parts.next().filter(|exe| *exe != "-").map(Cow::Borrowed);
        Who { uid, euid, auid, exe }
    })
}

/// Which number stands for which class and which actors.
#[derive(Default)]
pub(super) struct Dictionaries {
    classes: HashMap<String, i64>,
    actors: HashMap<String, i64>,
}

/// Beyond this many the cache begins anew: who runs ever new programs must not fill the memory.
const CACHED: usize = 16_384;

impl Dictionaries {
    pub fn class(&mut self, db: &Connection, facets: &Facets<'_>) -> rusqlite::Result<i64> {
        let class = facets.class();
        let key = class.join("\n");
        if let Some(id) = self.classes.get(&key) {
            return Ok(*id);
        }
        let select = "SELECT id FROM ledger_class
                      WHERE kind = ?1 AND severity = ?2 AND verdict = ?3 AND response = ?4 AND watch = ?5";
        let insert =
            "INSERT INTO ledger_class (kind, severity, verdict, response, watch) VALUES (?1, ?2, ?3, ?4, ?5)";
        let id = number(db, select, insert, params![class[0], class[1], class[2], class[3], class[4]])?;
        remember(&mut self.classes, key, id);
        Ok(id)
    }

    pub fn actors(&mut self, db: &Connection, facets: &Facets<'_>) -> rusqlite::Result<Option<i64>> {
        let Some(who) = facets.who() else { return Ok(None) };
        if let Some(id) = self.actors.get(&who) {
            return Ok(Some(*id));
        }
        let select = "SELECT id FROM ledger_actors WHERE who = ?1";
        let id = number(db, select, "INSERT INTO ledger_actors (who) VALUES (?1)", params![who])?;
        remember(&mut self.actors, who, id);
        Ok(Some(id))
    }
}

fn remember(cache: &mut HashMap<String, i64>, key: String, id: i64) {
    if cache.len() >= CACHED {
        cache.clear();
    }
    cache.insert(key, id);
}

/// The number of a row that is there, or is put there.
fn number(
    db: &Connection,
    select: &str,
    insert: &str,
    values: &[&dyn rusqlite::ToSql],
) -> rusqlite::Result<i64> {
    let found = db.prepare_cached(select)?.query_row(values, |row| row.get(0)).optional()?;
    match found {
        Some(id) => Ok(id),
        None => db.prepare_cached(insert)?.execute(values).map(|_| db.last_insert_rowid()),
    }
}
