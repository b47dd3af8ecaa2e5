//! The vault as the daemon depends on it: whether it stands, whether there is room, and what happens while not.
//!
//! Nothing is taken out of its place unless the vault can keep it. So before a response each plan that would have to
//! store something is held against the room that there is; without room it is told instead of carried out, until room
//! is found again. What needs no room (a missing file, attributes, a rename) is put right all the same.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use crossbeam_channel::{Receiver, TryRecvError};

use crate::core::entry::{FileType, Found};
use crate::core::event::{Event, EventKind, Response};
use crate::core::observation::WatchId;
use crate::core::path::display;
use crate::core::plan::{Step, Unable};
use crate::core::policy::Severity;
use crate::core::size::show;
use crate::store::vault::{Vault, occupies};

use super::act::{Act, unable};
use super::clock::{boottime_ns, realtime_ns};
use super::journal::Entry;
use super::limits::{self, Retention, UpkeepError};
use super::reconcile::Reconciler;
use super::refill::{self, Refilled};
use super::watch::Watch;

const SECOND_NS: u64 = 1_000_000_000;
/// Between two looks for room; twice as long each time it is found and gone again at once, an hour at most.
const RETRY_NS: u64 = 30 * SECOND_NS;
const RETRY_MOST_NS: u64 = 3600 * SECOND_NS;
/// Between two looks for what is too old or too much.
const PRUNE_NS: u64 = 3600 * SECOND_NS;
/// How far the clock may be set forward before ages mean nothing.
const JUMP_NS: i64 = 3600 * 1_000_000_000;

/// What is known of the vault's standing.
pub struct Standing {
    retention: Retention,
    /// Watches in which something could not be kept.
    short: BTreeMap<WatchId, Short>,
    /// How long the last shortage of a watch was waited for, and when it ended, nanoseconds since boot.
    ended: BTreeMap<WatchId, (u64, u64)>,
    /// The vault cannot be used at all.
    unusable: Option<String>,
    /// Approved content that is not there.
    lacking: Option<String>,
    refill: Option<Receiver<Refilled>>,
    /// When the folder is looked at again, if anything happens then; nanoseconds since boot.
    next_check_ns: u64,
    next_prune_ns: u64,
    /// The least that the vault could be brought to when room was last looked for in vain, and how long that holds.
    least: Option<(u64, u64)>,
    /// The wall clock against the one that never jumps, at the start; nanoseconds.
    clock_offset_ns: i64,
    jump_told: bool,
}

/// A watch that waits for room.
struct Short {
    /// Bytes that were missing a place.
    need: u64,
    retry_ns: u64,
    wait_ns: u64,
    why: String,
}

impl Standing {
    pub fn new(retention: Retention) -> Self {
        Self {
            retention,
            short: BTreeMap::new(),
            ended: BTreeMap::new(),
            unusable: None,
            lacking: None,
            refill: None,
            next_check_ns: 0,
            next_prune_ns: 0,
            least: None,
            clock_offset_ns: offset_ns(),
            jump_told: false,
        }
    }

    /// When something is to be done by time, nanoseconds since boot.
    pub fn next_due(&self) -> Option<u64> {
        let prune = (self.retention != Retention::default()).then_some(self.next_prune_ns);
        let refill = self.refill.is_some().then(|| boottime_ns() + SECOND_NS);
        let check = self.unusable.is_some().then_some(self.next_check_ns);
        self.short.values().map(|s| s.retry_ns).chain(prune).chain(refill).chain(check).min()
    }

    fn problems(&self) -> Vec<String> {
        let mut problems: Vec<String> = self.unusable.iter().chain(&self.lacking).cloned().collect();
        let mut why: Vec<String> = self
            .short
            .values()
            .map(|s| format!("{}; until there is room, what would have to be kept is only told", s.why))
            .collect();
        why.dedup();
        problems.extend(why);
        problems
    }
}

fn offset_ns() -> i64 {
    realtime_ns().saturating_sub(boottime_ns().cast_signed())
}

impl Reconciler {
    /// Begins to measure the vault and to look whether it holds what the baseline needs.
    pub(super) fn check_vault(&mut self) {
        match refill::start(self.watches.clone(), self.vault.clone(), self.store.dir()) {
            Ok(report) => self.standing.refill = Some(report),
            Err(error) => tracing::error!("the vault cannot be measured: no thread can be started ({error})"),
        }
    }

