//! The one place where things happen: observations in, comparison, response, record out.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use crossbeam_channel::{Receiver, never, select};

use crate::core::change::{Change, ChangeKind};
use crate::core::correlate::{Correlator, Look};
use crate::core::entry::Found;
use crate::core::event::EventKind;
use crate::core::observation::{Deed, Signal, WatchId};
use crate::core::path::{RelPath, display};
use crate::core::plan::plan;
use crate::core::repetition::Repetition;
use crate::pulse;
use crate::respond::{Pending, Responder};
use crate::store::seal;
use crate::store::vault::Vault;
use crate::store::{Planned, Store, StoreError, Upkeep};
use crate::sys::memory;

use super::act::{Act, carry_out};
use super::apart;
use super::authority::{self, Authority};
use super::canary::{Canary, Outcome};
use super::clock::boottime_ns;
use super::conclude::{Begun, paths};
use super::control::Job;
use super::copier::Copier;
use super::copies::LeftAlone;
use super::examine::{Examiner, Finding, Round};
use super::journal::{Entry, Journal};
use super::keeper::{ALTERED, Keeper};
use super::maintenance::Maintenance;
use super::progress::{Progress, SelfTest};
use super::recent::Recent;
use super::record::Stamp;
use super::report::Reporter;
use super::scanner::Scanner;
use super::session::End;
use super::shortage::Standing;
use super::sight::Sight;
use super::start::all_is_compared;
use super::trust::Trust;
use super::vouch::Voucher;
use super::watch::Watch;

/// Signals taken in at once before anything is looked at; bounds the delay of the first response under load.
const INTAKE: usize = 8192;
/// Signals between the sensors and the reconciler; what does not fit becomes a gap.
pub(super) const CHANNEL: usize = 65_536;
/// Looks handled in one round, and so records in one transaction.
const ROUND: usize = 1024;
/// Attempts at a file that does not keep still, before that itself is recorded.
pub(super) const RESTLESS: u32 = 8;

const SECOND_NS: u64 = 1_000_000_000;
/// Nanoseconds until what could not be stored or removed is looked at again.
const LEFTOVER_NS: u64 = 5 * SECOND_NS;
/// Nanoseconds between two writings of the status file.
const REPORT_NS: u64 = 1_000_000_000;
/// Nanoseconds from anything that happens until memory that is free by then is given back.
const TIDY_NS: u64 = 5 * SECOND_NS;

/// Of a round: what equals its baseline, what did so again, and all with what differs.
type Right = Vec<(Look, Option<Found>)>;
type Transient = Vec<(Look, ChangeKind)>;
type Seen = (Vec<Finding>, Right, Transient);

pub struct Reconciler {
    pub watches: Vec<Arc<Watch>>,
    pub store: Store,
    pub vault: Arc<Vault>,
    pub standing: Standing,
    pub responder: Responder,
    pub sight: Sight,
    pub correlator: Correlator,
    pub stamp: Stamp,
    pub scanner: Scanner,
    pub journal: Journal,
    pub keeper: Keeper,
    pub recent: Recent,
    pub repetition: Repetition<(WatchId, RelPath)>,
    pub left_alone: LeftAlone,
    pub trust: Trust,
    pub voucher: Voucher,
    pub maintenance: Maintenance,
    pub progress: Arc<Progress>,
    /// Places that are right while the disk has not been waited for.
    pub begun: Begun,
    pub copier: Copier,
    /// What was taken out of its place, secured; removed once the records are in.
    pub unreleased: Vec<(WatchId, Vec<Pending>)>,
    /// What the database is to note once the records are in.
    pub upkeep: Vec<(WatchId, Upkeep)>,
    pub reporter: Reporter,
    /// Watches scanned by time: when next, nanoseconds since boot, and how often, nanoseconds.
    pub intervals: Vec<(WatchId, u64, u64)>,
    /// Scans that failed: which watch, when again, and whether a gap waits for it.
    pub rescans: Vec<(WatchId, u64, bool)>,
    /// Tries the sensors.
    pub canary: Option<Canary>,
    pub inbox: Receiver<Signal>,
    /// What people ask for.
    pub jobs: Receiver<Job>,
    /// Signals that came in while a round was examined and are no observations.
    pub held: Vec<Signal>,
    /// Reports from before then were taken in by the session before this one; nanoseconds since boot.
    pub since_ns: u64,
    /// Once another session takes over: reports from then on are that one's; nanoseconds since boot.
    pub until_ns: u64,
    /// What a reload brought, if this session began with one.
    pub reloaded: Option<String>,
    /// Called once, when changes are certain to be caught from then on.
    pub on_ready: Box<dyn FnMut() + Send>,
    pub reported: Option<(u64, u64, (usize, usize))>,
    pub next_report: u64,
    /// When free memory is given back, nanoseconds since boot; 0 while nothing has happened since it was.
    pub tidy_ns: u64,
}

