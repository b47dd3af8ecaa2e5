//! What is going to be done about a change, before anything is done: it can be printed, tested and carried out.

use serde::{Deserialize, Serialize};

use super::change::{Change, ChangeKind};
use super::entry::{Aspect, Entry, FileType, Found};
use super::path::RelPath;
use super::policy::{OnAltered, OnCreated, WatchPolicy};

/// One step, complete in itself. The executor checks `expected` on the descriptor it acts on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Step {
    /// Put the approved file in the place of what is there (`expected`; `None`: nothing), keeping that as evidence.
    Replace {
        path: RelPath,
        approved: Entry,
        expected: Option<Found>,
    },
    /// Content is right: put only the attributes back, on the file that is there.
    Reattribute {
        path: RelPath,
        approved: Entry,
        expected: Found,
    },
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
    /// Sockets belong to the process that listens on them.
    Socket,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ResponsePlan {
    pub steps: Vec<Step>,
    pub unable: Option<Unable>,
}

/// Decides what is done about `change`. `in_vault` says whether the approved content can be had.
pub fn plan(change: &Change, policy: &WatchPolicy, in_vault: bool) -> ResponsePlan {
    let mut plan = ResponsePlan::default();
    match change.kind {
        ChangeKind::Created => remove(change, policy, &mut plan),
        ChangeKind::Deleted => put_back(change, &change.path, policy.on_deleted, in_vault, &mut plan),
        ChangeKind::Modified | ChangeKind::Type => {
            put_back(change, &change.path, policy.on_modified, in_vault, &mut plan);
        }
        ChangeKind::Attributes => reattribute(change, policy, &mut plan),
        ChangeKind::Renamed => {
            if let Some(old) = &change.old_path {
                put_back(change, old, policy.on_deleted, in_vault, &mut plan);
            }
            remove(change, policy, &mut plan);
        }
    }
    plan
}

fn put_back(change: &Change, path: &RelPath, on: OnAltered, in_vault: bool, plan: &mut ResponsePlan) {
    let Some(approved) = change.before.as_ref().filter(|_| on == OnAltered::Restore) else {
        return;
    };
    match approved.kind {
        FileType::Socket => plan.unable = Some(Unable::Socket),
        FileType::Regular if !in_vault => plan.unable = Some(Unable::NoApprovedContent),
        _ => plan.steps.push(Step::Replace {
            path: path.clone(),
            approved: approved.clone(),
            expected: change
                .after
                .clone()
                .filter(|_| change.kind != ChangeKind::Renamed),
        }),
    }
}

fn reattribute(change: &Change, policy: &WatchPolicy, plan: &mut ResponsePlan) {
    let (Some(approved), Some(now)) = (&change.before, &change.after) else {
        return;
    };
    if policy.on_attributes == OnAltered::Restore {
        plan.steps.push(Step::Reattribute {
            path: change.path.clone(),
            approved: approved.clone(),
            expected: now.clone(),
        });
    }
}

fn remove(change: &Change, policy: &WatchPolicy, plan: &mut ResponsePlan) {
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

/// Whether the attributes alone explain the difference.
pub fn only_attributes(aspects: &[Aspect]) -> bool {
    aspects.iter().all(|a| {
        matches!(
            a,
            Aspect::Mode | Aspect::Owner | Aspect::Group | Aspect::Xattrs | Aspect::Mtime
        )
    })
}
