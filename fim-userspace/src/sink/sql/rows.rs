//! From records to rows: which tables follow the ledger, and how one record fills them.

use std::os::unix::ffi::OsStrExt;

use super::table::{BACKUP_PATHS, EVENTS, Table};
use super::value::{Row, Value};
use crate::core::actor::Actor;
use crate::core::event::{Event, State, Verdict};
use crate::core::path::{escape, unescape};
use crate::store::{EvidenceCopy, Link};

/// A ledger among those of all hosts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LedgerKey {
    pub host_id: String,
    pub generation: String,
}

impl LedgerKey {
    pub fn values(&self) -> Row {
        vec![(&self.host_id).into(), (&self.generation).into()]
    }
}

/// One record with all that belongs to it.
#[derive(Clone, Debug)]
pub struct Item {
    pub link: Link,
    pub event: Event,
    pub copies: Vec<EvidenceCopy>,
}

/// A table that is filled from records alone. Its rows are written in the transaction of their record, so that they are
/// there exactly when the record is; each begins with the ledger's key and the record's number.
pub struct Follower {
    pub table: &'static Table,
    pub rows: fn(&LedgerKey, &Item) -> Vec<Row>,
}

pub const FOLLOWERS: [Follower; 2] =
    [Follower { table: &EVENTS, rows: event }, Follower { table: &BACKUP_PATHS, rows: backup_paths }];

fn event(key: &LedgerKey, item: &Item) -> Vec<Row> {
    let Item { link, event, .. } = item;
    let raw = |path: &Option<String>| Value::from(path.as_deref().and_then(unescape));
    let mut row = key.values();
    row.extend([
        link.seq.into(),
        id(&link.hash).into(),
        Value::time(&event.time),
        (&event.host).into(),
        event.kind.as_str().into(),
        event.path.as_ref().into(),
        raw(&event.path),
        event.old_path.as_ref().into(),
        raw(&event.old_path),
        event.watch.as_ref().into(),
        event.severity.as_str().into(),
        event.verdict.map(verdict).into(),
        event.authorised_by.as_ref().into(),
        event.response.as_str().into(),
        event.planned.map(|planned| planned.as_str()).into(),
        event.method.as_ref().into(),
        event.error.as_ref().into(),
        event.message.as_ref().into(),
        (&event.tier).into(),
        event.muted.into(),
    ]);
    row.extend(actor(event.actor.as_ref()));
    row.extend(state(event.before.as_ref()));
    row.extend(state(event.after.as_ref()));
    row.extend([link.body.clone().into(), link.prev[..].into(), link.hash[..].into()]);
    vec![row]
}

fn actor(actor: Option<&Actor>) -> [Value; 12] {
    let Some(actor) = actor else { return [const { Value::Null }; 12] };
    [
        actor.pid.into(),
        actor.ppid.into(),
        actor.uid.into(),
        actor.gid.into(),
        actor.euid.into(),
        actor.auid.into(),
        actor.session.into(),
        actor.tty.as_ref().into(),
        actor.comm.as_ref().into(),
        actor.exe.as_ref().into(),
        actor.container.as_ref().into(),
        name_of(&actor.confidence),
    ]
}

fn state(state: Option<&State>) -> [Value; 7] {
    let Some(state) = state else { return [const { Value::Null }; 7] };
    [
        name_of(&state.kind),
        state.sha256.as_ref().into(),
        state.size.into(),
        (&state.mode).into(),
        state.uid.into(),
        state.gid.into(),
        state.mtime.as_deref().map_or(Value::Null, Value::time),
    ]
}

fn backup_paths(key: &LedgerKey, item: &Item) -> Vec<Row> {
    let copy = |copy: &EvidenceCopy| {
        let path = copy.path.below(&copy.watch);
        let mut row = key.values();
        row.extend([
            copy.seq.into(),
            copy.number.into(),
            Value::time(&item.event.time),
            escape(copy.watch.as_os_str().as_bytes()).into(),
            escape(path.as_os_str().as_bytes()).into(),
            path.as_os_str().as_bytes().into(),
            (&copy.sha256).into(),
            copy.size.into(),
            (&copy.reason).into(),
        ]);
        row
    };
    item.copies.iter().map(copy).collect()
}

fn verdict(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Authorised => "authorised",
        Verdict::Unauthorised => "unauthorised",
    }
}

/// The name that the record's JSON has for it.
fn name_of(value: &impl serde::Serialize) -> Value {
    match serde_json::to_value(value) {
        Ok(serde_json::Value::String(name)) => name.into(),
        _ => Value::Null,
    }
}

/// A record's id: the first 16 bytes of its hash.
fn id(hash: &[u8; 32]) -> String {
    hash[..16].iter().map(|b| format!("{b:02x}")).collect()
}
