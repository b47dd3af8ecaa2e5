//! Doing what was decided: the place first, then the record, and only then what was there goes.

use crate::core::change::Change;
use crate::core::correlate::Look;
use crate::core::event::{Event, Record, Response};
use crate::core::path::RelPath;
use crate::core::plan::Step;
use crate::core::quarantine::Reason;
use crate::daemon::act;
use crate::daemon::clock::boottime_ns;
use crate::daemon::journal::Entry;
use crate::daemon::settle::evidence_rows;
use crate::daemon::watch::Watch;
use crate::respond::{Evidence, Pending, ResponseError};
use crate::store::{Approval, EvidenceRow, IntentId, Planned, Store, StoreError};

use super::{Desk, Refused};

/// How the steps of a decision went. The place is right, and all that stood there is in the vault.
#[derive(Default)]
pub(super) struct Performed {
    pub evidence: Vec<EvidenceRow>,
    pub intent: Option<IntentId>,
    /// To be released once all is recorded.
    left: Vec<Pending>,
}

impl Desk<'_> {
    /// A record about `change`, authorised by a person.
    pub(super) fn record_of(&self, watch: &Watch, change: &Change, said: &str) -> Event {
        let look = Look::new(watch.id, change.path.clone(), boottime_ns());
        let mut event = self.stamp.change(watch, &look, change, watch.policy.of_change(change).severity);
        // Who made the change is nothing that was seen now.
        event.actor = None;
        event.authorised_by = Some(said.to_owned());
        event
    }

    /// Carries out steps about one path, up to what is for [`record`](Self::record) to end. `event` is what the record will
    /// be; a failure that took something out of its place on the way is recorded at once.
    pub(super) fn perform(
        &mut self,
        watch: &Watch,
        path: &RelPath,
        steps: &[Step],
        event: &mut Event,
    ) -> Result<Performed, Refused> {
        if steps.is_empty() {
            return Ok(Performed::default());
        }
        let intent = self.store.intents_begin([Planned { watch: watch.path(), path, event }])?.pop();
        let (mut evidence, mut left, mut failure) = (Vec::new(), Vec::new(), None);
        for step in steps {
            match act::begin(self.responder, self.sight, watch, step, &mut left) {
                Ok(outcome) => evidence.extend(outcome.evidence),
                Err(error) => {
                    failure = Some(match &error {
                        ResponseError::Moved { path, .. } => {
                            format!("{path} changed in this very moment; look at it again")
                        }
                        other => other.to_string(),
                    });
                    evidence.extend(error.into_evidence());
                    break;
                }
            }
        }
        self.responder.secure(&watch.root, &mut left);
        evidence.extend(left.iter_mut().flat_map(Pending::take_evidence));
        let failure = failure.or_else(|| left.iter().find_map(|p| p.failure().map(str::to_owned)));
        let performed = Performed { evidence: rows(watch, evidence), intent, left };
        match failure {
            None => Ok(performed),
            Some(sentence) => {
                self.failed(watch, path, event.clone(), performed, &sentence)?;
                Err(Refused::One(sentence))
            }
        }
    }

    /// Records what was decided and done, and only then removes what stood there. What cannot be recorded is left for
    /// later as it is.
    pub(super) fn record(
        &mut self,
        watch: &Watch,
        mut approval: Approval,
        performed: Performed,
    ) -> Result<Record, StoreError> {
        let Performed { evidence, intent, left } = performed;
        approval.evidence = evidence;
        approval.closes = intent.filter(|_| left.is_empty());
        match self.store.durably(!left.is_empty(), |store| store.approve(&approval)) {
            Ok(record) => {
                self.release(watch, left, intent);
                Ok(record)
            }
            Err(error) => {
                if intent.is_some() {
                    let Approval { path, mut event, evidence, .. } = approval;
                    (event.response, event.error) = (Response::Failed, Some(error.to_string()));
                    self.record_later(
                        watch,
                        &path,
                        Entry { event, closes: intent, evidence, approved: Vec::new() },
                        left,
                    );
                }
                Err(error)
            }
        }
    }

    /// Closes what was begun; evidence is never without a record.
    fn failed(
        &mut self,
        watch: &Watch,
        path: &RelPath,
        mut event: Event,
        performed: Performed,
        sentence: &str,
    ) -> Result<(), StoreError> {
        let Performed { evidence, intent, left } = performed;
        (event.response, event.error) = (Response::Failed, Some(sentence.to_owned()));
        let events = if evidence.is_empty() { Vec::new() } else { vec![event.clone()] };
        let closes = intent.filter(|_| left.is_empty());
        let rows: Vec<_> = evidence.iter().map(|row| (0, row.clone())).collect();
        let write = |store: &mut Store| store.append_with(&events, closes.as_slice(), &rows);
        match self.store.durably(!left.is_empty(), write) {
            Ok(records) => {
                self.records.extend(records);
                self.release(watch, left, intent);
                Ok(())
            }
            Err(error) => {
                self.record_later(
                    watch,
                    path,
                    Entry { event, closes: intent, evidence, approved: Vec::new() },
                    left,
                );
                Err(error)
            }
        }
    }

    /// Removes what stood there. The intent is open until then: a crash before is healed at the next start.
    fn release(&mut self, watch: &Watch, left: Vec<Pending>, intent: Option<IntentId>) {
        if left.is_empty() {
            return;
        }
        let stays = self.responder.release(left);
        self.looks.extend(stays.into_iter().map(|leftover| (watch.id, leftover.path, false)));
        if let Err(error) = self.store.append_with(&[], intent.as_slice(), &[]) {
            tracing::warn!("{error}; the next start will tell of a response that was interrupted");
        }
    }

    fn record_later(&mut self, watch: &Watch, path: &RelPath, entry: Entry, left: Vec<Pending>) {
        self.unrecorded.push(entry);
        self.unreleased.push((watch.id, left));
        self.looks.push((watch.id, path.clone(), false));
    }
}

fn rows(watch: &Watch, evidence: Vec<Evidence>) -> Vec<EvidenceRow> {
    evidence_rows(watch, evidence.into_iter().map(|e| (Reason::Replaced, e)).collect())
}
