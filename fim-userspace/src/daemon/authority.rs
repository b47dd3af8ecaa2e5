//! Who allowed a change: a trusted updater, a maintenance window, or nobody.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::core::actor::Actor;
use crate::core::change::{Change, ChangeKind};
use crate::core::correlate::Look;
use crate::core::entry::{Entry, FileType, Flags, Found, Identity};
use crate::core::event::{Event, EventKind, Verdict};
use crate::core::observation::{Signal, WatchId};
use crate::core::path::RelPath;
use crate::core::policy::Severity;
use crate::core::trust::{LAG_NS, Left, Untrusted, is_remade, judge};
use crate::core::witness::Deeds;
use crate::store::{Approved, Baseline, StoreError};
use crate::tree::inspect;

use super::clock::boottime_ns;
use super::examine::Finding;
use super::journal;
use super::reconcile::{CHANNEL, Reconciler};
use super::trust::void;
use super::watch::Watch;

/// Attempts at a change whose trusted program is not what it should be: an update of that very program may be under way.
/// About a tenth of a second.
const PATIENCE: u32 = 7;

/// That a change is authorised, and by what.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Grant {
    /// As records say it.
    pub by: String,
    /// The rule that trusts its author.
    pub rule: Option<usize>,
}

/// What was decided about one change.
#[derive(Clone, Debug)]
pub enum Authority {
    Granted(Grant),
    /// To be looked at again: what it depends on is still being changed itself.
    Later,
    /// Why not, where there is more to say than that nobody allowed it.
    Refused(Option<String>),
}

impl Reconciler {
    /// Decides about each finding of a round; what has to wait is looked at again and is not among them.
    pub(super) fn authorise(
        &mut self,
        watch: &Arc<Watch>,
        findings: Vec<Finding>,
    ) -> Result<Vec<(Finding, Authority)>, StoreError> {
        let mut judged = Vec::with_capacity(findings.len());
        for finding in findings {
            let authority = match self.may_be_approved(watch, &finding.change)? {
                true => self.authority(watch, &finding.look, finding.change.kind, Some(&finding.change))?,
                false => Authority::Refused(None),
            };
            judged.push((finding, authority));
        }
        let some = |fits: fn(&(Finding, Authority)) -> bool| judged.iter().any(fits);
        let granted = some(|(_, authority)| matches!(authority, Authority::Granted(_)));
        let unseen = self.may_grant() && some(|(finding, _)| is_unseen(&finding.look));
        if granted || unseen {
            self.hear_everybody(watch, &mut judged);
        }
        if granted {
            self.hang_together(watch, &mut judged)?;
        }
        let now = boottime_ns();
        let (later, settled) =
            judged.into_iter().partition::<Vec<_>, _>(|(_, authority)| matches!(authority, Authority::Later));
        for (finding, _) in later {
            self.retry(finding.look, now);
        }
        Ok(settled)
    }

    /// Whether anybody but a person, afterwards, can allow a change at present.
    pub(super) fn may_grant(&self) -> bool {
        !self.trust.rules().is_empty() || self.maintenance.is_open()
    }

    /// What is approved must not hold what somebody wrote whose report was still under way when the file was read; and a
    /// scan may have been quicker than the report of an updater. Where one came in, all of it is judged anew. Whoever was
    /// seen and is not trusted waits for nobody.
    fn hear_everybody(&mut self, watch: &Watch, judged: &mut Vec<(Finding, Authority)>) {
        let in_time = self.sight.settle_with_losses();
        let inbox = self.inbox.clone();
        for signal in inbox.try_iter().take(CHANNEL) {
            match signal {
                Signal::Observed(_) => self.take(signal),
                other => self.held.push(other),
            }
        }
        let now = boottime_ns();
        let here = |of: &Option<WatchId>| of.is_none_or(|of| of == watch.id);
        if self.held.iter().any(|signal| matches!(signal, Signal::Gap { watch, .. } if here(watch))) {
            self.trust.note_loss(watch.id, now);
        }
        judged.retain_mut(|(finding, authority)| {
            let open = matches!(authority, Authority::Granted(_))
                || (is_unseen(&finding.look) && finding.look.attempts < PATIENCE);
            let Some(heard) = open.then(|| self.correlator.claim(watch.id, &finding.change.path)).flatten()
            else {
                return true;
            };
            let mut look = finding.look.clone();
            look.absorb(heard);
            look.attempts += 1;
            self.correlator.schedule(look, now);
            false
        });
        // Whose report is late or lost cannot be known; whose content it is the package may say.
        for (finding, authority) in judged {
            let Authority::Granted(grant) = authority else { continue };
            if in_time && !self.trust.lacks_reports(watch.id, finding.look.first_ns) {
                continue;
            }
            let rule = grant.rule;
            if finding.look.attempts < PATIENCE {
                *authority = Authority::Later;
            } else if !rule.and_then(|rule| self.listed(watch, &finding.change, rule)).is_some_and(|l| l.1) {
                *authority = Authority::Refused(Some(
                    "reports of what happened there were late or lost, so not everybody who did it is known"
                        .into(),
                ));
            }
        }
    }

