//! From findings to ledger records.

use std::sync::Arc;
use std::time::Instant;

use crate::core::change::{Change, ChangeKind};
use crate::core::correlate::Look;
use crate::core::event::{Event, EventKind, Latency, Response, State, Verdict, rfc3339};
use crate::core::mask::Masks;
use crate::core::observation::Source;
use crate::core::path::{display, escape};
use crate::core::policy::Severity;

use super::clock;
use super::watch::Watch;

/// What every record of this daemon has in common.
#[derive(Clone, Debug)]
pub struct Stamp {
    pub host: String,
    pub tier: String,
    pub masks: Arc<Masks>,
}

impl Stamp {
    pub fn about_fim(&self, kind: EventKind, message: String) -> Event {
        Event::about_fim(kind, &self.host, &self.tier, clock::realtime_ns(), message)
    }

    /// A record about fim's sight of one watch.
    pub fn about_watch(&self, kind: EventKind, watch: &Watch, message: String) -> Event {
        let mut event = self.about_fim(kind, message);
        event.watch = Some(display(watch.path()));
        event
    }

    /// A change as it was established, its response still open.
    pub fn change(&self, watch: &Watch, look: &Look, change: &Change, severity: Severity) -> Event {
        let mut event = self.about_watch(change.kind.into(), watch, String::new());
        event.message = None;
        event.set_path(&watch.absolute(&change.path));
        event.old_path = change.old_path.as_ref().map(|old| escape(&watch.absolute(old)));
        event.verdict = Some(Verdict::Unauthorised);
        event.severity = severity;
        self.attribute(&mut event, look, change.kind);
        event.before = change.before.as_ref().map(State::from);
        event.after = change.after.as_ref().map(|found| State::from(&found.entry));
        event.differences = change.aspects.clone();
        event.rules = watch.policy.rules_of_change(change);
        event
    }

    /// Changed and changed back: nothing differs, but something was done.
    pub fn transient(&self, watch: &Watch, look: &Look, kind: ChangeKind) -> Event {
        let change = Change {
            kind,
            path: look.path.clone(),
            old_path: None,
            before: None,
            after: None,
            aspects: Vec::new(),
        };
        let mut event = self.change(watch, look, &change, Severity::Low);
        event.transient = true;
        event
    }

    /// A path that equals its baseline again after a difference that was only told.
    pub fn resolved(&self, watch: &Watch, look: &Look) -> Event {
        let mut event = self.transient(watch, look, ChangeKind::Modified);
        event.transient = false;
        event.message = Some("equals its baseline again".into());
        event
    }

    fn attribute(&self, event: &mut Event, look: &Look, kind: ChangeKind) {
        let (mut actor, mut others) = look.witnessed.attribute(kind);
        std::iter::once(&mut actor).chain(&mut others).for_each(|actor| self.masks.apply(actor));
        (event.actor, event.other_actors) = (Some(actor), others);
        event.seen_by = look.sources.list();
        let live = event.seen_by.iter().any(|s| *s != Source::Scan);
        event.latency_us = Latency {
            detected: live.then(|| since_us(look.first_ns)),
            restored: None,
            done_ns: live.then_some(look.closed_ns.unwrap_or(look.first_ns)),
        };
    }
}

/// Notes how the response ended. `righted`: when the place was right again; storing the evidence came after.
pub fn conclude(
    event: &mut Event,
    look: &Look,
    response: Response,
    righted: Option<Instant>,
    error: Option<String>,
) {
    event.response = response;
    event.error = error;
    if event.latency_us.detected.is_some()
        && matches!(response, Response::Restored | Response::Quarantined | Response::Deleted)
    {
        let after = righted.map_or(0, |at| at.elapsed().as_micros() as u64);
        event.latency_us.restored = Some(since_us(look.first_ns).saturating_sub(after));
    }
    event.time = rfc3339(clock::realtime_ns());
}

fn since_us(boot_ns: u64) -> u64 {
    clock::boottime_ns().saturating_sub(boot_ns) / 1000
}
