//! Work on many files that have nothing to do with each other, on all processors at once.

use std::collections::HashMap;
use std::num::NonZero;
use std::thread;

use crate::core::entry::{FileType, Found};
use crate::core::path::RelPath;
use crate::core::plan::Step;
use crate::respond::{Outcome, Pending, Responder, ResponseError};
use crate::tree::inspect::inspect;

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
    let one = |(_, step): &(usize, Step)| {
        let mut left = Vec::new();
        (responder.begin(&watch.root, step, &mut left), left)
    };
    each(steps, path, one)
}

/// The files among `paths` that are there and can be read.
pub fn read(watch: &Watch, paths: &[RelPath]) -> HashMap<RelPath, Found> {
    let is_file = |found: &Found| found.entry.kind == FileType::Regular;
    let one = |path: &RelPath| inspect(&watch.root, path, None).ok().flatten().filter(is_file);
    let found = each(paths, RelPath::clone, one);
    paths.iter().cloned().zip(found).filter_map(|(path, found)| Some((path, found?))).collect()
}

/// Does `work` for each item; results in their order. What lies in one folder is done by one thread, one after the other:
/// a response may lift a folder's immutable flag for a moment.
fn each<T: Sync, R: Send>(
    items: &[T],
    path: impl Fn(&T) -> RelPath,
    work: impl Fn(&T) -> R + Sync,
) -> Vec<R> {
    let threads = thread::available_parallelism().map_or(1, NonZero::get).min(THREADS);
    if items.len() < WORTHWHILE || threads < 2 {
        return items.iter().map(work).collect();
    }
    let mut done: Vec<(usize, R)> = Vec::with_capacity(items.len());
    let part = |indices: &[usize]| -> Vec<(usize, R)> {
        indices.iter().filter_map(|i| Some((*i, work(items.get(*i)?)))).collect()
    };
    let part = &part;
    let parts = by_folder(items, path, threads);
    thread::scope(|scope| {
        let (own, others) = parts.split_at(1);
        let begun: Vec<_> = others
            .iter()
            .map(|indices| {
                let name = thread::Builder::new().name("fim-apart".into());
                (indices, name.spawn_scoped(scope, move || part(indices)))
            })
            .collect();
        own.iter().for_each(|indices| done.extend(part(indices)));
        for (indices, thread) in begun {
            match thread.map(thread::ScopedJoinHandle::join) {
                Ok(Ok(results)) => done.extend(results),
                Ok(Err(panic)) => std::panic::resume_unwind(panic),
                // No thread to be had: then it takes longer.
                Err(_) => done.extend(part(indices)),
            }
        }
    });
    done.sort_by_key(|(index, _)| *index);
    done.into_iter().map(|(_, result)| result).collect()
}

/// Indices of `items` in `count` parts of about the same size, no folder in two of them.
fn by_folder<T>(items: &[T], path: impl Fn(&T) -> RelPath, count: usize) -> Vec<Vec<usize>> {
    let mut folders: HashMap<Option<RelPath>, Vec<usize>> = HashMap::new();
    for (index, item) in items.iter().enumerate() {
        folders.entry(path(item).parent()).or_default().push(index);
    }
    let mut folders: Vec<Vec<usize>> = folders.into_values().collect();
    folders.sort_by_key(|indices| std::cmp::Reverse(indices.len()));
    let mut parts: Vec<Vec<usize>> = vec![Vec::new(); count];
    for indices in folders {
        if let Some(least) = parts.iter_mut().min_by_key(|part| part.len()) {
            least.extend(indices);
        }
    }
    parts.retain(|part| !part.is_empty());
    parts
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
        let parts = by_folder(&items, RelPath::clone, 3);
        let mut home = HashMap::new();
        for (part, indices) in parts.iter().enumerate() {
            assert!(indices.len() >= 20, "{parts:?}");
            for index in indices {
                assert_eq!(*home.entry(items[*index].parent()).or_insert(part), part);
            }
        }
        assert_eq!(parts.concat().len(), items.len());
    }

    #[test]
    fn results_come_in_the_order_of_the_items() {
        let items: Vec<RelPath> = (0..200).map(|i| path(&format!("d{}/f{i}", i % 5))).collect();
        assert_eq!(each(&items, RelPath::clone, RelPath::clone), items);
    }
}
