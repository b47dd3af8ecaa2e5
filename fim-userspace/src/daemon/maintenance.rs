//! The maintenance window as the daemon keeps it: opened and closed by people, ended by time, told of at its end.

use std::time::Duration;

use crate::control::{Answer, Maintain};
use crate::core::change::Change;
use crate::core::correlate::Look;
use crate::core::event::{Event, EventKind};
use crate::core::maintenance::{LONGEST_NS, Moment, Window};
use crate::core::path::display;
use crate::core::policy::Severity;
use crate::store::{Store, StoreError, WindowTally};
use crate::tree::inspect;

use super::clock::{boottime_ns, realtime_ns};
use super::hands::Person;
use super::reconcile::Reconciler;
use super::watch::Watch;

/// Folders that the summary names.
const FOLDERS: usize = 10;
/// Nanoseconds after its end for which what began before is waited for.
const LINGER_NS: u64 = 60_000_000_000;

pub struct Maintenance {
    boot: String,
    open: Option<Open>,
}

struct Open {
    window: Window,
    closing: Option<Closing>,
}

/// A window that is over, while what was done in it is still being looked at.
struct Closing {
    /// From then on changes are nobody's; nanoseconds since boot, and since the epoch.
    until_ns: u64,
    until_wall_ns: i64,
    why: String,
}

impl Maintenance {
    /// What an earlier run left open.
    pub fn load(store: &Store) -> anyhow::Result<Self> {
        let boot = boot_id()?;
        let open = store.window_open()?.map(|window| Open { window, closing: None });
        Ok(Self { boot, open })
    }

    pub fn is_open(&self) -> bool {
        self.open.is_some()
    }

    fn now(&self) -> Moment {
        Moment { boot: self.boot.clone(), boot_ns: boottime_ns(), wall_ns: realtime_ns() }
    }

    /// What a change is recorded under, if it was made within a window. What a sensor reported tells when; what only a scan
    /// found tells by its change time, which nobody can set.
    pub fn authority(&self, watch: &Watch, look: &Look, change: Option<&Change>) -> Option<String> {
        let Open { window, closing } = self.open.as_ref()?;
        if !window.has(&display(watch.path())) {
            return None;
        }
        let live = look.sources.fanotify || look.sources.ebpf;
        let within = if live {
            let until_ns = closing.as_ref().map_or(u64::MAX, |closing| closing.until_ns);
            window.is_after_start(&self.boot, look.first_ns)
                && look.first_ns < until_ns.min(window.end_boot_ns(&self.boot))
        } else {
            let until = closing.as_ref().map_or(i64::MAX, |closing| closing.until_wall_ns);
            changed_at(watch, change?)
                .is_some_and(|at| at >= window.start_wall_ns && at < until.min(window.end_wall_ns()))
        };
        within.then(|| window.authority())
    }

    /// When the window is over, or what it left may have come to rest; nanoseconds since boot.
    pub fn next_due(&self) -> Option<u64> {
        let open = self.open.as_ref()?;
        let now = self.now();
        Some(match &open.closing {
            None => now.boot_ns + open.window.left_ns(&now),
            Some(_) => now.boot_ns + 10_000_000,
        })
    }
}

/// The change time of what is there, or of the folder that something is gone from.
fn changed_at(watch: &Watch, change: &Change) -> Option<i64> {
    if let Some(now) = &change.after {
        return Some(now.identity.ctime_ns).filter(|at| *at != 0).or_else(|| ctime_of(watch, change));
    }
    let folder = inspect::inspect(&watch.root, &change.path.parent()?, None).ok()??;
    Some(folder.identity.ctime_ns).filter(|at| *at != 0).or_else(|| Some(realtime_ns()))
}

/// A change time that is so fresh that it proves nothing is not part of an identity; it is a change time all the same.
fn ctime_of(watch: &Watch, change: &Change) -> Option<i64> {
    let fd = watch.root.open_path(&change.path).ok()?;
    let stat = rustix::fs::fstat(&fd).ok()?;
    let ns = stat.st_ctime_nsec.cast_signed();
    Some(stat.st_ctime.saturating_mul(1_000_000_000).saturating_add(ns))
}

