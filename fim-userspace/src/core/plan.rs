//! What is going to be done about a change, before anything is done: it can be printed, tested and carried out.

use std::cmp::Ordering;

use serde::{Deserialize, Serialize};

use super::change::{Change, ChangeKind};
use super::entry::{Entry, FileType, Found};
use super::event::Response;
use super::path::RelPath;
use super::policy::{OnAltered, OnCreated, PathPolicy};

/// One step, complete in itself. The executor checks `expected` on the descriptor it acts on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Step {
    /// Put the approved file in the place of what is there (`expected`; `None`: nothing), keeping that as evidence.
    Replace { path: RelPath, approved: Entry, expected: Option<Found> },
    /// Content is right: put only the attributes back, on the file that is there.
    Reattribute { path: RelPath, approved: Entry, expected: Found },
    /// Give the very file its approved name back: it was only renamed. `to` must be free.
    MoveBack { from: RelPath, to: RelPath, expected: Found },
    /// Move what is there into the vault. Directories are empty by then: what was inside has steps of its own.
    Quarantine { path: RelPath, expected: Found },
    /// Remove what is there; the vault keeps a copy all the same.
    Delete { path: RelPath, expected: Found },
}

/// Why a change that the policy wants undone cannot be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Unable {
    /// The approved content is not in the vault (`keep_versions = false`).
    NoApprovedContent,
    /// The approved content is not in the vault though it should be: it was removed from there.
    ContentLost,
    /// The approved file is larger than `max_file_size`, so its content was not kept.
    TooLarge,
    /// What is there would have to go into the vault first, which has no room for it.
    VaultFull,
    /// Sockets belong to the process that listens on them.
    Socket,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ResponsePlan {
    pub steps: Vec<Step>,
    pub unable: Option<Unable>,
}

impl ResponsePlan {
    /// How the response ends when all goes well; `None` when there is none. Something put back counts more than
    /// something taken away.
    pub fn promises(&self) -> Option<Response> {
        if self.unable.is_some() {
            return Some(Response::Failed);
        }
        let of = |step: &Step| match step {
            Step::Replace { .. } | Step::Reattribute { .. } | Step::MoveBack { .. } => {
                (0, Response::Restored)
            }
            Step::Quarantine { .. } => (1, Response::Quarantined),
            Step::Delete { .. } => (2, Response::Deleted),
        };
        self.steps.iter().map(of).min_by_key(|(rank, _)| *rank).map(|(_, response)| response)
    }
}

/// Decides what is done about `change`. `policy` is what holds for it (`WatchPolicy::of_change`); `in_vault` says whether the approved
/// content can be had.
pub fn plan(change: &Change, policy: &PathPolicy, in_vault: bool) -> ResponsePlan {
    let mut plan = ResponsePlan::default();
    match change.kind {
        ChangeKind::Created => remove(change, policy, &mut plan),
        ChangeKind::Deleted => {
            put_back(change, &change.path, (policy, policy.on_deleted), in_vault, &mut plan)
        }
        ChangeKind::Modified | ChangeKind::Type => {
            put_back(change, &change.path, (policy, policy.on_modified), in_vault, &mut plan);
        }
        // Attributes that nobody can list go with the file that has them.
        ChangeKind::Attributes if is_beyond(change) => {
            put_back(change, &change.path, (policy, policy.on_attributes), in_vault, &mut plan);
        }
        ChangeKind::Attributes => reattribute(change, policy, &mut plan),
        ChangeKind::Renamed => rename_back(change, policy, in_vault, &mut plan),
    }
    plan
}

fn is_beyond(change: &Change) -> bool {
    let now = change.after.as_ref().map(|now| &now.entry);
    now.is_some_and(|now| now.kind != FileType::Directory && !now.xattrs.are_whole())
}

fn rename_back(change: &Change, policy: &PathPolicy, in_vault: bool, plan: &mut ResponsePlan) {
    let Some(old) = &change.old_path else {
        return;
    };
    let unaltered = match (&change.before, &change.after) {
        (Some(before), Some(after)) => before.kind == after.entry.kind && before.sha256 == after.entry.sha256,
        _ => false,
    };
    match &change.after {
        Some(expected)
            if unaltered
                && policy.on_deleted == OnAltered::Restore
                && policy.on_created != OnCreated::Alert =>
        {
            let (from, to, expected) = (change.path.clone(), old.clone(), expected.clone());
            plan.steps.push(Step::MoveBack { from, to, expected });
        }
        _ => {
            put_back(change, old, (policy, policy.on_deleted), in_vault, plan);
            remove(change, policy, plan);
        }
    }
}