impl Reconciler {
    /// Works until `stop` says so, or every sender of signals is gone.
    pub fn run(&mut self, stop: &Receiver<End>) {
        let signals = self.inbox.clone();
        let end = loop {
            pulse::beat();
            select! {
                recv(stop) -> end => break end.unwrap_or(End::Stop),
                recv(signals) -> signal => {
                    // Every sender is gone: nothing can come any more.
                    let Ok(signal) = signal else { break End::Stop };
                    self.take(signal);
                    signals.try_iter().take(INTAKE).for_each(|signal| self.take(signal));
                }
                recv(self.jobs) -> job => match job {
                    Ok(job) => self.by_hand(job),
                    Err(_) => self.jobs = never(),
                },
                recv(self.copier.done) -> copy => self.copied(copy),
                default(self.patience()) => {}
            }
            std::mem::take(&mut self.held).into_iter().for_each(|signal| self.take(signal));
            self.turn();
            self.conclude_due(signals.is_empty());
            let untold = self.journal.unwritten() + self.copier.waiting();
            self.progress.queue(signals.len() + self.correlator.waiting(), untold);
            self.housekeeping();
        };
        self.take_the_rest(end, &mut Sight::settle);
        // What is known is put right before the end; what does not keep still is found at the next start.
        for _ in 0..RESTLESS {
            self.work(u64::MAX);
            self.conclude();
            self.await_copies();
        }
        self.tell_of_end();
        if end == End::Stop {
            let stopped = self.stamp.about_fim(EventKind::Stopped, "fim was told to stop".into());
            self.journal.add(Entry::plain(stopped));
        }
        self.journal.insist();
        self.write();
        if end == End::Reload {
            return;
        }
        if self.journal.unwritten() > 0 {
            tracing::error!("{} records could not be written before the end", self.journal.unwritten());
        }
        self.keeper.seal(&mut self.store, seal::STOPPED);
        self.reporter.write(&self.store);
    }

    /// How long nothing needs to be done.
    fn patience(&self) -> Duration {
        let intervals = self.intervals.iter().map(|(_, next, _)| *next);
        let rescans = self.rescans.iter().map(|(_, at, _)| *at);
        let report = (self.reported != Some(self.state())).then_some(self.next_report);
        // While nothing can be recorded, nothing is due.
        let due = self.correlator.next_due().filter(|_| self.journal.healthy());
        let own = self.journal.retry_at().into_iter().chain(self.standing.next_due());
        let own = own.chain(self.repetition.next_end()).chain(self.maintenance.next_due());
        let kept = Some(self.keeper.due()).filter(|_| self.journal.healthy());
        let own = own.chain(self.begun.due_ns());
        let own = own.chain(self.canary.as_ref().filter(|_| self.progress.ready()).map(Canary::due_ns));
        let own = own.chain(Some(self.tidy_ns).filter(|at| *at != 0));
        let next = intervals.chain(kept).chain(rescans).chain(report).chain(due).chain(own).min();
        let wait = next.map(|next| Duration::from_nanos(next.saturating_sub(boottime_ns())));
        wait.unwrap_or(pulse::TURN).min(pulse::TURN)
    }

