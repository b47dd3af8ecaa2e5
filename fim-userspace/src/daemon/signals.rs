//! What the sensors and the scanner report: looks that are due, gaps to be closed, watches to be scanned.

use std::sync::Arc;

use crate::core::event::EventKind;
use crate::core::observation::{Deed, Observation, Signal, Source, WatchId};
use crate::pulse;

use super::clock::boottime_ns;
use super::journal::Entry;
use super::reconcile::Reconciler;
use super::session::End;
use super::sight::Sight;
use super::watch::Watch;

/// How often sensors that are behind are waited for at the end, each time a second at most.
const PATIENT: u32 = 5;
const SECOND_NS: u64 = 1_000_000_000;
/// Nanoseconds between scans of a watch that fanotify cannot cover and that names no interval of its own.
const COVER_NS: u64 = 30 * SECOND_NS;

impl Reconciler {
    /// Takes in what a sensor, the scanner or a sink has to say.
    pub(super) fn take(&mut self, signal: Signal) {
        match signal {
            Signal::Observed(seen) if seen.at_ns >= self.until_ns => {}
            Signal::Observed(seen) if self.canary.as_mut().is_some_and(|canary| canary.took(&seen)) => {}
            Signal::Observed(seen) => {
                let seen = self.dated(seen);
                if matches!(seen.deed, Deed::Linked { .. })
                    && let Some(watch) = self.watch(seen.watch)
                {
                    self.sight.linked(&watch, &seen.path);
                }
                self.correlator.observe(seen, boottime_ns());
                self.shed();
            }
            Signal::Gap { source, watch, lost, reason } => self.gap(source, watch, lost, &reason),
            Signal::Scanned { watch, files, different, unreadable, unmarked, unmarked_why } => {
                self.scanned(watch, files, different, &unreadable);
                if let Some(why) = unmarked_why {
                    self.cover(watch, unmarked, &why);
                }
            }
            Signal::ScanFailed { watch, reason } => self.scan_failed(watch, &reason),
            Signal::Trouble(message) => {
                self.journal.add(Entry::plain(self.stamp.about_fim(EventKind::Trouble, message)));
            }
            Signal::Stopped { source, reason } => {
                let message = format!("the {source:?} sensor has stopped: {reason}");
                self.journal.add(Entry::plain(self.stamp.about_fim(EventKind::Trouble, message)));
                self.scan_all_by_interval();
            }
        }
    }

    /// What the kernel had reported by now is taken in as well. `settle` waits for it, and says whether it has come.
    ///
    /// At a reload what comes later is the next session's, which has sensors of its own: taken by both it would be told twice.
    pub(super) fn take_the_rest(&mut self, end: End, settle: &mut dyn FnMut(&Sight) -> bool) {
        let mut settled = |sight: &Sight| {
            (0..PATIENT).any(|_| {
                pulse::beat();
                settle(sight)
            })
        };
        // Once before the moment is taken: what a sensor had not read by then would be of neither session.
        let before = settled(&self.sight);
        if end == End::Reload {
            self.until_ns = boottime_ns();
        }
        let whole = before && settled(&self.sight);
        let signals = self.inbox.clone();
        let held = std::mem::take(&mut self.held);
        held.into_iter().chain(signals.try_iter()).for_each(|signal| self.take(signal));
        if !whole && end == End::Reload {
            let reason = "a sensor was too far behind when the configuration was reloaded".to_owned();
            let source = Source::Fanotify;
            self.take(Signal::Gap { source, watch: None, lost: None, reason });
        }
    }

    /// What was reported before the configuration was reloaded has been dealt with by then: such a path is compared, and
    /// what came and went is not told twice.
    pub(super) fn dated(&self, mut seen: Observation) -> Observation {
        if seen.at_ns < self.since_ns && !matches!(seen.deed, Deed::Linked { .. }) {
            seen.deed = Deed::FoundDifferent;
        }
        seen
    }

