//! Evidence is removed for good.

use std::os::unix::ffi::OsStrExt;

use crate::control::{AbsPath, Answer, Outcome};
use crate::core::event::{Event, EventKind, State, Verdict};
use crate::core::path::display;
use crate::core::policy::Severity;
use crate::core::quarantine::Fate;
use crate::store::vault::Vault;
use crate::store::{Held, Purge, Store, StoreError};

use super::{Desk, Refused};

/// Purges rows of evidence. False when the database gave up.
pub fn purge(
    desk: &mut Desk<'_>,
    ids: &[i64],
    said: &str,
    each: &mut dyn FnMut(&AbsPath, Result<Answer, Refused>) -> bool,
) -> bool {
    let mut rows = Vec::new();
    for id in ids {
        match row(desk, *id) {
            Ok(held) => rows.push(held),
            Err(refused) => {
                if !each(&AbsPath(Vec::new()), Err(refused)) {
                    return false;
                }
            }
        }
    }
    let purges: Vec<Purge> =
        rows.iter().map(|held| Purge { id: held.id, event: event(desk, held, said) }).collect();
    let records = match desk.store.durably(true, |store| store.purge(&purges)) {
        Ok(records) => records,
        Err(error) => return each(&AbsPath(Vec::new()), Err(error.into())),
    };
    // The note came first: content without a note is only waste, a note without content would be a lie.
    for (held, record) in rows.iter().zip(&records) {
        let path = abs(held);
        let result = remove(desk, held).map(|()| Answer::Item {
            path: path.clone(),
            outcome: Outcome::Purged,
            seq: record.seq,
            id: record.id.clone(),
        });
        if !each(&path, result) {
            return false;
        }
    }
    desk.records.extend(records);
    true
}

fn abs(held: &Held) -> AbsPath {
    AbsPath(held.path.below(&held.watch).as_os_str().as_bytes().to_vec())
}

fn row(desk: &Desk<'_>, id: i64) -> Result<Held, Refused> {
    let held = desk.store.held_one(id)?.ok_or_else(|| {
        Refused::One(format!("there is no evidence with the number {id}; see `fim quarantine list`"))
    })?;
    match held.fate {
        // Its content could not be removed then.
        Some(Fate::Purged | Fate::Evicted) if remains(desk.store, desk.vault, &held)? => Ok(held),
        Some(fate @ (Fate::Purged | Fate::Evicted)) => {
            Err(Refused::One(format!("the content of evidence {id} was {} already", fate.as_str())))
        }
        _ => Ok(held),
    }
}

/// Whether the vault has content of evidence that was purged, although nothing needs it.
pub fn remains(store: &Store, vault: &Vault, held: &Held) -> Result<bool, StoreError> {
    match held.digest.filter(|digest| vault.contains(digest)) {
        Some(digest) => Ok(!store.needs(&digest)?),
        None => Ok(false),
    }
}

fn event(desk: &Desk<'_>, held: &Held, said: &str) -> Event {
    let message = format!("evidence {} of event {} was removed, {said}", held.id, held.seq);
    let mut event: Event = desk.stamp.about_fim(EventKind::Purged, message);
    event.watch = Some(display(&held.watch));
    event.set_path(&abs(held).0);
    event.before = Some(State::from(&held.entry()));
    (event.verdict, event.severity) = (Some(Verdict::Authorised), Severity::Low);
    event.authorised_by = Some(said.to_owned());
    event
}

/// The content goes when nothing else needs it.
fn remove(desk: &Desk<'_>, held: &Held) -> Result<(), Refused> {
    if let Some(digest) = held.digest
        && !desk.store.needs(&digest)?
    {
        desk.vault.remove(&digest).map_err(|e| {
            Refused::One(format!(
                "it is noted as purged, but its content could not be removed ({e}); purge it again once that works"
            ))
        })?;
    }
    Ok(())
}