    /// What the status file would tell.
    fn state(&self) -> (u64, u64, (usize, usize)) {
        (self.journal.written(), self.progress.gaps().count, self.progress.queued())
    }

    /// What is due by time rather than by a signal.
    fn housekeeping(&mut self) {
        if !self.progress.ready() && self.progress.all_scanned() {
            self.begin();
        }
        let now = boottime_ns();
        self.tell_of_quiet(now);
        let (due, later) = std::mem::take(&mut self.rescans).into_iter().partition(|(_, at, _)| now >= *at);
        self.rescans = later;
        for (watch, _, for_gap) in due {
            if for_gap { self.scanner.rescan(watch) } else { self.scanner.first(watch) }
        }
        for (watch, next, every) in &mut self.intervals {
            if now >= *next {
                *next = now + *every;
                self.scanner.by_interval(*watch);
            }
        }
        self.vault_housekeeping(now);
        self.self_test();
        self.keep_window();
        self.keeper.keep(&mut self.store, &mut self.journal, &self.stamp);
        // Nothing else may come for hours.
        self.write();
        let state = self.state();
        if now >= self.next_report && self.reported != Some(state) {
            self.reporter.write(&self.store);
            (self.reported, self.next_report) = (Some(state), now + REPORT_NS);
            if self.tidy_ns == 0 {
                self.tidy_ns = now + TIDY_NS;
            }
        }
        if self.tidy_ns != 0 && now >= self.tidy_ns {
            let calm = self.inbox.is_empty() && self.correlator.waiting() == 0 && self.begun.is_empty();
            self.tidy_ns = if calm { 0 } else { now + TIDY_NS };
            if calm {
                memory::give_back();
            }
        }
    }

    /// A sensor that is blind, or lays a change to somebody else, is an incident.
    fn self_test(&mut self) {
        let Some(canary) = self.canary.as_mut().filter(|_| self.progress.ready()) else { return };
        let before = canary.trouble.is_some();
        let Some(outcome) = canary.turn() else { return };
        let (passed, trouble) = (canary.passed.clone(), canary.trouble.clone());
        self.progress.self_tested(SelfTest { passed, trouble });
        // The status file tells of it.
        self.reported = None;
        let message = match outcome {
            Outcome::Failed(why) if !before => format!(
                "the self-test of the sensors failed: {why}; changes of watched files may go unseen or unattributed, \
                 see `fim status` and restart fim"
            ),
            Outcome::Passed if before => "the self-test of the sensors succeeds again".to_owned(),
            _ => return,
        };
        self.journal.add(Entry::plain(self.stamp.about_fim(EventKind::Trouble, message)));
        self.write();
    }

    /// Every directory is marked and has been compared: from now on nothing slips by.
    fn begin(&mut self) {
        self.progress.set_ready();
        let watches: Vec<String> = self
            .watches
            .iter()
            .map(|w| {
                let files = self.store.baseline_count(w.path()).unwrap_or_default();
                format!("{} ({files} entries)", display(w.path()))
            })
            .collect();
        let dry = self.watches.iter().all(|watch| watch.policy.base.dry_run);
        let dry = if dry { "; this is a dry run, nothing is put back" } else { "" };
        let message = format!("watching {} in the {} tier{dry}", watches.join(", "), self.stamp.tier);
        let begun = match &self.reloaded {
            None => self.stamp.about_fim(EventKind::Started, message),
            Some(what) => self.stamp.about_fim(EventKind::Reloaded, format!("{what}; {message}")),
        };
        self.journal.add(Entry::plain(begun));
        let problems = self.trust.problems(&self.watches, &self.store).unwrap_or_default();
        for problem in problems.into_iter().chain(self.trust.in_tier(self.sight.sensors.tier)) {
            self.journal.add(Entry::plain(self.stamp.about_fim(EventKind::Trouble, problem)));
        }
        if std::mem::take(&mut self.keeper.altered) {
            self.journal.add(Entry::plain(self.stamp.about_fim(EventKind::Trouble, ALTERED.into())));
        }
        self.write();
        all_is_compared(&mut self.store);
        self.keeper.seal(&mut self.store, seal::STARTED);
        self.reporter.write(&self.store);
        // Much was looked at of what is hardly needed again.
        if let Err(error) = self.store.keep_nothing() {
            tracing::debug!("{error}");
        }
        memory::give_back();
        (self.on_ready)();
    }

