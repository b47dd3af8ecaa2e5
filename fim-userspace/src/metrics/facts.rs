//! How the daemon fares, from what it knows of itself to samples.

use super::page::Page;
use super::table as t;
use crate::config::{AlertConfig, CENTRAL, CENTRAL_LINES, DIFFERENCES, JOURNALD, LogConfig};
use crate::sink::alert::plan::lanes;
use crate::store::SinkState;
use crate::store::status::{HookCounters, Status};

#[derive(Clone, Debug, Default)]
pub struct Facts {
    pub status: Status,
    /// Of the sinks in [`Status::sinks`] those that are configured, each with its label.
    pub sinks: Vec<(String, SinkState)>,
    pub ledger_rows: u64,
    /// What the vault may still take; `None`: that cannot be told.
    pub vault_room: Option<u64>,
}

impl Facts {
    pub fn put(&self, page: &mut Page) {
        let status = &self.status;
        let texts = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>();
        page.put(&t::BUILD, [(texts(&[env!("CARGO_PKG_VERSION"), std::env::consts::ARCH]), 1.0)]);
        put_time(page, &t::START, Some(&status.started));
        page.one(&t::READY, flag(status.ready));
        page.put(&t::TIER, [(texts(&[&status.tier]), 1.0)]);
        page.one(&t::BLOCKED, flag(status.trouble.is_some()));
        let queues = [("paths", status.waiting), ("records", status.unwritten)];
        page.put(&t::QUEUE, queues.map(|(queue, length)| (texts(&[queue]), length as f64)));
        page.one(&t::OPEN_CHANGES, status.open_changes as f64);
        self.put_sight(page);
        page.one(&t::LEDGER_RECORDS, self.ledger_rows as f64);
        put_time(page, &t::LEDGER_SEALED, status.ledger_sealed.as_deref());
        page.one(&t::VAULT_BYTES, status.vault_bytes as f64);
        if let Some(room) = self.vault_room {
            page.one(&t::VAULT_ROOM, room as f64);
        }
        page.one(&t::VAULT_PROBLEMS, status.vault_trouble.len() as f64);
        self.put_sinks(page);
    }

    fn put_sight(&self, page: &mut Page) {
        let status = &self.status;
        let unused = |hook: &str| status.attach.iter().any(|h| h.hook == hook && h.state == "unused");
        let used = status.attach.iter().filter(|hook| !unused(&hook.hook));
        page.put(&t::HOOK_ATTACHED, used.map(|h| (vec![h.hook.clone()], flag(h.state == "attached"))));
        type Count = fn(&HookCounters) -> u64;
        let hooks: [(_, Count); 4] = [
            (&t::HOOK_CALLS, |c| c.seen),
            (&t::HOOK_REPORTS, |c| c.kept),
            (&t::HOOK_DROPS, |c| c.dropped),
            (&t::HOOK_SKIPS, |c| c.skipped),
        ];
        for (metric, count) in hooks {
            let counters = status.counters.iter().filter(|(hook, _)| !unused(hook));
            page.put(metric, counters.map(|(hook, counters)| (vec![hook.clone()], count(counters) as f64)));
        }
        page.one(&t::GAPS_OPEN, status.gaps.open as f64);
        page.one(&t::LOST, status.gaps.lost as f64);
        let numbered = || (1..).map(|n: u32| vec![n.to_string()]).zip(&status.watches);
        page.put(&t::WATCH_FILES, numbered().map(|(number, watch)| (number, watch.files as f64)));
        let scanned = |watch: Option<&String>| watch.and_then(|time| seconds(time));
        page.put(
            &t::WATCH_SCANNED,
            numbered().filter_map(|(number, watch)| Some((number, scanned(watch.last_scan.as_ref())?))),
        );
        if status.self_test_passed.is_some() || status.self_test_trouble.is_some() {
            page.one(&t::SELF_TEST, flag(status.self_test_trouble.is_none()));
        }
        put_time(page, &t::SELF_TEST_TIME, status.self_test_passed.as_deref());
    }

    fn put_sinks(&self, page: &mut Page) {
        let each = |value: &dyn Fn(&SinkState) -> Option<f64>| -> Vec<_> {
            let sinks = self.sinks.iter();
            sinks.filter_map(|(label, sink)| Some((vec![label.clone()], value(sink)?))).collect()
        };
        let head = self.status.ledger_head;
        page.put(&t::SINK_LAG, each(&|sink| Some(head.saturating_sub(sink.cursor) as f64)));
        page.put(&t::SINK_SUCCESS, each(&|sink| sink.last_success.as_deref().and_then(seconds)));
        page.put(&t::SINK_FAILING, each(&|sink| Some(flag(sink.error.is_some() && !sink.idle))));
        page.put(&t::SINK_FAILURES, each(&|sink| Some(crate::sink::failures::of(&sink.name) as f64)));
        page.put(&t::SINK_REFUSED, each(&|sink| Some(sink.parked as f64)));
    }
}

/// The configured ones among these sinks, each with a label that tells neither a path, nor an address, nor a number of a
/// phone: `journald`, `ops-mail`, `ops-mail/2` for an alert's second receiver, `log/1` for a log without a name.
pub fn sink_labels(
    states: Vec<SinkState>,
    alerts: &[AlertConfig],
    logs: &[LogConfig],
    central: bool,
) -> Vec<(String, SinkState)> {
    let known = |name: &str| states.iter().any(|state| state.name == name);
    let mut labels: Vec<(String, String)> =
        [JOURNALD, DIFFERENCES].map(|name| (name.to_owned(), name.to_owned())).into();
    labels.extend([CENTRAL, CENTRAL_LINES].iter().filter(|_| central).map(|n| ((*n).into(), (*n).into())));
    for alert in alerts {
        let mut receivers: Vec<Option<String>> = Vec::new();
        for lane in lanes(alert, &known) {
            if !receivers.contains(&lane.to) {
                receivers.push(lane.to.clone());
            }
            let number = if receivers.len() > 1 { format!("/{}", receivers.len()) } else { String::new() };
            let critical = if lane.after.is_some() { ":critical" } else { "" };
            labels.push((lane.name, format!("{}{number}{critical}", alert.name)));
        }
    }
    for (number, log) in (1..).zip(logs) {
        // Without a name of its own it has its path's, or its address'.
        let own = !log.name.starts_with("log:") && !log.name.contains('/');
        labels.push((log.name.clone(), if own { log.name.clone() } else { format!("log/{number}") }));
    }
    let find = |state: &SinkState| labels.iter().find(|(name, _)| *name == state.name);
    states.iter().filter_map(|state| find(state).map(|(_, label)| (label.clone(), state.clone()))).collect()
}

fn put_time(page: &mut Page, metric: &t::Metric, time: Option<&str>) {
    if let Some(time) = time.and_then(seconds) {
        page.one(metric, time);
    }
}

fn flag(value: bool) -> f64 {
    f64::from(u8::from(value))
}

/// RFC 3339 to seconds since 1970.
fn seconds(time: &str) -> Option<f64> {
    let time: jiff::Timestamp = time.parse().ok()?;
    Some(time.as_microsecond() as f64 / 1e6)
}