    /// Makes sure that the vault stands before anything relies on it.
    pub(super) fn vault_stands(&mut self) {
        self.standing.next_check_ns = boottime_ns() + RETRY_NS;
        match self.vault.ensure() {
            Ok(false) if self.standing.unusable.is_none() => return,
            Ok(replaced) => {
                self.standing.unusable = None;
                let path = display(self.vault.path());
                let message = match replaced {
                    true => format!(
                        "the vault {path} was removed or replaced while fim used it; the folder that is there now is \
                         used. What is missing in it is taken again from files that equal their baseline; put the \
                         old folder back to have the rest"
                    ),
                    false => format!("the vault {path} can be used again"),
                };
                self.tell_of_vault(None, Severity::Critical, message);
                self.check_vault();
                self.watches.iter().for_each(|watch| self.scanner.rescan(watch.id));
            }
            Err(error) => {
                if self.standing.unusable.replace(error.to_string()).is_some() {
                    return;
                }
                let message = format!("{error}; until then nothing that would have to be kept is taken away");
                self.tell_of_vault(None, Severity::Critical, message);
            }
        }
        self.tell_status();
    }

    /// Holds the plans against the room in the vault; those without are told of instead of carried out.
    pub(super) fn admit(&mut self, watch: &Watch, acts: &mut [Act]) {
        let all: u64 = acts.iter().flat_map(|act| &act.plan.steps).map(takes_at_most).sum();
        if all == 0 || self.lack_of(self.begun.owed() + all).is_none() {
            self.vault.take_refused();
            return;
        }
        // What waits is stored first, so that no more is counted than it takes.
        self.conclude();
        let (mut reserved, mut tried) = (0, false);
        for act in acts {
            let need: u64 = act.plan.steps.iter().map(|step| need(&self.vault, step)).sum();
            if need == 0 {
                continue;
            }
            let mut lack = self.lack_of(reserved + need);
            if lack.is_some() && !tried {
                tried = true;
                self.make_room(reserved + need);
                lack = self.lack_of(reserved + need);
            }
            let Some(why) = lack else {
                reserved += need;
                continue;
            };
            act.event.planned = act.plan.steps.first().map(intended);
            act.plan.steps.clear();
            act.plan.unable = Some(Unable::VaultFull);
            act.error = Some(format!("{}: {why}", unable(Unable::VaultFull)));
            self.is_short(watch, need, why);
        }
        // From here on it tells of what was met while storing.
        self.vault.take_refused();
    }

    /// The vault may have become full while evidence was stored: that lies beside its file and is tried again.
    pub(super) fn after_storing(&mut self, watch: &Watch) {
        if !self.vault.take_refused() {
            return;
        }
        let why = match self.lack_of(1) {
            Some(why) => why,
            // A copy that is being made met it, perhaps. Evidence that could not be kept is told of by itself.
            None if self.copier.waiting() > 0 => return,
            None => format!(
                "the vault {} took no more while evidence was stored, though there seems to be room; look at quotas",
                display(self.vault.path())
            ),
        };
        self.is_short(watch, 1, why);
    }

    /// Why the vault cannot take so many bytes, if it cannot.
    fn lack_of(&self, bytes: u64) -> Option<String> {
        let unusable = self.standing.unusable.clone();
        unusable.or_else(|| self.vault.room_for(bytes).err().map(|error| error.to_string()))
    }

    fn is_short(&mut self, watch: &Watch, need: u64, why: String) {
        let now = boottime_ns();
        if let Some(short) = self.standing.short.get_mut(&watch.id) {
            short.need = short.need.min(need);
            return;
        }
        let wait_ns = match self.standing.ended.get(&watch.id) {
            Some((waited, at)) if now < at + 2 * waited => (2 * waited).min(RETRY_MOST_NS),
            _ => RETRY_NS,
        };
        let message = format!(
            "{why}. Until there is room, changes in this watch whose response would have to keep something are only \
             told; the first needed {}",
            show(need)
        );
        self.standing.short.insert(watch.id, Short { need, retry_ns: now + wait_ns, wait_ns, why });
        self.tell_of_vault(Some(watch), Severity::Critical, message);
        self.tell_status();
    }