    /// Whether anybody but a person could make this state the approved one.
    fn may_be_approved(&self, watch: &Watch, change: &Change) -> Result<bool, StoreError> {
        let mount = |flags: Flags| flags.has(Flags::MOUNT);
        let after = change.after.as_ref().map(|found| &found.entry);
        if change.before.as_ref().is_some_and(|before| mount(before.flags))
            || after
                .is_some_and(|after| mount(after.flags) || watch.root.is_mounted_over(&change.path, after))
        {
            return Ok(false);
        }
        Ok(true)
    }

    /// Who allowed what was seen at this path.
    pub(super) fn authority(
        &mut self,
        watch: &Watch,
        look: &Look,
        kind: ChangeKind,
        change: Option<&Change>,
    ) -> Result<Authority, StoreError> {
        let trusted = self.trusted(watch, look, kind, change)?;
        if matches!(trusted, Authority::Granted(_)) {
            return self.unless_altered_before(watch, look, change, trusted);
        }
        match self.maintenance.authority(watch, look, change) {
            Some(by) => {
                let granted = Authority::Granted(Grant { by, rule: None });
                self.unless_altered_before(watch, look, change, granted)
            }
            None => Ok(trusted),
        }
    }

    fn trusted(
        &mut self,
        watch: &Watch,
        look: &Look,
        kind: ChangeKind,
        change: Option<&Change>,
    ) -> Result<Authority, StoreError> {
        if self.trust.rules().is_empty() {
            return Ok(Authority::Refused(None));
        }
        let (author, _) = look.witnessed.attribute(kind);
        let owner = change.and_then(|change| change.after.as_ref()).map(|found| found.entry.uid);
        let claims = match judge(
            self.trust.rules(),
            watch.id,
            &look.witnessed,
            &author,
            Left { owner, first_ns: look.first_ns },
        ) {
            Ok(claims) => claims,
            Err(Untrusted::Stranger) => return Ok(Authority::Refused(None)),
            Err(Untrusted::Refused(why)) => return Ok(Authority::Refused(Some(why))),
        };
        let changed = watch.absolute(&look.path);
        let table = self.sight.sensors.ebpf.as_ref().map(|ebpf| ebpf.table());
        for claim in &claims {
            // What was noted of a service when it wrote for the first time may be hours old.
            let record = table.as_ref().and_then(|table| table.record(claim.process));
            let ended_ns = record.map_or(0, |record| record.exit_ns);
            if ended_ns != 0 && ended_ns.saturating_add(LAG_NS) < look.first_ns {
                let why = format!("{}, which started it, had ended by then", claim.program);
                return Ok(Authority::Refused(Some(why)));
            }
            let mut found = self.trust.verify(claim, &changed, &self.watches, &self.store)?;
            if found.is_err() && !self.begun.is_empty() {
                // An update of the program itself may wait for its copy.
                self.conclude();
                found = self.trust.verify(claim, &changed, &self.watches, &self.store)?;
            }
            let Err(why) = found else { continue };
            if look.attempts < PATIENCE && !self.trust.is_known_void(claim) {
                return Ok(Authority::Later);
            }
            let name = self.trust.rules().get(claim.rule).map(|rule| rule.name.clone()).unwrap_or_default();
            if self.trust.note_void(claim) {
                let sentence = void(&name, &claim.program, &why);
                self.journal.add(journal::Entry::plain(self.stamp.about_fim(EventKind::Trouble, sentence)));
            }
            return Ok(Authority::Refused(Some(format!("not trusted as \"{name}\": {why}"))));
        }
        let rule = claims.first().map(|claim| claim.rule);
        let name = rule.and_then(|rule| self.trust.rules().get(rule)).map(|rule| rule.name.as_str());
        Ok(match name {
            Some(name) => Authority::Granted(Grant { by: format!("trust:{name}"), rule }),
            None => Authority::Refused(None),
        })
    }