pub(super) fn boot_id() -> anyhow::Result<String> {
    use anyhow::Context;
    let boot = std::fs::read_to_string("/proc/sys/kernel/random/boot_id")
        .context("which boot this is cannot be read; mount /proc")?;
    Ok(boot.trim().to_owned())
}

impl Reconciler {
    /// What a person asked for.
    pub(super) fn maintain(&mut self, wish: &Maintain, person: &Person) -> Answer {
        let done = match wish {
            Maintain::Start { seconds, reason, watches } => {
                self.open_window(*seconds, reason, watches, person)
            }
            Maintain::Stop { reason } => self.stop_window(reason.as_deref(), person),
        };
        match done {
            Ok(Ok(answer)) => answer,
            Ok(Err(sentence)) => Answer::Failed { sentence },
            Err(error) => {
                self.journal.failed(&error);
                Answer::Failed { sentence: error.to_string() }
            }
        }
    }

    fn open_window(
        &mut self,
        seconds: u64,
        reason: &str,
        watches: &[String],
        person: &Person,
    ) -> Result<Result<Answer, String>, StoreError> {
        if let Some(Open { window, .. }) = &self.maintenance.open {
            return Ok(Err(format!(
                "window {} is open until {} ({}); close it first with `fim maintenance stop`",
                window.id,
                window.ends(),
                window.reason
            )));
        }
        let length_ns = seconds.saturating_mul(1_000_000_000);
        if length_ns == 0 || length_ns > LONGEST_NS {
            return Ok(Err("a window lasts from a second to 7 days; open another one after it".into()));
        }
        let known: Vec<String> =
            self.watches.iter().map(|watch| display(&watch.start.below(watch.path()))).collect();
        if let Some(lost) = watches.iter().find(|wanted| !known.contains(wanted)) {
            return Ok(Err(format!("{lost} is no watch; these are: {}", known.join(", "))));
        }
        let roots = self.watches.iter().zip(&known).filter(|(_, name)| watches.contains(name));
        let roots: Vec<String> = roots.map(|(watch, _)| display(watch.path())).collect();
        // What happened before is not part of it.
        self.take_in();
        let now = self.maintenance.now();
        let mut window = Window {
            id: self.store.window_next()?,
            reason: reason.to_owned(),
            opened_by: person.says("fim maintenance start", Some(reason)),
            watches: roots,
            boot: now.boot.clone(),
            start_boot_ns: now.boot_ns,
            start_wall_ns: now.wall_ns,
            length_ns,
            seq: 0,
        };
        let place = if watches.is_empty() { "all watches".to_owned() } else { watches.join(", ") };
        let sentence = format!(
            "maintenance window {} is open until {} for {place}: what changes is authorised as \"{}\" and approved",
            window.id,
            window.ends(),
            window.authority()
        );
        let mut event = self.stamp.about_fim(EventKind::MaintenanceStarted, format!("{sentence}; {reason}"));
        (event.authorised_by, event.severity) = (Some(window.opened_by.clone()), Severity::Medium);
        let records = self.store.window_begin(&mut window, &event)?;
        self.journal.wrote(&records);
        let (id, ends) = (window.id, Some(window.ends()));
        self.maintenance.open = Some(Open { window, closing: None });
        Ok(Ok(Answer::Window { id, ends, sentence }))
    }

    fn stop_window(
        &mut self,
        reason: Option<&str>,
        person: &Person,
    ) -> Result<Result<Answer, String>, StoreError> {
        let said = person.says("fim maintenance stop", reason);
        let Some(Open { window, closing: None }) = &self.maintenance.open else {
            return Ok(Err("no maintenance window is open".into()));
        };
        let id = window.id;
        // What was reported up to now was done in it.
        self.take_in();
        self.close_window(boottime_ns(), realtime_ns(), format!("closed by {said}"));
        let sentence = format!(
            "maintenance window {id} is closed; its summary is recorded once all of it was looked at (`fim log`)"
        );
        Ok(Ok(Answer::Window { id, ends: None, sentence }))
    }

    /// From now on changes are nobody's; what was reported before counts to the window.
    fn close_window(&mut self, until_ns: u64, until_wall_ns: i64, why: String) {
        self.take_in();
        if let Some(open) = &mut self.maintenance.open {
            open.closing.get_or_insert(Closing { until_ns, until_wall_ns, why });
        }
    }