    /// What is due by time.
    pub(super) fn vault_housekeeping(&mut self, now: u64) {
        self.take_refill();
        if now >= self.standing.next_check_ns {
            self.vault_stands();
        }
        if self.standing.retention != Retention::default() && now >= self.standing.next_prune_ns {
            // The first comes as soon as the vault has been measured.
            let pause = if self.vault.used().is_some() { PRUNE_NS } else { SECOND_NS };
            self.standing.next_prune_ns = now + pause;
            if self.vault.used().is_some() && self.prune_is_due() {
                self.prune(self.standing.retention.max_size, false);
            }
        }
        let due = |standing: &Standing| {
            standing.short.iter().find(|(_, s)| now >= s.retry_ns).map(|(id, s)| (*id, s.need))
        };
        while let Some((id, need)) = due(&self.standing) {
            self.vault_stands();
            self.make_room(need);
            match self.lack_of(need) {
                None => self.has_room(id),
                Some(why) => {
                    if let Some(short) = self.standing.short.get_mut(&id) {
                        short.retry_ns = now + short.wait_ns;
                        short.why = why;
                    }
                    self.tell_status();
                }
            }
        }
        self.vault.take_refused();
    }

    /// The watch is guarded as before, and what stayed altered is found by a scan.
    fn has_room(&mut self, id: WatchId) {
        let Some(short) = self.standing.short.remove(&id) else { return };
        self.standing.ended.insert(id, (short.wait_ns, boottime_ns()));
        if let Some(watch) = self.watches.get(id.0 as usize).cloned() {
            let message =
                "the vault has room again; the watch is scanned, and what was only told is put right";
            self.tell_of_vault(Some(&watch), Severity::Low, message.into());
        }
        self.scanner.rescan(id);
        self.tell_status();
    }

    fn take_refill(&mut self) {
        let Some(report) = &self.standing.refill else { return };
        let refilled = match report.try_recv() {
            Ok(refilled) => refilled,
            Err(TryRecvError::Empty) => return,
            Err(TryRecvError::Disconnected) => {
                Refilled { failed: Some("its thread failed".into()), ..Refilled::default() }
            }
        };
        self.standing.refill = None;
        let mut said = Vec::new();
        if refilled.again > 0 {
            said.push(format!("approved content of {} files was taken into the vault again", refilled.again));
        }
        if let Some(why) = &refilled.failed {
            said.push(format!("whether the vault holds what is approved could not be checked: {why}"));
        }
        self.standing.lacking = refilled.first.map(|first| {
            format!(
                "approved content of {} files is not in the vault (the first: {first}), so they cannot be restored; put \
                 the vault's folder or the files back, or approve the present state with `fim init --replace`",
                refilled.gone
            )
        });
        said.extend(self.standing.lacking.clone());
        if !said.is_empty() {
            let severity = if refilled.gone > 0 { Severity::Critical } else { Severity::High };
            self.tell_of_vault(None, severity, said.join("; "));
        }
        self.tell_status();
    }

    /// Removes what may go so that `need` more fits, and a little beyond, so that not each piece of evidence begins
    /// anew. Nothing goes where that would not be enough: a file larger than the vault costs no evidence.
    pub(super) fn make_room(&mut self, need: u64) {
        let now = boottime_ns();
        let Some(max) = self.standing.retention.max_size else { return };
        let Some(target) = (max - max / 20).checked_sub(need) else { return };
        let hopeless = self.standing.least.is_some_and(|(least, until)| target < least && now < until);
        if hopeless || self.vault.used().is_none_or(|used| used <= target) {
            return;
        }
        if let Some(least) = self.prune(Some(target), true) {
            self.standing.least = Some((least, now + RETRY_NS));
        }
    }

    fn prune_is_due(&self) -> bool {
        let Retention { max_age, max_size } = self.standing.retention;
        let too_much = max_size.zip(self.vault.used()).is_some_and(|(max, used)| used > max);
        let cut_off = max_age.map(|age| realtime_ns().saturating_sub(age.as_nanos() as i64));
        let too_old = cut_off.is_some_and(|before| {
            let before = crate::core::event::rfc3339(before);
            self.store.has_content_before(&before).unwrap_or(true)
        });
        too_much || too_old
    }

