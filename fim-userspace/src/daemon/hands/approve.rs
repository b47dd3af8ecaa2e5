//! A version becomes the approved one.

use crate::control::{Answer, Approve, Outcome, Version, Way};
use crate::core::change::{Change, ChangeKind, compare};
use crate::core::entry::{Entry, FileType, Flags, Found, Identity};
use crate::core::event::{EventKind, Response, State, Verdict, rfc3339};
use crate::core::path::RelPath;
use crate::core::plan::{Step, plan};
use crate::core::policy::{PathPolicy, Severity};
use crate::core::quarantine::Fate;
use crate::daemon::clock::realtime_ns;
use crate::daemon::watch::Watch;
use crate::store::{Approval, Baseline};

use super::judge::CHANGED;
use super::place::locate;
use super::{Desk, Refused, abs};

/// What goes, from the deepest on; then what comes, folders before what is in them.
pub fn in_order(items: &[Approve]) -> Vec<&Approve> {
    let goes = |item: &Approve| matches!(item.version, Version::Absent | Version::Gone(_));
    let (mut going, mut coming): (Vec<_>, Vec<_>) = items.iter().partition(|item| goes(item));
    going.sort_by(|a, b| b.path.cmp(&a.path));
    coming.sort_by(|a, b| a.path.cmp(&b.path));
    going.into_iter().chain(coming).collect()
}

/// A decision that has been understood and checked.
struct Decision {
    /// What will be approved; `None`: nothing.
    wanted: Option<Entry>,
    /// For the record.
    message: String,
    /// The row of `evidence` it comes from.
    row: Option<i64>,
    /// Whether it may have to be put there first.
    put: bool,
}

/// Approves one version of one path, and puts it there if it is not.
pub fn approve(desk: &mut Desk<'_>, item: &Approve, way: Way, said: &str) -> Result<Answer, Refused> {
    let (watch, path) = locate(desk.watches, &item.path.0).map_err(Refused::One)?;
    let before = desk.store.baseline_get(watch.path(), &path)?;
    let now = desk.look(&watch, &path)?;
    let decision = decide(desk, &watch, &path, item, now.as_ref())?;
    let wanted = decision.wanted.as_ref();
    if before.as_ref().map(|b| &b.entry) == wanted && now.as_ref().map(|n| &n.entry) == wanted {
        return Ok(Answer::Same { path: item.path.clone() });
    }
    if !item.recursive {
        desk.comes_without_a_mount(&watch, &path, before.as_ref().map(|b| &b.entry), wanted)?;
    }
    desk.not_excluded(&watch, &path, wanted)?;
    desk.hangs_together(&watch, &path, wanted)?;
    let steps = prepare(desk, &watch, &path, &decision, (now.as_ref(), way))?;
    let change = Change {
        kind: ChangeKind::Modified,
        path: path.clone(),
        old_path: None,
        before: before.map(|b| b.entry),
        after: None,
        aspects: Vec::new(),
    };
    let mut event = desk.record_of(&watch, &change, said);
    event.kind = if way == Way::Release { EventKind::Released } else { EventKind::Accepted };
    event.after = wanted.map(State::from);
    event.differences =
        change.before.as_ref().zip(wanted).map(|(was, is)| was.differences(is)).unwrap_or_default();
    event.response = match (steps.is_empty(), wanted) {
        (true, _) => Response::None,
        (false, Some(_)) => Response::Restored,
        (false, None) => Response::Quarantined,
    };
    (event.verdict, event.severity) = (Some(Verdict::Authorised), Severity::Low);
    event.message = Some(format!("{}, {said}", decision.message));
    let performed = desk.perform(&watch, &path, &steps, &mut event)?;
    event.time = rfc3339(realtime_ns());
    let mounted = wanted.is_some_and(|entry| entry.flags.has(Flags::MOUNT));
    let baseline = match decision.wanted {
        None => Baseline::Remove,
        Some(entry) => Baseline::Put(standing(desk, &watch, &path, entry, &steps)),
    };
    let decided = Approval {
        watch: watch.path().to_path_buf(),
        path: path.clone(),
        baseline,
        event,
        evidence: Vec::new(),
        closes: None,
        released: decision.row,
    };
    let record = desk.record(&watch, decided, performed)?;
    watch.root.approve_mount(&path, mounted);
    if mounted {
        // Its folders are new to the sensors.
        desk.looks.push((watch.id, path.clone(), true));
    }
    let answer = Answer::Item {
        path: abs(&watch, &path),
        outcome: if way == Way::Release { Outcome::Released } else { Outcome::Accepted },
        seq: record.seq,
        id: record.id.clone(),
    };
    desk.records.push(record);
    Ok(answer)
}

