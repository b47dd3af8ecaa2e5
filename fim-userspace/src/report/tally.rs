//! Counting the changes of a period.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::core::actor::{Actor, Confidence};
use crate::core::event::{Event, Record, Response, Verdict};
use crate::core::policy::Severity;

/// Changes told one by one; the rest is counted.
pub const TOLD: usize = 1_000;
/// Entries of a list of shares; the rest is summed up.
const SHARES: usize = 20;
/// Columns of the chart of days.
const DAYS: usize = 366;
/// What stands for a name that nobody knows.
pub const UNKNOWN: &str = "unknown";

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Counts {
    pub changes: u64,
    pub authorised: u64,
    pub unauthorised: u64,
    /// Neither: recorded before verdicts were made.
    pub unjudged: u64,
    pub restored: u64,
    pub quarantined: u64,
    pub deleted: u64,
    pub failed: u64,
    /// The actor is one process, named by the kernel.
    pub attributed_exactly: u64,
}

/// One day, UTC.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Day {
    /// `2026-11-22`
    pub date: String,
    pub authorised: u64,
    /// Everything that was not authorised.
    pub other: u64,
}

/// How many changes one name has.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Share {
    pub name: String,
    pub changes: u64,
}

/// A change as a report lists it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Change {
    pub seq: u64,
    pub id: String,
    pub time: String,
    pub host: String,
    pub kind: &'static str,
    pub path: String,
    pub old_path: Option<String>,
    pub severity: &'static str,
    pub verdict: Option<Verdict>,
    pub authorised_by: Option<String>,
    pub response: &'static str,
    pub error: Option<String>,
    pub uid: Option<u32>,
    pub auid: Option<u32>,
    pub exe: Option<String>,
    pub pid: Option<u32>,
    pub confidence: Confidence,
    pub sha256_before: Option<String>,
    pub sha256_after: Option<String>,
}

impl From<&Record> for Change {
    fn from(record: &Record) -> Self {
        let event = &record.event;
        let actor = event.actor.as_ref();
        let digest = |state: &Option<crate::core::event::State>| state.as_ref()?.sha256.clone();
        Self {
            seq: record.seq,
            id: record.id.clone(),
            time: event.time.clone(),
            host: event.host.clone(),
            kind: event.kind.as_str(),
            path: event.path.clone().unwrap_or_default(),
            old_path: event.old_path.clone(),
            severity: event.severity.as_str(),
            verdict: event.verdict,
            authorised_by: event.authorised_by.clone(),
            response: event.response.as_str(),
            error: event.error.clone(),
            uid: actor.and_then(|a| a.uid),
            auid: actor.and_then(|a| a.auid),
            exe: actor.and_then(|a| a.exe.clone().or_else(|| a.comm.clone())),
            pid: actor.and_then(|a| a.pid),
            confidence: actor.map_or(Confidence::Unknown, |a| a.confidence),
            sha256_before: digest(&event.before),
            sha256_after: digest(&event.after),
        }
    }
}

#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Tally {
    pub counts: Counts,
    pub days: Vec<Day>,
    pub by_kind: Vec<Share>,
    pub by_severity: Vec<Share>,
    pub by_user: Vec<Share>,
    pub by_program: Vec<Share>,
    pub top_paths: Vec<Share>,
    /// The first of them in full.
    pub unauthorised: Vec<Change>,
    /// How many more there are.
    pub unauthorised_more: u64,
    /// Every path and its changes; for what needs all of them.
    #[serde(skip)]
    pub by_path: BTreeMap<String, u64>,
    #[serde(skip)]
    sums: Sums,
}

#[derive(Clone, Debug, Default, PartialEq)]
struct Sums {
    days: BTreeMap<String, (u64, u64)>,
    kinds: BTreeMap<String, u64>,
    severities: BTreeMap<Severity, u64>,
    users: BTreeMap<Option<u32>, u64>,
    programs: BTreeMap<String, u64>,
}

