//! What the daemon is about to do. Written before it acts and closed by the record of what came of it, so that an
//! intent that is open at start tells of a daemon that died in the middle of a response.

use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};

use rusqlite::types::{ToSqlOutput, ValueRef};
use rusqlite::{CachedStatement, Connection, params};
use serde::{Deserialize, Serialize};

use super::{Store, StoreError, bad_row};
use crate::core::actor::Actor;
use crate::core::event::Event;
use crate::core::path::RelPath;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct IntentId(pub i64);

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Intent {
    /// Root of the watch.
    #[serde(with = "escaped_path")]
    pub watch: PathBuf,
    pub path: RelPath,
    /// The record as far as it was known before anything was done.
    pub event: Event,
}

/// As [`Intent`], to be written. The event is given back as it was.
#[derive(Debug, Serialize)]
pub struct Planned<'a> {
    #[serde(with = "escaped_path")]
    pub watch: &'a Path,
    pub path: &'a RelPath,
    pub event: &'a mut Event,
}

/// Everybody who may have written. In a burst one process alters many files, so it is written once for all of them.
#[derive(Clone, Default, PartialEq, Serialize, Deserialize)]
struct Who {
    actor: Option<Actor>,
    others: Vec<Actor>,
}

impl Who {
    fn take(event: &mut Event) -> Self {
        Self { actor: event.actor.take(), others: std::mem::take(&mut event.other_actors) }
    }

    fn put_back(self, event: &mut Event) {
        (event.actor, event.other_actors) = (self.actor, self.others);
    }
}

impl Store {
    /// Notes what is about to be done, in one transaction. A checkpoint that becomes due waits for the next other one: files
    /// are wrong meanwhile.
    pub fn intents_begin<'a>(
        &mut self,
        intents: impl IntoIterator<Item = Planned<'a>>,
    ) -> Result<Vec<IntentId>, StoreError> {
        self.without_checkpoint(|store| {
            store.transact("noting a response", |db| {
                db.prepare_cached("DELETE FROM intent_who WHERE NOT EXISTS (SELECT 1 FROM intent)")?
                    .execute([])?;
                let mut noting = Noting::new(db)?;
                intents.into_iter().map(|intent| noting.note(intent)).collect()
            })
        })
    }

    /// Intents without an outcome, oldest first.
    pub fn intents_open(&self) -> Result<Vec<(IntentId, Intent)>, StoreError> {
        self.run("reading open responses", |db| {
            let sql =
                "SELECT i.id, i.body, w.body FROM intent i JOIN intent_who w ON w.id = i.who ORDER BY i.id";
            db.prepare_cached(sql)?
                .query_map([], |row| {
                    let mut intent: Intent =
                        serde_json::from_str(row.get_ref(1)?.as_str()?).map_err(|_| bad_row("body"))?;
                    let who: Who =
                        serde_json::from_str(row.get_ref(2)?.as_str()?).map_err(|_| bad_row("who"))?;
                    who.put_back(&mut intent.event);
                    Ok((IntentId(row.get(0)?), intent))
                })?
                .collect()
        })
    }
}

/// Writes intents one after the other.
struct Noting<'a> {
    intent: CachedStatement<'a>,
    who: CachedStatement<'a>,
    body: Vec<u8>,
    /// What was written last.
    last: Option<(Who, i64)>,
}

impl<'a> Noting<'a> {
    fn new(db: &'a Connection) -> rusqlite::Result<Self> {
        Ok(Self {
            intent: db.prepare_cached("INSERT INTO intent (body, who) VALUES (?1, ?2)")?,
            who: db.prepare_cached("INSERT INTO intent_who (body) VALUES (?1)")?,
            body: Vec::new(),
            last: None,
        })
    }

    fn note(&mut self, intent: Planned<'_>) -> rusqlite::Result<IntentId> {
        let who = Who::take(intent.event);
        let noted = self.number(&who).and_then(|number| {
            let body = json(&mut self.body, &intent)?;
            self.intent.insert(params![body, number]).map(IntentId)
        });
        who.put_back(intent.event);
        noted
    }

    fn number(&mut self, who: &Who) -> rusqlite::Result<i64> {
        if let Some((_, number)) = self.last.as_ref().filter(|(last, _)| last == who) {
            return Ok(*number);
        }
        let number = self.who.insert([json(&mut self.body, who)?])?;
        self.last = Some((who.clone(), number));
        Ok(number)
    }
}

fn json<'a>(into: &'a mut Vec<u8>, what: &impl Serialize) -> rusqlite::Result<ToSqlOutput<'a>> {
    into.clear();
    serde_json::to_writer(&mut *into, what).map_err(|_| bad_row("body"))?;
    Ok(ToSqlOutput::Borrowed(ValueRef::Text(into)))
}

mod escaped_path {
    use super::*;
    use crate::core::path::{display, unescape};
    use serde::{Deserializer, Serializer, de::Error};

    pub fn serialize<S: Serializer>(path: &std::path::Path, s: S) -> Result<S::Ok, S::Error> {
        s.serialize_str(&display(path))
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(d: D) -> Result<PathBuf, D::Error> {
        let bytes =
            unescape(&String::deserialize(d)?).ok_or_else(|| D::Error::custom("not an escaped path"))?;
        Ok(std::ffi::OsString::from_vec(bytes).into())
    }
}
