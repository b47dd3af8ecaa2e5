//! What people decide: accept, restore, release, purge. The daemon does it in its own turn, being the only writer; the
//! commands do the same by themselves where no daemon runs.

mod alone;
mod approve;
mod judge;
mod person;
pub mod place;
mod prune;
mod purge;
mod restore;

use std::os::unix::ffi::OsStrExt;
use std::sync::Arc;

use crate::control::{AbsPath, Act, Answer};
use crate::core::change::Change;
use crate::core::correlate::Look;
use crate::core::event::{Event, Record};
use crate::core::observation::WatchId;
use crate::core::path::RelPath;
use crate::core::plan::Step;
use crate::core::quarantine::Reason;
use crate::respond::{Responder, ResponseError};
use crate::store::vault::Vault;
use crate::store::{EvidenceRow, IntentId, Planned, Store, StoreError};

pub use alone::Alone;
pub use approve::in_order;
pub use person::Person;

use super::clock::boottime_ns;
use super::record::Stamp;
use super::settle::evidence_rows;
use super::sight::Sight;
use super::watch::Watch;

/// All that a decision needs, borrowed from the reconciler or from [`Alone`].
pub struct Desk<'a> {
    pub store: &'a mut Store,
    pub vault: &'a Vault,
    pub watches: &'a [Arc<Watch>],
    pub responder: &'a Responder,
    pub stamp: &'a Stamp,
    /// `None` where no sensors run.
    pub sight: Option<&'a Sight>,
    /// What was recorded, for those who wait for records.
    pub records: Vec<Record>,
    /// What should be looked at again; `true`: a directory that is new to the sensors.
    pub looks: Vec<(WatchId, RelPath, bool)>,
}

/// Why one decision was not carried out.
#[derive(Debug, thiserror::Error)]
pub enum Refused {
    /// This one; others may go on.
    #[error("{0}")]
    One(String),
    /// Nothing can be done now.
    #[error(transparent)]
    All(#[from] StoreError),
}

impl Refused {
    fn one(sentence: impl Into<String>) -> Self {
        Self::One(sentence.into())
    }
}

/// Carries a request out, item by item. The last answer closes.
pub fn carry_out(desk: &mut Desk<'_>, act: &Act, person: &Person, tell: &mut dyn FnMut(Answer)) {
    let (mut done, mut refused) = (0, 0);
    let mut each = |path: &AbsPath, result: Result<Answer, Refused>| match result {
        Ok(answer) => {
            done += u64::from(matches!(answer, Answer::Item { .. }));
            tell(answer);
            true
        }
        Err(Refused::One(sentence)) => {
            refused += 1;
            tell(Answer::Refused { path: path.clone(), sentence });
            true
        }
        Err(Refused::All(error)) => {
            tell(Answer::Failed { sentence: error.to_string() });
            false
        }
    };
    let whole = match act {
        Act::Approve { items, way, reason } => {
            let said = person.says(way.command(), reason.as_deref());
            approve::in_order(items).into_iter().all(|item| {
                let result = approve::approve(desk, item, *way, &said);
                each(&item.path, result)
            })
        }
        Act::Restore { paths, reason } => {
            let said = person.says("fim restore", reason.as_deref());
            let mut paths: Vec<&AbsPath> = paths.iter().collect();
            // Folders before what is in them.
            paths.sort();
            paths.into_iter().all(|path| {
                let result = restore::restore(desk, path, &said);
                each(path, result)
            })
        }
        Act::Purge { evidence, reason } => {
            let said = person.says("fim quarantine purge", reason.as_deref());
            purge::purge(desk, evidence, &said, &mut each)
        }
        Act::Prune { max_age, max_size } => {
            let said = person.says("fim vault prune", None);
            return tell(prune::prune(desk, *max_age, *max_size, &said));
        }
    };
    if whole {
        tell(Answer::Done { done, refused });
    }
}

/// How the steps of a decision went.
struct Performed {
    evidence: Vec<EvidenceRow>,
    intent: Option<IntentId>,
}

impl Desk<'_> {
    /// A record about `change`, authorised by a person.
    fn record_of(&self, watch: &Watch, change: &Change, said: &str) -> Event {
        let look = Look::new(watch.id, change.path.clone(), boottime_ns());
        let mut event = self.stamp.change(watch, &look, change, watch.policy.of_change(change).severity);
        // Who made the change is nothing that was seen now.
        event.actor = None;
        event.authorised_by = Some(said.to_owned());
        event
    }

    /// Carries out steps about one path. `event` is what the record will be; a failure that took something out of its
    /// place on the way is recorded at once.
    fn perform(
        &mut self,
        watch: &Watch,
        path: &RelPath,
        steps: &[Step],
        event: &Event,
    ) -> Result<Performed, Refused> {
        if steps.is_empty() {
            return Ok(Performed { evidence: Vec::new(), intent: None });
        }
        let intent = self.store.intents_begin([Planned { watch: watch.path(), path, event }])?.pop();
        let mut evidence = Vec::new();
        for step in steps {
            match super::act::perform(self.responder, self.sight, watch, step) {
                Ok(outcome) => evidence.extend(outcome.evidence),
                Err(error) => {
                    let sentence = match &error {
                        ResponseError::Moved { path, .. } => {
                            format!("{path} changed in this very moment; look at it again")
                        }
                        other => other.to_string(),
                    };
                    evidence.extend(error.into_evidence());
                    self.failed(event, intent, rows(watch, evidence), &sentence)?;
                    return Err(Refused::One(sentence));
                }
            }
        }
        Ok(Performed { evidence: rows(watch, evidence), intent })
    }

    /// Closes what was begun; evidence is never without a record.
    fn failed(
        &mut self,
        event: &Event,
        intent: Option<IntentId>,
        evidence: Vec<EvidenceRow>,
        sentence: &str,
    ) -> Result<(), StoreError> {
        let closes: Vec<IntentId> = intent.into_iter().collect();
        let mut event = event.clone();
        event.response = crate::core::event::Response::Failed;
        event.error = Some(sentence.to_owned());
        let events = if evidence.is_empty() { Vec::new() } else { vec![event] };
        let evidence: Vec<_> = evidence.into_iter().map(|row| (0, row)).collect();
        let records = self.store.append_with(&events, &closes, &evidence)?;
        self.records.extend(records);
        Ok(())
    }
}

fn rows(watch: &Watch, evidence: Vec<crate::respond::Evidence>) -> Vec<EvidenceRow> {
    evidence_rows(watch, evidence.into_iter().map(|e| (Reason::Replaced, e)).collect())
}

fn abs(watch: &Watch, path: &RelPath) -> AbsPath {
    AbsPath(path.below(watch.path()).as_os_str().as_bytes().to_vec())
}