    fn turn(&mut self) {
        self.work(boottime_ns());
        self.write();
    }

    pub(super) fn watch(&self, id: WatchId) -> Option<Arc<Watch>> {
        self.watches.get(id.0 as usize).cloned()
    }

    /// Handles every look that is due at `now_ns`.
    fn work(&mut self, now_ns: u64) {
        if !self.journal.healthy() {
            return;
        }
        // What is put off during this turn waits for the next one, so that signals are taken in meanwhile.
        let mut left = self.correlator.waiting();
        while left > 0 {
            let looks = self.correlator.due(now_ns, ROUND);
            if looks.is_empty() {
                return;
            }
            left = left.saturating_sub(looks.len());
            if !self.by_watch(looks, now_ns) {
                return;
            }
        }
    }

    /// Handles looks of several watches; false when the database cannot be used and they wait.
    fn by_watch(&mut self, mut looks: Vec<Look>, now_ns: u64) -> bool {
        while let Some(first) = looks.first() {
            pulse::beat();
            let id = first.watch;
            let run = looks.iter().take_while(|l| l.watch == id).count();
            let rest = looks.split_off(run);
            let batch = std::mem::replace(&mut looks, rest);
            let Some(watch) = self.watch(id) else { continue };
            if let Err(error) = self.round(&watch, batch.clone()) {
                self.journal.failed(&error);
                let retry = boottime_ns() + 1_000_000_000;
                batch.into_iter().chain(looks).for_each(|look| self.correlator.schedule(look, retry));
                // Looks that the round had drawn in besides are gone with it.
                self.rescans.push((id, retry, true));
                return false;
            }
            self.conclude_due(false);
            self.write();
            if !self.journal.healthy() {
                // What waits to be recorded would be compared with a baseline that lacks it.
                looks.into_iter().for_each(|look| self.correlator.schedule(look, now_ns));
                return false;
            }
        }
        true
    }