    /// Without a live sensor every watch is scanned at short intervals.
    pub(super) fn scan_all_by_interval(&mut self) {
        let now = boottime_ns();
        for watch in &self.watches {
            if !self.intervals.iter().any(|(known, ..)| *known == watch.id) {
                self.intervals.push((watch.id, now + COVER_NS, COVER_NS));
            }
        }
    }

    fn scan_failed(&mut self, id: WatchId, reason: &str) {
        let Some(watch) = self.watch(id) else { return };
        let for_gap = self.scanner.failed(id);
        let message = format!(
            "the watch could not be scanned ({reason}); it is tried again in {} s",
            COVER_NS / SECOND_NS
        );
        self.journal.add(Entry::plain(self.stamp.about_watch(EventKind::Trouble, &watch, message)));
        self.rescans.push((id, boottime_ns() + COVER_NS, for_gap));
    }

    /// What may have been missed is recorded as a gap, and found by scanning the watch again.
    fn gap(&mut self, source: Source, watch: Option<WatchId>, lost: Option<u64>, reason: &str) {
        self.progress.lost(lost.unwrap_or_default());
        let affected: Vec<Arc<Watch>> =
            self.watches.iter().filter(|w| watch.is_none_or(|id| id == w.id)).cloned().collect();
        for watch in affected {
            let lost = lost.map(|n| format!(" ({n} reports lost)")).unwrap_or_default();
            let message =
                format!("{source:?} may have missed changes{lost}: {reason}; the watch is scanned again");
            self.journal.add(Entry::plain(self.stamp.about_watch(EventKind::CoverageGap, &watch, message)));
            self.progress.gap();
            self.trust.note_loss(watch.id, boottime_ns());
            self.scanner.rescan(watch.id);
        }
    }

    /// Reports that came while nothing could be dealt with have a limit in memory too.
    fn shed(&mut self) {
        let Some((id, count)) = self.correlator.shed() else { return };
        let Some(watch) = self.watch(id) else { return };
        let message =
            format!("{count} reports that waited were given up for want of room; the watch is scanned again");
        self.journal.add(Entry::plain(self.stamp.about_watch(EventKind::CoverageGap, &watch, message)));
        self.progress.gap();
        self.trust.note_loss(id, boottime_ns());
        self.rescans.push((id, boottime_ns() + COVER_NS, true));
    }

    fn scanned(&mut self, id: WatchId, files: u64, different: u64, unreadable: &[String]) {
        let Some(watch) = self.watch(id) else { return };
        self.progress.scanned(id);
        let closes_gap = self.scanner.finished(id);
        if self.scanner.idle() {
            self.progress.gaps_closed();
        }
        let unread = match unreadable {
            [] => String::new(),
            [first, ..] => format!("; {} could not be read, first: {first}", unreadable.len()),
        };
        if closes_gap {
            let message = format!("{files} files compared, {different} differ{unread}");
            self.journal.add(Entry::plain(self.stamp.about_watch(EventKind::Rescanned, &watch, message)));
        } else if !unread.is_empty() {
            let message = format!("{files} files compared{unread}");
            self.journal.add(Entry::plain(self.stamp.about_watch(EventKind::Trouble, &watch, message)));
        }
    }

    /// What the kernel does not report on is scanned at short intervals.
    fn cover(&mut self, id: WatchId, unmarked: u64, why: &str) {
        let Some(watch) = self.watch(id) else { return };
        if self.sight.hooks_files() || self.intervals.iter().any(|(known, ..)| *known == id) {
            return;
        }
        self.intervals.push((id, boottime_ns() + COVER_NS, COVER_NS));
        let message = format!(
            "{unmarked} directories or files are not reported on by fanotify, so the watch is scanned every {} s: {why}",
            COVER_NS / SECOND_NS
        );
        self.journal.add(Entry::plain(self.stamp.about_watch(EventKind::Trouble, &watch, message)));
    }
}