fn put_back(
    change: &Change,
    path: &RelPath,
    (policy, on): (&PathPolicy, OnAltered),
    in_vault: bool,
    plan: &mut ResponsePlan,
) {
    let Some(approved) = change.before.as_ref().filter(|_| on == OnAltered::Restore) else {
        return;
    };
    match approved.kind {
        FileType::Socket => plan.unable = Some(Unable::Socket),
        FileType::Regular if !in_vault => {
            plan.unable = Some(match (policy.keep_versions, policy.keeps(approved.size)) {
                (false, _) => Unable::NoApprovedContent,
                (true, false) => Unable::TooLarge,
                (true, true) => Unable::ContentLost,
            });
        }
        _ => plan.steps.push(Step::Replace {
            path: path.clone(),
            approved: approved.clone(),
            expected: change.after.clone().filter(|_| change.kind != ChangeKind::Renamed),
        }),
    }
}

fn reattribute(change: &Change, policy: &PathPolicy, plan: &mut ResponsePlan) {
    let (Some(approved), Some(now)) = (&change.before, &change.after) else {
        return;
    };
    if policy.on_attributes == OnAltered::Restore {
        plan.steps.push(Step::Reattribute {
            path: change.path.clone(),
            approved: policy.as_far_as_it_counts(approved, &now.entry),
            expected: now.clone(),
        });
    }
}

fn remove(change: &Change, policy: &PathPolicy, plan: &mut ResponsePlan) {
    let Some(now) = &change.after else {
        return;
    };
    let (path, expected) = (change.path.clone(), now.clone());
    match policy.on_created {
        OnCreated::Alert => {}
        OnCreated::Quarantine => plan.steps.push(Step::Quarantine { path, expected }),
        OnCreated::Delete => plan.steps.push(Step::Delete { path, expected }),
    }
}

