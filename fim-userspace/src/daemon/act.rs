//! Carries the plans of one round out, in an order in which each step finds what it needs.

use std::time::Instant;

use crate::core::entry::{FileType, Found};
use crate::core::event::{Event, Response};
use crate::core::path::RelPath;
use crate::core::plan::{ResponsePlan, Step, Unable, order};
use crate::core::policy::{PathPolicy, Severity};
use crate::core::quarantine::Reason;
use crate::respond::{Evidence, ONE_BY_ONE, Outcome, Pending, Responder, ResponseError};
use crate::store::IntentId;

use super::authority::{self, Grant};
use super::examine::Finding;
use super::sight::Sight;
use super::watch::Watch;
use super::{apart, descriptors};

/// One change on its way from finding to record.
pub struct Act {
    pub finding: Finding,
    /// What holds for the change.
    pub policy: PathPolicy,
    pub plan: ResponsePlan,
    pub event: Event,
    pub intent: Option<IntentId>,
    pub done: Vec<Response>,
    /// When the last place was right again.
    pub righted: Option<Instant>,
    pub evidence: Vec<(Reason, Evidence)>,
    /// What was taken out of its place is removed only after this act's record.
    pub unreleased: bool,
    /// A copy of what is left there goes into the vault before the record.
    pub keep: bool,
    /// A package database may vouch for its content; its record waits for that.
    pub vouch: bool,
    /// By whose authority what is there becomes the approved state.
    pub grant: Option<Grant>,
    pub error: Option<String>,
    /// What was there was not what had been compared: it must be looked at again before anything is said.
    pub again: bool,
    /// A directory was not empty: what came into it since must go first.
    pub filled: bool,
}

impl Act {
    pub fn new(finding: Finding, policy: PathPolicy, plan: ResponsePlan, mut event: Event) -> Self {
        let mut error = plan.unable.map(|why| unable(why).to_owned());
        let mut plan = plan;
        if policy.dry_run {
            event.planned = plan.promises();
            event.message = error.take().map(|why| format!("it could not be put back: {why}"));
            plan = ResponsePlan::default();
        }
        Self {
            finding,
            policy,
            plan,
            event,
            intent: None,
            done: Vec::new(),
            righted: None,
            evidence: Vec::new(),
            unreleased: false,
            keep: false,
            grant: None,
            vouch: false,
            error,
            again: false,
            filled: false,
        }
    }

    /// A change that is authorised: nothing is undone, and what is there is approved.
    pub fn granted(finding: Finding, policy: PathPolicy, mut event: Event, grant: Grant) -> Self {
        authority::grant(&mut event, &grant);
        let mut act = Self::new(finding, policy, ResponsePlan::default(), event);
        act.grant = Some(grant);
        act
    }

    /// Its record waits until everything that is wrong has been put right.
    pub fn waits(&self) -> bool {
        self.keep || self.vouch
    }

    /// Something was mounted over the path: that is told, and nothing is done about it.
    pub fn leave_mounted(&mut self, what: &str) {
        let sentence = format!(
            "something is mounted over it ({what}); look at it with findmnt, unmount it, or accept it and what is in it with \
             `fim accept --recursive`"
        );
        let wanted = !self.plan.steps.is_empty() || self.error.is_some();
        self.plan = ResponsePlan::default();
        self.event.severity = Severity::Critical;
        (self.error, self.event.planned) = (None, None);
        if wanted {
            self.error = Some(sentence);
        } else {
            self.event.message = Some(sentence);
        }
    }

    /// Nothing has been done, and what is there now is something else: the next look begins anew.
    pub fn void(&self) -> bool {
        self.again
            && self.done.is_empty()
            && self.error.is_none()
            && self.evidence.is_empty()
            && !self.unreleased
    }

    /// Takes in what became of one of its steps.
    fn began(&mut self, step: &Step, result: Result<Outcome, ResponseError>) {
        match result {
            Ok(outcome) => {
                self.done.push(outcome.response);
                self.righted = self.righted.max(Some(outcome.righted));
                self.evidence.extend(reasoned(step, outcome.evidence));
                self.event.method = outcome.method.map(str::to_owned).or(self.event.method.take());
            }
            Err(error) => {
                match &error {
                    ResponseError::Moved { .. } | ResponseError::ParentMissing { .. } => self.again = true,
                    ResponseError::NotEmpty { .. } => (self.again, self.filled) = (true, true),
                    ResponseError::Failed { .. } => self.error = Some(error.to_string()),
                }
                self.evidence.extend(reasoned(step, error.into_evidence()));
            }
        }
    }