/// Finds the version that is meant.
fn decide(
    desk: &Desk<'_>,
    watch: &Watch,
    path: &RelPath,
    item: &Approve,
    now: Option<&Found>,
) -> Result<Decision, Refused> {
    let elsewhere = || Refused::one("the version that was asked for is one of another path");
    let unknown = || Refused::one("the version that was asked for is not known any more");
    Ok(match &item.version {
        Version::Present(_) => {
            let Some(now) = now.filter(|now| Version::present(&now.entry) == item.version) else {
                return Err(Refused::one(CHANGED));
            };
            let message = "what is there became the approved version".into();
            Decision { wanted: Some(now.entry.clone()), message, row: None, put: false }
        }
        Version::Absent => {
            if now.is_some() {
                return Err(Refused::one(CHANGED));
            }
            Decision { wanted: None, message: "that it is gone was approved".into(), row: None, put: false }
        }
        Version::Gone(seq) => {
            let message = format!("that it is gone, as event {seq} saw, was approved");
            Decision { wanted: None, message, row: None, put: true }
        }
        Version::Evidence(id) => {
            let held = desk.store.held_one(*id)?.ok_or_else(unknown)?;
            if held.watch != watch.path() || held.path != *path {
                return Err(elsewhere());
            }
            if let (Some(fate @ (Fate::Purged | Fate::Evicted)), Some(_)) = (held.fate, held.digest) {
                return Err(Refused::one(format!("the content of quarantine {id} was {}", fate.as_str())));
            }
            let message = format!("the version that event {} saw became the approved one", held.seq);
            Decision { wanted: Some(held.entry()), message, row: Some(*id), put: true }
        }
        Version::Former(id) => {
            let former = desk.store.former_one(*id)?.ok_or_else(unknown)?;
            if former.watch != watch.path() || former.path != *path {
                return Err(elsewhere());
            }
            let message = format!("the version that was approved until {} is so again", former.until);
            Decision { wanted: Some(former.entry), message, row: None, put: true }
        }
    })
}

/// Sees to it that the decision can be carried out; returns the steps that make the place so.
fn prepare(
    desk: &Desk<'_>,
    watch: &Watch,
    path: &RelPath,
    decision: &Decision,
    (now, way): (Option<&Found>, Way),
) -> Result<Vec<Step>, Refused> {
    Ok(match (decision.put, &decision.wanted) {
        (false, Some(entry)) => {
            desk.keep(watch, path, entry)?;
            Vec::new()
        }
        (false, None) => Vec::new(),
        (true, Some(entry)) => {
            desk.can_be_put(entry, now, way)?;
            steps(path, entry, now)
        }
        (true, None) => {
            let away = |expected| Step::Quarantine { path: path.clone(), expected };
            now.cloned().map(away).into_iter().collect()
        }
    })
}

/// The steps that make `path` be `entry`, whatever the policy of the watch.
pub(super) fn steps(path: &RelPath, entry: &Entry, now: Option<&Found>) -> Vec<Step> {
    match compare(path, Some(entry), now) {
        None => Vec::new(),
        Some(change) => plan(&change, &PathPolicy::restore_everything(), true).steps,
    }
}

/// What the baseline will hold: with the identity of what stands there now, if that is what was approved.
fn standing(desk: &mut Desk<'_>, watch: &Watch, path: &RelPath, entry: Entry, steps: &[Step]) -> Found {
    let now = desk.look(watch, path).ok().flatten().filter(|now| now.entry == entry);
    let directory = entry.kind == FileType::Directory;
    // A folder that was made by hand is read once more, now that it is marked; what is not right is looked at anyway.
    if now.is_none() || (directory && !steps.is_empty()) {
        desk.looks.push((watch.id, path.clone(), directory));
    }
    let unknown = Identity { dev: 0, ino: 0, ctime_ns: 0, nlink: 0 };
    Found { identity: now.map_or(unknown, |now| now.identity), entry }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::AbsPath;

    #[test]
    fn what_goes_goes_from_the_deepest_and_what_comes_from_the_top() {
        let item = |path: &str, version| Approve { path: AbsPath(path.into()), version, recursive: true };
        let items = [
            item("/w/n/f", Version::Evidence(1)),
            item("/w/d", Version::Absent),
            item("/w/n", Version::Evidence(2)),
            item("/w/d/f", Version::Gone(3)),
        ];
        let order: Vec<&[u8]> = in_order(&items).iter().map(|i| &i.path.0[..]).collect();
        assert_eq!(order, [&b"/w/d/f"[..], b"/w/d", b"/w/n", b"/w/n/f"]);
    }
}