    fn round(&mut self, watch: &Arc<Watch>, looks: Vec<Look>) -> Result<(), StoreError> {
        let looks = self.copier.hold(looks);
        // What became of a path is compared with the baseline as it will be.
        if looks.iter().any(|look| self.begun.has_to_tell(watch.id, &look.path)) {
            self.conclude();
        }
        let (sight, inbox) = (&self.sight, &self.inbox);
        let own_ns = self.since_ns..self.until_ns;
        let held = &mut self.held;
        // A sensor that is far behind is not waited for again and again.
        let mut in_time = true;
        let canary = self.canary.as_ref().map(Canary::watch);
        let mut catch_up = |correlator: &mut Correlator| {
            in_time = in_time && sight.settle();
            for signal in inbox.try_iter().take(CHANNEL) {
                match signal {
                    Signal::Observed(seen)
                        if !matches!(seen.deed, Deed::Linked { .. })
                            && canary != Some(seen.watch)
                            && own_ns.contains(&seen.at_ns) =>
                    {
                        correlator.observe(seen, boottime_ns());
                    }
                    other => held.push(other),
                }
            }
        };
        let (store, correlator) = (&self.store, &mut self.correlator);
        let mut examiner = Examiner { watch, store, correlator, sight, catch_up: &mut catch_up };
        let Round { findings, transient, right, unreadable, .. } = examiner.examine(looks)?;
        if !findings.is_empty() {
            self.vault_stands();
        }
        let (findings, right, transient) = self.in_order(watch, findings, right, transient);
        let judged = self.authorise(watch, findings)?;
        let changes: Vec<&Change> = judged.iter().map(|(finding, _)| &finding.change).collect();
        let mut drafts = Vec::with_capacity(judged.len());
        let stamp = &self.stamp;
        let draft = |(finding, _): &(Finding, Authority)| {
            let policy = watch.policy.of_change(&finding.change);
            let event = stamp.change(watch, &finding.look, &finding.change, policy.severity);
            (policy, event)
        };
        let kept = apart::kept(&self.vault, &changes, || drafts.extend(judged.iter().map(draft)));
        let mut acts = Vec::with_capacity(judged.len());
        for (((finding, authority), in_vault), (policy, mut event)) in
            judged.into_iter().zip(kept).zip(drafts)
        {
            let change = &finding.change;
            let over =
                change.after.as_ref().filter(|now| watch.root.is_mounted_over(&change.path, &now.entry));
            if !policy.kinds.contains(change.kind) && over.is_none() {
                continue;
            }
            let plan = plan(change, &policy, in_vault);
            let over = over.map(|_| watch.root.mount_at(&change.path));
            match authority {
                Authority::Granted(grant) => {
                    acts.push(Act::granted(finding, policy, event, grant));
                    continue;
                }
                Authority::Refused(why) => event.message = why,
                Authority::Later => {}
            }
            let mut act = Act::new(finding, policy, plan, event);
            if let Some(what) = over {
                act.leave_mounted(
                    &what.unwrap_or_else(|e| format!("something that cannot be looked at ({e})")),
                );
            }
            acts.push(act);
        }
        self.admit(watch, &mut acts);
        self.mark_copies(watch, &mut acts);
        self.mark_vouched(&mut acts);
        self.announce_intents(watch, &mut acts)?;
        let unfinished = carry_out(&self.responder, &self.sight, watch, &mut acts, self.begun.room());
        self.after_storing(watch);
        let now = boottime_ns();
        for act in acts.iter().filter(|act| !act.done.is_empty()) {
            self.recent.note(watch.id, &act.finding.change.path, now);
        }
        let mut upkeep = Upkeep::default();
        for act in self.begun.add(watch, acts, unfinished) {
            paths(&act).for_each(|path| self.catch_up_with(watch.id, path));
            self.settle(watch, act, &mut upkeep);
        }
        let righted =
            right.into_iter().try_for_each(|(look, found)| self.right(watch, look, found, &mut upkeep));
        self.upkeep.push((watch.id, upkeep));
        righted?;
        for (look, kind) in transient {
            let responded = self.recent.responded(watch.id, &look.path, boottime_ns());
            let policy = watch.policy.of(&look.path, look.directory);
            if policy.kinds.contains(kind) && !responded {
                self.catch_up_with(watch.id, &look.path);
                let mut event = self.stamp.transient(watch, &look, kind);
                match self.authority(watch, &look, kind, None)? {
                    Authority::Granted(grant) => authority::grant(&mut event, &grant),
                    Authority::Later => {
                        self.retry(look, boottime_ns());
                        continue;
                    }
                    Authority::Refused(_) => {}
                }
                self.tell(watch, &look.path, kind, &policy, Entry::plain(event));
            }
        }
        for (look, error) in unreadable {
            self.put_off(watch, look, &error.to_string());
        }
        Ok(())
    }