    /// A file that was altered without authority, and left so, is not made right by whoever touches it next, nor under another
    /// name, nor by a program that reads it and writes it anew.
    fn unless_altered_before(
        &mut self,
        watch: &Watch,
        look: &Look,
        change: Option<&Change>,
        granted: Authority,
    ) -> Result<Authority, StoreError> {
        let now = change.and_then(|change| change.after.as_ref());
        let (Some(change), Some(now), Authority::Granted(grant)) = (change, now, &granted) else {
            return Ok(granted);
        };
        let refused = |why: &str| Ok(Authority::Refused(Some(why.into())));
        let known = self.store.open_change(watch.path(), &change.path)?.flatten();
        let replaced = look.happened.any(Deeds::MOVED_HERE.with(Deeds::CREATED))
            && now.entry.kind != FileType::Directory;
        if !replaced
            && !known.as_ref().is_none_or(|known| is_remade(change.before.as_ref(), known, &now.entry))
        {
            return refused(
                "it had been altered without authority before, and that is still part of what is there",
            );
        }
        // Another object came in its place. A person has taken on what happens in a window, a rule's program has not.
        let brought = look.deeds.any(Deeds::MOVED_HERE.with(Deeds::CREATED));
        let Some(rule) =
            grant.rule.filter(|_| brought && now.entry.kind == FileType::Regular && now.entry.size > 0)
        else {
            return Ok(granted);
        };
        let approved = change.before.as_ref().and_then(|before| before.sha256);
        let foreign = now.entry.sha256 != approved;
        let altered = |known: &Entry| known.sha256 != approved;
        let mover = look.witnessed.attribute(ChangeKind::Renamed).0;
        let why = if known.as_ref().is_some_and(altered) {
            "it had been altered without authority before, and what is there now may hold that, too"
        } else if foreign
            && (look.moved_from.is_some() || now.identity.nlink > 1)
            && self.store.is_open_content(watch.path(), now.entry.sha256)?
        {
            "it holds what somebody had put under another name without authority"
        } else if comes_from_another(look, &now.entry, &mover) {
            "it was made outside the watch, by somebody who is not known"
        } else {
            return Ok(granted);
        };
        match self.listed(watch, change, rule) {
            Some((_, true)) => Ok(granted),
            _ => refused(why),
        }
    }

    /// What is approved has to hang together: nothing comes without its folder, and no folder goes while something in it
    /// is still approved.
    fn hang_together(
        &mut self,
        watch: &Watch,
        judged: &mut [(Finding, Authority)],
    ) -> Result<(), StoreError> {
        let places: BTreeMap<RelPath, usize> = judged
            .iter()
            .enumerate()
            .map(|(index, (finding, _))| (finding.change.path.clone(), index))
            .collect();
        // Folders before what is in them.
        for index in places.values() {
            let (finding, Authority::Granted(_)) = &judged[*index] else { continue };
            let path = &finding.change.path;
            if finding.change.after.is_none() || *path == watch.start {
                continue;
            }
            let Some(folder) = path.parent() else { continue };
            let stays = match places.get(&folder).map(|at| &judged[*at]) {
                Some((above, Authority::Granted(_))) => above.change.after.as_ref().is_some_and(is_folder),
                Some((_, Authority::Later)) => {
                    judged[*index].1 = Authority::Later;
                    continue;
                }
                _ => self.store.baseline_get(watch.path(), &folder)?.as_ref().is_some_and(is_folder),
            };
            if !stays {
                // The folder itself may be judged anew at this moment.
                judged[*index].1 = match finding.look.attempts < PATIENCE {
                    true => Authority::Later,
                    false => Authority::Refused(Some("the folder it is in is not approved".into())),
                };
            }
        }
        // What is in a folder before the folder.
        for index in places.values().rev() {
            let (finding, Authority::Granted(_)) = &judged[*index] else { continue };
            let change = &finding.change;
            let goes = change.kind != ChangeKind::Renamed
                && change.before.as_ref().is_some_and(|before| before.kind == FileType::Directory)
                && !change.after.as_ref().is_some_and(is_folder);
            if !goes {
                continue;
            }
            let mut stays = false;
            for (child, _) in self.store.baseline_list_dir(watch.path(), &change.path)? {
                let gone = places.get(&child).map(|at| &judged[*at]);
                stays |=
                    !matches!(gone, Some((child, Authority::Granted(_))) if child.change.after.is_none());
            }
            if stays {
                judged[*index].1 = match finding.look.attempts < PATIENCE {
                    true => Authority::Later,
                    false => Authority::Refused(Some("what was in it is still approved".into())),
                };
            }
        }
        Ok(())
    }

