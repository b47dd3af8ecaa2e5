//! What the daemon is about to do. Written before it acts and closed by the record of what came of it, so that an
//! intent that is open at start tells of a daemon that died in the middle of a response.

use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};

use rusqlite::types::{ToSqlOutput, ValueRef};
use serde::{Deserialize, Serialize};

use super::{Store, StoreError, bad_row};
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

impl Intent {
    pub fn planned(&self) -> Planned<'_> {
        Planned { watch: &self.watch, path: &self.path, event: &self.event }
    }
}

/// As [`Intent`], to be written.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Planned<'a> {
    #[serde(with = "escaped_path")]
    pub watch: &'a Path,
    pub path: &'a RelPath,
    pub event: &'a Event,
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
                let mut insert = db.prepare_cached("INSERT INTO intent (body) VALUES (?1)")?;
                let mut body = Vec::new();
                let one = |intent| {
                    body.clear();
                    serde_json::to_writer(&mut body, &intent).map_err(|_| bad_row("body"))?;
                    insert.insert([ToSqlOutput::Borrowed(ValueRef::Text(&body))]).map(IntentId)
                };
                intents.into_iter().map(one).collect()
            })
        })
    }

    /// Intents without an outcome, oldest first.
    pub fn intents_open(&self) -> Result<Vec<(IntentId, Intent)>, StoreError> {
        self.run("reading open responses", |db| {
            db.prepare_cached("SELECT id, body FROM intent ORDER BY id")?
                .query_map([], |row| {
                    let intent =
                        serde_json::from_str(row.get_ref(1)?.as_str()?).map_err(|_| bad_row("body"))?;
                    Ok((IntentId(row.get(0)?), intent))
                })?
                .collect()
        })
    }
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