impl Tally {
    /// Counts the record, if it is a change.
    pub fn take(&mut self, record: &Record) {
        let event = &record.event;
        if !event.kind.is_change() {
            return;
        }
        self.counts.take(event);
        let day = self.sums.days.entry(event.time.get(..10).unwrap_or_default().to_owned()).or_default();
        match event.verdict {
            Some(Verdict::Authorised) => day.0 += 1,
            _ => {
                day.1 += 1;
                if self.unauthorised.len() < TOLD {
                    self.unauthorised.push(Change::from(record));
                } else {
                    self.unauthorised_more += 1;
                }
            }
        }
        *self.sums.kinds.entry(event.kind.as_str().to_owned()).or_default() += 1;
        *self.sums.severities.entry(event.severity).or_default() += 1;
        let actor = event.actor.as_ref();
        *self.sums.users.entry(actor.and_then(human)).or_default() += 1;
        let program = actor.and_then(|a| a.exe.clone().or_else(|| a.comm.clone()));
        *self.sums.programs.entry(program.unwrap_or_else(|| UNKNOWN.into())).or_default() += 1;
        if let Some(path) = &event.path {
            *self.by_path.entry(path.clone()).or_default() += 1;
        }
    }

    /// Makes the lists, longest first.
    pub fn finish(&mut self) {
        let sums = std::mem::take(&mut self.sums);
        self.days = every_day(&sums.days);
        self.by_kind = shares(sums.kinds);
        self.by_severity = sums
            .severities
            .into_iter()
            .rev()
            .map(|(severity, changes)| Share { name: severity.as_str().into(), changes })
            .collect();
        self.by_user = shares(sums.users.into_iter().map(|(uid, n)| (user(uid), n)));
        self.by_program = shares(sums.programs);
        self.top_paths = shares(self.by_path.iter().map(|(path, n)| (path.clone(), *n)));
    }
}

/// Days between the first and the last without a change are days as well.
fn every_day(counted: &BTreeMap<String, (u64, u64)>) -> Vec<Day> {
    let date = |text: Option<&String>| text?.parse::<jiff::civil::Date>().ok();
    let ends = date(counted.keys().next()).zip(date(counted.keys().next_back()));
    let Some((first, last)) = ends else { return Vec::new() };
    first
        .series(jiff::Span::new().days(1))
        .take_while(|day| *day <= last)
        .take(DAYS)
        .map(|day| {
            let date = day.to_string();
            let (authorised, other) = counted.get(&date).copied().unwrap_or_default();
            Day { date, authorised, other }
        })
        .collect()
}

impl Counts {
    fn take(&mut self, event: &Event) {
        self.changes += 1;
        match event.verdict {
            Some(Verdict::Authorised) => self.authorised += 1,
            Some(Verdict::Unauthorised) => self.unauthorised += 1,
            None => self.unjudged += 1,
        }
        match event.response {
            Response::Restored => self.restored += 1,
            Response::Quarantined => self.quarantined += 1,
            Response::Deleted => self.deleted += 1,
            Response::Failed => self.failed += 1,
            Response::None | Response::Pending => {}
        }
        let exact = |actor: &Actor| actor.confidence == Confidence::Exact;
        self.attributed_exactly += u64::from(event.actor.as_ref().is_some_and(exact));
    }
}

/// Who logged in counts for more than who they became.
fn human(actor: &Actor) -> Option<u32> {
    actor.auid.or(actor.uid)
}

/// `ann (1000)`, or `uid 1000` where the host knows no name.
pub fn user(uid: Option<u32>) -> String {
    let Some(uid) = uid else { return UNKNOWN.into() };
    let known = nix::unistd::User::from_uid(nix::unistd::Uid::from_raw(uid)).ok().flatten();
    known.map_or_else(|| format!("uid {uid}"), |user| format!("{} ({uid})", user.name))
}

/// The longest first, and everything beyond a page's worth as one.
pub fn shares(counted: impl IntoIterator<Item = (String, u64)>) -> Vec<Share> {
    let mut all: Vec<Share> = counted.into_iter().map(|(name, changes)| Share { name, changes }).collect();
    all.sort_by(|a, b| b.changes.cmp(&a.changes).then_with(|| a.name.cmp(&b.name)));
    if all.len() > SHARES {
        let rest = all.split_off(SHARES - 1);
        let changes = rest.iter().map(|share| share.changes).sum();
        all.push(Share { name: format!("{} others", rest.len()), changes });
    }
    all
}