/// Renames back first, then what is put back, folders before what is in them; then what is removed, the other way.
pub fn order(a: &Step, b: &Step) -> Ordering {
    fn key(step: &Step) -> (u8, &RelPath) {
        match step {
            Step::MoveBack { to, .. } => (0, to),
            Step::Replace { path, .. } | Step::Reattribute { path, .. } => (1, path),
            Step::Quarantine { path, .. } | Step::Delete { path, .. } => (2, path),
        }
    }
    let ((class_a, path_a), (class_b, path_b)) = (key(a), key(b));
    let by_path = if class_a == 2 { path_b.cmp(path_a) } else { path_a.cmp(path_b) };
    class_a.cmp(&class_b).then(by_path)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::change::compare;
    use crate::core::entry::tests::regular;
    use crate::core::entry::{Aspect, Digest, Identity, Xattrs};

    fn path(text: &str) -> RelPath {
        RelPath::new(text).expect("sound")
    }

    fn found(entry: Entry) -> Found {
        Found { entry, identity: Identity { dev: 1, ino: 2, ctime_ns: 3, nlink: 1 } }
    }

    fn altered() -> Entry {
        Entry { sha256: Some(Digest([8; 32])), ..regular(1) }
    }

    fn chmodded() -> Entry {
        Entry { mode: 0o777, ..regular(1) }
    }

    fn of_type(kind: FileType) -> Entry {
        Entry { kind, sha256: None, ..regular(1) }
    }

    fn names(plan: &ResponsePlan) -> Vec<&'static str> {
        let name = |step: &Step| match step {
            Step::Replace { .. } => "replace",
            Step::Reattribute { .. } => "reattribute",
            Step::MoveBack { .. } => "move back",
            Step::Quarantine { .. } => "quarantine",
            Step::Delete { .. } => "delete",
        };
        plan.steps.iter().map(name).collect()
    }

    #[test]
    fn each_change_has_its_response_and_alert_only_has_none() {
        type Case = (&'static str, Option<Entry>, Option<Entry>, &'static [&'static str]);
        let cases: Vec<Case> = vec![
            ("created", None, Some(regular(1)), &["quarantine"]),
            ("deleted", Some(regular(1)), None, &["replace"]),
            ("modified", Some(regular(1)), Some(altered()), &["replace"]),
            ("attributes", Some(regular(1)), Some(chmodded()), &["reattribute"]),
            ("type", Some(regular(1)), Some(of_type(FileType::Fifo)), &["replace"]),
            ("directory gone", Some(of_type(FileType::Directory)), None, &["replace"]),
        ];
        let restore = PathPolicy::restore_everything();
        for (name, before, after, expected) in cases {
            let change = compare(&path("f"), before.as_ref(), after.map(found).as_ref()).expect("differs");
            assert_eq!(names(&plan(&change, &restore, true)), expected, "{name}");
            let told = plan(&change, &restore.alert_only(), true);
            assert!(told.steps.is_empty() && told.unable.is_none(), "{name}, alert only");
        }
    }

    #[test]
    fn more_attributes_than_can_be_listed_go_with_their_file() {
        let beyond = |entry: Entry| found(Entry { xattrs: Xattrs::beyond(b""), ..entry });
        let folder = of_type(FileType::Directory);
        let restore = PathPolicy::restore_everything();
        let of = |before: &Entry, policy: &PathPolicy, in_vault| {
            let now = beyond(before.clone());
            plan(&compare(&path("f"), Some(before), Some(&now)).expect("differs"), policy, in_vault)
        };
        assert_eq!(names(&of(&regular(1), &restore, true)), ["replace"]);
        assert!(of(&regular(1), &restore, false).unable.is_some());
        assert_eq!(names(&of(&folder, &restore, true)), ["reattribute"], "its content would go with it");
        assert!(of(&regular(1), &restore.alert_only(), true).steps.is_empty());
    }

    #[test]
    fn what_is_ignored_stays_as_it_is_when_attributes_are_put_back() {
        let now = found(Entry { mode: 0o777, uid: 8, mtime_ns: 9, ..regular(1) });
        let policy = PathPolicy {
            ignore: [Aspect::Owner, Aspect::Mtime].into_iter().collect(),
            ..PathPolicy::restore_everything()
        };
        let change = compare(&path("f"), Some(&regular(1)), Some(&now)).expect("differs");
        let steps = plan(&change, &policy, true).steps;
        let [Step::Reattribute { approved, .. }] = &steps[..] else { panic!("{steps:?}") };
        assert_eq!(approved, &Entry { uid: 8, mtime_ns: 9, ..regular(1) });
    }

    #[test]
    fn a_plan_tells_what_it_promises() {
        let restore = PathPolicy::restore_everything();
        let promised = |before: Option<Entry>, after: Option<Entry>, policy: &PathPolicy, in_vault| {
            let change = compare(&path("f"), before.as_ref(), after.map(found).as_ref()).expect("differs");
            plan(&change, policy, in_vault).promises()
        };
        let delete = PathPolicy { on_created: OnCreated::Delete, ..restore };
        let (approved, now) = (Some(regular(1)), Some(altered()));
        assert_eq!(promised(approved.clone(), now.clone(), &restore, true), Some(Response::Restored));
        assert_eq!(promised(approved.clone(), now.clone(), &restore, false), Some(Response::Failed));
        assert_eq!(promised(approved, now.clone(), &restore.alert_only(), false), None);
        assert_eq!(promised(None, now.clone(), &restore, true), Some(Response::Quarantined));
        assert_eq!(promised(None, now, &delete, true), Some(Response::Deleted));
    }

    #[test]
    fn what_the_vault_lacks_is_said_and_not_half_done() {
        let change = compare(&path("f"), Some(&regular(1)), Some(&found(altered()))).expect("differs");
        let all = PathPolicy::restore_everything();
        for (policy, why) in [
            (PathPolicy { keep_versions: false, ..all }, Unable::NoApprovedContent),
            (PathPolicy { max_file_size: Some(9), ..all }, Unable::TooLarge),
            (PathPolicy { max_file_size: Some(10), ..all }, Unable::ContentLost),
            (all, Unable::ContentLost),
        ] {
            let told = plan(&change, &policy, false);
            assert_eq!((told.steps.len(), told.unable), (0, Some(why)));
        }
        let change = compare(&path("s"), Some(&of_type(FileType::Socket)), None).expect("differs");
        assert_eq!(plan(&change, &PathPolicy::restore_everything(), true).unable, Some(Unable::Socket));
    }

    #[test]
    fn a_rename_is_undone_by_renaming_only_where_the_content_is_approved() {
        let policy = PathPolicy::restore_everything();
        let deletes = PathPolicy { on_created: OnCreated::Delete, ..policy };
        let keeps_new = PathPolicy { on_created: OnCreated::Alert, ..policy };
        let keeps_gone = PathPolicy { on_deleted: OnAltered::Alert, ..policy };
        type Case<'a> = (&'static str, Entry, &'a PathPolicy, &'static [&'static str]);
        let cases: Vec<Case<'_>> = vec![
            ("same content", regular(1), &policy, &["move back"]),
            ("altered on the way", altered(), &policy, &["replace", "quarantine"]),
            ("altered, created are deleted", altered(), &deletes, &["replace", "delete"]),
            ("the new name may stay", regular(1), &keeps_new, &["replace"]),
            ("the old name may go", regular(1), &keeps_gone, &["quarantine"]),
        ];
        for (name, now, policy, expected) in cases {
            let change = Change {
                kind: ChangeKind::Renamed,
                path: path("new"),
                old_path: Some(path("old")),
                before: Some(regular(1)),
                after: Some(found(now)),
                aspects: Vec::new(),
            };
            let plan = plan(&change, policy, true);
            assert_eq!(names(&plan), expected, "{name}");
            if let Some(Step::Replace { path, expected, .. }) = plan.steps.first() {
                assert_eq!((path, expected), (&super::RelPath::new("old").expect("sound"), &None), "{name}");
            }
        }
    }
}
