//! Work on many files that have nothing to do with each other, on all processors at once.

use std::collections::HashMap;
use std::num::NonZero;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use crate::core::change::Change;
use crate::core::entry::{FileType, Found};
use crate::core::path::RelPath;
use crate::core::plan::Step;
use crate::pulse;
use crate::respond::{Folder, Outcome, Pending, Responder, ResponseError};
use crate::store::vault::Vault;
use crate::tree::near::Near;

use super::watch::Watch;

/// Below this many files, threads cost more than they gain.
pub const WORTHWHILE: usize = 32;
/// More threads would only wait for the same file system.
const THREADS: usize = 4;

/// What became of a step, and what remains to be done of it.
pub type Begun = (Result<Outcome, ResponseError>, Vec<Pending>);

/// Whether a step needs no other one of its round: one file with one name is put back, and no folder comes or goes.
pub fn stands_alone(step: &Step) -> bool {
    let one_file = |found: &Found| found.entry.kind == FileType::Regular && found.identity.nlink == 1;
    matches!(step, Step::Replace { approved, expected, .. }
        if approved.kind == FileType::Regular && expected.as_ref().is_none_or(one_file))
}

/// Begins steps that [stand alone](stands_alone); results in their order.
pub fn begin(responder: &Responder, watch: &Watch, steps: &[(usize, Step)]) -> Vec<Begun> {
    let path = |(_, step): &(usize, Step)| match step {
        Step::Replace { path, .. }
        | Step::Reattribute { path, .. }
        | Step::Quarantine { path, .. }
        | Step::Delete { path, .. } => path.clone(),
        Step::MoveBack { to, .. } => to.clone(),
    };
    let one = |folder: &mut Option<Folder>, (_, step): &(usize, Step)| {
        let mut left = Vec::new();
        let outcome = responder.begin(&watch.root, step, folder, &mut left);
        left.iter_mut().for_each(Pending::is_of_many);
        (outcome, left)
    };
    each(steps, path, one, || ())
}

/// The files among `paths` that are there and can be read, in folders with nothing mounted over them. Does `besides` itself
/// while others read.
pub fn read(watch: &Watch, paths: &[RelPath], besides: impl FnOnce()) -> HashMap<RelPath, Found> {
    let one = |near: &mut Option<Near>, path: &RelPath| {
        *near = Near::of(&watch.root, path.parent()?, near.take()).ok().flatten();
        let found = near.as_ref()?.inspect(path.name()?).ok().flatten();
        found.filter(|found| found.entry.kind == FileType::Regular)
    };
    let found = each(paths, RelPath::clone, one, besides);
    paths.iter().cloned().zip(found).filter_map(|(path, found)| Some((path, found?))).collect()
}

/// Of each change, whether the vault has what is to be put back. Does `besides` itself while others look.
pub fn kept(vault: &Vault, changes: &[&Change], besides: impl FnOnce()) -> Vec<bool> {
    let one = |(): &mut (), change: &&Change| {
        change.before.as_ref().and_then(|entry| entry.sha256).is_none_or(|digest| vault.contains(&digest))
    };
    each(changes, |change| change.path.clone(), one, besides)
}

/// Does `work` for each item; results in their order. What lies in one folder is done by one thread, one after the other:
/// a response may lift a folder's immutable flag for a moment. `work` may keep something from one item to the next. This
/// thread does `besides` first, and then takes its part.
fn each<T: Sync, K: Default, R: Send>(
    items: &[T],
    path: impl Fn(&T) -> RelPath,
    work: impl Fn(&mut K, &T) -> R + Sync,
    besides: impl FnOnce(),
) -> Vec<R> {
    // How many processors there are is asked of three files each time.
    let threads = match items.len() {
        0..WORTHWHILE => 1,
        _ => thread::available_parallelism().map_or(1, NonZero::get).min(THREADS),
    };
    let folders = if threads < 2 { Vec::new() } else { by_folder(items, path) };
    if folders.len() < 2 {
        besides();
        let mut kept = K::default();
        return items.iter().map(|item| work(&mut kept, item)).collect();
    }
    let next = AtomicUsize::new(0);
    // Each takes the next folder as soon as it is done with one: processors may have other work.
    let waiting = pulse::own();
    let part = || -> Vec<(usize, R)> {
        pulse::lend(waiting.clone());
        let (mut kept, mut done) = (K::default(), Vec::new());
        while let Some(folder) = folders.get(next.fetch_add(1, Ordering::Relaxed)) {
            done.extend(folder.iter().filter_map(|i| Some((*i, work(&mut kept, items.get(*i)?)))));
        }
        done
    };
    // Each result goes to its item's place; sorting them would move them again and again.
    let mut done: Vec<Option<R>> = std::iter::repeat_with(|| None).take(items.len()).collect();
    let mut place = |results: Vec<(usize, R)>| {
        for (index, result) in results {
            if let Some(slot) = done.get_mut(index) {
                *slot = Some(result);
            }
        }
    };
    thread::scope(|scope| {
        // Without a thread to be had it only takes longer.
        let spawn = |_| thread::Builder::new().name("fim-apart".into()).spawn_scoped(scope, part).ok();
        let others: Vec<_> = (1..threads.min(folders.len())).filter_map(spawn).collect();
        besides();
        place(part());
        for other in others {
            match other.join() {
                Ok(results) => place(results),
                Err(panic) => std::panic::resume_unwind(panic),
            }
        }
    });
    done.into_iter().flatten().collect()
}

/// Indices of `items`, each folder's together; the largest folder first, so that none is left over at the end.
fn by_folder<T>(items: &[T], path: impl Fn(&T) -> RelPath) -> Vec<Vec<usize>> {
    let mut folders: HashMap<Option<RelPath>, Vec<usize>> = HashMap::new();
    for (index, item) in items.iter().enumerate() {
        folders.entry(path(item).parent()).or_default().push(index);
    }
    let mut folders: Vec<Vec<usize>> = folders.into_values().collect();
    folders.sort_by_key(|indices| (std::cmp::Reverse(indices.len()), indices.first().copied()));
    folders
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(text: &str) -> RelPath {
        RelPath::new(text).expect("sound")
    }

    #[test]
    fn no_folder_is_worked_in_by_two_threads() {
        let items: Vec<RelPath> = (0..90).map(|i| path(&format!("d{}/f{i}", i % 7))).collect();
        let folders = by_folder(&items, RelPath::clone);
        assert_eq!((folders.len(), folders.concat().len()), (7, items.len()));
        for folder in folders {
            let home = items[folder[0]].parent();
            assert!(folder.iter().all(|i| items[*i].parent() == home), "{folder:?}");
        }
        let names = |kept: &mut Vec<RelPath>, item: &RelPath| {
            kept.push(item.parent().expect("has one"));
            (thread::current().id(), kept.clone())
        };
        let mut home = HashMap::new();
        for (thread, kept) in each(&items, RelPath::clone, names, || ()) {
            let folder = kept.last().expect("one at least").clone();
            assert_eq!(*home.entry(folder).or_insert(thread), thread);
        }
    }

    #[test]
    fn results_come_in_the_order_of_the_items() {
        let items: Vec<RelPath> = (0..200).map(|i| path(&format!("d{}/f{i}", i % 5))).collect();
        let work = |_: &mut (), path: &RelPath| path.clone();
        let mut besides = 0;
        assert_eq!(each(&items, RelPath::clone, work, || besides += 1), items);
        assert_eq!(each(&items[..1], RelPath::clone, work, || besides += 1), items[..1]);
        assert_eq!(besides, 2);
    }
}
