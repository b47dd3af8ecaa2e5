//! What was watched, since when, and when not.

use serde::Serialize;

use crate::config::Config;
use crate::core::event::{EventKind, Record};
use crate::core::path::display;
use crate::core::policy::{OnAltered, OnCreated, PathPolicy};
use crate::store::{Store, StoreError};

#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Coverage {
    pub watches: Vec<WatchCoverage>,
    pub baseline_taken: Option<String>,
    pub baseline_by: Option<String>,
    /// When the daemon watched; those that reach into the period.
    pub runs: Vec<Run>,
    /// Share of the period in which it did, 0 to 1.
    pub watched: f64,
    pub gaps: Vec<Gap>,
    /// How often fim said that something was wrong with its own means.
    pub troubles: u64,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct WatchCoverage {
    pub path: String,
    pub entries: u64,
    pub severity: &'static str,
    /// What is done about changes, in words.
    pub response: String,
}

/// One life of the daemon.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Run {
    pub from: String,
    /// It began at some time before: the record of that was removed with older ones.
    pub began_before: bool,
    /// `None` while it goes on.
    pub until: Option<String>,
    /// It ended without saying so: killed, or the power went.
    pub cut_short: bool,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Gap {
    pub time: String,
    pub watch: Option<String>,
    pub reason: String,
    /// When a scan had made up for it.
    pub closed: Option<String>,
}

/// What the ledger says about the watching itself, record by record.
#[derive(Debug, Default)]
pub struct Watching {
    /// When the first record was made that is left, if older ones were removed.
    first: Option<String>,
    runs: Vec<Run>,
    gaps: Vec<Gap>,
    troubles: Vec<String>,
    last: Option<String>,
}

/// What tells of the watching itself.
pub const KINDS: [EventKind; 5] = [
    EventKind::Started,
    EventKind::Stopped,
    EventKind::CoverageGap,
    EventKind::Rescanned,
    EventKind::Trouble,
];

impl Watching {
    /// `first`: when the first record was made that is left, if older ones were removed.
    pub fn since(first: Option<String>) -> Self {
        Self { first, ..Self::default() }
    }

    /// The life that was under way when the ledger now begins.
    fn before_all(&self) -> Option<Run> {
        let from = self.first.clone().filter(|_| self.runs.is_empty())?;
        Some(Run { from, began_before: true, until: None, cut_short: false })
    }

    /// The daemon was alive when it made this record.
    pub fn seen(&mut self, record: &Record) {
        self.last = Some(record.event.time.clone());
    }

    pub fn take(&mut self, record: &Record) {
        let event = &record.event;
        let time = &event.time;
        match event.kind {
            EventKind::Started => {
                // The last thing that an earlier life wrote is the last that is known of it.
                if let Some(open) = self.runs.last_mut().filter(|run| run.until.is_none()) {
                    (open.until, open.cut_short) = (self.last.clone(), true);
                }
                self.runs.push(Run {
                    from: time.clone(),
                    began_before: false,
                    until: None,
                    cut_short: false,
                });
            }
            EventKind::Stopped => {
                self.runs.extend(self.before_all());
                if let Some(open) = self.runs.last_mut() {
                    open.until = Some(time.clone());
                }
            }
            EventKind::CoverageGap => self.gaps.push(Gap {
                time: time.clone(),
                watch: event.watch.clone(),
                reason: event.message.clone().unwrap_or_default(),
                closed: None,
            }),
            EventKind::Rescanned => {
                let open =
                    self.gaps.iter_mut().filter(|gap| gap.closed.is_none() && gap.watch == event.watch);
                open.for_each(|gap| gap.closed = Some(time.clone()));
            }
            EventKind::Trouble => self.troubles.push(time.clone()),
            _ => {}
        }
        self.last = Some(time.clone());
    }
}

/// Joins what the configuration, the baseline and the ledger say. `period` is from, until; RFC 3339 in UTC, which sorts.
pub fn gather(
    store: &Store,
    config: &Config,
    watching: Watching,
    period: (&str, &str),
) -> Result<Coverage, StoreError> {
    let (since, until) = period;
    let mut watches = Vec::with_capacity(config.watches.len());
    for watch in &config.watches {
        watches.push(WatchCoverage {
            path: display(&watch.path),
            entries: store.baseline_count(&watch.path)?,
            severity: watch.policy.base.severity.as_str(),
            response: response(&watch.policy.base),
        });
    }
    let taken = store.baseline_taken()?;
    let within = |time: &String| time.as_str() >= since && time.as_str() < until;
    let going_on = watching.before_all();
    let mut runs = watching.runs;
    runs.extend(going_on);
    runs.retain(|run| run.from.as_str() < until && run.until.as_deref().is_none_or(|end| end > since));
    let mut gaps = watching.gaps;
    gaps.retain(|gap| within(&gap.time));
    Ok(Coverage {
        watches,
        baseline_taken: taken.as_ref().map(|t| t.time.clone()),
        baseline_by: taken.map(|t| format!("{} on {}", t.by, t.host)),
        watched: watched(&runs, since, until),
        runs,
        gaps,
        troubles: watching.troubles.iter().filter(|time| within(time)).count() as u64,
    })
}

fn watched(runs: &[Run], since: &str, until: &str) -> f64 {
    let seconds = |text: &str| text.parse::<jiff::Timestamp>().ok().map(|t| t.as_millisecond() as f64 / 1e3);
    let (Some(since), Some(until)) = (seconds(since), seconds(until)) else { return 0.0 };
    let covered: f64 = runs
        .iter()
        .map(|run| {
            let from = seconds(&run.from).unwrap_or(until).max(since);
            let to = run.until.as_deref().and_then(seconds).unwrap_or(until).min(until);
            (to - from).max(0.0)
        })
        .sum();
    if until > since { (covered / (until - since)).clamp(0.0, 1.0) } else { 0.0 }
}

fn response(policy: &PathPolicy) -> String {
    let altered = |on: OnAltered| match on {
        OnAltered::Alert => "told",
        OnAltered::Restore => "restored",
    };
    let created = match policy.on_created {
        OnCreated::Alert => "told",
        OnCreated::Quarantine => "quarantined",
        OnCreated::Delete => "deleted",
    };
    let dry = if policy.dry_run { " (dry run)" } else { "" };
    format!(
        "modified: {}; deleted: {}; attributes: {}; created: {created}{dry}",
        altered(policy.on_modified),
        altered(policy.on_deleted),
        altered(policy.on_attributes)
    )
}