    /// Removes what is too old or too much; with `enough`, only if that brings the vault below `max_size`. Returns the
    /// least that it can be brought to, where that is more.
    fn prune(&mut self, max_size: Option<u64>, enough: bool) -> Option<u64> {
        // Evidence whose record is not written yet would look like nobody's.
        self.write();
        if !self.journal.healthy() {
            return None;
        }
        let retention = Retention { max_size, max_age: self.trusted_age() };
        match self.prune_to(&retention, enough) {
            Ok(least) => least,
            Err(UpkeepError::Store(error)) => {
                self.journal.failed(&error);
                None
            }
            Err(UpkeepError::Vault(error)) => {
                tracing::warn!("the vault could not be pruned: {error}");
                None
            }
        }
    }

    fn prune_to(&mut self, retention: &Retention, enough: bool) -> Result<Option<u64>, UpkeepError> {
        let decision = limits::look(&self.store, &self.vault, retention, realtime_ns())?;
        let least = (decision.over > 0).then_some(decision.after);
        if enough && least.is_some() {
            return Ok(least);
        }
        let stamp = self.stamp.clone();
        let event = |message| stamp.about_fim(EventKind::Purged, message);
        let report = limits::carry_out(&mut self.store, &self.vault, decision, event)?;
        self.journal.wrote(report.record.as_slice());
        report.failed.iter().for_each(|failure| tracing::warn!("{failure}"));
        Ok(least)
    }

    /// The age limit, unless the clock was set forward: then everything seems old.
    fn trusted_age(&mut self) -> Option<Duration> {
        let age = self.standing.retention.max_age?;
        let Some(message) = self.ages_mean_nothing() else { return Some(age) };
        if !self.standing.jump_told {
            self.standing.jump_told = true;
            self.tell_of_vault(None, Severity::High, message);
        }
        None
    }

    /// Why nothing is too old at present, whatever the clock says.
    pub(super) fn ages_mean_nothing(&self) -> Option<String> {
        let jump = offset_ns().saturating_sub(self.standing.clock_offset_ns);
        (jump >= JUMP_NS).then(|| {
            format!(
                "the clock was set forward by {} minutes; nothing is removed from the vault for its age until fim is \
                 restarted with the right time",
                jump / 60_000_000_000
            )
        })
    }

    /// Somebody made room.
    pub(super) fn look_for_room_now(&mut self) {
        let now = boottime_ns();
        self.standing.short.values_mut().for_each(|short| short.retry_ns = now);
        self.standing.least = None;
    }

    fn tell_of_vault(&mut self, watch: Option<&Watch>, severity: Severity, message: String) {
        let event: Event = match watch {
            Some(watch) => self.stamp.about_watch(EventKind::Trouble, watch, message),
            None => self.stamp.about_fim(EventKind::Trouble, message),
        };
        self.journal.add(Entry::plain(Event { severity, ..event }));
    }

    fn tell_status(&self) {
        self.progress.vault_trouble(self.standing.problems());
    }
}

/// Bytes that a step may have to put into the vault.
fn need(vault: &Arc<Vault>, step: &Step) -> u64 {
    let found = taken_out(step).and_then(|found| found.entry.sha256);
    if found.is_some_and(|digest| vault.contains(&digest)) { 0 } else { takes_at_most(step) }
}

/// As [`need`], should none of it be in the vault yet; in blocks, as the vault counts.
pub(super) fn takes_at_most(step: &Step) -> u64 {
    let regular = taken_out(step).filter(|found| found.entry.kind == FileType::Regular);
    regular.map_or(0, |found| occupies(found.entry.size.max(1)))
}

/// What a step takes out of its place.
fn taken_out(step: &Step) -> Option<&Found> {
    match step {
        Step::Replace { expected, .. } => expected.as_ref(),
        Step::Reattribute { expected, .. }
        | Step::Quarantine { expected, .. }
        | Step::Delete { expected, .. } => Some(expected),
        Step::MoveBack { .. } => None,
    }
}

fn intended(step: &Step) -> Response {
    match step {
        Step::Replace { .. } | Step::Reattribute { .. } | Step::MoveBack { .. } => Response::Restored,
        Step::Quarantine { .. } => Response::Quarantined,
        Step::Delete { .. } => Response::Deleted,
    }
}