    /// Takes in everything that the kernel has reported by now.
    fn take_in(&mut self) {
        self.sight.settle();
        let inbox = self.inbox.clone();
        inbox.try_iter().for_each(|signal| self.take(signal));
    }

    /// Ends the window when its time is up, and tells of it once all that was done in it has been looked at.
    pub(super) fn keep_window(&mut self) {
        let Some(Open { window, closing }) = &self.maintenance.open else { return };
        let now = self.maintenance.now();
        match closing {
            None if window.left_ns(&now) == 0 => {
                let until_ns = window.end_boot_ns(&now.boot).min(now.boot_ns);
                let until_wall_ns = window.end_wall_ns().min(now.wall_ns);
                self.close_window(until_ns, until_wall_ns, "its time was up".into());
            }
            Some(closing) if self.journal.healthy() && self.progress.ready() => {
                let waits = self.correlator.waits_since_before(closing.until_ns)
                    || !self.begun.is_empty()
                    || self.copier.waiting() > 0;
                if !waits || now.boot_ns > closing.until_ns.saturating_add(LINGER_NS) {
                    let told = self.tell_of_window();
                    told.unwrap_or_else(|error| self.journal.failed(&error));
                }
            }
            _ => {}
        }
    }

    fn tell_of_window(&mut self) -> Result<(), StoreError> {
        self.conclude();
        self.write();
        let Some(Open { window, closing: Some(closing) }) = &self.maintenance.open else { return Ok(()) };
        if !self.journal.healthy() {
            return Ok(());
        }
        let tally = self.store.window_tally(window)?;
        let message = format!(
            "maintenance window {} is over, {}; it was opened by {}. {}",
            window.id,
            closing.why,
            window.opened_by,
            summary(&tally)
        );
        let mut event: Event = self.stamp.about_fim(EventKind::MaintenanceEnded, message);
        event.authorised_by = Some(window.authority());
        let records = self.store.window_end(window.id, &event)?;
        self.maintenance.open = None;
        self.journal.wrote(&records);
        Ok(())
    }
}

fn summary(tally: &WindowTally) -> String {
    let count: u64 = tally.kinds.values().sum();
    if count == 0 {
        return "Nothing was changed in it".into();
    }
    let kinds: Vec<String> = tally.kinds.iter().map(|(kind, n)| format!("{n} {kind}")).collect();
    let mut folders: Vec<(&String, &u64)> = tally.folders.iter().collect();
    folders.sort_by(|a, b| b.1.cmp(a.1).then(a.0.cmp(b.0)));
    let more = folders.len().saturating_sub(FOLDERS);
    let mut named: Vec<String> =
        folders.iter().take(FOLDERS).map(|(folder, n)| format!("{folder} ({n})")).collect();
    if more > 0 {
        named.push(format!("and {more} more folders"));
    }
    format!("{count} changes were recorded under it: {}; in {}", kinds.join(", "), named.join(", "))
}

/// How long a window lasts yet, also as text for people.
pub fn left(window: &Window) -> anyhow::Result<(Duration, String)> {
    let now = Moment { boot: boot_id()?, boot_ns: boottime_ns(), wall_ns: realtime_ns() };
    let left = Duration::from_nanos(window.left_ns(&now));
    let text = match left.as_secs() {
        0 => "its time is up, what was done is still being looked at".into(),
        s @ 1..120 => format!("{s} s left"),
        s @ 120..7200 => format!("{} min left", s / 60),
        s => format!("{} h left", s / 3600),
    };
    Ok((left, text))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_summary_counts_and_names_the_busiest_folders() {
        let mut tally = WindowTally::default();
        assert_eq!(summary(&tally), "Nothing was changed in it");
        tally.kinds = [("created".to_owned(), 13), ("modified".to_owned(), 4)].into();
        tally.folders = (0..12u64).map(|n| (format!("/etc/{n:02}"), 1 + n)).collect();
        let text = summary(&tally);
        assert!(
            text.starts_with("17 changes were recorded under it: 13 created, 4 modified; in /etc/11 (12), ")
        );
        assert!(text.ends_with("/etc/02 (3), and 2 more folders"), "{text}");
    }
}