    /// How the response as a whole ended.
    pub fn response(&self) -> Response {
        if self.error.is_some() {
            return Response::Failed;
        }
        if self.again {
            return Response::Pending;
        }
        // Something put back counts more than something taken away.
        let rank = |r: &Response| match r {
            Response::Restored => 0,
            Response::Quarantined => 1,
            _ => 2,
        };
        self.done.iter().copied().min_by_key(rank).unwrap_or(Response::None)
    }
}

pub fn unable(why: Unable) -> &'static str {
    match why {
        Unable::NoApprovedContent => {
            "the approved content is not in the vault (keep_versions is false for this watch); put the file back from \
             your own backup or package, then accept it with `fim init`"
        }
        Unable::ContentLost => {
            "the approved content is not in the vault any more; put the vault's folder or the file back from your own \
             backup or package, then approve it with `fim init --replace`"
        }
        Unable::TooLarge => {
            "not restorable: the approved file is larger than max_file_size, so its content was not kept; put it back \
             from your own backup or package"
        }
        Unable::VaultFull => {
            "the vault cannot take what is there, and fim destroys nothing that it cannot keep; it is put right once the \
             vault can"
        }
        Unable::Socket => {
            "a socket belongs to the program that listens on it and cannot be restored; restart that program"
        }
    }
}

/// Makes every place right that `acts` are about; each act learns how its own steps ended. The disk is not waited for:
/// what is returned is to be secured, and released once the acts are recorded.
///
/// No more than about `most` descriptors are held at the same time.
pub fn carry_out(
    responder: &Responder,
    sight: &Sight,
    watch: &Watch,
    acts: &mut [Act],
    most: usize,
) -> Unfinished {
    let mut steps: Vec<(usize, Step)> = Vec::new();
    for (index, act) in acts.iter().enumerate() {
        steps.extend(act.plan.steps.iter().cloned().map(|step| (index, step)));
    }
    steps.sort_by(|(_, a), (_, b)| order(a, b));
    let mut unfinished = Unfinished::default();
    let mut rest = steps.as_slice();
    let mut folder = None;
    while !rest.is_empty() {
        let room = (most.saturating_sub(unfinished.descriptors) / descriptors::EACH).max(1);
        let free = rest.iter().take(room).take_while(|(_, step)| apart::stands_alone(step)).count();
        let (now, later) = rest.split_at(if free < apart::WORTHWHILE { 1 } else { free });
        let begun = match now {
            [(_, step)] => {
                let mut left = Vec::new();
                let work = || responder.begin(&watch.root, step, &mut folder, &mut left);
                vec![(seen(Some(sight), watch, step, work), left)]
            }
            many => {
                folder = None;
                apart::begin(responder, watch, many)
            }
        };
        for ((index, step), (result, left)) in now.iter().zip(begun) {
            acts[*index].began(step, result);
            unfinished.add(&mut acts[*index], *index, step, left);
        }
        if unfinished.descriptors + descriptors::EACH > most {
            unfinished.secure(responder, watch, acts);
        }
        rest = later;
    }
    unfinished
}

/// Steps whose places are right and whose rest waits, with the act that each belongs to.
#[derive(Default)]
pub struct Unfinished {
    acts: Vec<(usize, Step)>,
    insecure: Vec<Pending>,
    secured: Vec<Pending>,
    descriptors: usize,
}

impl Unfinished {
    fn add(&mut self, act: &mut Act, index: usize, step: &Step, left: Vec<Pending>) {
        act.unreleased |= !left.is_empty();
        for mut pending in left {
            if self.insecure.len() >= ONE_BY_ONE {
                pending.is_of_many();
            }
            let shared = self.insecure.last().is_some_and(|last| last.shares_folder(&pending));
            self.descriptors += pending.descriptors() + usize::from(!shared);
            self.acts.push((index, step.clone()));
            self.insecure.push(pending);
        }
    }

    /// How many are held, about.
    pub fn descriptors(&self) -> usize {
        self.descriptors
    }

    pub fn insecure(&mut self) -> impl Iterator<Item = &mut Pending> {
        self.insecure.iter_mut()
    }

