//! Records of changes on their way to the journal: what is repeated is told as such, and then muted.

use crate::core::change::ChangeKind;
use crate::core::correlate::Look;
use crate::core::event::{Event, EventKind, Verdict as Judged, rfc3339};
use crate::core::observation::WatchId;
use crate::core::path::RelPath;
use crate::core::policy::{PathPolicy, Severity};
use crate::core::repetition::{Author, Change, Closing, Escalation, Limit, Verdict, Why};

use super::clock::{boottime_ns, realtime_ns};
use super::journal::Entry;
use super::reconcile::Reconciler;
use super::watch::Watch;

impl Reconciler {
    /// Hands the record of a change on, muted where the path has been told of too often.
    pub(super) fn tell(
        &mut self,
        watch: &Watch,
        path: &RelPath,
        kind: ChangeKind,
        policy: &PathPolicy,
        mut entry: Entry,
    ) {
        if entry.event.verdict != Some(Judged::Unauthorised) {
            return self.journal.add(entry);
        }
        let now = boottime_ns();
        let window_ns = u64::try_from(policy.repeat_window.as_nanos()).unwrap_or(u64::MAX);
        let limit = Limit { count: policy.repeat_limit, window_ns };
        let change = Change { kind, response: entry.event.response, author: author(&entry.event) };
        match self.repetition.note(&(watch.id, path.clone()), limit, change, now) {
            Verdict::Told => self.journal.add(entry),
            Verdict::Muted => {
                entry.event.muted = true;
                self.journal.add(entry);
            }
            Verdict::Escalated(told) => {
                let mut event = self.about_path(watch.id, path, Severity::Critical, escalation(&told, now));
                event.verdict = Some(Judged::Unauthorised);
                (event.actor, event.other_actors) =
                    (entry.event.actor.clone(), entry.event.other_actors.clone());
                self.journal.add(entry);
                self.journal.add(Entry::plain(event));
            }
        }
    }

    /// Closes what has been quiet for long enough.
    pub(super) fn tell_of_quiet(&mut self, now_ns: u64) {
        let ended = self.repetition.ended(now_ns);
        self.close(ended, now_ns);
    }

    /// Closes everything: the next start counts anew.
    pub(super) fn tell_of_end(&mut self) {
        let ended = self.repetition.end();
        self.close(ended, boottime_ns());
    }

    fn close(&mut self, ended: Vec<Closing<(WatchId, RelPath)>>, now_ns: u64) {
        for closing in ended {
            let (watch, path) = &closing.key;
            if closing.why != Why::End {
                self.left_alone.add(closing.key.clone());
                self.correlator.schedule(Look::new(*watch, path.clone(), now_ns), now_ns);
            }
            // As severe as what it closes: whoever was told of the beginning is told of the end.
            let event = self.about_path(*watch, path, Severity::Critical, closed(&closing, now_ns));
            self.journal.add(Entry::plain(event));
        }
    }

    fn about_path(&self, id: WatchId, path: &RelPath, severity: Severity, message: String) -> Event {
        let watch = self.watches.get(id.0 as usize);
        let mut event = match watch {
            Some(watch) => self.stamp.about_watch(EventKind::Escalated, watch, message),
            None => self.stamp.about_fim(EventKind::Escalated, message),
        };
        if let Some(watch) = watch {
            event.set_path(&watch.absolute(path));
        }
        event.severity = severity;
        event
    }
}

fn author(event: &Event) -> Author {
    let actor = event.actor.as_ref();
    Author {
        exe: actor.and_then(|a| a.exe.clone().or_else(|| a.comm.clone())),
        uid: actor.and_then(|a| a.uid),
    }
}

/// A moment on the clock since boot, as RFC 3339.
fn date(at_ns: u64, now_ns: u64) -> String {
    let ago = i64::try_from(now_ns.saturating_sub(at_ns)).unwrap_or(i64::MAX);
    rfc3339(realtime_ns().saturating_sub(ago))
}

fn escalation(told: &Escalation, now_ns: u64) -> String {
    let mut by: Vec<String> = told
        .authors
        .iter()
        .map(|(author, count)| {
            let program = author.exe.as_deref().unwrap_or("an unknown program");
            let uid = author.uid.map_or("unknown uid".to_owned(), |uid| format!("uid {uid}"));
            format!("{program} ({uid}) {count}×")
        })
        .collect();
    if told.other_authors > 0 {
        by.push(format!("others {}×", told.other_authors));
    }
    let done: Vec<String> = told
        .outcomes
        .iter()
        .map(|(kind, response, count)| format!("{} {} {count}×", kind.as_str(), outcome(*response)))
        .collect();
    format!(
        "changed {} times since {} by {}; {}; every further change is answered and recorded, and told to nobody until \
         the path was left alone for {}. Find out who does it (`fim log` has each record) and stop that program",
        told.count,
        date(told.since_ns, now_ns),
        by.join(", "),
        done.join(", "),
        span(told.window_ns)
    )
}

fn outcome(response: crate::core::event::Response) -> &'static str {
    use crate::core::event::Response;
    match response {
        Response::None => "and left",
        Response::Restored => "and restored",
        Response::Quarantined => "and quarantined",
        Response::Deleted => "and deleted",
        Response::Failed => "and not put right",
        Response::Pending => "and not put right yet",
    }
}

fn closed(closing: &Closing<(WatchId, RelPath)>, now_ns: u64) -> String {
    let (since, last) = (date(closing.since_ns, now_ns), date(closing.last_ns, now_ns));
    let muted = closing.muted;
    let records = match muted {
        0 => "no record was muted".to_owned(),
        1 => "1 record was muted (see `fim log`)".to_owned(),
        _ => format!("{muted} records were muted (see `fim log`)"),
    };
    match closing.why {
        Why::Quiet => format!("not changed any more since {last}; {records} since {since}"),
        Why::Room => {
            format!("told again from now on, too many other paths are muted; {records} since {since}")
        }
        Why::End => format!("fim ends while this goes on; {records} since {since}"),
    }
}

fn span(ns: u64) -> String {
    let seconds = ns / 1_000_000_000;
    match (seconds / 3600, seconds / 60 % 60, seconds % 60) {
        (0, 0, s) => format!("{s} s"),
        (0, m, 0) => format!("{m} min"),
        (h, 0, 0) => format!("{h} h"),
        _ => format!("{seconds} s"),
    }
}
