//! The responder's loop as the daemon runs it: compare, plan, order, make right, secure, release.

use std::collections::{BTreeMap, BTreeSet};
use std::os::fd::AsFd;

use fim::core::change::{Change, ChangeKind, compare};
use fim::core::entry::{FileType, Found};
use fim::core::path::RelPath;
use fim::core::plan::{Step, order, plan};
use fim::core::policy::PathPolicy;
use fim::respond::{Pending, ResponseError};
use proptest::prelude::*;

use super::object::stat;
use super::snapshot::paths;
use crate::world::{Baseline, World};

const ROUNDS: usize = 8;

#[derive(Clone, Copy, Debug)]
pub struct Manner {
    /// The disk is waited for once in a round, not after each step.
    batch: bool,
    /// What only has another name now is known to be that, as from a rename's event.
    renames: bool,
}

pub fn manner() -> impl Strategy<Value = Manner> {
    (any::<bool>(), any::<bool>()).prop_map(|(batch, renames)| Manner { batch, renames })
}

/// Device and inode of everything with one name.
pub type Names = BTreeMap<(u64, u64), RelPath>;

pub fn names_of(world: &World) -> Names {
    let mut names = Names::new();
    for path in paths(&world.root) {
        let stat = stat(world.root.open_path(&path).expect("there").as_fd());
        if stat.st_nlink == 1 || FileType::Directory == fim::tree::attributes::file_type(&stat) {
            names.insert((stat.st_dev, stat.st_ino), path);
        }
    }
    names
}

pub fn reconcile(world: &World, baseline: &Baseline, names: &Names, manner: Manner) -> Result<(), String> {
    for _ in 0..ROUNDS {
        let steps = steps(world, baseline, names, manner);
        if steps.is_empty() {
            return Ok(());
        }
        let mut pendings = Vec::new();
        for step in steps {
            // After any other error something earlier in this round went with it; the next round looks again.
            if let Err(error @ ResponseError::Failed { .. }) =
                world.responder.begin(&world.root, &step, &mut None, &mut pendings)
            {
                return Err(format!("{error}\nin {step:?}"));
            }
            if !manner.batch {
                settle(world, &mut pendings).map_err(|why| format!("{why}\nin {step:?}"))?;
            }
        }
        settle(world, &mut pendings)?;
    }
    match steps(world, baseline, names, manner) {
        steps if steps.is_empty() => Ok(()),
        steps => Err(format!("still different after {ROUNDS} rounds: {steps:#?}")),
    }
}

fn settle(world: &World, pendings: &mut Vec<Pending>) -> Result<(), String> {
    world.responder.secure(&world.root, pendings);
    if let Some(why) = pendings.iter().find_map(Pending::failure) {
        return Err(why.to_owned());
    }
    match world.responder.release(std::mem::take(pendings)) {
        left if left.is_empty() => Ok(()),
        left => Err(format!("left behind: {left:?}")),
    }
}

fn steps(world: &World, baseline: &Baseline, names: &Names, manner: Manner) -> Vec<Step> {
    let mut now = world.walk();
    now.insert(RelPath::root(), world.found(&RelPath::root()).expect("there"));
    let mut changes = Vec::new();
    let mut paths: BTreeSet<RelPath> = baseline.keys().chain(now.keys()).cloned().collect();
    if manner.renames {
        for change in renamed(baseline, &now, names) {
            paths.remove(&change.path);
            paths.remove(change.old_path.as_ref().expect("a rename"));
            changes.push(change);
        }
    }
    changes.extend(paths.iter().filter_map(|p| compare(p, baseline.get(p), now.get(p))));
    let policy = PathPolicy::restore_everything();
    let mut steps: Vec<Step> = changes.iter().flat_map(|c| plan(c, &policy, true).steps).collect();
    steps.sort_by(order);
    steps
}

/// What has a name that is not approved, and not any more the one that it was approved under.
fn renamed(baseline: &Baseline, now: &BTreeMap<RelPath, Found>, names: &Names) -> Vec<Change> {
    let mut taken = BTreeSet::new();
    let change = |(path, found): (&RelPath, &Found)| {
        let old = names.get(&(found.identity.dev, found.identity.ino))?;
        let before = baseline.get(old)?;
        let fits = !baseline.contains_key(path) && !now.contains_key(old) && before.kind == found.entry.kind;
        (fits && taken.insert(old.clone())).then(|| Change {
            kind: ChangeKind::Renamed,
            path: path.clone(),
            old_path: Some(old.clone()),
            before: Some(before.clone()),
            after: Some(found.clone()),
            aspects: before.differences(&found.entry),
        })
    };
    now.iter().filter_map(change).collect()
}