    /// What an authorised change that is in place by now makes the approved state.
    pub(super) fn approvals(&mut self, watch: &Watch, change: &Change) -> Vec<Approved> {
        let root = watch.path().to_path_buf();
        let one = |path: RelPath, baseline| Approved { watch: root.clone(), path, baseline };
        let is = match &change.after {
            Some(found) => Baseline::Put(found.clone()),
            None => Baseline::Remove,
        };
        let mut all = Vec::new();
        if let Some(old) = &change.old_path {
            all.extend(self.moved_along(watch, change, old).into_iter().map(|(path, b)| one(path, b)));
            all.push(one(old.clone(), Baseline::Remove));
        }
        all.insert(0, one(change.path.clone(), is));
        all
    }

    /// What was in a folder that has another name now. What was altered on the way is looked at by itself.
    fn moved_along(&mut self, watch: &Watch, change: &Change, old: &RelPath) -> Vec<(RelPath, Baseline)> {
        let mut moved = Vec::new();
        for (path, approved) in self.store.baseline_children(watch.path(), old).unwrap_or_default() {
            let tail = path.as_bytes().get(old.as_bytes().len()..).unwrap_or_default();
            let new = RelPath::new([change.path.as_bytes(), tail].concat());
            let Some(new) = new.filter(|_| path != *old) else { continue };
            match inspect::inspect(&watch.root, &new, Some(&approved)) {
                Ok(Some(found)) if found.entry == approved.entry => {
                    moved.push((new, Baseline::Put(found)));
                }
                // Approved as it was, so that what differs is told of and put right.
                _ => {
                    self.correlator.schedule(Look::new(watch.id, new.clone(), boottime_ns()), 0);
                    moved.push((new, Baseline::Put(Found { identity: NOBODY, ..approved })));
                }
            }
            moved.push((path, Baseline::Remove));
        }
        moved
    }
}

/// The identity of no file: what has it is read again.
const NOBODY: Identity = Identity { dev: 0, ino: 0, ctime_ns: 0, nlink: 0 };

/// A file that was moved in from where nobody watches: only one that nobody but the mover can have written is his.
fn comes_from_another(look: &Look, now: &Entry, mover: &Actor) -> bool {
    const OTHERS_MAY_WRITE: u32 = 0o022;
    let from_outside = look.deeds.any(Deeds::MOVED_HERE) && look.moved_from.is_none();
    from_outside && (mover.fsuid.or(mover.euid) != Some(now.uid) || now.mode & OTHERS_MAY_WRITE != 0)
}

/// Nobody was seen there.
fn is_unseen(look: &Look) -> bool {
    look.witnessed.is_empty()
}

fn is_folder(found: &Found) -> bool {
    found.entry.kind == FileType::Directory
}

/// Makes the record of a change that of an authorised one.
pub fn grant(event: &mut Event, grant: &Grant) {
    event.verdict = Some(Verdict::Authorised);
    event.authorised_by = Some(grant.by.clone());
    event.severity = Severity::Low;
}