    /// One order of records for each path: what waits for its copy comes before what came of it since. That may have become
    /// the approved state, so such a path is compared once more.
    fn in_order(
        &mut self,
        watch: &Watch,
        findings: Vec<Finding>,
        right: Right,
        transient: Transient,
    ) -> Seen {
        let of = |path: &RelPath| path.clone();
        let paths =
            findings.iter().flat_map(|f| std::iter::once(&f.change.path).chain(&f.change.old_path)).map(of);
        let paths = paths.chain(right.iter().map(|(look, _)| of(&look.path)));
        let paths = paths.chain(transient.iter().map(|(look, _)| of(&look.path)));
        let late = |path: &RelPath| self.begun.has_to_tell(watch.id, path) || self.copier.has(watch.id, path);
        let late: HashSet<RelPath> = paths.filter(late).collect();
        if late.is_empty() {
            return (findings, right, transient);
        }
        self.conclude();
        late.iter().for_each(|path| self.await_copy(watch.id, path));
        if !self.may_grant() {
            return (findings, right, transient);
        }
        let is_late = |change: &Change| {
            std::iter::once(&change.path).chain(&change.old_path).any(|path| late.contains(path))
        };
        let (again, findings): (Vec<_>, Vec<_>) = findings.into_iter().partition(|f| is_late(&f.change));
        let (right_again, right): (Right, Right) =
            right.into_iter().partition(|(look, _)| late.contains(&look.path));
        let (transient_again, transient): (Transient, Transient) =
            transient.into_iter().partition(|(look, _)| late.contains(&look.path));
        let now = boottime_ns();
        let looks = again.into_iter().map(|finding| finding.look);
        let looks = looks.chain(right_again.into_iter().map(|(look, _)| look));
        looks
            .chain(transient_again.into_iter().map(|(look, _)| look))
            .for_each(|look| self.correlator.schedule(look, now));
        (findings, right, transient)
    }

    /// A crash between acting and recording leaves a trace: the intent is written first.
    fn announce_intents(&mut self, watch: &Watch, acts: &mut [Act]) -> Result<(), StoreError> {
        let mut acting: Vec<&mut Act> = acts.iter_mut().filter(|act| !act.plan.steps.is_empty()).collect();
        if acting.is_empty() {
            return Ok(());
        }
        let planned = acting.iter_mut().map(|act| Planned {
            watch: watch.path(),
            path: &act.finding.change.path,
            event: &mut act.event,
        });
        let ids = self.store.intents_begin(planned)?;
        acting.into_iter().zip(ids).for_each(|(act, id)| act.intent = Some(id));
        Ok(())
    }

    fn put_off(&mut self, watch: &Watch, look: Look, why: &str) {
        if look.attempts == RESTLESS {
            let message = format!("{} cannot be compared: {why}", look.path);
            self.journal.add(Entry::plain(self.stamp.about_watch(EventKind::Trouble, watch, message)));
        }
        self.retry(look, boottime_ns());
    }

    /// The first attempts follow at once; then each waits twice as long, up to a minute.
    pub(super) fn retry(&mut self, mut look: Look, now_ns: u64) {
        let wait_ms = if look.attempts < 3 { 0 } else { 1u64 << look.attempts.min(16) };
        look.attempts += 1;
        self.correlator.schedule(look, now_ns + wait_ms.min(60_000) * 1_000_000);
    }

    /// Records first, notes about them after: a crash in between repeats a record and loses none.
    pub(super) fn write(&mut self) {
        let evidence = self.unreleased.iter().any(|(_, pendings)| !pendings.is_empty());
        self.journal.write(&mut self.store, &self.progress, evidence);
        if !self.journal.healthy() {
            return;
        }
        for (id, pendings) in std::mem::take(&mut self.unreleased) {
            // A name that could not be removed is something that should not be there.
            for leftover in self.responder.release(pendings) {
                let at = boottime_ns() + LEFTOVER_NS;
                self.correlator.schedule(Look::new(id, leftover.path, at), at);
            }
        }
        for (id, upkeep) in std::mem::take(&mut self.upkeep) {
            let Some(watch) = self.watch(id) else { continue };
            if let Err(error) = self.store.keep_up(watch.path(), &upkeep) {
                self.journal.failed(&error);
                self.upkeep.push((id, upkeep));
            }
        }
    }
}

#[cfg(test)]
mod tests;