    /// The acts have other places now, by their old ones.
    pub fn renumber(&mut self, places: &[usize]) {
        for (act, _) in &mut self.acts {
            *act = places[*act];
        }
    }

    pub fn secured(self) -> Vec<Pending> {
        self.secured
    }

    /// Waits for the disk.
    pub fn secure(&mut self, responder: &Responder, watch: &Watch, acts: &mut [Act]) {
        responder.secure(&watch.root, &mut self.insecure);
        self.descriptors = 0;
        for ((index, step), mut pending) in self.acts.drain(..).zip(self.insecure.drain(..)) {
            let act = &mut acts[index];
            act.evidence.extend(reasoned(&step, pending.take_evidence()));
            if let Some(why) = pending.failure() {
                act.error = Some(why.to_owned());
            }
            self.secured.push(pending);
        }
    }
}

/// Begins one step and makes known to the sensors, where there are any, what it did to directories.
pub(super) fn begin(
    responder: &Responder,
    sight: Option<&Sight>,
    watch: &Watch,
    step: &Step,
    left: &mut Vec<Pending>,
) -> Result<Outcome, ResponseError> {
    seen(sight, watch, step, || responder.begin(&watch.root, step, &mut None, left))
}

/// Does `work`, which carries `step` out, and makes known to the sensors what it did to directories.
fn seen<T>(
    sight: Option<&Sight>,
    watch: &Watch,
    step: &Step,
    work: impl FnOnce() -> Result<T, ResponseError>,
) -> Result<T, ResponseError> {
    let going = sight.zip(taken_away(step)).map(|(sight, path)| (path, sight.known(watch, path)));
    let done = work()?;
    if let Some(sight) = sight {
        tell(sight, watch, step);
        if let Some((path, known)) = going {
            sight.directory_removed(watch, path, known);
        }
    }
    Ok(done)
}

/// What `step` took out of its place, and why.
fn reasoned(step: &Step, evidence: Vec<Evidence>) -> impl Iterator<Item = (Reason, Evidence)> {
    evidence.into_iter().map(|e| (Reason::of(step, e.digest.is_some()), e))
}

/// The directory that this step takes away, if it does.
fn taken_away(step: &Step) -> Option<&RelPath> {
    let is_dir = |found: &Found| found.entry.kind == FileType::Directory;
    match step {
        Step::Replace { path, approved, expected: Some(was) } => {
            (is_dir(was) && approved.kind != FileType::Directory).then_some(path)
        }
        Step::Quarantine { path, expected } | Step::Delete { path, expected } => {
            is_dir(expected).then_some(path)
        }
        _ => None,
    }
}

/// Makes known what the sensors do not report, since the daemon did it.
fn tell(sight: &Sight, watch: &Watch, step: &Step) {
    match step {
        Step::Replace { path, approved, expected }
            if approved.kind == FileType::Directory
                && expected.as_ref().is_none_or(|was| was.entry.kind != FileType::Directory) =>
        {
            sight.directory_restored(watch, path);
        }
        Step::MoveBack { from, to, .. } => sight.moved_back(watch, from, to),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::entry::{Digest, Entry, Identity, Xattrs};

    fn entry() -> Entry {
        Entry {
            kind: FileType::Regular,
            sha256: Some(Digest([1; 32])),
            size: 1,
            mode: 0o644,
            uid: 1,
            gid: 2,
            mtime_ns: 3,
            xattrs: Xattrs::default(),
            target: None,
            rdev: 0,
            flags: crate::core::entry::Flags::default(),
        }
    }

    fn found() -> Found {
        Found { entry: entry(), identity: Identity { dev: 1, ino: 2, ctime_ns: 3, nlink: 1 } }
    }

    #[test]
    fn folders_are_made_before_and_removed_after_what_is_in_them() {
        let path = |text: &str| RelPath::new(text).expect("sound");
        let put = |at: &str| Step::Replace { path: path(at), approved: entry(), expected: None };
        let take = |at: &str| Step::Quarantine { path: path(at), expected: found() };
        let back = Step::MoveBack { from: path("x"), to: path("y"), expected: found() };
        let mut steps = vec![take("n"), take("n/f"), put("d/f"), put("d"), back.clone()];
        steps.sort_by(order);
        assert_eq!(steps, [back, put("d"), put("d/f"), take("n/f"), take("n")]);
    }
}
